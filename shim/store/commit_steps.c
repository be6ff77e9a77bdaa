/* The steps of a commit to the sized format. */
#include "store/commit_steps.h"

#include "store/calls.h"

#include <errno.h>
#include <string.h>

int store_flush(const struct commit *commit)
{
    return commit->sync ? (int)STORE_RETRY(store_calls.fdatasync(commit->inode)) : 0;
}

int store_write_header(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    char bytes[IMAGE_HEADER_SIZE];
    ssize_t n;

    image_encode_header(bytes, header);
    n = STORE_RETRY(store_calls.pwrite(commit->inode, bytes, sizeof bytes, place));
    /* the header lies inside one page: only a full disk makes this write short */
    return n == sizeof bytes ? 0 : n < 0 ? (int)n : -ENOSPC;
}

/*
 * The writer of the bytes died before its flush, or its flush failed: then the kernel has reported
 * the error once, calls the pages clean, and a flush alone would prove nothing.
 */
int store_rewrite(int inode, uint64_t offset, uint64_t length)
{
    struct scratch scratch;
    int error = scratch_take(&scratch, SCRATCH_CHUNK);

    for (uint64_t done = 0; error == 0 && done < length;) {
        size_t chunk = length - done < SCRATCH_CHUNK ? (size_t)(length - done) : SCRATCH_CHUNK;
        ssize_t n = store_read_at(inode, scratch.bytes, chunk, offset + done);

        if (n >= 0 && n < (ssize_t)chunk) {
            error = CHANGED; /* another program has just cut the file off */
            break;
        }
        if (n > 0)
            n = STORE_RETRY(store_calls.pwrite(inode, scratch.bytes, chunk, offset + done));
        if (n <= 0)
            error = n < 0 ? (int)n : -ENOSPC;
        else
            done += (uint64_t)n;
    }
    scratch_give(&scratch);
    return error;
}

/* One pwritev; several only where the kernel stops short (2 GiB, a full disk). */
int store_write_image(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    char bytes[IMAGE_HEADER_SIZE];
    uint64_t done = 0;

    image_encode_header(bytes, header);
    while (done < commit->length) {
        uint64_t payload_done = done < sizeof bytes ? 0 : done - sizeof bytes;
        struct iovec pieces[2] = {
            {bytes + (done < sizeof bytes ? done : sizeof bytes),
             done < sizeof bytes ? sizeof bytes - (size_t)done : 0},
            {(char *)commit->payload->bytes + payload_done, commit->payload->size - payload_done},
        };
        ssize_t n = STORE_RETRY(store_calls.pwritev(commit->inode, pieces, 2, place + done));

        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        done += (uint64_t)n;
    }
    return store_flush(commit);
}

int store_lead_to(const struct commit *commit, uint64_t twin)
{
    struct image_header head = {.twin = twin};
    int error = store_write_header(commit, 0, &head);

    return error == 0 ? store_flush(commit) : error;
}

/* No flush: after a power cut a reader finds only bytes that are on disk. */
void store_set_mark(const struct commit *commit, uint64_t place, char mark)
{
    (void)STORE_RETRY(store_calls.pwrite(commit->inode, &mark, 1, place + IMAGE_MARK_OFFSET));
}

void store_mark_done(const struct commit *commit, uint64_t place)
{
    store_set_mark(commit, place, commit->sync ? IMAGE_MARK_FLUSHED : IMAGE_MARK_WRITTEN);
}

struct image_header store_live_header(const struct commit *commit, uint64_t twin)
{
    return (struct image_header){
        .generation = commit->live.generation,
        .size = commit->live.size,
        .twin = twin,
        .payload_crc = commit->live.payload_crc,
    };
}

bool store_is_in_place(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    struct image_header found;
    int error;
    enum image_kind kind = store_read_header(commit->inode, place, &found, &error);

    return error != 0 ||
           (kind == IMAGE_VALID && found.generation == header->generation && found.size == header->size &&
            found.twin == header->twin && found.payload_crc == header->payload_crc);
}

bool store_is_undone(struct commit *commit, uint64_t place, const struct image_header *header)
{
    struct stat *status = &commit->left.status;

    *status = (struct stat){.st_ino = 0};
    commit->left.image = (struct store_image){
        .kind = STORE_SIZED,
        .size = header->size,
        .generation = header->generation,
        .place = place,
        .twin = place != 0 ? place : header->twin,
        .payload_crc = header->payload_crc,
        .flushed = commit->sync,
    };
    if (!store_is_in_place(commit, place, header))
        return true;
    return STORE_RETRY(store_calls.fstat(commit->inode, status)) == 0 &&
           (uint64_t)status->st_size < place + image_length(header->size);
}

int store_write_twin(struct commit *commit, uint64_t place, const struct image_header *header, bool *may_lead)
{
    int error = store_write_image(commit, place, header);

    if (error == 0 && store_is_undone(commit, place, header))
        error = UNDONE;
    if (error != 0)
        return error;
    error = store_lead_to(commit, place);
    *may_lead = error != 0;
    if (error == 0)
        store_mark_done(commit, place);
    return error;
}

int store_check_twin(struct commit *commit, uint64_t place, const struct image_header *header)
{
    struct image_header head = {.twin = place};

    return store_is_undone(commit, place, header) || !store_is_in_place(commit, 0, &head) ? UNDONE : 0;
}
