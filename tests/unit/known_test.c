/*
 * A commit by a process that made the one before does not read the live image to verify it, unless
 * the file has changed since (I1).
 */
#include "store_files.h"

#include <fcntl.h>

enum { SIZE = 300000, WRITES = 100, FILES = 400 };

static uint64_t bytes_read;
static char content[SIZE];

static ssize_t counting_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    bytes_read += size;
    return sys_pread(fd, buffer, size, offset);
}

static bool is_same_change(const struct stat *status, const struct stat *other)
{
    return status->st_ctim.tv_sec == other->st_ctim.tv_sec &&
           status->st_ctim.tv_nsec == other->st_ctim.tv_nsec;
}

/* Tells whether the times of the file system tell each change from the one before. */
static bool has_fine_times(void)
{
    int fd = new_file("");
    struct stat before = {0};
    struct stat after = {0};
    bool fine = true;

    for (int i = 0; i < WRITES; i++) {
        CHECK(pwrite(fd, "x", 1, 0) == 1 && fstat(fd, &after) == 0);
        fine &= !is_same_change(&before, &after);
        before = after;
    }
    (void)close(fd);
    return fine;
}

/* Commits SIZE bytes, and notes it as a session does. Returns whether the live image was read. */
static bool commit_reads(int fd, int fill)
{
    struct store_left left = {.status = {.st_ino = 0}};
    struct store_payload payload;

    memset(content, fill, SIZE);
    payload = payload_of(content, SIZE);
    bytes_read = 0;
    store_calls.pread = counting_pread;
    CHECK_EQUAL(store_commit_and_tell(fd, &payload, true, &left), 0);
    store_calls = original_calls;
    CHECK(holds(fd, content, SIZE));
    CHECK_EQUAL(fstat(fd, &left.status), 0);
    store_note_left(fd, &left);
    return bytes_read > SIZE;
}

/* A program without the shim writes the same bytes or others, in the same tick of the clock or in
 * the next. */
static void change(int fd, uint64_t offset, bool damages)
{
    char byte;

    CHECK_EQUAL(pread(fd, &byte, 1, (off_t)offset), 1);
    byte = (char)(byte + damages);
    CHECK_EQUAL(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

static void test_changes(bool fine)
{
    int fd = new_file("");
    struct store_image live;

    (void)commit_reads(fd, 'a');
    (void)commit_reads(fd, 'b');
    for (int fill = 'c'; fill < 'k'; fill++)
        CHECK_EQUAL(commit_reads(fd, fill), !fine);
    change(fd, look_at_file(fd).place + IMAGE_HEADER_SIZE + 1000, false);
    CHECK(commit_reads(fd, 'k'));
    CHECK_EQUAL(commit_reads(fd, 'l'), !fine);
    for (int fill = 'm'; fill < 't'; fill++) {
        live = look_at_file(fd);
        change(fd, live.place + IMAGE_HEADER_SIZE + SIZE / 2, true);
        CHECK(commit_reads(fd, fill));
        CHECK_EQUAL(look_at_file(fd).place, live.place); /* the live image was not touched */
    }
    (void)close(fd);
}

/* Knowledge of one file does not count for another, though it looks the same. */
static void test_other_file(void)
{
    int fd = new_file("");
    int copy = new_file("");

    (void)commit_reads(fd, 'x');
    CHECK_EQUAL(commit_bytes(copy, content, SIZE, true), 0);
    CHECK(commit_reads(copy, 'y'));
    (void)close(fd);
    (void)close(copy);
}

static bool has_left(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && store_has_left(&status);
}

/* A file is opened by its name alone while it is as this process's last commit has left it: until
 * somebody writes to it or renames it, and never if it is plain. */
static void test_left(bool fine)
{
    int fd = new_file("");
    int plain = new_file("");
    struct store_left left = {.image = {.generation = 0}};
    struct store_payload payload;

    CHECK(!has_left(fd));
    (void)commit_reads(fd, 'a');
    CHECK_EQUAL(has_left(fd), fine);
    CHECK(!has_left(plain));
    CHECK_EQUAL(fchmod(fd, 0640), 0);
    CHECK(!has_left(fd));
    (void)commit_reads(fd, 'b');
    change(fd, look_at_file(fd).place + IMAGE_HEADER_SIZE, false);
    CHECK(!has_left(fd));
    payload = payload_of(content, SIZE);
    CHECK_EQUAL(store_commit_plain(plain, &payload, true), 0);
    CHECK_EQUAL(fstat(plain, &left.status), 0);
    store_note_left(plain, &left);
    CHECK(!has_left(plain));
    (void)close(fd);
    (void)close(plain);
}

static int commit_unsynced(int fd, int fill)
{
    struct store_left left = {.status = {.st_ino = 0}};
    struct store_payload payload;
    int error;

    memset(content, fill, SIZE);
    payload = payload_of(content, SIZE);
    error = store_commit_and_tell(fd, &payload, false, &left);
    if (error == 0)
        store_note_left(fd, &left);
    return error;
}

/*
 * A program without the shim overwrites a header through a mapping, which moves no time: what is
 * remembered is not what the file holds. The commit is whole in the end all the same, or fails
 * where the header that would lead to it is gone.
 */
static void overwrite_mapped(int commits, bool at_head)
{
    int fd = new_file("");
    struct store_image live;
    size_t size;
    char *bytes;
    uint64_t at;

    for (int i = 0; i < commits; i++)
        CHECK_EQUAL(commit_unsynced(fd, 'a' + i), 0);
    live = look_at_file(fd);
    at = at_head ? 0 : live.twin;
    size = size_of(fd);
    bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    /* from now on the kernel sees no write to this page */
    *(volatile char *)(bytes + at) = bytes[at];
    CHECK_EQUAL(commit_unsynced(fd, 'm'), 0);
    CHECK_EQUAL(commit_unsynced(fd, 'n'), 0);
    CHECK_EQUAL(look_at_file(fd).place, live.place);
    memset(bytes + at, '-', IMAGE_HEADER_SIZE);
    CHECK_EQUAL(commit_unsynced(fd, 'o'), at_head && live.place == 0 ? -EIO : 0);
    CHECK(holds(fd, content, SIZE) == !(at_head && live.place == 0));
    CHECK_EQUAL(munmap(bytes, size), 0);
    (void)close(fd);
}

static void test_mapped(void)
{
    for (int i = 0; i < 4; i++)
        overwrite_mapped(3 + i / 2, i % 2 == 0);
}

/* A process that commits many files in turn remembers them all. */
static void test_many(void)
{
    static int files[FILES];
    int known = 0;

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < FILES; i++) {
            struct store_left left = {.status = {.st_ino = 0}};
            struct store_payload payload = payload_of(round == 0 ? "01234567" : "12345678", 8);

            if (round == 0)
                files[i] = new_file("");
            CHECK_EQUAL(store_commit_and_tell(files[i], &payload, false, &left), 0);
            CHECK_EQUAL(fstat(files[i], &left.status), 0);
            store_note_left(files[i], &left);
        }
    for (int i = 0; i < FILES; i++) {
        known += has_left(files[i]);
        (void)close(files[i]);
    }
    CHECK(known > FILES * 9 / 10); /* two may have one place */
}

int main(void)
{
    bool fine;

    original_calls = store_calls;
    fine = has_fine_times();
    test_changes(fine);
    test_other_file();
    if (fine)
        test_mapped();
    test_left(fine);
    if (fine)
        test_many();
    return check_result();
}
