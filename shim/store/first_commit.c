/* The first commit to a file in the sized format: PLAIN -> TWIN LIVE (store.h). */
#include "store/commit_steps.h"

#include "format/crc32c.h"
#include "store/calls.h"

#include <errno.h>

/*
 * Sets a note, which is on disk no later than the file's size: ext4 may commit a size before the
 * blocks behind it, when another file is synced just then. Returns false where the file has no room
 * for a note, or its file system no such attributes; then the commit goes on without.
 */
static bool set_note(const struct commit *commit, uint64_t file_size)
{
    char bytes[RECORD_NOTE_SIZE];
    uint64_t block;
    struct record note = {.word = RECORD_NOTE,
                          .size = commit->live.size,
                          .other = file_size,
                          .crc = commit->live.payload_crc,
                          .identity = store_identity(commit->inode, &block)};

    return record_encode(bytes, &note) != 0 &&
           STORE_RETRY(store_calls.fsetxattr(commit->inode, RECORD_NAME, bytes, sizeof bytes, 0)) == 0;
}

/* A note that stays is overwritten by the next first commit, and ignored by readers. */
static void remove_note(const struct commit *commit)
{
    (void)STORE_RETRY(store_calls.fremovexattr(commit->inode, RECORD_NAME));
}

/*
 * PREPARED -> PLAIN: cuts off what an earlier first commit left, and the zeros of a power cut. They
 * must not lie where our footer will point, and while they are there our note would name a size
 * that the file does not have.
 */
static int drop_remains(struct commit *commit)
{
    int error = (int)STORE_RETRY(store_calls.ftruncate(commit->inode, commit->live.size));

    if (error == 0)
        error = store_flush(commit);
    if (error == 0) {
        commit->file_size = commit->live.size;
        remove_note(commit);
    }
    return error;
}

/* A first commit that fails restores the file from these. */
struct beginning {
    char start[IMAGE_START_SIZE]; /* the file's first bytes, then zeros */
    bool noted;                   /* a note is set */
};

/* PLAIN -> PREPARED: writes the footer. Until it is on disk the note stands for it. */
static int write_footer(const struct commit *commit, uint64_t place, struct beginning *beginning)
{
    char bytes[IMAGE_HEADER_SIZE];
    uint64_t at = image_file_size(place, commit->length) - sizeof bytes;
    struct image_footer footer = {.plain_size = commit->live.size, .twin = place, .has_start = true};
    ssize_t n = store_read_at(commit->inode, beginning->start, sizeof beginning->start, 0);
    int error;

    if (n < 0)
        return (int)n;
    footer.start_crc = crc32c(0, beginning->start, sizeof beginning->start);
    image_encode_footer(bytes, &footer);
    beginning->noted = commit->sync && set_note(commit, at + sizeof bytes);
    n = STORE_RETRY(store_calls.pwrite(commit->inode, bytes, sizeof bytes, at));
    error = n == sizeof bytes ? store_flush(commit) : n < 0 ? (int)n : -ENOSPC;
    if (error == 0 && (beginning->noted || commit->live.generation != 0)) {
        remove_note(commit); /* the footer is on disk, and says the same; or the record is old */
        beginning->noted = false;
    }
    return error;
}

/* The cut takes footer and image away together: the plain bytes are all that remains. */
static void cut_to_plain(const struct commit *commit, const struct beginning *beginning)
{
    if (STORE_RETRY(store_calls.ftruncate(commit->inode, commit->live.size)) == 0 && beginning->noted)
        remove_note(commit);
    (void)store_flush(commit);
}

/* Puts the plain bytes back at 0. Returns true if they are there for certain. */
static bool restore_start(const struct commit *commit, const struct beginning *beginning)
{
    return STORE_RETRY(store_calls.pwrite(commit->inode, beginning->start, IMAGE_HEADER_SIZE, 0)) ==
               IMAGE_HEADER_SIZE &&
           store_flush(commit) == 0;
}

/* PLAIN -> PREPARED -> ADOPTED -> TWIN LIVE. Until the last step the plain bytes are intact. */
static int first_commit(struct commit *commit)
{
    uint64_t least = image_place_size(commit->length);
    uint64_t place = image_round_up(commit->live.size);
    struct beginning beginning = {.noted = false};
    struct image_header header = {
        .generation = 1, .size = commit->payload->size, .payload_crc = commit->payload->crc};
    bool may_lead = false;
    int error;

    if (place < least)
        place = least;
    error = write_footer(commit, place, &beginning);
    if (error == 0)
        error = store_write_twin(commit, place, &header, &may_lead);
    /* Until the plain bytes are back on disk for certain, the image must stay: the content is the
     * new one, complete, though its commit is reported as failed. */
    if (may_lead && !restore_start(commit, &beginning))
        return error;
    if (error < 0)
        cut_to_plain(commit, &beginning);
    return error == 0 ? store_check_twin(commit, place, &header) : error;
}

int store_finish_adoption(struct commit *commit)
{
    const struct store_image *image = &commit->live;
    struct image_header live = store_live_header(commit, 0);
    int error = store_rewrite(commit->inode, image->place, image_length(image->size));

    if (error == 0)
        error = store_flush(commit);
    if (error == 0 && store_is_undone(commit, image->place, &live))
        error = UNDONE;
    if (error == 0)
        error = store_lead_to(commit, image->twin);
    if (error == 0) {
        commit->live.adopted = false;
        commit->live.flushed = commit->sync;
    }
    return error;
}

int store_commit_first(struct commit *commit)
{
    int error = 0;

    if (commit->live.unsettled) {
        error = store_recover(commit->inode, commit->sync);
        if (error == 0)
            error = store_load(commit->inode, -1, (struct store_wait){.locked = true}, &commit->live);
        commit->file_size = commit->live.size;
    }
    if (error == 0 && (commit->live.twin != 0 || commit->live.blank))
        error = drop_remains(commit);
    return error == 0 ? first_commit(commit) : error;
}
