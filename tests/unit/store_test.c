/* The store on real files, without interposition: commits, hostile files, locks, readers that are
 * lapped. */
#include "store_faults.h"

#include "store/filelock.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

static char *pattern_bytes(size_t size, char seed)
{
    char *bytes = malloc(size + 1);

    if (bytes == NULL)
        abort();
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(seed + (char)(i % 23));
    return bytes;
}

static void test_contents(void)
{
    static const size_t sizes[] = {5, 0, 1, 100, 4096, 4095, 70000, 3, 300000, 0, 12};
    int fd = new_file("plain text");

    CHECK(holds_text(fd, "plain text"));
    CHECK_EQUAL(look_at_file(fd).kind, STORE_PLAIN);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *bytes = pattern_bytes(sizes[i], (char)('A' + i));

        CHECK_EQUAL(commit_bytes(fd, bytes, sizes[i], true), 0);
        CHECK(holds(fd, bytes, sizes[i]));
        CHECK_EQUAL(look_at_file(fd).generation, i + 1);
        CHECK_EQUAL(size_of(fd) % IMAGE_PAGE, IMAGE_FILE_REMAINDER);
        free(bytes);
    }
    (void)close(fd);
}

/* A commit stores any content, even the raw bytes of a managed file: of another one, or of the
 * same. */
static void test_file_in_file(void)
{
    static const char *const texts[] = {"inner", "inner, once more", "in"};
    struct bytes *raw = new_bytes();
    int inner = new_file("plain");
    int outer = new_file("plain");

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CHECK_EQUAL(commit_text(inner, texts[i]), 0);
        get_file(inner, raw);
        CHECK_EQUAL(commit_bytes(outer, raw->data, raw->size, true), 0);
        CHECK(holds(outer, raw->data, raw->size));
        CHECK_EQUAL(commit_bytes(inner, raw->data, raw->size, true), 0);
        CHECK(holds(inner, raw->data, raw->size));
    }
    CHECK_EQUAL(commit_text(outer, "small"), 0);
    CHECK(holds_text(outer, "small"));
    free(raw);
    (void)close(inner);
    (void)close(outer);
}

/* One image written, one flush, one byte of mark; the size of the file and its places stay. */
static void test_steady_state(void)
{
    int fd = new_file("");
    uint64_t size;

    CHECK_EQUAL(commit_text(fd, "first"), 0);
    CHECK_EQUAL(commit_text(fd, "second"), 0);
    size = size_of(fd);
    for (int i = 0; i < 10; i++) {
        watch_calls();
        CHECK_EQUAL(commit_text(fd, i % 2 == 0 ? "some" : "another"), 0);
        CHECK_EQUAL(fault.counts[PWRITEV], 1);
        CHECK_EQUAL(fault.counts[FDATASYNC], 1);
        CHECK_EQUAL(fault.counts[PWRITE], 1);
        CHECK_EQUAL(fault.counts[FTRUNCATE], 0);
        unwatch_calls();
    }
    CHECK_EQUAL(size_of(fd), size);
    (void)close(fd);
}

static void test_no_sync(void)
{
    int fd = new_file("plain");

    watch_calls();
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(commit_bytes(fd, "unsynced", 8, false), 0);
    CHECK_EQUAL(fault.counts[FDATASYNC], 0);
    unwatch_calls();
    CHECK(!look_at_file(fd).flushed);
    watch_calls();
    CHECK_EQUAL(commit_text(fd, "synced"), 0);
    CHECK_EQUAL(fault.counts[FDATASYNC], 2); /* I1: the live image first */
    unwatch_calls();
    CHECK(look_at_file(fd).flushed);
    (void)close(fd);
}

