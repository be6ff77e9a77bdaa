/*
 * A list of files that no commit of ours left: each is plain content, one valid image, or EIO,
 * whatever its numbers say; a reader asks for no more bytes than the file has; and a commit
 * succeeds or leaves every byte alone (I5). tests/fuzz/reader.c looks for more such files.
 */
#include "check.h"

#include "format/crc32c.h"
#include "store/calls.h"
#include "store/store.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PARTS_MAX = 4, FILE_SIZE = 4 * IMAGE_PAGE + IMAGE_FILE_REMAINDER };

enum part_kind { END, HEADER, FOOTER, TEXT };

/* The test writes these bytes at `offset`. A header is followed by its payload, `text`. */
struct part {
    enum part_kind kind;
    uint64_t offset;
    const char *text;
    uint64_t generation, twin;
    uint64_t size; /* a footer's plain size; if not 0, a header's, instead of the text's */
    bool bad_crc;  /* the CRC of the payload */
    bool flushed;
};

/* A number of 19 digits near 2^63, and the largest of which two can be added. */
#define HUGE ((uint64_t)INT64_MAX - 4095)
#define LARGEST (IMAGE_NUMBER_MAX - 1)

#define IMAGE_AT(place, payload, number, other, ...)                                                         \
    {                                                                                                        \
        .kind = HEADER, .offset = (place), .text = (payload), .generation = (number), .twin = (other),       \
        ##__VA_ARGS__                                                                                        \
    }
#define FOOTER_AT(place, other, plain)                                                                       \
    {                                                                                                        \
        .kind = FOOTER, .offset = (place), .text = "", .twin = (other), .size = (plain)                      \
    }
#define TEXT_AT(place, bytes)                                                                                \
    {                                                                                                        \
        .kind = TEXT, .offset = (place), .text = (bytes)                                                     \
    }

