/* image.h: the decoder reads every header that the encoder writes, byte for byte, and accepts
 * nothing else. */
#include "check.h"

#include "format/crc32c.h"
#include "format/image.h"
#include "store/store.h"

#include <stdlib.h>

static const struct image_header example = {
    .generation = 7, .size = 42, .twin = 8192, .payload_crc = 0x1c291ca3, .flushed = true};

static bool same(const struct image_header *a, const struct image_header *b)
{
    return a->generation == b->generation && a->size == b->size && a->twin == b->twin &&
           a->payload_crc == b->payload_crc && a->flushed == b->flushed;
}

static void test_known_bytes(void)
{
    char bytes[IMAGE_HEADER_SIZE + 1] = "";

    image_encode_header(bytes, &example);
    CHECK_STRING(bytes, "#atomshim/1 generation=0000000000000000007 size=0000000000000000042 "
                        "twin=0000000000000008192 data=1c291ca3 head=6a7d9e51 mark=+\n");
    image_encode_footer(
        bytes,
        &(struct image_footer){.plain_size = 17, .twin = 4096, .start_crc = 0x1c291ca3, .has_start = true});
    CHECK(memcmp(bytes, "#atomshim/1-first-commit plain=0000000000000000017 twin=0000000000000004096 ", 76) ==
          0);
    CHECK(memcmp(bytes + 76, "start=1c291ca3 ...", 18) == 0);
    CHECK_EQUAL(bytes[IMAGE_HEADER_SIZE - 1], '\n');
}

static void test_round_trip(void)
{
    static const struct image_header headers[] = {
        {0},
        {.generation = IMAGE_NUMBER_MAX - 1,
         .size = IMAGE_NUMBER_MAX - 1,
         .twin = IMAGE_NUMBER_MAX - IMAGE_PAGE,
         .payload_crc = 0xffffffff,
         .flushed = true},
        {.generation = 1, .twin = IMAGE_PAGE},
        {.size = 123456789, .payload_crc = 0x0000abcd},
    };

    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        char bytes[IMAGE_HEADER_SIZE];
        struct image_header found;
        struct image_footer footer = {.plain_size = headers[i].size,
                                      .twin = headers[i].twin != 0 ? headers[i].twin : IMAGE_PAGE};
        struct image_footer found_footer;

        image_encode_header(bytes, &headers[i]);
        CHECK_EQUAL(image_decode_header(bytes, sizeof bytes, &found), IMAGE_VALID);
        CHECK(same(&found, &headers[i]));
        image_encode_footer(bytes, &footer);
        CHECK_EQUAL(image_decode_footer(bytes, sizeof bytes, &found_footer), IMAGE_VALID);
        CHECK(found_footer.plain_size == footer.plain_size && found_footer.twin == footer.twin);
    }
}

/* The header's CRC does not cover the mark: a changed mark says that the image may not be on disk,
 * or that another program changed it. */
static void check_mark(const char *bytes, char mark)
{
    struct image_header header;

    CHECK_EQUAL(image_decode_header(bytes, IMAGE_HEADER_SIZE, &header), IMAGE_VALID);
    CHECK(header.flushed == (mark == '+') && header.complete == (mark == '+' || mark == '='));
    CHECK(header.bad_mark == (mark != '+' && mark != '=' && mark != '-'));
}

/* Changes every byte to every other: the result is no valid header, unless the byte was the mark,
 * and no text of a plain file. */
static void test_every_flip(void)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_header header;
    struct image_footer footer;

    image_encode_header(bytes, &example);
    for (int at = 0; at < IMAGE_HEADER_SIZE; at++)
        for (int value = 1; value < 256; value++) {
            bytes[at] ^= (char)value;
            if (at == IMAGE_MARK_OFFSET)
                check_mark(bytes, bytes[at]);
            else
                CHECK_EQUAL(image_decode_header(bytes, sizeof bytes, &header), IMAGE_TORN);
            bytes[at] ^= (char)value;
        }
    image_encode_footer(bytes, &(struct image_footer){.plain_size = 17, .twin = 4096});
    for (int at = 0; at < IMAGE_HEADER_SIZE; at++)
        for (int value = 1; value < 256; value++) {
            bytes[at] ^= (char)value;
            CHECK(image_decode_footer(bytes, sizeof bytes, &footer) != IMAGE_VALID);
            bytes[at] ^= (char)value;
        }
}

static void test_short_and_foreign(void)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_header header;
    struct image_footer footer;

    image_encode_header(bytes, &example);
    for (size_t size = 0; size < IMAGE_HEADER_SIZE; size++)
        CHECK_EQUAL(image_decode_header(bytes, size, &header), size < 12 ? IMAGE_ABSENT : IMAGE_TORN);
    CHECK_EQUAL(image_decode_header("#!/bin/sh and so on", 19, &header), IMAGE_ABSENT);
    CHECK(image_decode_footer(bytes, sizeof bytes, &footer) != IMAGE_VALID);
    image_encode_footer(bytes, &(struct image_footer){.plain_size = 17, .twin = 4096});
    CHECK(image_decode_header(bytes, sizeof bytes, &header) != IMAGE_VALID);
}

