/*
 * format/record.h and format/redo.h: the decoder reads every record that the encoder writes, and
 * accepts nothing else; and by a REDO the bytes of a file show which content they are, old, new or
 * foreign, whichever steps of a commit were done.
 */
#include "check.h"

#include "format/crc32c.h"
#include "format/redo.h"

#include <stdlib.h>

enum { CONTENT_MAX = 12000 };

static char bytes[RECORD_LINE_MAX + 4 * CONTENT_MAX];

static void test_known_bytes(void)
{
    static const struct {
        struct record record;
        const char *line;
    } known[] = {
        {{.word = RECORD_IDLE, .generation = 42, .size = 1234, .crc = 0x1c291ca3, .identity = 0x5f0e21aa},
         "IDLE 0000000042 000000000001234 1c291ca3 5f0e21aa "},
        {{.word = RECORD_IDLE, .generation = 1, .body = "   ", .body_size = 3},
         "IDLE 0000000001 000000000000000 00000000 00000000 "},
        {{.word = RECORD_BUSY, .generation = 1}, "BUSY 0000000001 000000000000000 00000000 00000000 "},
        {{.word = RECORD_FILE, .size = 7, .other = 9, .body = "/f", .body_size = 2},
         "FILE 0000000000 000000000000007 000000000000009 00000000 00000000 "},
        {{.word = RECORD_NOTE, .size = 17, .other = 32896, .crc = 0x1c291ca3},
         "NOTE 000000000000017 000000000032896 1c291ca3 00000000 "},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const struct record *wanted = &known[i].record;
        size_t line = record_encode(bytes, wanted);
        struct record found;

        CHECK_EQUAL(line, strlen(known[i].line) + 8);
        CHECK_EQUAL(line, record_line_size(wanted->word));
        CHECK(memcmp(bytes, known[i].line, strlen(known[i].line)) == 0);
        if (wanted->body_size != 0)
            memcpy(bytes + line, wanted->body, wanted->body_size);
        CHECK_EQUAL(record_decode(bytes, line + wanted->body_size, &found), IMAGE_VALID);
        CHECK(found.word == wanted->word && found.generation == wanted->generation &&
              found.size == wanted->size && found.other == wanted->other && found.crc == wanted->crc &&
              found.identity == wanted->identity && found.has_identity &&
              found.body_size == wanted->body_size);
    }
}

/* Changes every byte, cuts at every byte, and appends: no result is a record. */
static void test_damage(void)
{
    struct record record = {
        .word = RECORD_KEPT, .generation = 3, .size = 5, .body = "/folder", .body_size = 7};
    size_t size = record_encode(bytes, &record);
    struct record found = {.word = RECORD_NONE};

    memcpy(bytes + size, record.body, record.body_size);
    size += record.body_size;
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 1;
        CHECK(record_decode(bytes, size, &found) != IMAGE_VALID);
        bytes[at] ^= 1;
        CHECK(record_decode(bytes, at, &found) != IMAGE_VALID);
    }
    bytes[size] = 'x';
    CHECK(record_decode(bytes, size + 1, &found) != IMAGE_VALID);
    CHECK_EQUAL(found.word, RECORD_NONE);
    CHECK_EQUAL(record_decode(bytes, size, &found), IMAGE_VALID);
}

/* A right CRC, but a body that the word cannot have; numbers that have too many digits. */
static void test_refused(void)
{
    static const struct record refused[] = {
        {.word = RECORD_IDLE, .body = " x", .body_size = 2},
        {.word = RECORD_BUSY, .body = " ", .body_size = 1},
        {.word = RECORD_FILE, .body = "", .body_size = 0},
        {.word = RECORD_FILE, .body = "folder", .body_size = 6},
        {.word = RECORD_FILE, .body = "/a\0b", .body_size = 4},
        {.word = RECORD_REDO, .size = 3, .other = 0, .body = "abc", .body_size = 3},
        {.word = RECORD_REDO, .size = 3, .other = 0, .body = "abc0123456789abcde", .body_size = 18},
        {.word = RECORD_REDO,
         .size = 0,
         .other = 5,
         .body = "0123456789abcdef01234567012345670123456701234567",
         .body_size = 48},
    };
    struct record found;

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        size_t line = record_encode(bytes, &refused[i]);

        memcpy(bytes + line, refused[i].body, refused[i].body_size);
        CHECK(record_decode(bytes, line + refused[i].body_size, &found) == IMAGE_TORN);
    }
    CHECK_EQUAL(record_encode(bytes, &(struct record){.word = RECORD_IDLE, .generation = 10000000000}), 0);
    CHECK_EQUAL(record_encode(bytes, &(struct record){.word = RECORD_IDLE, .size = 1000000000000000}), 0);
    CHECK(record_decode("", 0, &found) == IMAGE_ABSENT);
    CHECK(record_decode("anything", 8, &found) == IMAGE_ABSENT);
}

static void test_identity(void)
{
    CHECK(record_identity(1, 2, 3) == record_identity(1, 2, 3));
    CHECK(record_identity(1, 2, 3) != record_identity(2, 2, 3));
    CHECK(record_identity(1, 2, 3) != record_identity(1, 3, 3));
    CHECK(record_identity(1, 2, 3) != record_identity(1, 2, 4));
}

/* ---- REDO ---- */

static char old[CONTENT_MAX], new[CONTENT_MAX], file[CONTENT_MAX];

static void fill_content(char *content, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        content[i] = (char)('a' + rand() % 3);
}

