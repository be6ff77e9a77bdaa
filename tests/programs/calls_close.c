/* The calls of interpose/close.c. */
#include "expect.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

static void test_close(const char *file)
{
    int fd = open_new(file);
    int copy = dup(fd);

    EXPECT(close(fd) == 0);
    EXPECT_ERROR(close(fd), EBADF);
    expect_content(file, is_wrapped() ? "old" : "new");
    write_text(copy, "er");
    EXPECT(close(copy) == 0);
    expect_content(file, "newer");
    EXPECT_ERROR(close(-1), EBADF);
    EXPECT_ERROR(close(100000), EBADF);
}

/* A loop over every number must neither end the session's own descriptors nor see them. */
static void test_close_loop(const char *file)
{
    int fd;

    for (int i = 3; i < 1024; i++)
        (void)close(i); /* inherited from any parent */
    fd = open_new(file);
    for (int i = 3; i < 1024; i++)
        if (i != fd)
            EXPECT_ERROR(close(i), EBADF);
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

static void test_close_range(const char *file)
{
    int fd = open_new(file);
    int second = open(file, O_RDONLY);

    EXPECT(close_range((unsigned)fd + 1, ~0U, 0) == 0);
    EXPECT_ERROR(fcntl(second, F_GETFD), EBADF);
    write_text(fd, "er");
    EXPECT(close_range((unsigned)fd, ~0U, CLOSE_RANGE_CLOEXEC) == 0);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    EXPECT_ERROR(close_range((unsigned)fd, ~0U, 1 << 20), EINVAL);
    write_text(fd, "est");
    EXPECT(close_range((unsigned)fd, ~0U, 0) == 0);
    EXPECT_ERROR(fcntl(fd, F_GETFD), EBADF);
    expect_content(file, "newerest");
    EXPECT_ERROR(close_range(5, 4, 0), EINVAL);
    EXPECT_ERROR(close_range(5, 6, 1 << 20), EINVAL);
}

static void test_closefrom(const char *file)
{
    int low = dup(0);
    int fd;

    closefrom(low); /* nothing managed is open */
    EXPECT_ERROR(fcntl(low, F_GETFD), EBADF);
    fd = open_new(file);
    closefrom(fd + 1);
    write_text(fd, "er");
    closefrom(fd);
    EXPECT_ERROR(fcntl(fd, F_GETFD), EBADF);
    expect_content(file, "newer");
}

/* Kernels before 5.9 have no close_range(). */
static void test_closefrom_older(const char *file)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    int fd = open_new(file);
    int second = open(file, O_RDONLY);

    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
    EXPECT_ERROR(close_range((unsigned)second, ~0U, 0), ENOSYS);
    closefrom(second);
    EXPECT_ERROR(fcntl(second, F_GETFD), EBADF);
    write_text(fd, "er");
    closefrom(fd);
    EXPECT_ERROR(fcntl(fd, F_GETFD), EBADF);
    expect_stored(file, "newer");
    expect_content(file, "newer");
}

/* Returns a descriptor that is not the program's: the shim's highest, if it is loaded. */
static int foreign_number(void)
{
    long limit = sysconf(_SC_OPEN_MAX); /* a login on Debian has 1,024 */
    int fd = limit > 0 && limit < 4096 ? (int)limit - 1 : 4095;

    while (is_wrapped() && fd > 0 && sys_fcntl(fd, F_GETFD, 0) < 0)
        fd--;
    return fd;
}

/* To the program no such descriptor is open; it may have the number. */
static void test_foreign(const char *file)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int null = open("/dev/null", O_WRONLY);
    int fd = open_new(file);

    for (int i = 0; i < 3; i++) {
        int foreign = foreign_number();

        EXPECT(foreign > fd);
        EXPECT_ERROR(close(foreign), EBADF);
        EXPECT_ERROR(dup2(foreign, 20), EBADF);
        EXPECT_ERROR(dup3(foreign, 20, 0), EBADF);
        EXPECT_ERROR(fsync(foreign), EBADF);
        EXPECT_ERROR(ftruncate(foreign, 0), EBADF);
        EXPECT_ERROR(fcntl(foreign, F_SETLK, &lock), EBADF);
        EXPECT(dup2(null, foreign) == foreign);
        write_text(foreign, "to /dev/null");
        EXPECT(fsync(fd) == 0 && close(foreign) == 0);
        expect_stored(file, "new");
    }
    write_text(fd, "er");
    EXPECT(close(fd) == 0);
    expect_content(file, "newer");
}