/* Either half is enough to recognise a header; with less it is a plain file's text. */
static void test_overwritten(void)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_header header;
    size_t size;

    for (size = 0; size < IMAGE_HEADER_SIZE; size++) {
        image_encode_header(bytes, &example);
        memset(bytes, 'x', size);
        if (image_decode_header(bytes, sizeof bytes, &header) == IMAGE_ABSENT)
            break;
    }
    CHECK(size > IMAGE_HEADER_SIZE / 2 && size < IMAGE_HEADER_SIZE - 8);
}

static void test_footer_without_start(void)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_footer footer;

    image_encode_footer(bytes, &(struct image_footer){.plain_size = 17, .twin = 4096});
    CHECK(memcmp(bytes + 76, "......", 6) == 0);
    CHECK_EQUAL(image_decode_footer(bytes, sizeof bytes, &footer), IMAGE_VALID);
    CHECK(footer.plain_size == 17 && footer.twin == 4096 && !footer.has_start);
    image_encode_footer(bytes, &(struct image_footer){.twin = 4096, .start_crc = 7, .has_start = true});
    CHECK_EQUAL(image_decode_footer(bytes, sizeof bytes, &footer), IMAGE_VALID);
    CHECK(footer.has_start && footer.start_crc == 7);
}

/* A footer with a right CRC, but a place at which no image can be. */
static void test_footer_of_no_place(void)
{
    static const uint64_t twins[] = {0, 1, IMAGE_PAGE + 512};
    char bytes[IMAGE_HEADER_SIZE];
    struct image_footer footer;

    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++) {
        image_encode_footer(bytes, &(struct image_footer){.plain_size = 17, .twin = twins[i]});
        CHECK_EQUAL(image_decode_footer(bytes, sizeof bytes, &footer), IMAGE_TORN);
    }
}

/* A header with a right CRC, but numbers that no commit writes. */
static void check_refused(const char *field, const char *number)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_header header;
    char head[16];
    char *at;

    image_encode_header(bytes, &example);
    at = memmem(bytes, sizeof bytes, field, strlen(field));
    memcpy(at + strlen(field), number, 19);
    (void)snprintf(head, sizeof head, "%08x", crc32c(0, bytes, 106));
    memcpy(bytes + 112, head, 8);
    CHECK_EQUAL(image_decode_header(bytes, sizeof bytes, &header), IMAGE_TORN);
}

static void test_numbers(void)
{
    check_refused("generation=", "2305843009213693952");
    check_refused("size=", "2305843009213693952");
    check_refused("size=", "9999999999999999999");
    check_refused("twin=", "2305843009213693952");
    check_refused("twin=", "0000000000000004097");
    check_refused("size=", "000000000000000001 ");
    check_refused("size=", "-000000000000000001");
}

static void test_sizes(void)
{
    for (uint64_t length = 0; length < 100000; length += 997)
        for (uint64_t twin = 0; twin <= (uint64_t)2 * IMAGE_PAGE; twin += IMAGE_PAGE) {
            CHECK(image_place_size(length) >= length);
            CHECK_EQUAL(image_place_size(length) % IMAGE_PAGE, 0);
            CHECK(image_size_possible(image_file_size(twin, length)));
            CHECK(image_file_size(twin, length) >= IMAGE_SMALLEST_FILE);
            CHECK(image_file_size(twin, length) >= twin + length + IMAGE_HEADER_SIZE);
        }
    CHECK(!image_size_possible(0) && !image_size_possible(4096) && image_size_possible(4096 + 128));
}

static bool may_be_sized(uint64_t size, uint64_t allocated)
{
    struct stat status = {.st_size = (off_t)size, .st_blocks = (blkcnt_t)(allocated / 512)};

    return store_may_be_sized(&status);
}

/* A hole tells a file in the sized format when its size does not, or blocks that can hide a hole,
 * as xfs gives them to a file that grows. */
static void test_may_be_sized(void)
{
    const uint64_t size = IMAGE_SMALLEST_FILE + (uint64_t)9 * IMAGE_PAGE;
    const uint64_t full = image_round_up(size);

    CHECK(may_be_sized(size, full) && may_be_sized(IMAGE_SMALLEST_FILE, full));
    CHECK(may_be_sized(size + 1, full - IMAGE_PAGE) &&
          may_be_sized(size + 1, full + (uint64_t)16 * IMAGE_PAGE));
    /* an ordinary file, with a block for its attributes, too */
    CHECK(!may_be_sized(size + 1, full) && !may_be_sized(size + 1, full + IMAGE_PAGE));
    CHECK(!may_be_sized(IMAGE_PAGE, 0) && !may_be_sized(IMAGE_PAGE, (uint64_t)99 * IMAGE_PAGE));
}

int main(void)
{
    test_known_bytes();
    test_round_trip();
    test_every_flip();
    test_short_and_foreign();
    test_overwritten();
    test_footer_without_start();
    test_footer_of_no_place();
    test_numbers();
    test_sizes();
    test_may_be_sized();
    return check_result();
}
