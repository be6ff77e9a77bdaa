/* One file that is opened several times, in one process and in several: the view of each open, and
 * the final content. */
#include "expect.h"

#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static int open_as(const char *file, int flags)
{
    int fd = open(file, flags, 0644);

    EXPECT(fd >= 0);
    return fd;
}

/* Writes in another process, which opens the file before `go` is closed here and writes
 * afterwards. */
static pid_t append_elsewhere(const char *file, void (*begin)(int fd), int *go)
{
    int ready[2];
    int gate[2];
    char byte;
    pid_t child;

    EXPECT(pipe(ready) == 0 && pipe(gate) == 0);
    child = fork();
    if (child == 0) {
        int fd = open_as(file, O_WRONLY);

        EXPECT(close(gate[1]) == 0);
        begin(fd);
        EXPECT(write(ready[1], "r", 1) == 1 && read(gate[0], &byte, 1) == 0);
        write_text(fd, "theirs");
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    EXPECT(close(gate[0]) == 0 && read(ready[0], &byte, 1) == 1);
    *go = gate[1];
    return child;
}

static void check_appending(const char *file, void (*begin)(int fd))
{
    int go;
    pid_t child = append_elsewhere(file, begin, &go);
    int fd = open_as(file, O_WRONLY);

    begin(fd);
    write_text(fd, "ours");
    EXPECT(close(go) == 0);
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
    if (is_wrapped())
        expect_content(file, "oldtheirsours");
    else
        EXPECT(strlen(content_of(file)) == strlen("oldtheirsours"));
}

static void append_by_fcntl(int fd)
{
    EXPECT(fcntl(fd, F_SETFL, O_APPEND) == 0);
}

static void append_by_fcntl64(int fd)
{
    EXPECT(fcntl64(fd, F_SETFL, O_APPEND) == 0);
}

/* The libc sets the flag by a call of its own. The stream is left alone: it has nothing to
 * write. */
static void append_by_fdopen(int fd)
{
    EXPECT(fdopen(fd, "a") != NULL);
}

static void test_fcntl(const char *file)
{
    check_appending(file, append_by_fcntl);
}

static void test_fcntl64(const char *file)
{
    check_appending(file, append_by_fcntl64);
}

static void test_fdopen(const char *file)
{
    check_appending(file, append_by_fdopen);
}

/* ---- one process ---- */

/* Checks the content that this very thread finds. */
static void expect_own(const char *file, const char *content)
{
    char bytes[64] = "";
    int fd = open_as(file, O_RDONLY);

    EXPECT(read(fd, bytes, sizeof bytes - 1) == (ssize_t)strlen(content) && strcmp(bytes, content) == 0);
    EXPECT(close(fd) == 0);
}

/* Checks the content that another process finds, in the copy of this very thread. */
static void expect_elsewhere(const char *file, const char *content)
{
    pid_t child = fork();

    if (child == 0) {
        expect_own(file, content);
        _exit(0);
    }
    expect_exit(child, 0);
}

static void *read_in_thread(void *file)
{
    expect_content(file, is_wrapped() ? "old" : "newer");
    return NULL;
}

/* The thread that writes sees it by name; another thread and another process see the last
 * commit. */
static void test_own_writes(const char *file)
{
    pthread_t thread;
    struct stat status;
    struct stat by_name;
    struct statx fields;
    FILE *stream;
    char bytes[8];
    int fd = open_as(file, O_WRONLY | O_TRUNC);
    int reader;

    write_text(fd, "newer");
    expect_own(file, "newer");
    EXPECT(stat(file, &by_name) == 0 && by_name.st_size == 5 && status_of(file).st_size == 5);
    EXPECT(fstat(fd, &status) == 0 && status.st_mtim.tv_nsec == by_name.st_mtim.tv_nsec &&
           status.st_mtim.tv_sec == by_name.st_mtim.tv_sec && status.st_ino == by_name.st_ino);
    EXPECT(statx(AT_FDCWD, file, 0, STATX_BASIC_STATS, &fields) == 0 && fields.stx_size == 5);
    EXPECT(fields.stx_mtime.tv_nsec == status.st_mtim.tv_nsec);
    stream = open_stream(file, "r");
    EXPECT(stream != NULL && fgets(bytes, sizeof bytes, stream) != NULL && strcmp(bytes, "newer") == 0);
    EXPECT((stream = freopen(file, "r", stream)) != NULL);
    EXPECT(fgets(bytes, sizeof bytes, stream) != NULL && strcmp(bytes, "newer") == 0 && fclose(stream) == 0);
    EXPECT(pthread_create(&thread, NULL, read_in_thread, (void *)file) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    expect_elsewhere(file, is_wrapped() ? "old" : "newer");
    /* an open reader does not delay the commit, and its close does not commit */
    reader = open_as(file, O_RDONLY);
    EXPECT(close(reader) == 0);
    expect_elsewhere(file, is_wrapped() ? "old" : "newer");
    reader = open_as(file, O_RDONLY);
    EXPECT(close(fd) == 0);
    expect_elsewhere(file, "newer");
    EXPECT_ERROR(write(reader, "x", 1), EBADF);
    EXPECT(close(reader) == 0);
}

/* A new file has its name, and shows the writes. */
static void test_own_new_file(const char *file)
{
    char *name = sibling(file, ".new");
    int fd = open_as(name, O_WRONLY | O_CREAT | O_EXCL);

    write_text(fd, "abc");
    expect_own(name, "abc");
    EXPECT(status_of(name).st_size == 3);
    EXPECT(close(fd) == 0);
    expect_content(name, "abc");
    EXPECT(unlink(name) == 0);
}

/* Two writers share one buffer: each sees the other's writes, and each close commits them all. */
static void test_two_writers(const char *file)
{
    char bytes[9] = "";
    int one = open_as(file, O_RDWR | O_TRUNC);
    int two = open_as(file, O_RDWR);
    int copy = dup(one);

    EXPECT(pwrite(one, "xxxx", 4, 0) == 4);
    EXPECT(pread(two, bytes, 8, 0) == 4 && strcmp(bytes, "xxxx") == 0);
    EXPECT(pwrite(two, "yyyy", 4, 4) == 4);
    EXPECT(pread(one, bytes, 8, 0) == 8 && strcmp(bytes, "xxxxyyyy") == 0);
    EXPECT(close(copy) == 0); /* its description is open still */
    expect_elsewhere(file, is_wrapped() ? "old" : "xxxxyyyy");
    EXPECT(close(one) == 0);
    expect_elsewhere(file, "xxxxyyyy");
    EXPECT(pwrite(two, "zz", 2, 0) == 2);
    EXPECT(truncate(file, 4) == 0);
    expect_elsewhere(file, "zzxx");
    EXPECT(lseek(two, 0, SEEK_END) == 4);
    EXPECT(close(two) == 0);
    expect_content(file, "zzxx");
}

/* A stream appends beside a writer. */
static void test_append_beside(const char *file)
{
    int fd = open_as(file, O_WRONLY);
    int lowest = lowest_free();
    FILE *stream = open_stream(file, "a");

    EXPECT(stream != NULL && fileno(stream) == lowest);
    EXPECT(pwrite(fd, "OLD", 3, 0) == 3 && fputs("more", stream) >= 0 && fclose(stream) == 0);
    expect_elsewhere(file, "OLDmore");
    EXPECT(pwrite(fd, "o", 1, 0) == 1 && close(fd) == 0);
    expect_content(file, "oLDmore");
}

/* An open that truncates begins an image of its own. */
static void test_truncating_open(const char *file)
{
    int one = open_as(file, O_RDWR);
    int two = open_as(file, O_WRONLY | O_TRUNC);
    char bytes[8];

    write_text(two, "second");
    EXPECT(read(one, bytes, sizeof bytes) == (is_wrapped() ? 3 : 6));
    EXPECT(close(one) == 0 && close(two) == 0);
    expect_content(file, "second");
}

/* Each open has locks of its own: flock(2), and F_OFD_SETLK. They keep the other one out, and no
 * commit. */
static void test_locks(const char *file)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    int one = open_as(file, O_RDWR);
    int two = open_as(file, O_RDWR);
    int three = open_as(file, O_RDONLY);
    int copy;

    EXPECT(flock(two, LOCK_EX) == 0);
    EXPECT_ERROR(flock(one, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    EXPECT_ERROR(flock(three, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    EXPECT(fcntl(two, F_OFD_SETLK, &lock) == 0);
    EXPECT_ERROR(fcntl(one, F_OFD_SETLK, &lock), EAGAIN);
    EXPECT(pwrite(two, "new", 3, 0) == 3 && fsync(two) == 0 && fsync(one) == 0);
    expect_elsewhere(file, "new");
    copy = dup(two);
    EXPECT(close(two) == 0);
    EXPECT_ERROR(flock(one, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    EXPECT(close(copy) == 0);
    EXPECT(flock(three, LOCK_EX | LOCK_NB) == 0 && fcntl(one, F_OFD_SETLK, &lock) == 0);
    EXPECT(close(one) == 0 && close(three) == 0);
    expect_content(file, "new");
}

static char *map_page(int fd)
{
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    EXPECT(page != MAP_FAILED);
    return page;
}

/* mmap(2): bytes that are stored behind the end of a file are no content, even if the file grows
 * later. */
static void test_behind_the_end(const char *file)
{
    char bytes[64];

    for (int way = 0; way < 4; way++) {
        int fd = open_as(file, O_RDWR | O_TRUNC | (way == 3 ? O_APPEND : 0));
        char *page;

        write_text(fd, "abc");
        page = map_page(fd);
        memset(page + 3, 'x', 20);
        if (way == 0) /* while it is mapped */
            EXPECT(ftruncate(fd, 30) == 0);
        EXPECT(munmap(page, PAGE) == 0);
        if (way == 1)
            EXPECT(ftruncate(fd, 30) == 0);
        else if (way == 2)
            EXPECT(pwrite(fd, "", 1, 29) == 1);
        else if (way == 3)
            EXPECT(write(fd, (char[27]){0}, 27) == 27);
        EXPECT(pread(fd, bytes, sizeof bytes, 0) == 30);
        for (int i = 3; i < 30; i++)
            EXPECT(bytes[i] == 0 || is_bare_tmpfs(file));
        EXPECT(close(fd) == 0);
    }
    expect_content(file, "abc");
}

/* Some file systems have such offsets: xfs, btrfs, tmpfs. No session has the memory. */
static void expect_too_large(int result, const char *file)
{
    if (result == 0 && !is_wrapped())
        EXPECT(truncate(file, 3) == 0);
    else
        EXPECT(result == -1 && errno == EFBIG);
}

/* A size that cannot be held is refused at once, and the file stays. */
static void test_too_large(const char *file)
{
    int fd = open_as(file, O_RDWR);

    expect_too_large(ftruncate(fd, (off_t)1 << 62), file);
    expect_too_large(truncate(file, (off_t)1 << 62), file);
    expect_too_large(ftruncate64(fd, (off_t)1 << 62), file);
    EXPECT_ERROR(ftruncate(fd, -1), EINVAL);
    EXPECT(close(fd) == 0);
    expect_too_large(truncate(file, (off_t)1 << 62), file);
    fd = open_as(file, O_RDONLY);
    EXPECT_ERROR(ftruncate(fd, 1), EINVAL);
    EXPECT(close(fd) == 0);
    expect_content(file, "old");
}

/* A thread reads while another one writes, opens again and closes; each of its opens finds one
 * whole content. */
static void *write_often(void *file)
{
    for (int i = 0; i < 200; i++) {
        int one = open_as(file, O_WRONLY | (i % 2 == 0 ? O_TRUNC : 0));
        int two = open_as(file, O_WRONLY);

        write_text(one, "aaaa");
        expect_own(file, "aaaa");
        EXPECT(close(i % 3 == 0 ? one : two) == 0);
        EXPECT(close(i % 3 == 0 ? two : one) == 0);
    }
    return NULL;
}

static void test_threads(const char *file)
{
    pthread_t threads[2];
    char *names[2] = {sibling(file, ".1"), sibling(file, ".2")};

    for (int i = 0; i < 2; i++) {
        EXPECT(close(open_as(names[i], O_WRONLY | O_CREAT)) == 0);
        EXPECT(pthread_create(&threads[i], NULL, write_often, names[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        EXPECT(pthread_join(threads[i], NULL) == 0);
        expect_content(names[i], "aaaa");
        EXPECT(unlink(names[i]) == 0);
    }
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"append_by_fcntl", test_fcntl},
        {"append_by_fcntl64", test_fcntl64},
        {"append_by_fdopen", test_fdopen},
        {"own_writes", test_own_writes},
        {"own_new_file", test_own_new_file},
        {"two_writers", test_two_writers},
        {"append_beside", test_append_beside},
        {"truncating_open", test_truncating_open},
        {"locks", test_locks},
        {"behind_the_end", test_behind_the_end},
        {"too_large", test_too_large},
        {"threads", test_threads},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