/* I2: from every place to every other. `is_unchanged` spares the bytes, not the headers. */
static void test_current(void)
{
    struct store_image image;
    int fd = new_file("plain");

    for (int i = 0; i < 6; i++) {
        char *bytes = pattern_bytes(i < 3 ? 10 : 100000 * (size_t)i, 'A'); /* outgrows its place */

        CHECK_EQUAL(commit_text(fd, i % 2 == 0 ? "one" : "two"), 0);
        CHECK_EQUAL(store_load(fd, -1, patient, &image), 0);
        CHECK(store_is_current(fd, &image, false) && store_is_current(fd, &image, true));
        CHECK_EQUAL(commit_bytes(fd, bytes, i < 3 ? 10 : 100000 * (uint64_t)i, true), 0);
        CHECK(!store_is_current(fd, &image, false) && !store_is_current(fd, &image, true));
        CHECK_EQUAL(commit_text(fd, "same"), 0);
        CHECK(!store_is_current(fd, &image, false) && !store_is_current(fd, &image, true));
        free(bytes);
    }
    CHECK_EQUAL(store_load(fd, -1, patient, &image), 0);
    CHECK_EQUAL(pwrite(fd, "S", 1, (off_t)(image.place + IMAGE_HEADER_SIZE)), 1);
    CHECK(!store_is_current(fd, &image, false));
    (void)close(fd);
}

static void test_shrink(void)
{
    char *large = pattern_bytes(3000000, 'L');
    int fd = new_file("");

    CHECK_EQUAL(commit_bytes(fd, large, 3000000, true), 0);
    CHECK_EQUAL(commit_bytes(fd, large, 3000000, true), 0);
    CHECK(size_of(fd) > 6000000);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(commit_text(fd, "small"), 0);
    CHECK(holds_text(fd, "small"));
    CHECK(size_of(fd) < 100000);
    free(large);
    (void)close(fd);
}

/* The disk fails in every flush: each commit returns the error, and the content stays. */
static void test_failing_flush(void)
{
    int fd = new_file("plain");

    CHECK_EQUAL(commit_text(fd, "older"), 0);
    CHECK_EQUAL(commit_text(fd, "old"), 0);
    for (int i = 0; i < 5; i++) {
        watch_calls();
        fault.no_flush = true;
        CHECK_EQUAL(commit_text(fd, "lost"), -EIO);
        unwatch_calls();
        CHECK(holds_text(fd, "old"));
    }
    CHECK_EQUAL(commit_text(fd, "next"), 0);
    CHECK(holds_text(fd, "next"));
    (void)close(fd);
}

static void put_header(int fd, uint64_t offset, const struct image_header *header)
{
    char bytes[IMAGE_HEADER_SIZE];

    image_encode_header(bytes, header);
    CHECK_EQUAL(pwrite(fd, bytes, sizeof bytes, (off_t)offset), sizeof bytes);
}

/* Files that no commit of ours left: an error or plain content, never more bytes than the file
 * has. */
static void test_hostile_files(void)
{
    static const struct image_header headers[] = {
        {.generation = 1, .size = 0, .twin = 0},
        {.generation = 1, .size = IMAGE_NUMBER_MAX - 1, .twin = 4096},
        {.generation = IMAGE_NUMBER_MAX - 1, .size = 4, .twin = IMAGE_NUMBER_MAX - 4096},
        {.generation = 1, .size = 4000, .twin = 4096},
        {.generation = 1, .size = 100000, .twin = 4096},
        {.generation = 0, .size = 0, .twin = 4096},
        {.generation = 2, .size = 100, .twin = 4096, .flushed = false},
    };
    struct store_image image;

    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        int fd = new_file("");

        CHECK_EQUAL(ftruncate(fd, 8192 + 128), 0);
        put_header(fd, 0, &headers[i]);
        CHECK_EQUAL(store_load(fd, -1, patient, &image), -EIO);
        CHECK_EQUAL(commit_text(fd, "over it"), -EIO);
        (void)close(fd);
    }
    for (int cut = 1; cut < IMAGE_HEADER_SIZE; cut += 9) { /* a header that is not whole */
        int fd = new_file("");

        put_header(fd, 0, &headers[5]);
        CHECK_EQUAL(ftruncate(fd, cut), 0);
        CHECK_EQUAL(store_load(fd, -1, patient, &image), cut < 12 ? 0 : -EIO);
        (void)close(fd);
    }
}