static const struct {
    const char *name;
    struct part parts[PARTS_MAX];
    uint64_t file_size; /* 0: FILE_SIZE */
    long result;
    const char *content; /* NULL: all the bytes of the file */
    long commit;         /* the result of a commit */
} files[] = {
    {"a payload size near 2^63", {IMAGE_AT(0, "x", 1, 8192, .size = HUGE)}, 0, -EIO, "", -EIO},
    {"a generation near 2^63", {IMAGE_AT(0, "x", HUGE, 8192)}, 0, -EIO, "", -EIO},
    {"a twin place near 2^63", {IMAGE_AT(0, "x", 1, HUGE + 4096 - 8192)}, 0, -EIO, "", -EIO},
    {"the largest payload size", {IMAGE_AT(0, "x", 1, 8192, .size = LARGEST)}, 0, -EIO, "", -EIO},
    {"the largest payload size, flushed",
     {IMAGE_AT(0, "x", 1, 8192, .size = LARGEST, .flushed = true)},
     0,
     -EIO,
     "",
     -EIO},
    {"the largest payload size in the twin place",
     {IMAGE_AT(0, "old", 1, 8192), IMAGE_AT(8192, "x", 2, 0, .size = LARGEST)},
     0,
     0,
     "old",
     0},
    {"the largest generation", {IMAGE_AT(0, "old", LARGEST, 8192)}, 0, 0, "old", -EFBIG},
    {"a payload that ends one byte behind the file",
     {IMAGE_AT(0, "old", 1, 8192), IMAGE_AT(8192, "x", 2, 0, .size = FILE_SIZE - 8192 - 127)},
     0,
     0,
     "old",
     0},
    {"a twin place at 0", {IMAGE_AT(0, "x", 1, 0)}, 0, -EIO, "", -EIO},
    {"a twin place inside the header", {IMAGE_AT(0, "x", 1, 64)}, 0, -EIO, "", -EIO},
    {"a twin place inside the head's payload", {IMAGE_AT(0, "x", 1, 4096, .size = 5000)}, 0, -EIO, "", -EIO},
    {"the same, with an image there",
     {IMAGE_AT(0, "x", 9, 4096, .size = 5000), IMAGE_AT(4096, "twin", 1, 0)},
     0,
     0,
     "twin",
     0},
    {"a payload that ends one byte inside the twin place",
     {IMAGE_AT(0, "x", 1, 4096, .size = 3969)},
     0,
     -EIO,
     "",
     -EIO},
    {"a twin place behind the file", {IMAGE_AT(0, "old", 1, 65536)}, 0, 0, "old", 0},
    {"a twin place at the last header of the file",
     {IMAGE_AT(0, "old", 1, 16384), IMAGE_AT(16384, "", 2, 0)},
     0,
     0,
     "",
     0},
    {"a twin that names a twin", {IMAGE_AT(0, "old", 1, 8192), IMAGE_AT(8192, "x", 2, 4096)}, 0, 0, "old", 0},
    {"a header that names itself by a twin's copy",
     {IMAGE_AT(0, "old", 3, 8192), IMAGE_AT(8192, "x", 3, 8192)},
     0,
     0,
     "old",
     0},
    {"a twin's header at 0", {IMAGE_AT(0, "x", 3, 0), IMAGE_AT(8192, "y", 3, 0)}, 0, -EIO, "", -EIO},
    {"no image in either place", {IMAGE_AT(0, "", 0, 8192), IMAGE_AT(8192, "", 0, 0)}, 0, -EIO, "", -EIO},
    {"an image whose CRC lies", {IMAGE_AT(0, "x", 1, 8192, .bad_crc = true)}, 0, -EIO, "", -EIO},
    {"a newer image whose CRC lies",
     {IMAGE_AT(0, "old", 1, 8192), IMAGE_AT(8192, "x", 2, 0, .bad_crc = true)},
     0,
     0,
     "old",
     0},
    {"a header inside a payload",
     {IMAGE_AT(0, "old", 1, 8192), IMAGE_AT(8192, "x", 2, 0, .bad_crc = true), IMAGE_AT(4096, "inner", 9, 0)},
     0,
     0,
     "old",
     0},
    {"a header inside a plain file, not at its start",
     {TEXT_AT(0, "text"), IMAGE_AT(4096, "inner", 9, 8192)},
     0,
     0,
     NULL,
     0},
    {"a header that is cut off", {IMAGE_AT(0, "", 1, 8192)}, 100, -EIO, "", -EIO},
    {"half a magic word", {TEXT_AT(0, "#atoms")}, 6, 0, "#atoms", 0},
    {"a magic word and no more", {TEXT_AT(0, "#atomshim/1 ")}, 12, -EIO, "", -EIO},
    {"a footer that counts more bytes than come before the twin place",
     {TEXT_AT(0, "text"), FOOTER_AT(FILE_SIZE - 128, 8192, 8193)},
     0,
     0,
     NULL,
     0},
    {"a footer that counts nearly 2^63 bytes",
     {TEXT_AT(0, "text"), FOOTER_AT(FILE_SIZE - 128, 8192, HUGE)},
     0,
     0,
     NULL,
     0},
    {"a footer whose twin place is behind the file",
     {TEXT_AT(0, "text"), FOOTER_AT(FILE_SIZE - 128, 65536, 4)},
     0,
     0,
     NULL,
     0},
    {"a footer whose twin place is the footer",
     {TEXT_AT(0, "text"), FOOTER_AT(FILE_SIZE - 128, FILE_SIZE - 128, 4)},
     0,
     0,
     "text",
     0},
    {"a footer whose twin place holds a longer image than the file",
     {TEXT_AT(0, "text"), IMAGE_AT(8192, "x", 1, 0, .size = LARGEST), FOOTER_AT(FILE_SIZE - 128, 8192, 4)},
     0,
     0,
     "text",
     0},
    {"a footer that is all there is", {FOOTER_AT(0, 4096, 0)}, 128, 0, NULL, 0},
};

static struct store_calls original_calls;
static uint64_t bytes_read;

static ssize_t counting_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    ssize_t n = sys_pread(fd, buffer, size, offset);

    bytes_read += n > 0 ? (uint64_t)n : 0;
    return n;
}

static void put_bytes(int fd, const void *bytes, size_t size, uint64_t offset)
{
    if (pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size)
        abort();
}

/* Returns the CRC of the text and the zeros behind it, if there can be so many. */
static uint32_t crc_of(const struct part *part)
{
    static char bytes[FILE_SIZE];
    size_t length = strlen(part->text);
    uint64_t size = part->size != 0 && part->size < FILE_SIZE ? part->size : length;

    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, part->text, length);
    return crc32c_mixed(0, bytes, size) + part->bad_crc;
}

