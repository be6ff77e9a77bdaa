/*
 * What seldom happens to the store: sizes and numbers at their limits, another process between two
 * calls, damage of a shape that no commit leaves. Each names the invariant that it guards
 * (store/store.h).
 */
#include "store_faults.h"

#include "store/filelock.h"
#include "store/journal.h"
#include "store/restamp.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/wait.h>

static const char file_name[] = "store_rare_test.file";
static const char journals[] = ".atomshim-journal-*";

/* The attribute of the only file that has one, in memory that a child shares. */
static struct note *note;

static ssize_t get_note(int fd, const char *name, void *value, size_t size)
{
    (void)fd;
    (void)name;
    if (note->size == 0 || note->size > size)
        return note->size == 0 ? -ENODATA : -ERANGE;
    memcpy(value, note->data, note->size);
    return (ssize_t)note->size;
}

static int set_note(int fd, const char *name, const void *value, size_t size, int flags)
{
    (void)fd;
    (void)name;
    (void)flags;
    if (size > NOTE_MAX)
        return -ENOSPC;
    memcpy(note->data, value, size);
    note->size = size;
    return 0;
}

static int remove_note(int fd, const char *name)
{
    (void)fd;
    (void)name;
    note->size = 0;
    return 0;
}

/* Makes the file with a name, which holds `size` bytes. */
static int named_file(const char *bytes, uint64_t size)
{
    int fd = open(file_name, O_RDWR | O_CREAT | O_TRUNC, 0600);

    note->size = 0;
    if (fd < 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
        abort();
    return fd;
}

static char *letters(size_t size, char first)
{
    char *bytes = malloc(size);

    if (bytes == NULL)
        abort();
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(first + i % 13);
    return bytes;
}

static enum record_word word_of_note(void)
{
    struct record record = {.word = RECORD_NONE};

    (void)record_decode(note->data, note->size, &record);
    return record.word;
}

/* Ends a test: its journals are gone. */
static void end_with(int fd)
{
    glob_t left;

    (void)close(fd);
    journal_end();
    CHECK_EQUAL(glob(journals, 0, NULL, &left), GLOB_NOMATCH);
}

/* ---- the way back to plain ---- */

/* I5: each read of the content fails, its last bytes included, which may be a footer. */
static void test_export_reads(void)
{
    enum { SIZE = IMAGE_PAGE + IMAGE_FILE_REMAINDER };
    char *content = letters(SIZE, 'e');
    int faults = 0;

    for (bool over = false; !over; faults++) {
        int fd = new_file("");
        int error;

        CHECK_EQUAL(commit_bytes(fd, content, SIZE, true), 0);
        watch_calls();
        fault.kind = FAIL;
        fault.only = PREAD;
        fault.error = -EIO;
        fault.at = faults + 1;
        error = store_export(fd, true);
        over = fault.counted < fault.at;
        unwatch_calls();
        CHECK_EQUAL(error, over ? 0 : -EIO);
        CHECK(holds(fd, content, SIZE));
        (void)close(fd);
    }
    CHECK(faults > 4);
    free(content);
}

/* ---- plain commits ---- */

static char journal_name[64];

static void stranger_makes_journal(int fd)
{
    (void)fd;
    CHECK(link("journal", journal_name) == 0 || errno == EEXIST);
    CHECK_EQUAL(unlink("journal"), 0);
}

/* I5: another process makes the journal at the moment when this one does: the commit takes it. */
static void test_journal_made_meanwhile(void)
{
    enum { SIZE = 100000 };
    char *old = letters(SIZE, 'a');
    char *new = letters(SIZE, 'A');
    int hits = 0;

    for (int at = 1; at < 12; at++) {
        int fd = named_file(old, SIZE);
        glob_t made;

        CHECK_EQUAL(commit_plain_bytes(fd, new, SIZE, true), 0);
        CHECK_EQUAL(glob(journals, 0, NULL, &made), 0);
        (void)strcpy(journal_name, made.gl_pathv[0]);
        globfree(&made);
        CHECK_EQUAL(rename(journal_name, "journal"), 0);
        journal_end();
        note->size = 0;
        watch_calls();
        fault.kind = STRANGER;
        fault.only = OPENAT;
        fault.at = at;
        fault.stranger = stranger_makes_journal;
        CHECK_EQUAL(commit_plain_bytes(fd, old, SIZE, true), 0);
        hits += fault.hit == OPENAT;
        unwatch_calls();
        CHECK_EQUAL(word_of_note(), RECORD_KEPT);
        CHECK(holds(fd, old, SIZE));
        (void)unlink("journal");
        end_with(fd);
    }
    CHECK(hits > 2);
    free(old);
    free(new);
}

/* Commits in a child, which is killed after the first call of this kind. */
static void commit_and_die(const char *bytes, uint64_t size, enum call call)
{
    pid_t child = fork();
    int fd;

    if (child == 0) {
        fd = open(file_name, O_RDWR);
        watch_calls();
        fault.kind = KILL_AFTER;
        fault.only = call;
        fault.at = 1;
        (void)commit_plain_bytes(fd, bytes, size, true);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
}

static void empty_journal(void)
{
    glob_t found;

    CHECK_EQUAL(glob(journals, 0, NULL, &found), 0);
    CHECK_EQUAL(truncate(found.gl_pathv[0], 0), 0);
    globfree(&found);
}

/* I2: a journal that a power cut has emptied says nothing; the next commit is whole. */
static void test_empty_journal(void)
{
    enum { SIZE = 100000 };
    char *old = letters(SIZE, 'a');
    char *new = letters(SIZE, 'A');
    int fd = named_file(old, SIZE);
    struct store_image image;

    commit_and_die(new, SIZE, FSETXATTR);
    CHECK_EQUAL(word_of_note(), RECORD_FILE);
    empty_journal();
    CHECK(holds(fd, old, SIZE));
    CHECK_EQUAL(store_load(fd, -1, patient, &image), 0);
    CHECK(image.unsettled);
    CHECK_EQUAL(store_recover(fd, true), 0);
    CHECK(holds(fd, old, SIZE));
    CHECK_EQUAL(commit_plain_bytes(fd, new, SIZE, true), 0);
    CHECK_EQUAL(word_of_note(), RECORD_KEPT);
    CHECK(holds(fd, new, SIZE));
    free(old);
    free(new);
    end_with(fd);
}

/* I2: stat() of a large file whose commit died shows the size that a reader finds, by few reads. */
static void test_size_of_dead_commit(void)
{
    enum { OLD = 2 << 20, NEW = 3 << 20 };
    static const enum call last[] = {FSETXATTR, PWRITEV};
    char *old = letters(OLD, 'a');
    char *new = letters(NEW, 'A');

    for (int longer = 0; longer < 2; longer++)
        for (int i = 0; i < 2; i++) {
            const char *before = longer ? old : new;
            const char *after = longer ? new : old;
            uint64_t sizes[2] = {longer ? OLD : NEW, longer ? NEW : OLD};
            int fd = named_file(before, sizes[0]);
            uint64_t size = 0;

            commit_and_die(after, sizes[1], last[i]);
            CHECK_EQUAL(word_of_note(), RECORD_FILE);
            watch_calls();
            CHECK_EQUAL(store_size(fd, &size), 0);
            CHECK(fault.counts[PREAD] < 6);
            unwatch_calls();
            CHECK_EQUAL(size, sizes[i]);
            CHECK(holds(fd, i == 0 ? before : after, sizes[i]));
            CHECK_EQUAL(store_recover(fd, true), 0);
            CHECK(holds(fd, i == 0 ? before : after, sizes[i]));
            end_with(fd);
        }
    free(old);
    free(new);
}

/* The same of one that announced a short content: by its attribute alone, before it cut the file,
 * and after; and of the old bytes to which another program appended. */
static void test_size_of_dead_short_commit(void)
{
    enum { SIZE = 2 << 20, MORE = 10 };
    char *old = letters(SIZE + MORE, 'a');
    int fd = named_file(old, SIZE);
    uint64_t size = 0;

    commit_and_die("new content", 11, FSETXATTR);
    CHECK_EQUAL(word_of_note(), RECORD_REDO);
    watch_calls();
    CHECK_EQUAL(store_size(fd, &size), 0);
    CHECK(fault.counts[PREAD] < 6);
    unwatch_calls();
    CHECK_EQUAL(size, SIZE);
    CHECK(holds(fd, old, SIZE));
    CHECK_EQUAL(pwrite(fd, old + SIZE, MORE, SIZE), MORE);
    CHECK_EQUAL(store_size(fd, &size), 0);
    CHECK_EQUAL(size, SIZE + MORE);
    CHECK(holds(fd, old, SIZE + MORE));
    commit_and_die("new content", 11, FTRUNCATE);
    CHECK_EQUAL(word_of_note(), RECORD_REDO);
    CHECK_EQUAL(store_size(fd, &size), 0);
    CHECK_EQUAL(size, 11);
    CHECK(holds_text(fd, "new content"));
    free(old);
    end_with(fd);
}

/* A content of more than JOURNAL_CONTENT_MAX has no record that protects it: the commit says so. */
static void test_huge_content(void)
{
    const uint64_t size = JOURNAL_CONTENT_MAX + 1;
    char *zeros = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int fd = named_file("old", 3);

    CHECK(zeros != MAP_FAILED);
    commit_and_die(zeros, size, FSETXATTR);
    CHECK_EQUAL(word_of_note(), RECORD_BUSY);
    CHECK(holds_text(fd, "old"));
    CHECK_EQUAL(munmap(zeros, size), 0);
    end_with(fd);
}

/* I5: after the largest generation comes the first, and the commit is protected as any. */
static void test_last_generation(void)
{
    int fd = named_file("", 0);
    struct store_image image;
    struct record record;

    CHECK_EQUAL(commit_plain_bytes(fd, "old", 3, true), 0);
    CHECK_EQUAL(record_decode(note->data, note->size, &record), IMAGE_VALID);
    record.generation = RECORD_GENERATION_MAX;
    record.body_size = 0;
    note->size = record_encode(note->data, &record);
    commit_and_die("new content", 11, FSETXATTR);
    CHECK_EQUAL(word_of_note(), RECORD_REDO);
    CHECK_EQUAL(store_recover(fd, true), 0);
    CHECK(holds_text(fd, "old"));
    record.size = size_of(fd);
    note->size = record_encode(note->data, &record);
    CHECK_EQUAL(commit_plain_bytes(fd, "new content", 11, true), 0);
    CHECK(holds_text(fd, "new content"));
    CHECK_EQUAL(store_load(fd, -1, patient, &image), 0);
    CHECK_EQUAL(image.generation, 1);
    end_with(fd);
}

/* The sums of a huge file are not worth it where little is written: the commit says BUSY. */
static void test_huge_before(void)
{
    enum { HUGE = 65 << 20 };
    int fd = named_file("old", 3);
    int before;

    CHECK_EQUAL(ftruncate(fd, HUGE), 0);
    watch_calls();
    CHECK_EQUAL(commit_plain_bytes(fd, "new", 3, true), 0);
    before = fault.counts[PREAD];
    unwatch_calls();
    CHECK(before < 20); /* of 128 KiB each */
    CHECK_EQUAL(word_of_note(), RECORD_IDLE);
    CHECK(holds_text(fd, "new"));
    end_with(fd);
}

/* I5: the disk fails when a small file has become large. The sums of the large one fit into no
 * attribute, so that the old content is not written back; the journal leads to the new one. */
static void test_no_way_back(void)
{
    enum { SIZE = 12 << 20 };
    char *new = letters(SIZE, 'A');
    int fd = named_file("old", 3);

    watch_calls();
    fault.kind = FAIL;
    fault.only = FDATASYNC;
    fault.error = -EIO;
    fault.at = 2; /* the first is the journal's */
    CHECK_EQUAL(commit_plain_bytes(fd, new, SIZE, true), -EIO);
    unwatch_calls();
    CHECK_EQUAL(word_of_note(), RECORD_FILE);
    CHECK(holds(fd, new, SIZE));
    CHECK_EQUAL(store_recover(fd, true), 0);
    CHECK(holds(fd, new, SIZE));
    free(new);
    end_with(fd);
}

/* A link with a journal's name is followed by nobody, nor removed. */
static void test_journal_is_link(void)
{
    static const char link_name[] = ".atomshim-journal-00000000";
    char path[PATH_MAX];
    struct stat status;
    int fd = new_file("");

    CHECK(getcwd(path, sizeof path - sizeof link_name - 1) != NULL);
    (void)strcat(strcat(path, "/"), link_name);
    CHECK_EQUAL(close(open("target", O_CREAT | O_WRONLY, 0600)), 0);
    CHECK_EQUAL(symlink("target", link_name), 0);
    journal_tidy(path);
    CHECK_EQUAL(lstat(link_name, &status), 0);
    CHECK(unlink(link_name) == 0 && unlink("target") == 0);
    end_with(fd);
}

/* ---- sized files ---- */

/* I2: beside a damaged image a complete one is told as that at once, though another process, which
 * has not mended the file, keeps the lock. */
static void test_damaged_and_locked(void)
{
    struct store_wait impatient = {.timeout = 0};
    struct store_image image;
    struct filelock lock;
    int fd = open(file_name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    int other = open(file_name, O_RDWR);

    note->size = 0;
    CHECK_EQUAL(commit_text(fd, "one"), 0);
    CHECK_EQUAL(commit_text(fd, "two"), 0);
    CHECK_EQUAL(pwrite(fd, "X", 1, (off_t)look_at_file(fd).place + IMAGE_HEADER_SIZE), 1);
    CHECK_EQUAL(filelock_acquire(&lock, other, F_WRLCK, patient.timeout), 0);
    CHECK_EQUAL(store_load(fd, -1, impatient, &image), 0);
    CHECK(image.edited && image.generation == 1);
    filelock_release(&lock);
    CHECK(holds_text(fd, "one"));
    (void)close(other);
    end_with(fd);
}

static struct store_repair plan_of(int fd)
{
    struct store_repair plan;

    CHECK_EQUAL(store_plan_repair(fd, &plan), 0);
    return plan;
}

/* I2: what is left of a damaged file: of one commit whose image is damaged, and cut; a header at 0
 * that says that there is no image there. */
static void test_repair_of_the_only_image(void)
{
    char *content = letters(20000, 'r');
    int fd = new_file("plain");
    struct store_image image;
    struct store_repair plan;

    CHECK_EQUAL(commit_bytes(fd, content, 20000, true), 0);
    image = look_at_file(fd);
    CHECK(image.place != 0);
    CHECK_EQUAL(pwrite(fd, "!", 1, (off_t)image.place + IMAGE_HEADER_SIZE), 1);
    plan = plan_of(fd);
    CHECK(plan.kind == STORE_REPAIR_AS_IT_IS && plan.place == image.place && plan.size == 20000);
    CHECK_EQUAL(ftruncate(fd, (off_t)image.place + IMAGE_HEADER_SIZE + 7000), 0);
    plan = plan_of(fd);
    CHECK(plan.kind == STORE_REPAIR_AS_IT_IS && plan.size == 7000 && plan.wanted_size == 20000);
    CHECK_EQUAL(store_repair(fd, true, &plan), 0);
    content[0] = '!';
    CHECK(holds(fd, content, 7000));
    free(content);
    (void)close(fd);
}

/*
 * I2: a program without the shim has written over both ends of a file, and over the image that was
 * left: its bytes are the content, and there is nothing to repair. Bytes in a content that look
 * like the header of a whole file are no image.
 */
static void test_nothing_to_repair(void)
{
    struct bytes *content = make_content(HEAD_HEADERS, 3, (uint64_t)9 * IMAGE_PAGE);
    int fd = new_file("plain");
    struct store_image image;
    struct store_repair plan;
    char text[300];

    memset(text, 't', sizeof text);
    CHECK_EQUAL(commit_bytes(fd, content->data, content->size, true), 0);
    image = look_at_file(fd);
    CHECK_EQUAL(pwrite(fd, text, sizeof text, 0), sizeof text);
    CHECK_EQUAL(pwrite(fd, text, sizeof text, (off_t)(size_of(fd) - sizeof text)), sizeof text);
    plan = plan_of(fd);
    CHECK(plan.kind == STORE_REPAIR_COMPLETE && plan.place == image.place && plan.size == content->size);
    CHECK_EQUAL(pwrite(fd, "!", 1, (off_t)image.place + IMAGE_HEADER_SIZE), 1);
    CHECK_EQUAL(plan_of(fd).kind, STORE_REPAIR_NOTHING);
    free(content);
    (void)close(fd);
}

/* Other tests look at the disk. */
static int no_flush(int fd)
{
    (void)fd;
    return 0;
}

int main(void)
{
    store_calls.fdatasync = no_flush;
    store_calls.fsync = no_flush;
    store_calls.fgetxattr = get_note;
    store_calls.fsetxattr = set_note;
    store_calls.fremovexattr = remove_note;
    original_calls = store_calls;
    note = mmap(NULL, sizeof *note, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (note == MAP_FAILED)
        abort();
    test_export_reads();
    test_journal_made_meanwhile();
    test_empty_journal();
    test_size_of_dead_commit();
    test_size_of_dead_short_commit();
    test_huge_content();
    test_last_generation();
    test_huge_before();
    test_no_way_back();
    test_journal_is_link();
    test_damaged_and_locked();
    test_repair_of_the_only_image();
    test_nothing_to_repair();
    CHECK_EQUAL(unlink(file_name), 0);
    return check_result();
}