static void test_torn_twin(void)
{
    int fd = new_file("");
    struct store_image live;

    CHECK_EQUAL(commit_text(fd, "in the twin"), 0);
    CHECK_EQUAL(commit_text(fd, "in the head"), 0);
    CHECK_EQUAL(look_at_file(fd).place, 0);
    CHECK_EQUAL(commit_text(fd, "torn"), 0);
    live = look_at_file(fd);
    CHECK_EQUAL(live.place, live.twin);
    CHECK_EQUAL(pwrite(fd, "x", 1, (off_t)live.place + IMAGE_HEADER_SIZE), 1);
    CHECK_EQUAL(pwrite(fd, "-", 1, (off_t)live.place + IMAGE_MARK_OFFSET), 1);
    CHECK(holds_text(fd, "in the head"));
    CHECK_EQUAL(commit_text(fd, "next"), 0);
    CHECK(holds_text(fd, "next"));
    (void)close(fd);
}

/* Tells how a reader must report damage to one byte, or a cut: by an error, by the flags, or not at
 * all if nothing was lost. */
static bool is_told(int fd, unsigned generation)
{
    struct store_image image;
    int error = store_load(fd, -1, patient, &image);

    if (error != 0)
        return error == -EIO;
    return image.kind == STORE_SIZED && (image.edited ? image.generation < generation : image.scratched);
}

/* A file that has seen `commits` commits of "v=N\n"; its bytes are put into *raw. */
static int committed(int commits, bool sync, struct bytes *raw)
{
    char text[16];
    int fd = new_file("v=0\n");

    for (int i = 1; i <= commits; i++) {
        (void)snprintf(text, sizeof text, "v=%d\n", i);
        CHECK_EQUAL(commit_bytes(fd, text, 4, sync), 0);
    }
    get_file(fd, raw);
    return fd;
}

/* I2: a reader reports damage to any byte of the live image, and any cut, wherever the image lies;
 * it never passes an older image off as the latest. */
static void test_damage_is_told(void)
{
    static struct bytes raw;

    for (int sync = 0; sync <= 1; sync++)
        for (int commits = 1; commits <= 4; commits++) {
            int fd = committed(commits, sync, &raw);
            struct store_image live = look_at_file(fd);

            CHECK(!is_told(fd, 99));
            for (uint64_t i = 0; i < 2 * image_length(4); i++) {
                /* the header at 0 as well, which leads to the image */
                uint64_t at = i < image_length(4) ? live.place + i : i - image_length(4);
                bool dead = live.place != 0 && at >= IMAGE_MARK_OFFSET && at < live.twin;

                CHECK_EQUAL(pwrite(fd, "Z", 1, (off_t)at), 1);
                if (!dead && !is_told(fd, (unsigned)commits))
                    check_failed(__FILE__, __LINE__, "damage", commits, (long long)at);
                put_file(fd, &raw);
            }
            for (uint64_t size = 12; size < live.place + image_length(4); size += size < 300 ? 7 : 61) {
                CHECK_EQUAL(ftruncate(fd, (off_t)size), 0);
                if (!is_told(fd, (unsigned)commits))
                    check_failed(__FILE__, __LINE__, "cut", commits, (long long)size);
                put_file(fd, &raw);
            }
            (void)close(fd);
        }
}

/* The header at 0 is overwritten completely: the footer of the first commit does not bring the old
 * content back. */
static void test_overwritten_header(void)
{
    static struct bytes raw;
    static const size_t sizes[] = {1, 4, 12, 60, 128, 500};
    char junk[512];

    memset(junk, 'j', sizeof junk);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int commits = 1; commits <= 3; commits++) {
            int fd = committed(commits, true, &raw);

            CHECK_EQUAL(pwrite(fd, junk, sizes[i], 0), sizes[i]);
            CHECK(is_told(fd, 0));
            (void)close(fd);
        }
}

/* Damage to the older image changes nothing: a reader tells it from damage to the live one. */
static void test_older_damaged(void)
{
    static struct bytes raw;

    for (int commits = 2; commits <= 3; commits++) {
        int fd = committed(commits, true, &raw);
        struct store_image image = look_at_file(fd);
        uint64_t dead = image.place == 0 ? image.twin : 0;

        CHECK_EQUAL(pwrite(fd, "Z", 1, (off_t)(dead + IMAGE_HEADER_SIZE)), 1);
        CHECK_EQUAL(store_load(fd, -1, patient, &image), 0);
        CHECK(image.generation == (uint64_t)commits && !image.edited && !image.scratched && !image.resized);
        (void)close(fd);
    }
}

/* A file is known by its status alone after an append or a cut, and costs a bounded number of
 * bytes to be looked at. */
