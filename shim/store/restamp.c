/*
 * Gives images another header, and leaves their bytes alone: the image before the live one becomes
 * the content again (undo), or the rest of a damaged file does (repair). A header is 128 bytes in
 * one sector: the switch is atomic, and nothing else of the file is written.
 */
#include "store/restamp.h"

#include "store/calls.h"
#include "store/internal.h"

#include <errno.h>
#include <string.h>

static const struct store_wait under_lock = {.locked = true};

/* ---- the image before ---- */

/*
 * Fills *previous with the image that is not live, and its header. Returns 0, -ENODATA, or another
 * negative errno.
 */
static int find_previous(int inode, int target, const struct store_image *live, struct store_image *previous)
{
    struct attempt attempt = {.inode = inode,
                              .target = target,
                              .depth = target < 0 ? VERIFY : COPY,
                              .locked = true,
                              .image = previous};
    const uint64_t place = live->place == 0 ? live->twin : 0;
    struct image_header header;
    int error = (int)STORE_RETRY(store_calls.fstat(inode, &attempt.status));

    if (error != 0)
        return error;
    if (live->kind == STORE_PLAIN || live->adopted ||
        store_read_header(inode, place, &header, &error) != IMAGE_VALID)
        return error != 0 ? error : -ENODATA;
    if (header.generation == 0 || header.generation >= live->generation)
        return -ENODATA;
    error = store_try_image(&attempt, &header, place, live->twin);
    return error == DAMAGED ? -ENODATA : error;
}

int store_load_previous(int inode, int target, struct store_image *previous)
{
    struct store_image live;
    int error = store_load(inode, -1, under_lock, &live);

    return error == 0 ? find_previous(inode, target, &live, previous) : error;
}

/* Writes a header, on disk with sync, and then its mark. Returns 0 or a negative errno. */
static int stamp_header(int inode, bool sync, uint64_t place, const struct image_header *header)
{
    const char mark = sync ? IMAGE_MARK_FLUSHED : IMAGE_MARK_WRITTEN;
    char bytes[IMAGE_HEADER_SIZE];
    int error = 0;
    ssize_t n;

    image_encode_header(bytes, header);
    n = STORE_RETRY(store_calls.pwrite(inode, bytes, sizeof bytes, place));
    if (n != sizeof bytes)
        return n < 0 ? (int)n : -ENOSPC;
    if (sync)
        error = (int)STORE_RETRY(store_calls.fdatasync(inode));
    if (error == 0 && header->generation != 0)
        (void)STORE_RETRY(store_calls.pwrite(inode, &mark, 1, place + IMAGE_MARK_OFFSET));
    return error;
}

/* Sees to it that an image is on disk before a header says so. */
static int flush_image(int inode, bool sync, uint64_t place, uint64_t size)
{
    int error = sync ? store_rewrite(inode, place, image_length(size)) : 0;

    if (error == 0 && sync)
        error = (int)STORE_RETRY(store_calls.fdatasync(inode));
    return error == CHANGED ? -EIO : error;
}

int store_undo(int inode, bool sync, struct store_image *image)
{
    struct store_image live;
    struct image_header header;
    int error = store_settle(inode, sync, &live);

    if (error == 0)
        error = find_previous(inode, -1, &live, image);
    if (error == 0)
        error = flush_image(inode, sync, image->place, image->size);
    if (error != 0)
        return error;
    image->generation = live.generation + 1;
    header = (struct image_header){.generation = image->generation,
                                   .size = image->size,
                                   .twin = image->place == 0 ? live.twin : 0,
                                   .payload_crc = image->payload_crc};
    return stamp_header(inode, sync, image->place, &header);
}

/* ---- repair ---- */

/* A possible image: its header, valid or read from the remains of one. */
struct remains {
    uint64_t place;
    struct image_header header;
    uint64_t size; /* payload bytes that are there */
    uint32_t crc;  /* the sum of these */
    bool found;
    bool complete;
    bool has_header; /* a header that a reader accepts, in its place */
};