static void test_dup2(const char *file)
{
    int null = open("/dev/null", O_WRONLY);
    int fd = open_new(file);

    EXPECT(dup2(fd, fd) == fd);
    EXPECT(dup2(fd, 20) == 20);
    EXPECT(fcntl(20, F_GETFD) == 0);
    EXPECT(close(fd) == 0);
    write_text(20, "er"); /* one offset */
    expect_content(file, is_wrapped() ? "old" : "newer");
    EXPECT(dup2(null, 20) == 20); /* closes the last one */
    expect_stored(file, "newer");
    expect_content(file, "newer");
    EXPECT_ERROR(dup2(99, 20), EBADF);
    EXPECT_ERROR(dup2(null, -1), EBADF);
    EXPECT(dup2(null, 900) == 900);
    fd = open_new(file);
    EXPECT(dup2(null, 800) == 800); /* the numbers that the shim may use itself */
    EXPECT(dup2(null, 768) == 768 && dup2(null, 769) == 769 && dup2(null, 770) == 770);
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

static void test_dup3(const char *file)
{
    int null = open("/dev/null", O_WRONLY);
    int fd = open_new(file);

    EXPECT_ERROR(dup3(fd, fd, 0), EINVAL);
    EXPECT(dup3(fd, 20, O_CLOEXEC) == 20);
    EXPECT(fcntl(20, F_GETFD) == FD_CLOEXEC);
    EXPECT(close(fd) == 0);
    write_text(20, "er");
    EXPECT_ERROR(dup3(null, 20, O_APPEND), EINVAL);
    EXPECT(dup3(null, 20, 0) == 20);
    expect_stored(file, "newer");
    expect_content(file, "newer");
}

/* The coarse clock stands still for a while from now on. */
static void wait_for_tick(void)
{
    struct timespec begin;
    struct timespec now;

    EXPECT(clock_gettime(CLOCK_MONOTONIC_COARSE, &begin) == 0);
    do
        EXPECT(clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0);
    while (now.tv_sec == begin.tv_sec && now.tv_nsec == begin.tv_nsec);
}

static void read_in(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW);

    EXPECT(fd >= 0 && close(fd) == 0);
}

enum way { BY_CLOSE, BY_CLOSEDIR, BY_DUP2, BY_DUP3, BY_CLOSE_RANGE, BY_FCLOSE, BY_FREOPEN, WAYS };

/* Makes the number of the directory one of `other`, the folder at `path`. */
static int replace_number(enum way way, DIR *directory, int other, const char *path)
{
    int number = dirfd(directory);
    FILE *stream = way == BY_FREOPEN ? freopen(path, "r", fdopen(number, "r")) : NULL;

    if (way == BY_FREOPEN) {
        EXPECT(stream != NULL && fileno(stream) == number);
        return number;
    }
    if (way == BY_DUP2 || way == BY_DUP3) {
        EXPECT((way == BY_DUP2 ? dup2(other, number) : dup3(other, number, 0)) == number);
        return number;
    }
    if (way == BY_CLOSE)
        EXPECT(close(number) == 0);
    else if (way == BY_CLOSEDIR)
        EXPECT(closedir(directory) == 0);
    else if (way == BY_CLOSE_RANGE)
        EXPECT(close_range((unsigned)number, (unsigned)number, 0) == 0);
    else
        EXPECT(fclose(fdopen(number, "r")) == 0);
    EXPECT(fcntl(other, F_DUPFD, number) == number);
    return number;
}

/* Reads in a folder, and in another one that then has its number. folders.bats looks at what the
 * shim took the files for. */
static void test_closedir(const char *file)
{
    char outside[] = "/tmp/closedir.XXXXXX";
    const char *name;
    int inside = split(file, &name);
    char path[PATH_MAX];
    int fd;

    EXPECT(mkdtemp(outside) != NULL);
    (void)snprintf(path, sizeof path, "%s/%s", outside, name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    EXPECT(fd >= 0 && close(fd) == 0);
    (void)snprintf(path, sizeof path, "%.*s", (int)(name - file), file);
    for (int way = 0; way < WAYS; way++) {
        DIR *directory = opendir(outside);
        int number;

        EXPECT(directory != NULL);
        wait_for_tick();
        read_in(dirfd(directory), name);
        number = replace_number(way, directory, inside, path);
        read_in(number, name);
        EXPECT(close(number) == 0);
    }
    (void)snprintf(path, sizeof path, "%s/%s", outside, name);
    EXPECT(unlink(path) == 0 && rmdir(outside) == 0);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"close", test_close},
        {"close_loop", test_close_loop},
        {"close_range", test_close_range},
        {"closefrom", test_closefrom},
        {"closedir", test_closedir},
        {"closefrom_older", test_closefrom_older},
        {"foreign", test_foreign},
        {"dup2", test_dup2},
        {"dup3", test_dup3},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