static void test_recognition(void)
{
    static struct bytes raw;
    struct stat status;
    uint64_t size;

    for (int commits = 1; commits < 30; commits++) {
        int fd = committed(2, true, &raw);
        char *bytes = pattern_bytes((size_t)commits * 700, 'r');

        for (int i = 0; i < commits; i++)
            CHECK_EQUAL(commit_bytes(fd, bytes, (uint64_t)(i + 1) * 700, true), 0);
        CHECK(fstat(fd, &status) == 0 && store_may_be_sized(&status));
        CHECK_EQUAL(store_is_whole(fd), 1);
        CHECK_EQUAL(pwrite(fd, bytes, (size_t)commits * 300, status.st_size), commits * 300);
        CHECK(fstat(fd, &status) == 0 && store_may_be_sized(&status));
        CHECK_EQUAL(store_is_whole(fd), 1);
        CHECK_EQUAL(store_size(fd, &size), 0);
        CHECK_EQUAL(size, commits * 700);
        free(bytes);
        (void)close(fd);
    }
}

/* The header line alone, or an image that the file has no room for, is no whole file. */
static void test_header_line(void)
{
    static struct bytes raw;
    int fd = committed(3, true, &raw);
    uint64_t size;

    CHECK_EQUAL(ftruncate(fd, IMAGE_HEADER_SIZE), 0);
    CHECK_EQUAL(store_is_whole(fd), 0);
    CHECK_EQUAL(store_size(fd, &size), -EIO);
    put_file(fd, &raw);
    CHECK_EQUAL(store_is_whole(fd), 1);
    (void)close(fd);
    fd = new_file("a plain file");
    CHECK_EQUAL(store_is_whole(fd), 0);
    CHECK_EQUAL(store_size(fd, &size), 0);
    CHECK_EQUAL(size, 12);
    (void)close(fd);
}

static uint64_t bytes_read;

static ssize_t counting_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    bytes_read += size;
    return sys_pread(fd, buffer, size, offset);
}

static long no_lock(int fd, int command, long argument)
{
    (void)fd;
    (void)command;
    (void)argument;
    check_failed(__FILE__, __LINE__, "a lock was asked for", 0, 0);
    return -EAGAIN;
}

/* stat() of any file reads a bounded number of bytes, and asks for no lock. */
static void test_size_is_bounded(void)
{
    const uint64_t size = ((uint64_t)15 << 40) - IMAGE_PAGE;
    int fd = memfd_create("decoy", MFD_CLOEXEC);
    uint64_t found;

    for (int kind = 0; kind < 4; kind++) {
        struct image_header head = {.generation = kind % 2 == 0, .size = size, .twin = size + IMAGE_PAGE};
        struct image_header twin = {.generation = 2, .size = size};
        struct image_footer footer = {.plain_size = 3, .twin = IMAGE_PAGE};

        CHECK_EQUAL(ftruncate(fd, 0) + ftruncate(fd, (off_t)(2 * size + 5L * IMAGE_PAGE + 128)), 0);
        if (kind == 1)
            put_header(fd, head.twin, &twin);
        if (kind < 2)
            put_header(fd, 0, &head);
        if (kind == 2) {
            char bytes[IMAGE_HEADER_SIZE];

            image_encode_footer(bytes, &footer);
            CHECK_EQUAL(pwrite(fd, bytes, sizeof bytes, (off_t)(2 * size + 5L * IMAGE_PAGE)), sizeof bytes);
            put_header(fd, IMAGE_PAGE, &twin);
        }
        bytes_read = 0;
        store_calls.pread = counting_pread;
        store_calls.fcntl = no_lock;
        (void)store_size(fd, &found);
        (void)store_is_whole(fd);
        store_calls = original_calls;
        CHECK(bytes_read < (uint64_t)4 << 20);
    }
    (void)close(fd);
}

enum { SKIPPED = 77 };

/* A payload that is too large for one pwritev, and for 32 bits. The test is a run of its own: it
 * takes long, and much disk. */