static void put_part(int fd, const struct part *part)
{
    char line[IMAGE_HEADER_SIZE];
    size_t length = strlen(part->text);

    if (part->kind == TEXT) {
        put_bytes(fd, part->text, length, part->offset);
    } else if (part->kind == FOOTER) {
        image_encode_footer(line, &(struct image_footer){.plain_size = part->size, .twin = part->twin});
        put_bytes(fd, line, sizeof line, part->offset);
    } else {
        image_encode_header(line, &(struct image_header){
                                      .generation = part->generation,
                                      .size = part->size != 0 ? part->size : length,
                                      .twin = part->twin,
                                      .payload_crc = crc_of(part),
                                      .flushed = part->flushed,
                                  });
        put_bytes(fd, line, sizeof line, part->offset);
        put_bytes(fd, part->text, length, part->offset + sizeof line);
    }
}

static char *all_bytes(int fd, size_t *size)
{
    struct stat status;
    char *bytes;

    if (fstat(fd, &status) != 0)
        abort();
    *size = (size_t)status.st_size;
    bytes = malloc(*size + 1);
    if (bytes == NULL || pread(fd, bytes, *size, 0) != (ssize_t)*size)
        abort();
    return bytes;
}

static bool target_is(int target, const char *bytes, size_t size)
{
    size_t found_size;
    char *found = all_bytes(target, &found_size);
    bool same = found_size == size && memcmp(found, bytes, size) == 0;

    free(found);
    return same;
}

static void check_commit(int fd, int target, const char *before, size_t size, long expected)
{
    static const char text[] = "committed on top";
    struct store_payload payload = {text, sizeof text, crc32c_mixed(0, text, sizeof text)};
    struct store_image image;

    CHECK_EQUAL(store_commit(fd, &payload, true), expected);
    if (expected == 0) {
        CHECK_EQUAL(store_load(fd, target, (struct store_wait){.locked = true}, &image), 0);
        CHECK(target_is(target, text, sizeof text));
    } else
        CHECK(target_is(fd, before, size));
}

static void check_file(size_t i)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC);
    int target = memfd_create("target", MFD_CLOEXEC);
    int failures = check_failures;
    struct store_image image;
    size_t size;
    char *before;
    const char *content = files[i].content;

    if (fd < 0 || target < 0)
        abort();
    for (const struct part *part = files[i].parts; part < files[i].parts + PARTS_MAX && part->kind != END;
         part++)
        put_part(fd, part);
    if (ftruncate(fd, (off_t)(files[i].file_size != 0 ? files[i].file_size : FILE_SIZE)) != 0)
        abort();
    before = all_bytes(fd, &size);

    for (int locked = 0; locked < 2; locked++) {
        bytes_read = 0;
        store_calls.pread = counting_pread;
        CHECK_EQUAL(
            store_load(fd, target, (struct store_wait){.locked = locked, .timeout = 1000000000}, &image),
            files[i].result);
        store_calls = original_calls;
        if (files[i].result == 0) {
            CHECK(target_is(target, content != NULL ? content : before,
                            content != NULL ? strlen(content) : size));
            CHECK(bytes_read <= 2 * size + (size_t)8 * IMAGE_HEADER_SIZE);
        }
    }
    check_commit(fd, target, before, size, files[i].commit);
    if (check_failures != failures)
        (void)fprintf(stderr, "  in: %s\n", files[i].name);
    free(before);
    (void)close(target);
    (void)close(fd);
}

/* ---- a file that changes between two calls of a reader ---- */

enum { PREPARED_SIZE = 16384 + IMAGE_HEADER_SIZE };

static char footer[IMAGE_HEADER_SIZE];
static int stats;

/* The first commit that wrote the footer fails, and removes it again... */
static ssize_t footer_vanishes(int fd, void *buffer, size_t size, uint64_t offset)
{
    if (offset == PREPARED_SIZE - IMAGE_HEADER_SIZE && stats == 1)
        CHECK_EQUAL(ftruncate(fd, 3), 0);
    return sys_pread(fd, buffer, size, offset);
}

/* ...and a second one begins. */
static int footer_appears(int fd, struct stat *status)
{
    if (++stats == 2)
        put_bytes(fd, footer, sizeof footer, PREPARED_SIZE - IMAGE_HEADER_SIZE);
    return sys_fstat(fd, status);
}

