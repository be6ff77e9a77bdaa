/* Shared by the tests of the store: files and their contents, and the states in which a commit may
 * start. */
#ifndef ATOMSHIM_STORE_FILES_H
#define ATOMSHIM_STORE_FILES_H

#include "check.h"

#include "format/crc32c.h"
#include "format/record.h"
#include "store/calls.h"
#include "store/store.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct store_wait patient = {.timeout = INT64_C(30000000000)};
static struct store_calls original_calls;

/* ---- a file and its content ---- */

static inline int new_file(const char *plain)
{
    char name[] = "store_test.XXXXXX";
    int fd = mkstemp(name);

    if (fd < 0 || unlink(name) != 0 || write(fd, plain, strlen(plain)) != (ssize_t)strlen(plain))
        abort();
    return fd;
}

static inline struct store_payload payload_of(const char *bytes, uint64_t size)
{
    return (struct store_payload){bytes, size, crc32c_mixed(0, bytes, size)};
}

static inline int commit_bytes(int fd, const char *bytes, uint64_t size, bool sync)
{
    struct store_payload payload = payload_of(bytes, size);

    return store_commit(fd, &payload, sync);
}

static inline int commit_plain_bytes(int fd, const char *bytes, uint64_t size, bool sync)
{
    struct store_payload payload = payload_of(bytes, size);

    return store_commit_plain(fd, &payload, sync);
}

static inline int commit_text(int fd, const char *text)
{
    return commit_bytes(fd, text, strlen(text), true);
}

static inline bool holds(int fd, const char *bytes, size_t size)
{
    struct store_image image;
    int target = memfd_create("target", 0);
    char *found = malloc(size + 1);
    bool same = store_load(fd, target, patient, &image) == 0 && image.size == size &&
                pread(target, found, size + 1, 0) == (ssize_t)size && memcmp(found, bytes, size) == 0;

    free(found);
    (void)close(target);
    return same;
}

static inline bool holds_text(int fd, const char *text)
{
    return holds(fd, text, strlen(text));
}

static inline uint64_t size_of(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 ? (uint64_t)status.st_size : 0;
}

static inline struct store_image look_at_file(int fd)
{
    struct store_image image = {0};

    CHECK_EQUAL(store_look(fd, patient, &image), 0);
    return image;
}

/* ---- all the bytes of a file ---- */

enum { FILE_MAX = 1 << 18 };

/* An extended attribute, of at most what btrfs takes; size 0: there is none. */
enum { NOTE_MAX = 16000 };
struct note {
    size_t size;
    char data[NOTE_MAX];
};

struct bytes {
    uint64_t size;
    char data[FILE_MAX];
    struct note note; /* the attribute of a disk's file (store_disk.h) */
};

static inline struct bytes *new_bytes(void)
{
    struct bytes *bytes = calloc(1, sizeof *bytes);

    if (bytes == NULL)
        abort();
    return bytes;
}

static inline void put_file(int fd, const struct bytes *bytes)
{
    /* in this order: ext4 flushes a file that was cut to 0 when it is closed */
    if (pwrite(fd, bytes->data, bytes->size, 0) != (ssize_t)bytes->size ||
        ftruncate(fd, (off_t)bytes->size) != 0)
        abort();
}

static inline void get_file(int fd, struct bytes *bytes)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || status.st_size > FILE_MAX)
        abort();
    if (bytes->size > (uint64_t)status.st_size) /* zero behind the end, always */
        memset(bytes->data + status.st_size, 0, bytes->size - (uint64_t)status.st_size);
    bytes->size = (uint64_t)status.st_size;
    if (pread(fd, bytes->data, bytes->size, 0) != status.st_size)
        abort();
}

