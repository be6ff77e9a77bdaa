/*
 * The record of a plain file, and its verdict on the file's bytes.
 *
 * An input is read as a record; and it chooses a record's fields and body, an old and a new
 * content, and how far a commit from one to the other got. The decoder reads every encoded record
 * again, and none with one bit flipped; it accepts no body that does not fit the sizes; and it
 * tells a mixture that a commit leaves from one that only a stranger leaves.
 *
 * With SEEDS=DIR in the environment it writes its seeds there, and ends.
 */
#include "format/record.h"

#include "format/redo.h"
#include "fuzz.h"

#include <string.h>

enum { CONTENT_MAX = 20000, ENCODED_MAX = 3 * CONTENT_MAX, STRANGE = 0x80 };

#define REQUIRE(condition) ((condition) ? (void)0 : required(#condition))

static void required(const char *what)
{
    (void)fprintf(stderr, "not so: %s\n", what);
    abort();
}

/* The input, from which one number after another is taken. */
struct input {
    const uint8_t *data;
    size_t size;
};

static uint64_t take_number(struct input *input, uint64_t below)
{
    uint64_t number = 0;

    for (int i = 0; i < 3 && input->size > 0; i++) {
        number = number << 8 | *input->data++;
        input->size--;
    }
    return number % below;
}

static char new_content[CONTENT_MAX], old_content[CONTENT_MAX], file[CONTENT_MAX], encoded[ENCODED_MAX];

/* Bytes below STRANGE; some sectors are zeros, or alike in both contents, as `kind` says. */
static void fill_bytes(char *bytes, size_t size, unsigned seed, uint64_t kind)
{
    for (size_t i = 0; i < size; i++) {
        bool zero = kind % 3 == 1 && i / REDO_SECTOR % 3 == 0;

        fuzz_seed(seed + (unsigned)(i * 7919));
        bytes[i] = zero ? '\0' : (char)(fuzz_random() % STRANGE);
    }
}

/* Uses a record from anywhere, which must be safe whatever its numbers are. */
static void use_record(const struct record *record, const char *bytes, size_t size)
{
    struct redo_look look;

    REQUIRE(record->body >= bytes && record->body + record->body_size == bytes + size);
    if (record->word != RECORD_REDO && record->word != RECORD_BACK)
        return;
    REQUIRE(redo_is_body(record));
    for (int i = 0; i < 3; i++) {
        uint64_t sizes[] = {record->size, record->other, size};
        size_t now = sizes[i] < CONTENT_MAX ? (size_t)sizes[i] : CONTENT_MAX;

        redo_look_begin(&look, record, now);
        redo_look_feed(&look, file, now);
        (void)redo_look_end(&look);
    }
}

static void decode_input(const struct input *input)
{
    char *exact = malloc(input->size); /* so that the sanitizer sees the end */
    struct record record;

    if (input->size != 0)
        memcpy(exact, input->data, input->size);
    if (record_decode(exact, input->size, &record) == IMAGE_VALID)
        use_record(&record, exact, input->size);
    free(exact);
}

/* Encodes a record, whose body stands behind its line already. Returns the size. */
static size_t encode_record(struct record *record)
{
    size_t line = record_line_size(record->word);

    record->body = encoded + line;
    REQUIRE(record_encode(encoded, record) == line);
    return line + record->body_size;
}

/* A record with any numbers and any body, and a CRC that is right. */
static void encode_input(struct input input)
{
    struct record record = {.word = (enum record_word)(RECORD_IDLE + take_number(&input, RECORD_NOTE))};
    struct record again;
    char *exact;
    size_t size;
    size_t bit;

    record.generation = record.word == RECORD_NOTE ? 0 : take_number(&input, RECORD_GENERATION_MAX);
    record.size =
        take_number(&input, 3) == 0 ? take_number(&input, RECORD_NUMBER_MAX) : take_number(&input, 2000);
    record.other =
        take_number(&input, 3) == 0 ? take_number(&input, RECORD_NUMBER_MAX) : take_number(&input, 2000);
    record.crc = (uint32_t)take_number(&input, UINT32_MAX);
    record.identity = (uint32_t)take_number(&input, UINT32_MAX);
    bit = (size_t)take_number(&input, 1 << 16);
    record.body_size = take_number(&input, 2) == 0 ? input.size : (size_t)take_number(&input, 4000);
    memset(encoded, record.word == RECORD_IDLE ? ' ' : '/', sizeof encoded);
    if (input.size != 0)
        memcpy(encoded + record_line_size(record.word), input.data, input.size);
    size = encode_record(&record);
    exact = malloc(size);
    memcpy(exact, encoded, size);
    if (record_decode(exact, size, &again) == IMAGE_VALID) {
        REQUIRE(again.word == record.word && again.generation == record.generation);
        REQUIRE(again.size == record.size && again.crc == record.crc && again.has_identity);
        REQUIRE(again.identity == record.identity && again.body_size == record.body_size);
        use_record(&again, exact, size);
        exact[bit / 8 % size] ^= (char)(1 << bit % 8);
        REQUIRE(record_decode(exact, size, &again) != IMAGE_VALID);
    } else {
        REQUIRE(record.word != RECORD_IDLE || record.body_size != 0);
    }
    free(exact);
}

/* ---- the states that a commit leaves ---- */

struct commit {
    struct record record;
    uint64_t block;
    size_t size; /* the file's */
};

