/* The note of a first commit: readers cut off the remains of a power cut behind the plain bytes,
 * and never bytes that a program wrote (I2, I5). */
#include "store_files.h"

#include <errno.h>
#include <fcntl.h>

enum { PLAIN_SIZE = 5000, CUT_SIZE = 9 * IMAGE_PAGE + IMAGE_FILE_REMAINDER };

static struct {
    struct note note;
    int error;     /* calls of all three kinds */
    int set_error; /* calls that set or remove it */
    int gets, sets, removes;
} attribute;

static ssize_t get_note(int fd, const char *name, void *value, size_t size)
{
    (void)fd;
    CHECK_STRING(name, RECORD_NAME);
    attribute.gets++;
    if (attribute.error != 0 || attribute.note.size == 0)
        return attribute.error != 0 ? attribute.error : -ENODATA;
    if (attribute.note.size > size)
        return -ERANGE;
    memcpy(value, attribute.note.data, attribute.note.size);
    return (ssize_t)attribute.note.size;
}

static int set_note(int fd, const char *name, const void *value, size_t size, int flags)
{
    (void)fd;
    (void)flags;
    CHECK_STRING(name, RECORD_NAME);
    attribute.sets++;
    if (size > NOTE_MAX)
        return -ENOSPC;
    if (attribute.error == 0 && attribute.set_error == 0) {
        memcpy(attribute.note.data, value, size);
        attribute.note.size = size;
    }
    return attribute.error != 0 ? attribute.error : attribute.set_error;
}

static int remove_note(int fd, const char *name)
{
    (void)fd;
    CHECK_STRING(name, RECORD_NAME);
    attribute.removes++;
    if (attribute.error == 0)
        attribute.note.size = 0;
    return attribute.error;
}

/* Makes the file that a power cut leaves with a footer's size, but without the footer. */
static struct bytes plain;
static int file;

static uint32_t identity_of(int fd)
{
    struct statx status;

    CHECK_EQUAL(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status), 0);
    return status.stx_mask & STATX_BTIME
               ? record_identity(status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec)
               : record_identity(status.stx_ino, 0, 0);
}

static void note_is(uint64_t plain_size, uint64_t file_size, uint32_t crc)
{
    struct record note = {.word = RECORD_NOTE,
                          .size = plain_size,
                          .other = file_size,
                          .crc = crc,
                          .identity = identity_of(file)};

    memset(&attribute, 0, sizeof attribute);
    attribute.note.size = record_encode(attribute.note.data, &note);
}

static void cut_off(uint64_t size)
{
    static struct bytes cut;
    struct bytes *content = make_content(LETTERS, 7, size);

    plain = *content;
    free(content);
    cut = plain;
    cut.size = CUT_SIZE;
    put_file(file, &cut);
    note_is(size, CUT_SIZE, crc32c_mixed(0, plain.data, size));
}

/* All readers agree. */
static bool reads(uint64_t size)
{
    static struct bytes raw;
    struct store_image image;
    bool looked = store_look(file, patient, &image) == 0 && image.size == size && image.kind == STORE_PLAIN &&
                  image.blank == (size != CUT_SIZE);

    get_file(file, &raw);
    return looked && holds(file, raw.data, size) && store_load(file, -1, patient, &image) == 0 &&
           image.payload_crc == crc32c_mixed(0, raw.data, size);
}

static void test_cut_off(void)
{
    static const uint64_t sizes[] = {0, 1, 7, PLAIN_SIZE, IMAGE_PAGE, (uint64_t)5 * IMAGE_PAGE};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cut_off(sizes[i]);
        CHECK(reads(sizes[i]));
        CHECK_EQUAL(commit_text(file, "next"), 0);
        CHECK(holds_text(file, "next"));
        CHECK_EQUAL(look_at_file(file).kind, STORE_SIZED);
        CHECK_EQUAL(attribute.note.size, 0);
    }
}

/* A program without the shim writes to a file with a leftover note. */
static void test_rewritten(void)
{
    static const uint64_t places[] = {0,          PLAIN_SIZE / 2, PLAIN_SIZE - 1, PLAIN_SIZE,
                                      IMAGE_PAGE, CUT_SIZE - 129, CUT_SIZE - 128, CUT_SIZE - 1};

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        cut_off(PLAIN_SIZE);
        CHECK_EQUAL(pwrite(file, "!", 1, (off_t)places[i]), 1);
        CHECK(reads(CUT_SIZE));
        CHECK_EQUAL(commit_text(file, "next"), 0);
        CHECK(holds_text(file, "next"));
        CHECK_EQUAL(attribute.note.size, 0);
    }
    for (uint64_t size = 0; size < (uint64_t)3 * CUT_SIZE;
         size += size == 0 ? IMAGE_FILE_REMAINDER : IMAGE_PAGE) {
        static struct bytes raw;

        cut_off(PLAIN_SIZE);
        CHECK_EQUAL(ftruncate(file, (off_t)size), 0);
        get_file(file, &raw);
        CHECK(holds(file, raw.data, size > PLAIN_SIZE && size <= CUT_SIZE ? PLAIN_SIZE : size));
    }
}