static int test_huge(void)
{
    struct statvfs disk;
    size_t size = ((size_t)2 << 30) + 12345;
    char *bytes =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct store_image image;
    int fd = new_file("");

    if (bytes == MAP_FAILED || fstatvfs(fd, &disk) != 0)
        abort();
    if (disk.f_bavail * disk.f_frsize < 2 * size) {
        (void)printf("the disk is too small\n");
        return SKIPPED;
    }
    memcpy(bytes + size - 5, "the end", 5);
    watch_calls();
    CHECK_EQUAL(commit_bytes(fd, bytes, size, false), 0);
    CHECK(fault.counts[PWRITEV] >= 2);
    unwatch_calls();
    CHECK_EQUAL(store_load(fd, -1, patient, &image), 0);
    CHECK_EQUAL(image.size, size);
    CHECK_EQUAL(image.payload_crc, crc32c_mixed(0, bytes, size));
    CHECK_EQUAL(commit_text(fd, "small"), 0);
    CHECK(holds_text(fd, "small"));
    (void)munmap(bytes, size);
    (void)close(fd);
    return check_result();
}

/* A process that holds the lock: readers go on, a writer meets its deadline, and the lock's end
 * ends it. */
static void test_lock(void)
{
    char name[] = "store_test.XXXXXX";
    int fd = mkstemp(name);
    struct filelock lock;
    struct filelock reader;
    int ready[2];
    char byte;
    pid_t child;

    CHECK_EQUAL(commit_text(fd, "content"), 0);
    if (pipe(ready) != 0 || (child = fork()) < 0)
        abort();
    if (child == 0) {
        int own = open(name, O_RDWR);

        if (filelock_keep(own, 0) != 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    CHECK(holds_text(fd, "content"));
    CHECK_EQUAL(filelock_acquire(&lock, fd, F_WRLCK, 0), -ETIMEDOUT);
    CHECK_EQUAL(filelock_acquire(&lock, fd, F_WRLCK, 20000000), -ETIMEDOUT);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(filelock_acquire(&lock, fd, F_WRLCK, patient.timeout), 0);
    CHECK_EQUAL(filelock_acquire(&reader, open(name, O_RDONLY), F_RDLCK, 0), -ETIMEDOUT);
    filelock_release(&lock);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK_EQUAL(unlink(name), 0);
    (void)close(fd);
}

/* A process that locks the file again as soon as it has given it back does not keep the others
 * out for ever. */
static void test_lock_turns(void)
{
    char name[] = "store_test.XXXXXX";
    int fd = mkstemp(name);
    struct filelock lock;
    int ready[2];
    char byte;
    pid_t child;

    if (pipe(ready) != 0 || (child = fork()) < 0)
        abort();
    if (child == 0) {
        int own = open(name, O_RDWR);

        for (bool first = true;; first = false) {
            if (filelock_acquire(&lock, own, F_WRLCK, patient.timeout) != 0 ||
                (first && write(ready[1], "", 1) != 1))
                _exit(1);
            sys_sleep(50000000); /* the time of a large commit */
            filelock_release(&lock);
        }
    }
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(filelock_acquire(&lock, fd, i % 2 == 0 ? F_WRLCK : F_RDLCK, patient.timeout), 0);
        filelock_release(&lock);
    }
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK_EQUAL(unlink(name), 0);
    (void)close(fd);
}

/* A reader that finds a header being written waits for its writer, who holds the lock. */
static void test_reader_waits_for_a_writer(void)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct store_image image;
    struct filelock lock;
    int fd = new_file("");
    int other;
    char link[64];

    CHECK_EQUAL(commit_text(fd, "content"), 0);
    CHECK_EQUAL(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_EQUAL(pwrite(fd, "?", 1, 20), 1);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    other = open(link, O_RDWR);
    CHECK_EQUAL(filelock_acquire(&lock, other, F_WRLCK, 0), 0);
    CHECK_EQUAL(store_load(fd, -1, (struct store_wait){.timeout = 0}, &image), -ETIMEDOUT);
    CHECK_EQUAL(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_EQUAL(store_load(fd, -1, (struct store_wait){.timeout = 0}, &image), 0);
    filelock_release(&lock);
    CHECK_EQUAL(pwrite(fd, "?", 1, 20), 1);
    CHECK_EQUAL(store_load(fd, -1, patient, &image), -EIO); /* nobody has the lock: never plain */
    (void)close(other);
    (void)close(fd);
}

/* The actions of writers between two system calls of a reader. */
static struct {
    int fd;
    int calls_left;
    int commits;
    size_t size;       /* the size of each of them */
    const char *plain; /* a commit in the plain format instead */
} lapping;

static int commit_plain_text(int fd, const char *text)
{
    struct store_payload payload = payload_of(text, strlen(text));

    return store_commit_plain(fd, &payload, true);
}

/* The letter, then headers of twins, wherever a place may come to lie: a reader that takes one
 * finds an empty image. */
static int commit_letter(int fd, char letter, size_t size)
{
    char *bytes = malloc(size + 1);
    char header[IMAGE_HEADER_SIZE];
    int result;

    memset(bytes, letter, size + 1);
    image_encode_header(header, &(struct image_header){.generation = 1000000, .flushed = true});
    for (size_t at = sizeof header; at + sizeof header <= size; at += sizeof header)
        memcpy(bytes + at, header, sizeof header);
    result = commit_bytes(fd, bytes, size, true);
    free(bytes);
    return result;
}

static ssize_t lapping_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    if (--lapping.calls_left == 0) {
        store_calls.pread = sys_pread;
        if (lapping.plain != NULL)
            CHECK_EQUAL(commit_plain_text(lapping.fd, lapping.plain), 0);
        for (int i = 0; i < lapping.commits; i++)
            CHECK_EQUAL(commit_letter(lapping.fd, (char)('A' + i), lapping.size), 0);
        store_calls.pread = lapping_pread;
    }
    return sys_pread(fd, buffer, size, offset);
}

/* Commits at each call of the reader, unless the lock keeps the writer out. */
static struct {
    int fd, other; /* the reader's description and the writer's */
    int commits;
} always;

static ssize_t always_lapped(int fd, void *buffer, size_t size, uint64_t offset)
{
    struct filelock lock;

    store_calls.pread = sys_pread;
    if (fd == always.fd && filelock_acquire(&lock, always.other, F_WRLCK, 0) == 0) {
        CHECK_EQUAL(commit_letter(always.other, (char)('A' + always.commits++ % 26), 300000), 0);
        filelock_release(&lock);
    }
    store_calls.pread = always_lapped;
    return sys_pread(fd, buffer, size, offset);
}

/* I2: a reader that would be lapped for ever waits for the lock, and gets the last of the
 * images. */
static void test_lapped_for_ever(void)
{
    char name[] = "store_test.XXXXXX";
    int target = memfd_create("target", 0);
    struct store_image image = {0};
    char found;

    always.fd = mkstemp(name);
    always.other = open(name, O_RDWR);
    CHECK_EQUAL(commit_letter(always.other, 'o', 300000), 0);
    store_calls.pread = always_lapped;
    CHECK_EQUAL(store_load(always.fd, target, patient, &image), 0);
    store_calls = original_calls;
    CHECK(always.commits > 20);
    CHECK_EQUAL(image.generation, 1 + always.commits);
    CHECK_EQUAL(pread(target, &found, 1, 0), 1);
    CHECK_EQUAL(found, 'A' + (always.commits - 1) % 26);
    CHECK_EQUAL(unlink(name), 0);
    (void)close(target);
    (void)close(always.fd);
    (void)close(always.other);
}

/* I2: a reader that is lapped finds what was live when it began, or something newer; never an
 * older image that is still complete in its place. */
static void test_lapped_reader(void)
{
    static const size_t sizes[][3] = {/* older, live, then committed by the writers that lap */
                                      {300, 500000, 10},    {500000, 300, 10},   {300, 500000, 600000},
                                      {300, 300, 300},      {300, 300, 50000},   {50000, 300, 300},
                                      {200000, 200000, 10}, {10, 900000, 900000}};
    int target = memfd_create("target", 0);
    struct store_image image;
    char found;

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t first = 0; first < 3;
             first++) /* now the head, now the twin place, near or far, is live */
            for (int commits = 1; commits <= 3; commits++)
                for (int call = 1; call < 9; call++) {
                    int fd = new_file("");

                    if (first > 0)
                        CHECK_EQUAL(commit_letter(fd, 'a', first == 1 ? 100 : 20000), 0);
                    CHECK_EQUAL(commit_letter(fd, 'o', sizes[s][0]), 0);
                    CHECK_EQUAL(commit_letter(fd, 'L', sizes[s][1]), 0);
                    lapping.fd = fd;
                    lapping.calls_left = call;
                    lapping.commits = commits;
                    lapping.size = sizes[s][2];
                    store_calls.pread = lapping_pread;
                    CHECK_EQUAL(store_load(fd, target, patient, &image), 0);
                    store_calls = original_calls;
                    CHECK(!image.edited && !image.resized); /* no writers but ours */
                    CHECK_EQUAL(pread(target, &found, 1, 0), 1);
                    CHECK(found == 'L' || (found >= 'A' && found < 'A' + commits));
                    (void)close(fd);
                }
    (void)close(target);
}