/* I2: a file without its footer has not the size of its content. */
static void test_vanishing_footer(void)
{
    int fd = memfd_create("plain", MFD_CLOEXEC);
    struct store_image image;

    put_bytes(fd, "old", 3, 0);
    image_encode_footer(footer, &(struct image_footer){.plain_size = 3, .twin = 8192});
    put_bytes(fd, footer, sizeof footer, PREPARED_SIZE - IMAGE_HEADER_SIZE);
    store_calls.pread = footer_vanishes;
    store_calls.fstat = footer_appears;
    CHECK_EQUAL(store_look(fd, (struct store_wait){.timeout = 1000000000}, &image), 0);
    store_calls = original_calls;
    CHECK(stats > 1);
    CHECK_EQUAL(image.size, 3);
    (void)close(fd);
}

/* I5: a limit inside the header, at which the kernel would cut it. The test ignores SIGXFSZ, which
 * session/commit.c holds. */
static void test_size_limits(void)
{
    static const char text[] = "new";
    struct store_payload payload = {text, sizeof text, crc32c_mixed(0, text, sizeof text)};
    struct rlimit before;

    CHECK_EQUAL(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes <= (rlim_t)2 * IMAGE_HEADER_SIZE; bytes += 10)
        for (int live_in_twin = 0; live_in_twin < 2; live_in_twin++) {
            struct rlimit limit = {bytes, before.rlim_max};
            int fd = memfd_create("limited", MFD_CLOEXEC);
            struct store_image old;
            struct store_image image = {0};
            int result;

            for (int i = 0; i < 3 - live_in_twin; i++)
                CHECK_EQUAL(
                    store_commit(fd, &(struct store_payload){"old", 3, crc32c_mixed(0, "old", 3)}, true), 0);
            CHECK_EQUAL(store_look(fd, (struct store_wait){.locked = true}, &old), 0);
            CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
            result = store_commit(fd, &payload, true);
            CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &before), 0);
            CHECK(result == 0 || result == -EFBIG);
            CHECK_EQUAL(store_load(fd, -1, (struct store_wait){.locked = true}, &image), 0);
            CHECK_EQUAL(image.generation, old.generation + (result == 0));
            CHECK_EQUAL(store_commit(fd, &payload, true), 0);
            (void)close(fd);
        }
}

/* ---- a first commit that comes and goes under a reader: its last flush fails ---- */

static char plain_text[300];
static struct image_header gone = {.generation = 1, .size = 9};
static int reads_at_0;

static ssize_t header_comes_and_goes(int fd, void *buffer, size_t size, uint64_t offset)
{
    char bytes[IMAGE_HEADER_SIZE];

    if (offset == 0 && ++reads_at_0 == 2) { /* the payload: first the header was looked for */
        gone.payload_crc = crc32c_mixed(0, "committed", 9);
        image_encode_header(bytes, &gone);
        put_bytes(fd, bytes, sizeof bytes, 8192);
        put_bytes(fd, "committed", 9, 8192 + IMAGE_HEADER_SIZE);
        image_encode_header(bytes, &(struct image_header){.twin = 8192});
        put_bytes(fd, bytes, sizeof bytes, 0);
    } else if (offset == 0 && reads_at_0 == 3)
        put_bytes(fd, plain_text, sizeof plain_text, 0);
    return sys_pread(fd, buffer, size, offset);
}

/* I2: bytes that were read while the header was there are not the plain bytes. */
static void test_header_comes_and_goes(void)
{
    int fd = memfd_create("plain", MFD_CLOEXEC);
    int target = memfd_create("target", MFD_CLOEXEC);
    struct store_image image;

    memset(plain_text, 'p', sizeof plain_text);
    put_bytes(fd, plain_text, sizeof plain_text, 0);
    image_encode_footer(footer, &(struct image_footer){.plain_size = sizeof plain_text, .twin = 8192});
    put_bytes(fd, footer, sizeof footer, PREPARED_SIZE - IMAGE_HEADER_SIZE);
    store_calls.pread = header_comes_and_goes;
    CHECK_EQUAL(store_load(fd, target, (struct store_wait){.timeout = 1000000000}, &image), 0);
    store_calls = original_calls;
    CHECK(reads_at_0 > 3);
    CHECK(target_is(target, "committed", 9) || target_is(target, plain_text, sizeof plain_text));
    (void)close(target);
    (void)close(fd);
}

