/* The reading half of store.h: find the live image without a lock. */
#include "store/store.h"

#include "format/crc32c.h"
#include "os/scratch.h"
#include "store/calls.h"
#include "store/filelock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    RETRIES = 24,         /* attempts before a reader asks for the lock */
    EAGER_RETRIES = 4,    /* of these without a pause */
    RETRY_PAUSE = 20000,  /* nanoseconds, growing linearly */
    LOCKED_RETRIES = 3,   /* under the lock only a stranger can still be in the way */
    READ_CHUNK = 1 << 17, /* bytes that are read, summed and written while they are in the CPU's cache */
};

#define WORD_MASK UINT64_C(7) /* of the words that crc32c_mixed() sums */

/* What one attempt to read may come to, besides 0 and a negative errno. */
enum {
    CHANGED = 1, /* a plain file changed while it was read */
    DAMAGED = 2, /* no valid image, or a header that is being written */
};

/* How much of a payload an attempt has to read. */
enum depth { LOOK, VERIFY, COPY };

struct attempt {
    int inode;
    int target;
    enum depth depth;
    bool settle_for_plain; /* accept a plain file that keeps changing */
    struct stat status;
    struct store_image *image;
};

ssize_t store_read_at(int inode, void *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = STORE_RETRY(store_calls.pread(inode, (char *)buffer + done, size - done, offset + done));

        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int write_all(int target, const char *bytes, size_t size, uint64_t offset)
{
    while (size != 0) {
        ssize_t n = sys_pwrite(target, bytes, size, offset);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        bytes += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static bool is_zero(const char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/*
 * Where the hole ends that `offset` lies in, `end` at the latest; `offset` if there is none. The description's own offset
 * is a session's (session_get_base) and away for a moment: only for who keeps its other users out, which a LOOK does not.
 */
static uint64_t end_of_hole(int inode, uint64_t offset, uint64_t end)
{
    int64_t position = store_calls.lseek(inode, 0, SEEK_CUR);
    int64_t data = position < 0 ? position : store_calls.lseek(inode, (int64_t)offset, SEEK_DATA);

    if (position < 0)
        return offset;
    (void)store_calls.lseek(inode, position, SEEK_SET);
    if (data == -ENXIO || (data >= 0 && (uint64_t)data > end))
        return end;
    return data < (int64_t)offset ? offset : (uint64_t)data;
}

/*
 * Reads `size` bytes at `offset`, copies them to the target if there is one, and computes their CRC.
 * Holes cost neither time nor memory: their size is whatever somebody says.
 * Returns 0, CHANGED if the file ends early, or a negative errno.
 */
static int read_bytes(const struct attempt *attempt, uint64_t offset, uint64_t size, uint32_t *crc)
{
    struct scratch scratch;
    uint64_t done = 0;
    int error = scratch_take(&scratch, READ_CHUNK);

    *crc = 0;
    if (error == 0 && attempt->depth == COPY)
        error = sys_ftruncate(attempt->target, 0); /* zeros are not written */
    while (error == 0 && done < size) {
        size_t chunk = size - done < READ_CHUNK ? (size_t)(size - done) : READ_CHUNK;
        ssize_t n = store_read_at(attempt->inode, scratch.bytes, chunk, offset + done);
        uint64_t hole = 0;

        if (n < 0)
            error = (int)n;
        else if ((size_t)n < chunk)
            error = CHANGED;
        else if (attempt->depth != LOOK && is_zero(scratch.bytes, chunk))
            hole =
                end_of_hole(attempt->inode, offset + done + chunk, offset + size) - (offset + done + chunk);
        else if (attempt->depth == COPY)
            error = write_all(attempt->target, scratch.bytes, chunk, done);
        if (done + chunk + hole < size)
            hole &= ~WORD_MASK;
        if (error == 0)
            *crc = crc32c_zeros(crc32c_mixed(*crc, scratch.bytes, chunk), (hole + WORD_MASK) & ~WORD_MASK);
        done += chunk + hole;
    }
    if (error == 0 && attempt->depth == COPY)
        error = sys_ftruncate(attempt->target, size);
    scratch_give(&scratch);
    return error;
}

static enum image_kind read_header(int inode, uint64_t offset, struct image_header *header, int *error)
{
    char bytes[IMAGE_HEADER_SIZE];
    ssize_t n = store_read_at(inode, bytes, sizeof bytes, offset);

    *error = n < 0 ? (int)n : 0;
    return n < 0 ? IMAGE_ABSENT : image_decode_header(bytes, (size_t)n, header);
}

/* Takes the image at `place` if its payload is what its header says. 0, DAMAGED or a negative errno. */
static int try_image(const struct attempt *attempt, const struct image_header *header, uint64_t place,
                     uint64_t twin)
{
    uint32_t crc = header->payload_crc;

    if (header->generation == 0 || place + image_length(header->size) > (uint64_t)attempt->status.st_size)
        return DAMAGED;
    if (attempt->depth != LOOK || !header->flushed) {
        int error = read_bytes(attempt, place + IMAGE_HEADER_SIZE, header->size, &crc);

        if (error != 0)
            return error == CHANGED ? DAMAGED : error;
        if (crc != header->payload_crc)
            return DAMAGED;
    }
    *attempt->image = (struct store_image){
        .kind = STORE_SIZED,
        .size = header->size,
        .generation = header->generation,
        .place = place,
        .twin = twin,
        .payload_crc = header->payload_crc,
        .flushed = header->flushed,
    };
    return 0;
}

/*
 * What was found counts only if the header at 0, which names the twin place, is still the one that was read: the twin may
 * have moved meanwhile. Then the head's image, intact though it is, was dead before this reader began; and at the old
 * twin place there may lie part of a newer payload, with an image in it that nobody committed.
 */
static int confirm(const struct attempt *attempt, const struct image_header *head)
{
    struct image_header now;
    int error;
    enum image_kind kind = read_header(attempt->inode, 0, &now, &error);

    if (error != 0)
        return error;
    if (kind != IMAGE_VALID || now.twin != head->twin)
        return DAMAGED;
    /* a commit into the head place may have begun beside the twin's image */
    return now.generation == head->generation ||
                   (attempt->image->place != 0 && now.generation == attempt->image->generation + 1)
               ? 0
               : DAMAGED;
}

static bool has_new_size(const struct attempt *attempt)
{
    struct stat status;

    return STORE_RETRY(store_calls.fstat(attempt->inode, &status)) == 0 &&
           status.st_size != attempt->status.st_size;
}

/* The header at 0 is valid: its image and the twin's are candidates, the higher generation first. */
static int try_sized(const struct attempt *attempt, const struct image_header *head)
{
    struct image_header twin = {0};
    int error;
    bool head_fits = head->generation != 0 && image_length(head->size) <= head->twin;
    bool twin_fits;
    bool edited = false;

    if (head->twin == 0)
        return DAMAGED;
    twin_fits = read_header(attempt->inode, head->twin, &twin, &error) == IMAGE_VALID && twin.twin == 0;
    if (error != 0)
        return error;
    for (int turn = 0; turn < 2; turn++) {
        bool twin_first = twin_fits && (!head_fits || twin.generation > head->generation);
        bool twin_now = (turn == 0) == twin_first;

        if (twin_now ? !twin_fits : !head_fits)
            continue;
        error = twin_now ? try_image(attempt, &twin, head->twin, head->twin)
                         : try_image(attempt, head, 0, head->twin);
        if (error == 0)
            error = confirm(attempt, head);
        if (error == 0) {
            attempt->image->edited = edited;
            attempt->image->resized = !image_size_possible((uint64_t)attempt->status.st_size);
        }
        if (error != DAMAGED)
            return error;
        /* no crash does that: the mark is set when the image is on disk. But a commit may have made the file longer since
         * its size was asked for */
        edited = twin_now ? twin.flushed : head->flushed;
        if (edited && has_new_size(attempt))
            return CHANGED;
    }
    return DAMAGED;
}

/* Is there a complete image at this twin place now? */
static bool has_image(const struct attempt *attempt, uint64_t place)
{
    struct store_image image;
    struct attempt look = *attempt;
    struct image_header header;
    int error;

    look.image = &image;
    look.depth = VERIFY;
    return read_header(look.inode, place, &header, &error) == IMAGE_VALID && header.twin == 0 &&
           try_image(&look, &header, place, place) == 0;
}

/* Does a getxattr that fails so say that there is no note? */
static bool is_without_note(ssize_t error)
{
    return error == -ENODATA || error == -EOPNOTSUPP || error == -ENOSYS || error == -EPERM ||
           error == -EACCES || error == -ERANGE;
}

/*
 * The file ends in zeros, where a footer would be. They do not count if a first commit's note says that its footer was on the
 * way: with this size, behind these bytes, and nothing but zeros in between. What anybody wrote there since is not cut off.
 * Returns 0 and changes attempt->image if so; CHANGED, or a negative errno.
 */
static int heed_note(const struct attempt *attempt)
{
    char bytes[IMAGE_NOTE_SIZE + 1];
    struct attempt look = *attempt;
    struct image_note note;
    uint64_t rest;
    uint32_t crc;
    ssize_t n = STORE_RETRY(store_calls.fgetxattr(attempt->inode, IMAGE_NOTE_NAME, bytes, sizeof bytes));
    int error;

    if (n < 0)
        return is_without_note(n) ? 0 : (int)n;
    if (image_decode_note(bytes, (size_t)n, &note) != IMAGE_VALID ||
        note.file_size != (uint64_t)attempt->status.st_size)
        return 0;
    look.depth = attempt->depth == LOOK ? LOOK : VERIFY;
    error = read_bytes(&look, 0, note.plain_size, &crc);
    if (error != 0 || crc != note.plain_crc)
        return error;
    rest = note.file_size - note.plain_size;
    error = read_bytes(&look, note.plain_size, rest, &crc);
    if (error == 0 && crc == crc32c_zeros(0, (rest + WORD_MASK) & ~WORD_MASK))
        *attempt->image = (struct store_image){
            .kind = STORE_PLAIN, .size = note.plain_size, .payload_crc = note.plain_crc, .blank = true};
    return error;
}

/* No header at 0. A valid footer at the end tells of a first commit that has begun. */
static int try_plain(const struct attempt *attempt)
{
    uint64_t file_size = (uint64_t)attempt->status.st_size;
    struct store_image *image = attempt->image;
    struct image_footer footer;
    struct image_header header;
    struct stat status;
    int error = 0;

    *image = (struct store_image){.kind = STORE_PLAIN, .size = file_size};
    if (image_size_possible(file_size)) {
        char bytes[IMAGE_HEADER_SIZE];
        ssize_t n = store_read_at(attempt->inode, bytes, sizeof bytes, file_size - sizeof bytes);

        if (n < 0)
            return (int)n;
        if (n < IMAGE_HEADER_SIZE) /* a first commit failed and was undone meanwhile, perhaps not the last */
            return CHANGED;
        if (image_decode_footer(bytes, (size_t)n, &footer) == IMAGE_VALID &&
            footer.plain_size <= footer.twin && footer.twin < file_size) {
            if (read_header(attempt->inode, footer.twin, &header, &error) == IMAGE_VALID &&
                header.twin == 0) {
                error = try_image(attempt, &header, footer.twin, footer.twin);
                image->adopted = error == 0;
            } else if (error == 0)
                error = DAMAGED;
            if (error != DAMAGED)
                return error;
            *image =
                (struct store_image){.kind = STORE_PLAIN, .size = footer.plain_size, .twin = footer.twin};
        } else if (is_zero(bytes, sizeof bytes)) {
            error = heed_note(attempt);
            if (error != 0)
                return error;
        }
    }
    if (attempt->depth != LOOK) {
        uint32_t noted_crc = image->payload_crc;

        error = read_bytes(attempt, 0, image->size, &image->payload_crc);
        if (error == 0 && image->blank && image->payload_crc != noted_crc)
            error = CHANGED;
        if (error != 0)
            return error;
    }
    /* look again: a first commit may have begun meanwhile */
    if (read_header(attempt->inode, 0, &header, &error) != IMAGE_ABSENT)
        return DAMAGED;
    /* or have come and gone: one whose last flush failed takes its header back, and its image after that */
    if (error == 0 && image->twin != 0 && has_image(attempt, image->twin))
        return DAMAGED;
    if (error == 0)
        error = (int)STORE_RETRY(store_calls.fstat(attempt->inode, &status));
    if (error == 0 && (uint64_t)status.st_size != file_size && !attempt->settle_for_plain)
        return CHANGED;
    return error;
}

static int try_once(struct attempt *attempt)
{
    struct image_header head;
    int error;
    enum image_kind kind = read_header(attempt->inode, 0, &head, &error);

    if (error == 0)
        error = (int)STORE_RETRY(store_calls.fstat(attempt->inode, &attempt->status));
    if (error != 0)
        return error;
    if (kind == IMAGE_TORN)
        return DAMAGED;
    return kind == IMAGE_VALID ? try_sized(attempt, &head) : try_plain(attempt);
}

static int find(struct attempt *attempt, struct store_wait wait)
{
    int result = DAMAGED;
    int retries = wait.locked ? LOCKED_RETRIES : RETRIES;
    struct filelock lock;

    for (int i = 0; i < retries; i++) {
        attempt->settle_for_plain = wait.locked && i == retries - 1;
        result = try_once(attempt);
        if (result <= 0)
            return result;
        if (i >= EAGER_RETRIES)
            sys_sleep((int64_t)RETRY_PAUSE * i);
    }
    if (wait.locked)
        return -EIO;

    result = filelock_acquire(&lock, attempt->inode, F_RDLCK, wait.timeout);
    if (result == 0) {
        result = find(attempt, (struct store_wait){.locked = true});
        filelock_release(&lock);
    }
    return result;
}

int store_load(int inode, int target, struct store_wait wait, struct store_image *image)
{
    struct attempt attempt = {
        .inode = inode, .target = target, .depth = target < 0 ? VERIFY : COPY, .image = image};

    return find(&attempt, wait);
}

int store_look(int inode, struct store_wait wait, struct store_image *image)
{
    struct attempt attempt = {.inode = inode, .target = -1, .depth = LOOK, .image = image};

    return find(&attempt, wait);
}

int store_sum(int fd, uint64_t size, uint32_t *crc)
{
    struct attempt attempt = {.inode = fd, .target = -1, .depth = VERIFY};
    int result = read_bytes(&attempt, 0, size, crc);

    return result == CHANGED ? -EIO : result;
}