/* Reads `digits` digits of that base. Returns a number that no header has if a character is no
 * digit. */
static uint64_t read_number(const char *text, int digits, unsigned base)
{
    uint64_t number = 0;

    for (int i = 0; i < digits; i++) {
        unsigned char c = (unsigned char)text[i];
        unsigned digit = c >= '0' && c <= '9'   ? c - 0U - '0'
                         : c >= 'a' && c <= 'f' ? c - 0U - 'a' + 10
                                                : base;

        if (digit >= base)
            return IMAGE_NUMBER_MAX;
        number = number * base + digit;
    }
    return number;
}

/*
 * Reads the fields of a header whose own checksum is wrong, from where the format has them
 * (image.h).
 */
static bool read_torn_header(const char *bytes, struct image_header *header)
{
    enum { AT_GENERATION = 23, AT_SIZE = 48, AT_TWIN = 73, AT_DATA = 98, DIGITS = 19 };

    *header = (struct image_header){.generation = read_number(bytes + AT_GENERATION, DIGITS, 10),
                                    .size = read_number(bytes + AT_SIZE, DIGITS, 10),
                                    .twin = read_number(bytes + AT_TWIN, DIGITS, 10),
                                    .payload_crc = (uint32_t)read_number(bytes + AT_DATA, 8, 16)};
    return header->generation < IMAGE_NUMBER_MAX && header->size < IMAGE_NUMBER_MAX &&
           header->twin < IMAGE_NUMBER_MAX && header->twin % IMAGE_PAGE == 0;
}

/* Looks for an image at `place` of a file of `file_size` bytes. Returns 0 or a negative errno. */
static int look_at(int inode, uint64_t place, uint64_t file_size, struct remains *remains)
{
    struct attempt attempt = {.inode = inode, .target = -1, .depth = VERIFY};
    char bytes[IMAGE_HEADER_SIZE];
    ssize_t n = store_read_at(inode, bytes, sizeof bytes, place);
    enum image_kind kind;
    int error;

    *remains = (struct remains){.place = place};
    if (n < (ssize_t)sizeof bytes)
        return n < 0 ? (int)n : 0;
    kind = image_decode_header(bytes, sizeof bytes, &remains->header);
    if (kind == IMAGE_ABSENT || (kind == IMAGE_TORN && !read_torn_header(bytes, &remains->header)))
        return 0;
    if (place != 0 && remains->header.twin != 0)
        return 0;
    remains->found = true;
    remains->has_header = kind == IMAGE_VALID;
    remains->size = remains->header.size;
    if (place + image_length(remains->size) > file_size)
        remains->size = file_size - place - IMAGE_HEADER_SIZE;
    error = store_read_bytes(&attempt, place + IMAGE_HEADER_SIZE, remains->size, &remains->crc);
    remains->complete =
        error == 0 && remains->size == remains->header.size && remains->crc == remains->header.payload_crc;
    if (error == 0 && kind == IMAGE_TORN && !remains->complete)
        remains->found = false;
    return error == CHANGED ? -EIO : error;
}

/* Searches for the twin: the header at 0, which names its place, is gone. The twin's image is the
 * last in the file; an image that lies inside another is part of its payload. */
static int search_twin(int inode, uint64_t file_size, struct remains *twin)
{
    struct remains found;
    int error = 0;

    for (uint64_t at = IMAGE_PAGE; error == 0 && at + IMAGE_HEADER_SIZE <= file_size; at += IMAGE_PAGE) {
        error = look_at(inode, at, file_size, &found);
        if (error != 0 || !found.found || found.header.generation == 0 || (twin->complete && !found.complete))
            continue;
        *twin = found;
        if (found.complete)
            at = image_round_up(at + image_length(found.size)) - IMAGE_PAGE;
    }
    return error;
}

