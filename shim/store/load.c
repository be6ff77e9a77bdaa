/* The reading half of store.h: find the live image without a lock. */
#include "store/internal.h"

#include "store/calls.h"
#include "store/filelock.h"

#include <errno.h>

enum {
    RETRIES = 24,        /* attempts before a reader asks for the lock */
    EAGER_RETRIES = 4,   /* so many of them without a pause */
    RETRY_PAUSE = 20000, /* nanoseconds, growing linearly */
    LOCKED_RETRIES = 3,  /* under the lock only a program that knows of no lock can disturb */
    /* attempts that only a header in the middle of its change can make necessary */
    SIZE_RETRIES = 8,
};

enum image_kind store_read_header(int inode, uint64_t offset, struct image_header *header, int *error)
{
    char bytes[IMAGE_HEADER_SIZE];
    ssize_t n = store_read_at(inode, bytes, sizeof bytes, offset);

    *error = n < 0 ? (int)n : 0;
    return n < 0 ? IMAGE_ABSENT : image_decode_header(bytes, (size_t)n, header);
}

/* Tells whether the header alone vouches for the payload. */
static bool is_vouched_for(const struct attempt *attempt, const struct image_header *header)
{
    return (attempt->depth == LOOK && header->flushed) ||
           (attempt->depth == SIZE && (header->complete || header->size > SIZE_CHECKED));
}

static bool is_expected(const struct store_image *image, const struct image_header *header)
{
    return header->generation == image->generation && header->size == image->size &&
           header->payload_crc == image->payload_crc;
}

int store_try_image(const struct attempt *attempt, const struct image_header *header, uint64_t place,
                    uint64_t twin)
{
    uint32_t crc = header->payload_crc;

    if (attempt->expected != NULL && !is_expected(attempt->expected, header))
        return CHANGED;
    if (header->generation == 0 || place + image_length(header->size) > (uint64_t)attempt->status.st_size)
        return DAMAGED;
    if (!is_vouched_for(attempt, header)) {
        int error = store_read_bytes(attempt, place + IMAGE_HEADER_SIZE, header->size, &crc);

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
        .scratched = header->bad_mark,
    };
    return 0;
}

/*
 * The image that was found counts only if the header at 0, which names the twin place, is still the
 * one that was read: the twin may have moved meanwhile. Then the head's image, intact though it is,
 * was dead before this reader began; and at the old twin place there may lie part of a newer
 * payload, with an image in it that nobody committed.
 */