/* Builds the REDO or BACK record of new over old content, in `encoded`, fed with some sectors. */
static void make_record(struct commit *commit, struct input *input)
{
    struct record *record = &commit->record;
    size_t line = record_line_size(record->word);
    size_t old_size = (size_t)record->other;
    struct redo_sums sums;

    record->body_size = redo_body_size(record->size, old_size, commit->block);
    memcpy(encoded + line, new_content, record->size);
    redo_sums_begin(&sums, encoded + line, record->size, old_size, record->body_size);
    for (size_t at = 0; at < old_size;) {
        size_t piece = REDO_SECTOR * (size_t)(1 + take_number(input, 20));

        piece = piece < old_size - at ? piece : old_size - at;
        redo_sums_feed(&sums, old_content + at, piece);
        at += piece;
    }
    redo_sums_end(&sums);
    REQUIRE(record_decode(encoded, encode_record(record), record) == IMAGE_VALID);
}

/* Writes the bytes of a content in [at, at + n), and zeros behind its first `size`. */
static void copy_padded(char *to, const char *content, size_t size, size_t at, size_t n)
{
    size_t there = at < size ? size - at : 0;

    memset(to, 0, n);
    memcpy(to, content + at, there < n ? there : n);
}

/* Makes one sector of the file old, or new, or zeros as after a cut. */
static void make_sector(const struct commit *commit, size_t at, size_t n, uint64_t how)
{
    size_t size = (size_t)commit->record.size;
    size_t old_size = (size_t)commit->record.other;
    size_t block = commit->block == REDO_BLOCK_ALL ? REDO_BLOCK_MIN : (size_t)commit->block;
    size_t block_end = (size + block - 1) / block * block;

    if (how == 0 && at < size)
        copy_padded(file + at, new_content, size, at, n);
    else if (how == 1 && size < old_size && at + REDO_SECTOR > size && at < block_end)
        copy_padded(file + at, old_content, size, at, n);
    else
        copy_padded(file + at, old_content, old_size, at, n);
}

/* Makes a state of the file that a kill or a power cut during a commit leaves. */
static void make_file(struct commit *commit, struct input *input)
{
    size_t size = (size_t)commit->record.size;
    size_t old_size = (size_t)commit->record.other;

    switch (take_number(input, 3)) {
    case 0:
        commit->size = size;
        break;
    case 1:
        commit->size = size > old_size ? old_size + (size_t)take_number(input, size - old_size + 1) : size;
        break;
    default:
        commit->size = old_size;
    }
    for (size_t at = 0; at < commit->size; at += REDO_SECTOR) {
        size_t n = commit->size - at < REDO_SECTOR ? commit->size - at : REDO_SECTOR;

        make_sector(commit, at, n, take_number(input, 4));
    }
}

static enum redo_state look_at_file(const struct commit *commit, struct input *input)
{
    struct redo_look look;

    redo_look_begin(&look, &commit->record, commit->size);
    for (size_t at = 0; at < commit->size;) {
        size_t piece = REDO_SECTOR * (size_t)(1 + take_number(input, 20));

        piece = piece < commit->size - at ? piece : commit->size - at;
        redo_look_feed(&look, file + at, piece);
        at += piece;
    }
    return redo_look_end(&look);
}

static bool is_content(const struct commit *commit, const char *content, uint64_t size)
{
    return commit->size == size && memcmp(file, content, commit->size) == 0;
}

static void commit_input(struct input input)
{
    struct commit commit = {.record = {.word = take_number(&input, 4) == 0 ? RECORD_BACK : RECORD_REDO}};
    enum redo_state state;

    commit.record.generation = 1;
    commit.record.size = take_number(&input, take_number(&input, 2) == 0 ? 1500 : CONTENT_MAX / 2);
    commit.record.other = take_number(&input, take_number(&input, 2) == 0 ? 1500 : CONTENT_MAX);
    commit.block = commit.record.word == RECORD_BACK ? (uint64_t)REDO_BLOCK_ALL
                                                     : (uint64_t)REDO_BLOCK_MIN << take_number(&input, 2);
    fill_bytes(new_content, (size_t)commit.record.size, (unsigned)take_number(&input, 100),
               take_number(&input, 3));
    fill_bytes(old_content, (size_t)commit.record.other, (unsigned)take_number(&input, 100),
               take_number(&input, 3));
    make_record(&commit, &input);
    make_file(&commit, &input);

    state = look_at_file(&commit, &input);
    REQUIRE(state != REDO_FOREIGN);
    REQUIRE((state == REDO_NEW) == is_content(&commit, new_content, commit.record.size));
    REQUIRE(state != REDO_OLD || is_content(&commit, old_content, commit.record.other));
    REQUIRE(state != REDO_OLD || commit.record.word == RECORD_REDO);
    if (state != REDO_NEW && commit.record.word == RECORD_REDO)
        REQUIRE((state == REDO_OLD) == is_content(&commit, old_content, commit.record.other));
    if (commit.size == 0)
        return;
    file[take_number(&input, commit.size)] = (char)(STRANGE | take_number(&input, STRANGE));
    REQUIRE(look_at_file(&commit, &input) == REDO_FOREIGN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};

    decode_input(&input);
    if (take_number(&input, 2) == 0)
        encode_input(input);
    else
        commit_input(input);
    return 0;
}

void fuzz_write_seeds(void)
{
    static const char text[] = "NOTE 000000000000017 000000000032896 1c291ca3 5f0e21aa 7ce9af25";
    uint8_t bytes[300];
    struct record record = {.word = RECORD_IDLE, .generation = 42, .size = 1234};

    fuzz_write_seed(text, sizeof text - 1);
    fuzz_write_seed(encoded, encode_record(&record));
    for (unsigned i = 0; i < 40; i++) {
        fuzz_seed(i);
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t)fuzz_random();
        fuzz_write_seed(bytes, sizeof bytes);
    }
}