static inline bool same_bytes(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/*
 * The kinds of payloads. All but letters look like parts of a file of ours, complete, flushed and
 * of a generation beyond any real one, wherever in the payload a place may lie; a reader must never
 * take them for images. Records differ in their second half only, and not in their CRC-32C as a
 * whole.
 */
enum filling { LETTERS, TWIN_HEADERS, HEAD_HEADERS, FOOTERS, WHOLE_FILE, RECORDS, FILLINGS };

static const char *const filling_names[] = {"letters",        "headers of twins",
                                            "headers at 0",   "footers",
                                            "a managed file", "records that end in their own CRC-32C"};

static inline struct bytes *make_content(enum filling filling, unsigned seed, uint64_t size)
{
    struct bytes *bytes = new_bytes();
    struct image_header header = {.generation = 1000000 + seed, .flushed = true};
    struct image_footer footer = {.plain_size = seed, .twin = IMAGE_PAGE};
    uint64_t start = IMAGE_PAGE - IMAGE_HEADER_SIZE; /* in the file, a page begins there */
    uint32_t own;

    bytes->size = size;
    for (uint64_t i = 0; i < size; i++)
        bytes->data[i] = (char)('a' + (i / 7 + (uint64_t)seed * 31 + i % (seed + 3)) % 26);
    if (filling == TWIN_HEADERS || filling == HEAD_HEADERS || filling == FOOTERS)
        for (uint64_t at = 0; at + IMAGE_HEADER_SIZE <= size; at += IMAGE_HEADER_SIZE) {
            header.twin = filling == TWIN_HEADERS ? 0 : IMAGE_PAGE * (1 + at / IMAGE_HEADER_SIZE % 8);
            footer.twin = IMAGE_PAGE * (1 + at / IMAGE_HEADER_SIZE % 8);
            if (filling == FOOTERS)
                image_encode_footer(bytes->data + at, &footer);
            else
                image_encode_header(bytes->data + at, &header);
        }
    if (filling == WHOLE_FILE && size >= start + IMAGE_PAGE + IMAGE_HEADER_SIZE) {
        header.twin = IMAGE_PAGE;
        image_encode_header(bytes->data + start, &header);
        header.twin = 0;
        header.generation++;
        image_encode_header(bytes->data + start + IMAGE_PAGE, &header);
        image_encode_footer(bytes->data + (size - IMAGE_HEADER_SIZE), &footer);
    }
    if (filling == RECORDS && size > sizeof own) {
        memset(bytes->data, 'r', size / 2);
        own = crc32c(0, bytes->data, size - sizeof own);
        memcpy(bytes->data + (size - sizeof own), &own, sizeof own);
    }
    return bytes;
}

/* ---- the states in which a commit may start ---- */

/* A file that has seen these contents, one commit each; the first is a plain file unless its size
 * is 0. */
struct scenario {
    const char *name;
    uint64_t plain;
    int commits;
    uint64_t sizes[4];
    uint64_t next;
};

static const struct scenario scenarios[] = {
    {"first commit of an empty file", 0, 0, {0}, 2500},
    {"first commit of 0 bytes", 0, 0, {0}, 0},
    {"first commit of a small plain file", 700, 0, {0}, 900},
    {"first commit of a plain file, shorter", 9000, 0, {0}, 100},
    {"first commit of a plain file, longer", 5000, 0, {0}, 9500},
    {"first commit of a plain file of whole pages", 8192, 0, {0}, 8192},
    {"first commit of a plain file as long as a managed one", 4096 + 128, 0, {0}, 4096},
    {"overwrite, twin live", 100, 1, {2500}, 2600},
    {"overwrite, head live", 100, 2, {2500, 2600}, 2700},
    {"overwrite of the same size, twin live", 100, 3, {2600, 2600, 2600}, 2600},
    {"overwrite of the same size, head live", 100, 2, {2600, 2600}, 2600},
    {"overwrite of 0 bytes, twin live", 10, 1, {0}, 0},
    {"overwrite by 0 bytes, head live", 10, 2, {1, 3000}, 0},
    {"growth, twin live", 100, 1, {1000}, 15000},
    {"growth, head live", 100, 2, {1000, 1100}, 15000},
    {"growth twice, twin live", 100, 3, {1000, 1100, 9000}, 30000},
    {"growth after an image that only fitted behind, twin live", 100, 3, {1000, 1100, 30000}, 12000},
    {"shrink, twin live", 100, 1, {20000}, 10},
    {"shrink, head live", 100, 2, {20000, 20000}, 10},
    {"shrink of a file far too large, twin live", 60000, 1, {60000}, 30},
    {"shrink of a file far too large, head live", 60000, 2, {60000, 60000}, 20},
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* The same states in the plain format: commits that fit into an attribute, and some that do not. */
static const struct scenario plain_scenarios[] = {
    {"plain, an empty file", 0, 0, {0}, 700},
    {"plain, to an empty file", 700, 0, {0}, 0},
    {"plain, the same size", 1500, 0, {0}, 1500},
    {"plain, longer", 300, 0, {0}, 2900},
    {"plain, shorter, in one block", 2900, 0, {0}, 300},
    {"plain, shorter, over blocks", 9000, 0, {0}, 1700},
    {"plain, longer, over blocks", 1000, 0, {0}, 3400},
    {"plain, after a commit", 100, 1, {2500}, 2600},
    {"plain, after two, shorter", 100, 2, {2500, 3000}, 700},
    {"plain, far shorter", 60000, 0, {0}, 40},
};

enum { PLAIN_SCENARIOS = sizeof plain_scenarios / sizeof plain_scenarios[0] };

#endif