static int confirm_head(const struct attempt *attempt, const struct image_header *head)
{
    struct image_header now;
    int error;
    enum image_kind kind;

    if (attempt->locked && attempt->target < 0) /* a commit looks at both places at its end */
        return 0;
    kind = store_read_header(attempt->inode, 0, &now, &error);

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

/*
 * Called when there is a valid image beside a damaged one (edited). No crash leaves that: a mark is
 * set after its image. But a writer may be at that place just now, or have made the file longer
 * since fstat().
 */
static int accept_image(const struct attempt *attempt, bool edited)
{
    attempt->image->edited = edited;
    attempt->image->resized = !image_size_possible((uint64_t)attempt->status.st_size);
    if (!edited || attempt->locked)
        return 0;
    return has_new_size(attempt) ? CHANGED : SUSPECT;
}

/* The header at 0 is valid: its image and the twin's are candidates, the higher generation
 * first. */
static int try_sized(const struct attempt *attempt, const struct image_header *head)
{
    struct image_header twin = {0};
    int error;
    bool head_fits = head->generation != 0 && image_length(head->size) <= head->twin;
    bool twin_fits;
    bool edited;

    if (head->twin == 0)
        return DAMAGED;
    twin_fits = store_read_header(attempt->inode, head->twin, &twin, &error) == IMAGE_VALID && twin.twin == 0;
    if (error != 0)
        return error;
    edited = !twin_fits; /* no commit leaves that place empty: it may have had the later image */
    for (int turn = 0; turn < 2; turn++) {
        bool twin_first = twin_fits && (!head_fits || twin.generation > head->generation);
        bool twin_now = (turn == 0) == twin_first;

        if (twin_now ? !twin_fits : !head_fits)
            continue;
        error = twin_now ? store_try_image(attempt, &twin, head->twin, head->twin)
                         : store_try_image(attempt, head, 0, head->twin);
        if (error == 0)
            error = confirm_head(attempt, head);
        if (error == 0)
            return accept_image(attempt, edited);
        if (error != DAMAGED)
            return error;
        edited |= twin_now ? twin.complete : head->complete;
    }
    return DAMAGED;
}

static int try_once(struct attempt *attempt)
{
    struct image_header head;
    int error;
    enum image_kind kind = store_read_header(attempt->inode, 0, &head, &error);

    if (error == 0)
        error = (int)STORE_RETRY(store_calls.fstat(attempt->inode, &attempt->status));
    if (error != 0)
        return error;
    if (kind == IMAGE_TORN)
        return DAMAGED;
    return kind == IMAGE_VALID ? try_sized(attempt, &head) : store_try_plain(attempt);
}

static int find_locked(struct attempt *attempt)
{
    int result = DAMAGED;

    attempt->locked = true;
    for (int i = 0; i < LOCKED_RETRIES; i++) {
        attempt->settle_for_plain = i == LOCKED_RETRIES - 1;
        result = try_once(attempt);
        if (result <= 0)
            return result;
    }
    return -EIO;
}

/* Loads with every writer kept out; waits for them up to `timeout`. */
static int find_under_lock(struct attempt *attempt, int64_t timeout)
{
    struct filelock lock;
    int result = filelock_acquire(&lock, attempt->inode, F_RDLCK, timeout);

    if (result == 0) {
        result = find_locked(attempt);
        filelock_release(&lock);
    }
    return result;
}

static int find_image(struct attempt *attempt, struct store_wait wait)
{
    int result = DAMAGED;

    if (wait.locked)
        return find_locked(attempt);
    for (int i = 0; i < RETRIES; i++) {
        result = try_once(attempt);
        if (result == SUSPECT && i > 0 && find_under_lock(attempt, 0) == 0)
            return 0;
        attempt->locked = false;
        if (result <= 0)
            return result;
        if (i >= EAGER_RETRIES)
            sys_sleep((int64_t)RETRY_PAUSE * i);
    }
    if (result == SUSPECT) /* another process keeps the lock, and has not mended the file */
        return 0;
    return find_under_lock(attempt, wait.timeout);
}

int store_load(int inode, int target, struct store_wait wait, struct store_image *image)
{
    struct attempt attempt = {
        .inode = inode, .target = target, .depth = target < 0 ? VERIFY : COPY, .image = image};
    int error = find_image(&attempt, wait);

    image->file_size = (uint64_t)attempt.status.st_size;
    return error;
}

/* True if the headers say that this image is the latest. */
static bool is_latest(int inode, const struct store_image *image)
{
    struct image_header head;
    struct image_header twin;
    int error;

    if (store_read_header(inode, 0, &head, &error) != IMAGE_VALID || head.twin != image->twin ||
        store_read_header(inode, image->twin, &twin, &error) != IMAGE_VALID)
        return false;
    return image->place == 0 ? is_expected(image, &head) && twin.generation < image->generation
                             : is_expected(image, &twin) && head.generation < image->generation;
}

bool store_is_current(int inode, const struct store_image *image, bool is_unchanged)
{
    struct store_image now = {.generation = 0};
    struct attempt attempt = {
        .inode = inode, .target = -1, .depth = VERIFY, .expected = image, .image = &now};

    if (is_unchanged)
        return is_latest(inode, image);
    return try_once(&attempt) == 0 && now.kind == STORE_SIZED && !now.resized;
}

int store_look(int inode, struct store_wait wait, struct store_image *image)
{
    struct attempt attempt = {.inode = inode, .target = -1, .depth = LOOK, .image = image};
    int error = find_image(&attempt, wait);

    image->file_size = (uint64_t)attempt.status.st_size;
    return error;
}

/* Does what store_look() does, but bounded in bytes and in time. Returns -EIO also if a writer
 * changes the header again and again. */
static int find_size(int inode, struct store_image *image)
{
    struct attempt attempt = {.inode = inode, .target = -1, .depth = SIZE, .image = image};
    int result = DAMAGED;

    for (int i = 0; i < SIZE_RETRIES; i++) {
        result = try_once(&attempt);
        if (result <= 0 || result == SUSPECT)
            return result == SUSPECT ? 0 : result;
        if (i >= EAGER_RETRIES)
            sys_sleep((int64_t)RETRY_PAUSE * i);
    }
    return -EIO;
}

int store_size(int inode, uint64_t *size)
{
    struct store_image image;
    int error = find_size(inode, &image);

    if (error == 0)
        *size = image.size;
    return error;
}

int store_is_whole(int inode)
{
    struct store_image image;
    int error = find_size(inode, &image);

    if (error != 0)
        return error == -EIO ? 0 : error;
    return image.kind == STORE_SIZED || image.twin != 0;
}