static uint64_t minimum(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Makes the record of a commit of new[size] over old[old_size]; the contents are fed in pieces. */
static struct record make_redo(enum record_word word, uint64_t size, uint64_t old_size)
{
    struct record record = {.word = word, .generation = 1, .size = size, .other = old_size};
    size_t line = record_line_size(word);
    struct redo_sums sums;
    struct record found;

    record.body_size = redo_body_size(size, old_size, word == RECORD_BACK ? REDO_BLOCK_ALL : 4096);
    record.body = bytes + line;
    memcpy(bytes + line, new, size);
    redo_sums_begin(&sums, bytes + line, size, old_size, record.body_size);
    for (uint64_t done = 0; done < old_size; done += 1024)
        redo_sums_feed(&sums, old + done, minimum(1024, old_size - done));
    redo_sums_end(&sums);
    CHECK_EQUAL(record_encode(bytes, &record), line);
    CHECK_EQUAL(record_decode(bytes, line + record.body_size, &found), IMAGE_VALID);
    return found;
}

static enum redo_state look_at_content(const struct record *record, uint64_t size)
{
    struct redo_look look;

    redo_look_begin(&look, record, size);
    for (uint64_t done = 0; done < size; done += 2048)
        redo_look_feed(&look, file + done, minimum(2048, size - done));
    return redo_look_end(&look);
}

/* Makes the file of a commit that wrote some of its sectors, with the size before, between, or
 * after. */
static uint64_t leave_some(uint64_t size, uint64_t old_size)
{
    uint64_t length =
        old_size <= size ? old_size + (uint64_t)rand() % (size - old_size + 1) / 512 * 512 : size;

    if (length > old_size && length < size)
        length = length / 512 * 512 < old_size ? old_size : length / 512 * 512;
    memset(file, 0, sizeof file);
    memcpy(file, old, minimum(old_size, length));
    /* cut, and that is on disk, but not the size */
    if (length == size && old_size > size && rand() % 2 == 0) {
        uint64_t block_end = minimum((size + 4095) / 4096 * 4096, old_size);

        length = old_size;
        memcpy(file, old, old_size);
        memset(file + size, 0, block_end - size);
    }
    for (uint64_t at = 0; at < minimum(size, length); at += 512)
        if (rand() % 2 == 0 || at + 512 > old_size)
            memcpy(file + at, new + at, minimum(512, minimum(size, length) - at));
    /* written when the file had its old size; the disk has the sector, but not the ones behind
     * it */
    if (old_size < length && old_size % 512 != 0 && rand() % 2 == 0) {
        memcpy(file + old_size / 512 * 512, new + old_size / 512 * 512, old_size % 512);
        memset(file + old_size, 0, minimum(length - old_size, 512 - old_size % 512));
    }
    return length;
}

static void test_redo(void)
{
    static const uint64_t sizes[] = {0, 1, 100, 511, 512, 513, 2000, 4095, 4096, 4097, 5000, 9000};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            struct record record;

            fill_content(old, sizes[i]);
            fill_content(new, sizes[k]);
            record = make_redo(RECORD_REDO, sizes[k], sizes[i]);
            memcpy(file, new, sizes[k]);
            CHECK_EQUAL(look_at_content(&record, sizes[k]), REDO_NEW);
            memcpy(file, old, sizes[i]);
            if (sizes[i] != sizes[k] || memcmp(old, new, sizes[k]) != 0)
                CHECK_EQUAL(look_at_content(&record, sizes[i]), REDO_OLD);
            for (int turn = 0; turn < 30; turn++) {
                uint64_t length = leave_some(sizes[k], sizes[i]);

                CHECK_EQUAL(look_at_content(&record, length) == REDO_OLD,
                            length == sizes[i] && memcmp(file, old, length) == 0 &&
                                (length != sizes[k] || memcmp(file, new, length) != 0));
                if (look_at_content(&record, length) == REDO_FOREIGN)
                    check_failed(__FILE__, __LINE__, "a step of a commit", (long long)sizes[i],
                                 (long long)sizes[k]);
                if (length != 0) { /* a foreign byte */
                    file[(uint64_t)rand() % length] ^= 0x40;
                    CHECK_EQUAL(look_at_content(&record, length), REDO_FOREIGN);
                }
            }
            CHECK_EQUAL(look_at_content(&record, (sizes[i] > sizes[k] ? sizes[i] : sizes[k]) + 1),
                        REDO_FOREIGN);
        }
}

/* A commit failed over `old`, some sectors of which are zeros on the disk; `new` is written
 * back. */
static void test_back(void)
{
    for (int turn = 0; turn < 500; turn++) {
        uint64_t old_size = (uint64_t)rand() % 6000;
        uint64_t size = (uint64_t)rand() % 6000;
        struct record record;

        fill_content(old, old_size);
        fill_content(new, size);
        record = make_redo(RECORD_BACK, size, old_size);
        memcpy(file, old, old_size);
        for (uint64_t at = 0; at < old_size; at += 512)
            if (rand() % 3 == 0)
                memset(file + at, 0, minimum(512, old_size - at));
        CHECK(look_at_content(&record, old_size) == REDO_PARTLY ||
              (old_size == size && look_at_content(&record, size) == REDO_NEW));
        if (old_size != 0) {
            file[(uint64_t)rand() % old_size] ^= 0x40;
            CHECK_EQUAL(look_at_content(&record, old_size), REDO_FOREIGN);
        }
    }
}

int main(void)
{
    srand(1);
    test_known_bytes();
    test_damage();
    test_refused();
    test_identity();
    test_redo();
    test_back();
    return check_result();
}