static void check_sparse(int fd, uint64_t size, uint32_t crc)
{
    int target = memfd_create("target", MFD_CLOEXEC);
    struct store_image image = {0};
    struct stat status;
    char found[3];

    put_bytes(target, "what an earlier attempt left", 28, 0);
    CHECK_EQUAL(lseek(fd, 4711, SEEK_SET), 4711);
    CHECK_EQUAL(store_load(fd, target, (struct store_wait){.timeout = 1000000000}, &image), 0);
    CHECK_EQUAL(image.size, size);
    CHECK_EQUAL(image.payload_crc, crc);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 4711); /* the offset belongs to the session */
    CHECK_EQUAL(fstat(target, &status), 0);
    CHECK_EQUAL(status.st_size, size);
    CHECK(status.st_blocks < 1000);
    CHECK_EQUAL(pread(target, found, 3, (off_t)size - 3), 3);
    CHECK(memcmp(found, "end", 3) == 0);
    CHECK_EQUAL(pread(target, found, 3, 0), 3);
    CHECK(memcmp(found, "\0\0\0", 3) == 0);
    (void)close(target);
}

/* Does what a file system does that cannot tell. */
static int64_t no_seek(int fd, int64_t offset, int whence)
{
    (void)fd;
    (void)offset;
    (void)whence;
    return -EINVAL;
}

static int seeks;

static int64_t counting_seek(int fd, int64_t offset, int whence)
{
    seeks++;
    return sys_lseek(fd, offset, whence);
}

/* A look may come at any time from any thread, and the offset belongs to a session. */
static void test_look_does_not_seek(void)
{
    static const char zeros[300000];
    struct store_payload payload = {zeros, sizeof zeros, crc32c_mixed(0, zeros, sizeof zeros)};
    struct store_wait wait = {.timeout = 1000000000};
    struct store_image image;
    int fd = memfd_create("zeros", MFD_CLOEXEC);

    CHECK_EQUAL(store_commit(fd, &payload, false), 0);
    store_calls.lseek = counting_seek;
    CHECK_EQUAL(store_look(fd, wait, &image), 0);
    CHECK_EQUAL(seeks, 0);
    CHECK_EQUAL(store_load(fd, -1, wait, &image), 0);
    CHECK(seeks > 0);
    store_calls = original_calls;
    (void)close(fd);
}

/* A file of holes is loaded at once, into a memfd of holes. */
static void test_holes(void)
{
    const uint64_t size = (uint64_t)1 << 50;
    int fd = memfd_create("sparse", MFD_CLOEXEC);
    uint32_t crc = crc32c_mixed(crc32c_zeros(0, size - 8), "\0\0\0\0\0end", 8);
    struct image_header head = {.generation = 7, .size = size, .twin = size + 8192, .payload_crc = crc};
    char bytes[IMAGE_HEADER_SIZE];
    struct store_image image;

    put_bytes(fd, "end", 3, size - 3);
    check_sparse(fd, size, crc);
    store_calls.lseek = no_seek;
    CHECK_EQUAL(ftruncate(fd, 1 << 20), 0);
    CHECK_EQUAL(store_load(fd, -1, (struct store_wait){.timeout = 1000000000}, &image), 0);
    CHECK_EQUAL(image.payload_crc, crc32c_zeros(0, 1 << 20));
    store_calls = original_calls;

    CHECK_EQUAL(ftruncate(fd, 0), 0);
    image_encode_header(bytes, &head);
    put_bytes(fd, bytes, sizeof bytes, 0);
    put_bytes(fd, "end", 3, IMAGE_HEADER_SIZE + size - 3);
    CHECK_EQUAL(ftruncate(fd, (off_t)image_file_size(head.twin, 100)), 0);
    check_sparse(fd, size, crc);

    put_bytes(fd, "n", 1, IMAGE_HEADER_SIZE + size / 2);
    CHECK_EQUAL(store_load(fd, -1, (struct store_wait){.timeout = 1000000000}, &image), -EIO);
    (void)close(fd);
}

int main(void)
{
    original_calls = store_calls;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        check_file(i);
    test_vanishing_footer();
    test_header_comes_and_goes();
    test_size_limits();
    test_holes();
    test_look_does_not_seek();
    return check_result();
}