/* stat() of a large file believes the note, and reads nothing (store_size()). */
static void test_large(void)
{
    const uint64_t size = 300 * IMAGE_PAGE + IMAGE_FILE_REMAINDER;
    struct store_image image;
    uint64_t told = 0;

    cut_off(PLAIN_SIZE);
    CHECK_EQUAL(ftruncate(file, (off_t)size), 0);
    note_is(PLAIN_SIZE, size, 0);
    CHECK_EQUAL(store_size(file, &told), 0);
    CHECK_EQUAL(told, PLAIN_SIZE);
    CHECK_EQUAL(store_load(file, -1, patient, &image), 0);
    CHECK_EQUAL(image.size, size);
}

/* xfs may leave zeros up to the end of the block in which the plain bytes end: any size up to the
 * note's own counts. */
static void test_sizes_between(void)
{
    static struct bytes raw;

    for (uint64_t size = PLAIN_SIZE - 2; size < CUT_SIZE + 3; size += size < PLAIN_SIZE + 3 ? 1 : 509) {
        cut_off(PLAIN_SIZE);
        CHECK_EQUAL(ftruncate(file, (off_t)size), 0);
        get_file(file, &raw);
        CHECK(holds(file, raw.data, size > PLAIN_SIZE && size <= CUT_SIZE ? PLAIN_SIZE : size));
        CHECK_EQUAL(commit_text(file, "next"), 0);
        CHECK(holds_text(file, "next"));
    }
    cut_off(PLAIN_SIZE); /* if any byte behind is not zero, a program wrote all of them */
    CHECK_EQUAL(ftruncate(file, (off_t)2 * IMAGE_PAGE), 0);
    CHECK_EQUAL(pwrite(file, "!", 1, PLAIN_SIZE + 1), 1);
    get_file(file, &raw);
    CHECK(holds(file, raw.data, (uint64_t)2 * IMAGE_PAGE));
}

static void test_other_notes(void)
{
    cut_off(PLAIN_SIZE);
    attribute.note.size = 0;
    CHECK(reads(CUT_SIZE));
    for (int at = 0; at < RECORD_NOTE_SIZE; at++) {
        cut_off(PLAIN_SIZE);
        attribute.note.data[at] ^= 1;
        CHECK(reads(CUT_SIZE));
    }
    for (size_t size = 1; size < RECORD_NOTE_SIZE; size++) {
        cut_off(PLAIN_SIZE);
        attribute.note.size = size;
        CHECK(reads(CUT_SIZE));
    }
    cut_off(PLAIN_SIZE);
    note_is(PLAIN_SIZE, CUT_SIZE - IMAGE_PAGE, crc32c_mixed(0, plain.data, PLAIN_SIZE));
    CHECK(reads(CUT_SIZE));
    note_is(PLAIN_SIZE, CUT_SIZE, crc32c_mixed(0, plain.data, PLAIN_SIZE) + 1);
    CHECK(reads(CUT_SIZE));
    note_is(PLAIN_SIZE - 1, CUT_SIZE, crc32c_mixed(0, plain.data, PLAIN_SIZE - 1));
    CHECK(reads(CUT_SIZE)); /* the byte behind is not zero */
    note_is(CUT_SIZE - 1, CUT_SIZE, crc32c_zeros(0, CUT_SIZE - 1));
    CHECK(reads(CUT_SIZE));
    note_is(RECORD_NUMBER_MAX, CUT_SIZE, 0);
    CHECK(reads(CUT_SIZE));
}

/* A copy of a file carries its note along, which does not count for the copy. A note of an older
 * version names no file. */
static void test_identity(void)
{
    static const char old[] = "0000000000000005000 0000000000000036992 ";
    char bytes[RECORD_OLD_NOTE_SIZE + 1];
    struct record note = {.word = RECORD_NOTE, .size = PLAIN_SIZE, .other = CUT_SIZE};

    cut_off(PLAIN_SIZE);
    note.crc = crc32c_mixed(0, plain.data, PLAIN_SIZE);
    note.identity = identity_of(file) + 1;
    attribute.note.size = record_encode(attribute.note.data, &note);
    CHECK(reads(CUT_SIZE));

    (void)snprintf(bytes, sizeof bytes, "%s%08x ", old, note.crc);
    (void)snprintf(bytes + strlen(bytes), 9, "%08x", crc32c(0, bytes, strlen(bytes) - 1));
    cut_off(PLAIN_SIZE);
    attribute.note.size = RECORD_OLD_NOTE_SIZE;
    memcpy(attribute.note.data, bytes, RECORD_OLD_NOTE_SIZE);
    CHECK(reads(PLAIN_SIZE));
    attribute.note.data[RECORD_OLD_NOTE_SIZE - 1] ^= 1;
    CHECK(reads(CUT_SIZE));
}