/* A plain file whose size changes while it is read is read again: the old or the new content, no
 * part of it. */
static void test_lapped_reader_of_plain(void)
{
    static const char *const texts[][2] = {
        {"old", "a longer text"}, {"a longer text", "new"}, {"", "new"}, {"old", ""}};
    int target = memfd_create("target", 0);
    struct store_image image;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (int call = 1; call < 6; call++) {
            char found[32] = "";
            int fd = new_file(texts[i][0]);

            memset(&lapping, 0, sizeof lapping);
            lapping.fd = fd;
            lapping.calls_left = call;
            lapping.plain = texts[i][1];
            store_calls.pread = lapping_pread;
            CHECK_EQUAL(store_load(fd, target, patient, &image), 0);
            store_calls = original_calls;
            CHECK(pread(target, found, sizeof found - 1, 0) == (ssize_t)image.size);
            CHECK(strcmp(found, texts[i][0]) == 0 || strcmp(found, texts[i][1]) == 0);
            (void)close(fd);
        }
    memset(&lapping, 0, sizeof lapping);
    (void)close(target);
}

static void test_limits(void)
{
    struct store_payload payload = {"", IMAGE_NUMBER_MAX / 8, 0};
    int fd = new_file("old");

    CHECK_EQUAL(store_commit(fd, &payload, true), -EFBIG);
    CHECK(holds_text(fd, "old"));
    (void)close(fd);
}