static bool is_better(const struct remains *a, const struct remains *b)
{
    if (!a->found || a->header.generation == 0)
        return false;
    if (!b->found || b->header.generation == 0 || a->complete != b->complete)
        return !b->found || b->header.generation == 0 || a->complete;
    return a->header.generation > b->header.generation;
}

static int plan_sized(int inode, struct store_repair *plan)
{
    struct remains head;
    struct remains twin = {.found = false};
    const struct remains *best;
    struct stat status;
    int error = (int)STORE_RETRY(store_calls.fstat(inode, &status));

    if (error == 0)
        error = look_at(inode, 0, (uint64_t)status.st_size, &head);
    if (error == 0 && head.found && head.header.twin != 0)
        error = look_at(inode, head.header.twin, (uint64_t)status.st_size, &twin);
    else if (error == 0)
        error = search_twin(inode, (uint64_t)status.st_size, &twin);
    if (error != 0)
        return error;
    best = is_better(&twin, &head) ? &twin : &head;
    if (!best->found || best->header.generation == 0)
        return -ENODATA;
    plan->kind = best->complete ? STORE_REPAIR_COMPLETE : STORE_REPAIR_AS_IT_IS;
    plan->place = best->place;
    plan->twin = head.found && head.header.twin != 0 ? head.header.twin : twin.place;
    plan->has_head = head.has_header;
    plan->has_twin = twin.has_header && twin.header.twin == 0;
    plan->found_generation = best->header.generation;
    plan->generation =
        1 + (head.found && head.header.generation > twin.header.generation ? head.header.generation
                                                                           : twin.header.generation);
    plan->size = best->size;
    plan->wanted_size = best->header.size;
    plan->crc = best->crc;
    return plan->place == 0 && plan->twin == 0 ? -ENODATA : 0;
}

/* Called for a file that looks plain, but has the size of a sized one: another program may have
 * written over its header. */
static int plan_overwritten(int inode, const struct store_image *image, struct store_repair *plan)
{
    int error = -ENODATA;

    if (image_size_possible(image->size))
        error = plan_sized(inode, plan);
    if (error != 0 || plan->kind != STORE_REPAIR_COMPLETE)
        *plan = (struct store_repair){.kind = STORE_REPAIR_NOTHING};
    return error == -ENODATA ? 0 : error;
}

int store_plan_repair(int inode, struct store_repair *plan)
{
    struct store_image image;
    int error = store_load(inode, -1, under_lock, &image);

    *plan = (struct store_repair){.kind = STORE_REPAIR_NOTHING};
    if (error == -EIO) /* a read error that passes is no damage */
        error = store_load(inode, -1, under_lock, &image);
    if (error != 0 && error != -EIO)
        return error;
    if (error == 0 && image.kind == STORE_PLAIN && image.bytes != STORE_CUT_SHORT &&
        image.bytes != STORE_TORN)
        return plan_overwritten(inode, &image, plan);
    if (error == 0 && image.kind == STORE_SIZED && !image.edited && !image.scratched)
        return 0;
    if (error == 0 && image.kind == STORE_PLAIN) {
        plan->kind = STORE_REPAIR_PLAIN;
        plan->size = image.size;
        return 0;
    }
    return plan_sized(inode, plan);
}

int store_repair(int inode, bool sync, const struct store_repair *plan)
{
    const struct image_header none = {.twin = plan->twin};
    const struct image_header empty = {.generation = 0};
    struct image_header header = {.generation = plan->generation,
                                  .size = plan->size,
                                  .twin = plan->place == 0 ? plan->twin : 0,
                                  .payload_crc = plan->crc};
    int error = flush_image(inode, sync, plan->place, plan->size);

    if (error == 0)
        error = stamp_header(inode, sync, plan->place, &header);
    if (error == 0 && plan->place != 0 && !plan->has_head)
        error = stamp_header(inode, sync, 0, &none);
    if (error == 0 && plan->place == 0 && !plan->has_twin)
        error = stamp_header(inode, sync, plan->twin, &empty);
    return error;
}