static void test_failing_calls(void)
{
    static const int none[] = {-ENODATA, -EOPNOTSUPP, -ENOSYS, -EPERM, -EACCES, -ERANGE};
    static const int sets[] = {-EOPNOTSUPP, -ENOSPC, -EPERM, -EDQUOT, -EIO, -EACCES};
    struct store_image image;

    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        cut_off(PLAIN_SIZE);
        attribute.error = none[i];
        CHECK(reads(CUT_SIZE));
    }
    /* an unknown note is not a missing one: a commit would make the zeros content */
    cut_off(PLAIN_SIZE);
    attribute.error = -ENOMEM;
    CHECK_EQUAL(store_load(file, -1, patient, &image), -ENOMEM);
    CHECK_EQUAL(store_look(file, patient, &image), -ENOMEM);
    CHECK_EQUAL(commit_text(file, "next"), -ENOMEM);
    attribute.error = 0;
    CHECK(reads(PLAIN_SIZE));
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        cut_off(PLAIN_SIZE);
        put_file(file, &plain);
        attribute.set_error = sets[i];
        CHECK_EQUAL(commit_text(file, "next"), 0);
        CHECK_EQUAL(attribute.sets, 1);
        CHECK_EQUAL(attribute.removes, 0);
        CHECK(holds_text(file, "next"));
    }
}

/* I6: a note is set and removed once in a file's life, and readers ask only rare files for one. */
static void test_calls(void)
{
    cut_off(PLAIN_SIZE);
    put_file(file, &plain);
    attribute.note.size = 0;
    CHECK_EQUAL(commit_text(file, "without sync") + commit_bytes(file, "first", 5, false), 0);
    CHECK_EQUAL(attribute.sets, 1);
    CHECK_EQUAL(attribute.removes, 1);
    CHECK_EQUAL(commit_text(file, "second") + commit_text(file, "third"), 0);
    CHECK(holds_text(file, "third"));
    CHECK_EQUAL(attribute.sets, 1);
    CHECK_EQUAL(attribute.removes, 1);

    put_file(file, &plain);
    CHECK_EQUAL(commit_bytes(file, "first", 5, false), 0);
    CHECK_EQUAL(attribute.sets, 1); /* there is no promise for a power cut */
}

/* The plain format may write the same bytes that a power cut leaves. */
static void test_plain_format(void)
{
    static struct bytes zeros;
    struct store_payload payload;

    cut_off(PLAIN_SIZE);
    zeros = plain;
    zeros.size = CUT_SIZE;
    payload = payload_of(zeros.data, zeros.size);
    CHECK_EQUAL(store_commit_plain(file, &payload, true), 0);
    CHECK(holds(file, zeros.data, zeros.size));
    CHECK(memcmp(attribute.note.data, "IDLE ", 5) == 0);
    payload.size--;
    CHECK_EQUAL(store_commit_plain(file, &payload, true), 0);
    CHECK(holds(file, zeros.data, zeros.size - 1));
}

static int reads_so_far, strike_at;

/* A program without the shim writes before one of a reader's reads. */
static ssize_t pread_after_stranger(int fd, void *buffer, size_t size, uint64_t offset)
{
    if (++reads_so_far == strike_at)
        CHECK_EQUAL(pwrite(file, "!", 1, 0), 1);
    return sys_pread(fd, buffer, size, offset);
}

/* The reader finds the plain bytes as the note has them, or all of the file. */
static void test_written_meanwhile(void)
{
    struct bytes *target = new_bytes();

    do {
        int fd = memfd_create("target", 0);
        struct store_image image;

        cut_off(PLAIN_SIZE);
        reads_so_far = 0;
        strike_at++;
        store_calls.pread = pread_after_stranger;
        CHECK_EQUAL(store_load(file, fd, patient, &image), 0);
        store_calls.pread = sys_pread;
        get_file(fd, target);
        CHECK(image.size == PLAIN_SIZE ? same_bytes(target, &plain)
                                       : image.size == CUT_SIZE && target->data[0] == '!');
        (void)close(fd);
    } while (reads_so_far >= strike_at);
    CHECK(strike_at > 4);
    free(target);
}

int main(void)
{
    original_calls = store_calls;
    file = new_file("");
    store_calls.fgetxattr = get_note;
    store_calls.fsetxattr = set_note;
    store_calls.fremovexattr = remove_note;
    test_cut_off();
    test_rewritten();
    test_large();
    test_sizes_between();
    test_other_notes();
    test_identity();
    test_failing_calls();
    test_calls();
    test_plain_format();
    test_written_meanwhile();
    store_calls = original_calls;
    return check_result();
}