static void test_plain_format(void)
{
    static const char *const texts[] = {"first", "", "a longer text than before", "short"};
    int fd = new_file("old");

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        watch_calls();
        CHECK_EQUAL(commit_plain_text(fd, texts[i]), 0);
        CHECK_EQUAL(fault.counts[FDATASYNC], 1);
        unwatch_calls();
        CHECK_EQUAL(size_of(fd), strlen(texts[i]));
        CHECK(holds_text(fd, texts[i]));
    }
    (void)close(fd);
}

static int reserve_then_fail(int fd, int mode, uint64_t offset, uint64_t size)
{
    (void)sys_fallocate(fd, mode, offset, size);
    return -ENOSPC;
}

/* A commit gives back the blocks that it reserved before the disk was full. */
static void test_plain_full_disk(void)
{
    char *large = pattern_bytes(500000, 'L');
    struct store_payload payload = payload_of(large, 500000);
    struct stat before;
    struct stat after;
    int fd = new_file("old");

    CHECK_EQUAL(fsync(fd), 0); /* now it has its block */
    CHECK_EQUAL(fstat(fd, &before), 0);
    store_calls.fallocate = reserve_then_fail;
    CHECK_EQUAL(store_commit_plain(fd, &payload, true), -ENOSPC);
    store_calls = original_calls;
    CHECK_EQUAL(fstat(fd, &after), 0);
    CHECK_EQUAL(after.st_blocks, before.st_blocks);
    CHECK(holds_text(fd, "old"));
    free(large);
    (void)close(fd);
}

int main(int argc, char **argv)
{
    original_calls = store_calls;
    if (argc > 1 && strcmp(argv[1], "huge") == 0)
        return test_huge();
    test_contents();
    test_file_in_file();
    test_steady_state();
    test_no_sync();
    test_current();
    test_shrink();
    test_failing_flush();
    test_hostile_files();
    test_torn_twin();
    test_damage_is_told();
    test_overwritten_header();
    test_older_damaged();
    test_recognition();
    test_header_line();
    test_size_is_bounded();
    test_lock();
    test_lock_turns();
    test_reader_waits_for_a_writer();
    test_lapped_reader();
    test_lapped_for_ever();
    test_lapped_reader_of_plain();
    test_limits();
    test_plain_format();
    test_plain_full_disk();
    return check_result();
}
