/* The calls of interpose/status.c: the real inode, with the payload's size. */
#include "expect.h"

#include <dlfcn.h>
#include <sys/sysmacros.h>

/* The facts that every call of the family is asked for. */
struct facts {
    uint64_t device, number, links, size, mode, user;
};

/* Asks for `file` or, if it is NULL, for `fd`. */
typedef int status_call(const char *file, int fd, struct facts *facts);

#define FACTS(status)                                                                                        \
    (struct facts)                                                                                           \
    {                                                                                                        \
        (status).st_dev, (status).st_ino, (status).st_nlink, (uint64_t)(status).st_size, (status).st_mode,   \
            (status).st_uid                                                                                  \
    }

#define STATUS(name, type, by_path, by_fd)                                                                   \
    static int name(const char *file, int fd, struct facts *facts)                                           \
    {                                                                                                        \
        type status;                                                                                         \
        int result = file != NULL ? (by_path) : (by_fd);                                                     \
        (void)fd;                                                                                            \
        if (result == 0)                                                                                     \
            *facts = FACTS(status);                                                                          \
        return result;                                                                                       \
    }

/* Returns a call that new programs cannot be linked with, and old ones still make. musl's dlsym()
 * finds none whose name ends in 64, from version 1.2.4 on; the shim has them all. */
static void *old_call(const char *name)
{
    void *call = dlsym(RTLD_DEFAULT, name);

#ifndef __GLIBC__
    if (call == NULL && !is_wrapped()) {
        (void)printf("skipped: this C library has no %s\n", name);
        exit(EXIT_SUCCESS);
    }
#endif
    EXPECT(call != NULL);
    return call;
}

static int old_path(const char *name, const char *file, void *status)
{
    int (*call)(int version, const char *path, void *status) =
        (int (*)(int, const char *, void *))old_call(name);

    return call(1, file, status);
}

static int old_fd(const char *name, int fd, void *status)
{
    int (*call)(int version, int fd, void *status) = (int (*)(int, int, void *))old_call(name);

    return call(1, fd, status);
}

static int old_at(const char *name, int directory, const char *file, void *status, int flags)
{
    int (*call)(int version, int directory, const char *path, void *status, int flags) =
        (int (*)(int, int, const char *, void *, int))old_call(name);

    return call(1, directory, file, status, flags);
}

/* The calls that take a directory and a name. */
#define STATUS_AT(name, type, by_path, by_fd)                                                                \
    static int name(const char *file, int fd, struct facts *facts)                                           \
    {                                                                                                        \
        type status;                                                                                         \
        const char *base = NULL;                                                                             \
        int directory = file != NULL ? split(file, &base) : -1;                                              \
        int result = file != NULL ? (by_path) : (by_fd);                                                     \
        int error = errno;                                                                                   \
        if (directory >= 0)                                                                                  \
            EXPECT(close(directory) == 0);                                                                   \
        errno = error;                                                                                       \
        (void)fd;                                                                                            \
        if (result == 0)                                                                                     \
            *facts = FACTS(status);                                                                          \
        return result;                                                                                       \
    }

STATUS(by_stat, struct stat, stat(file, &status), fstat(fd, &status))
STATUS(by_stat64, struct stat64, stat64(file, &status), fstat64(fd, &status))
STATUS(by_lstat, struct stat, lstat(file, &status), fstat(fd, &status))
STATUS(by_lstat64, struct stat64, lstat64(file, &status), fstat64(fd, &status))
STATUS_AT(by_fstatat, struct stat, fstatat(directory, base, &status, 0),
          fstatat(fd, "", &status, AT_EMPTY_PATH))
STATUS_AT(by_fstatat64, struct stat64, fstatat64(directory, base, &status, 0),
          fstatat64(fd, "", &status, AT_EMPTY_PATH))
STATUS(by_xstat, struct stat, old_path("__xstat", file, &status), old_fd("__fxstat", fd, &status))
STATUS(by_xstat64, struct stat64, old_path("__xstat64", file, &status), old_fd("__fxstat64", fd, &status))
STATUS(by_lxstat, struct stat, old_path("__lxstat", file, &status), old_fd("__fxstat", fd, &status))
STATUS(by_lxstat64, struct stat64, old_path("__lxstat64", file, &status), old_fd("__fxstat64", fd, &status))
STATUS_AT(by_fxstatat, struct stat, old_at("__fxstatat", directory, base, &status, 0),
          old_at("__fxstatat", fd, "", &status, AT_EMPTY_PATH))
STATUS_AT(by_fxstatat64, struct stat64, old_at("__fxstatat64", directory, base, &status, 0),
          old_at("__fxstatat64", fd, "", &status, AT_EMPTY_PATH))

#undef FACTS
#define FACTS(status)                                                                                        \
    (struct facts)                                                                                           \
    {                                                                                                        \
        makedev((status).stx_dev_major, (status).stx_dev_minor), (status).stx_ino, (status).stx_nlink,       \
            (status).stx_size, (status).stx_mode, (status).stx_uid                                           \
    }
STATUS_AT(by_statx, struct statx, statx(directory, base, 0, STATX_BASIC_STATS, &status),
          statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status))

static bool same(struct facts a, struct facts b)
{
    return a.device == b.device && a.number == b.number && a.links == b.links && a.size == b.size &&
           a.mode == b.mode && a.user == b.user;
}

/* Returns the name by which cp asks for /dev/stdin. The next call overwrites it. */
static const char *name_of(int fd)
{
    static char name[64];

    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return name;
}

/* lstat and its kin do not follow the link. */
static void check(status_call *call, bool follows, const char *file)
{
    const char *link = sibling(file, ".link");
    struct facts before;
    struct facts facts;
    int fd;

    EXPECT(chmod(file, 0640) == 0);
    EXPECT(call(file, -1, &before) == 0);
    EXPECT(before.size == 3 && before.mode == (S_IFREG | 0640));
    fd = open(file, O_RDWR);
    EXPECT(call(NULL, fd, &facts) == 0);
    EXPECT(same(facts, before));
    write_text(fd, "longer than it was");
    EXPECT(call(NULL, fd, &facts) == 0);
    EXPECT(facts.size == 18);
    facts.size = 3;
    EXPECT(same(facts, before));
    EXPECT(call(file, -1, &facts) == 0);
    EXPECT(facts.size == 18); /* by name, too: this thread is the writer */
    EXPECT(close(fd) == 0);
    before.size = 18;
    EXPECT(call(file, -1, &facts) == 0);
    EXPECT(same(facts, before));
    fd = open(file, O_RDONLY);
    EXPECT(call(NULL, fd, &facts) == 0);
    EXPECT(same(facts, before));
    if (follows) {
        EXPECT(call(name_of(fd), -1, &facts) == 0);
        EXPECT(same(facts, before));
    }
    EXPECT(close(fd) == 0);
    EXPECT(symlink(file, link) == 0);
    EXPECT(call(link, -1, &facts) == 0);
    EXPECT(follows ? same(facts, before) : S_ISLNK(facts.mode));
    EXPECT(unlink(link) == 0);
    EXPECT_ERROR(call(NULL, fd, &facts), EBADF);
    EXPECT_ERROR(call(link, -1, &facts), ENOENT);
    EXPECT_ERROR(call((const char *)1, -1, &facts), EFAULT);
    EXPECT(call("/", -1, &facts) == 0 && S_ISDIR(facts.mode));
}

#define CASE(name, call, follows)                                                                            \
    static void name(const char *file)                                                                       \
    {                                                                                                        \
        check(call, follows, file);                                                                          \
    }

CASE(test_stat, by_stat, true)
CASE(test_stat64, by_stat64, true)
CASE(test_lstat, by_lstat, false)
CASE(test_lstat64, by_lstat64, false)
CASE(test_fstatat, by_fstatat, true)
CASE(test_fstatat64, by_fstatat64, true)
CASE(test_xstat, by_xstat, true)
CASE(test_xstat64, by_xstat64, true)
CASE(test_lxstat, by_lxstat, false)
CASE(test_lxstat64, by_lxstat64, false)
CASE(test_fxstatat, by_fxstatat, true)
CASE(test_fxstatat64, by_fxstatat64, true)
CASE(test_statx, by_statx, true)

/* A descriptor for the path alone shows what the path shows. */
static void test_path_descriptor(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    struct stat status;
    struct statx more;

    write_text(fd, "payload");
    EXPECT(close(fd) == 0);
    fd = open(file, O_PATH);
    EXPECT(fstat(fd, &status) == 0 && status.st_size == 7);
    EXPECT(fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 && status.st_size == 7);
    EXPECT(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &more) == 0 && more.stx_size == 7);
    EXPECT(close(fd) == 0);
}

/* Relative to a directory, by a name as long as one may be, and by a longer one. */
static void test_long_name(const char *file)
{
    const char *name;
    int directory = split(file, &name);
    char longest[NAME_MAX + 2];
    struct stat status;

    memset(longest, 'x', sizeof longest);
    longest[NAME_MAX] = '\0';
    EXPECT(renameat(directory, name, directory, longest) == 0);
    EXPECT(fstatat(directory, longest, &status, 0) == 0 && status.st_size == 3);
    EXPECT(renameat(directory, longest, directory, name) == 0);
    (void)strcpy(longest + NAME_MAX, "x");
    EXPECT_ERROR(fstatat(directory, longest, &status, 0), ENAMETOOLONG);
    EXPECT(close(directory) == 0);
}

/* A file that this user may read, but that belongs to another: it may not be read unnoticed, by
 * O_NOATIME. */
static void test_of_another_user(const char *file)
{
    const char *name;
    int directory = split(file, &name);
    int fd = open(file, O_WRONLY | O_TRUNC);
    struct stat status;
    pid_t child;

    write_text(fd, "payload");
    EXPECT(close(fd) == 0 && chmod(file, 0644) == 0 && fchmod(directory, 0755) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(getuid() != 0 || setresuid(OTHER_USER, OTHER_USER, OTHER_USER) == 0);
        EXPECT(fstatat(directory, name, &status, 0) == 0 && status.st_size == 7);
        _exit(0);
    }
    expect_exit(child, 0);
    EXPECT(close(directory) == 0);
}

/* Makes the time of access older than the last change: by relatime, too, the next reader would set
 * it. */
static void age(const char *file)
{
    const struct timespec times[2] = {{1000000000, 0}, {1000000001, 0}};

    EXPECT(utimensat(AT_FDCWD, file, times, 0) == 0);
}

/* The shim's own reads leave the time of access alone. */
static void test_access_time(const char *file)
{
    static const int flags[] = {O_WRONLY | O_TRUNC, O_WRONLY, O_WRONLY | O_APPEND, O_RDONLY | O_NOATIME};

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        char byte = 'x';
        struct stat status;
        int fd;

        age(file);
        fd = open(file, flags[i]);
        EXPECT(fd >= 0);
        EXPECT((flags[i] & O_ACCMODE ? write(fd, &byte, 1) : read(fd, &byte, 1)) == 1);
        EXPECT(close(fd) == 0);
        for (int times = 0; times < 2; times++)
            EXPECT(stat(file, &status) == 0 && status.st_atime == 1000000000);
    }
    age(file);
    EXPECT(truncate(file, 1) == 0 && status_of(file).st_atime == 1000000000);
}

static bool is_same_time(struct timespec time, struct timespec other)
{
    return time.tv_sec == other.tv_sec && time.tv_nsec == other.tv_nsec;
}

/* Waits until the clock of the file system's times has moved on from `time`. */
static void wait_past(const char *file, struct timespec time)
{
    char *name = sibling(file, ".clock");

    do {
        EXPECT(close(open(name, O_WRONLY | O_CREAT, 0600)) == 0);
        EXPECT(utimensat(AT_FDCWD, name, NULL, 0) == 0);
    } while (is_same_time(status_of(name).st_mtim, time));
    EXPECT(unlink(name) == 0);
}

/* The time of the last write is seen at once by the descriptor, and is the file's: neither the
 * open's nor the close's. */
static void check_write_time(const char *file, int flags, const char *text)
{
    struct stat status;
    struct stat later;
    struct statx fields;
    int fd;

    age(file);
    fd = open(file, flags);
    EXPECT(fstat(fd, &status) == 0 && (status.st_mtime == 1000000001) == !(flags & O_TRUNC));
    write_text(fd, text);
    EXPECT(fstat(fd, &status) == 0 && status.st_mtime > 1000000001 && status.st_ctime > 1000000001);
    EXPECT(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &fields) == 0);
    EXPECT(fields.stx_mtime.tv_sec == status.st_mtim.tv_sec &&
           fields.stx_mtime.tv_nsec == status.st_mtim.tv_nsec);
    wait_past(file, status.st_mtim);
    EXPECT(fstat(fd, &later) == 0 && is_same_time(later.st_mtim, status.st_mtim));
    EXPECT(close(fd) == 0);
    EXPECT(stat(file, &later) == 0 && is_same_time(later.st_mtim, status.st_mtim));
}

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Without a look before the close the time lies between the write and the close. */
static void check_unseen_time(const char *file)
{
    struct timespec before;
    struct timespec after;
    struct stat status;
    int fd;

    age(file);
    fd = open(file, O_WRONLY | O_TRUNC);
    EXPECT(clock_gettime(CLOCK_REALTIME_COARSE, &before) == 0);
    write_text(fd, "unseen");
    EXPECT(close(fd) == 0);
    EXPECT(clock_gettime(CLOCK_REALTIME, &after) == 0 && stat(file, &status) == 0);
    EXPECT(nanoseconds(status.st_mtim) >= nanoseconds(before) &&
           nanoseconds(status.st_mtim) <= nanoseconds(after));
    EXPECT(status.st_atime == 1000000000);
}

/* The program sets the time of another file, as cp -p does, and that is a moment ago. */
static void check_set_time(const char *file)
{
    struct timespec times[2];
    struct stat status;
    int fd = open(file, O_WRONLY | O_TRUNC);

    write_text(fd, "set");
    EXPECT(clock_gettime(CLOCK_REALTIME_COARSE, &times[1]) == 0);
    times[1].tv_nsec -= times[1].tv_nsec % 1000 + 1; /* no file system gives it such a time */
    if (times[1].tv_nsec < 0)
        times[1].tv_nsec = 7;
    times[0] = times[1];
    EXPECT(futimens(fd, times) == 0 && close(fd) == 0);
    EXPECT(stat(file, &status) == 0 && is_same_time(status.st_mtim, times[1]) &&
           is_same_time(status.st_atim, times[0]));
}

static void test_write_time(const char *file)
{
    check_unseen_time(file);
    check_set_time(file);

    check_write_time(file, O_RDWR, "new");
    check_write_time(file, O_RDWR, "new"); /* the same bytes */
    check_write_time(file, O_RDWR | O_TRUNC, "newer");
    check_write_time(file, O_WRONLY | O_APPEND, "newest");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"stat", test_stat},
        {"stat64", test_stat64},
        {"lstat", test_lstat},
        {"lstat64", test_lstat64},
        {"fstat", test_stat},
        {"fstat64", test_stat64},
        {"fstatat", test_fstatat},
        {"fstatat64", test_fstatat64},
        {"__xstat", test_xstat},
        {"__xstat64", test_xstat64},
        {"__lxstat", test_lxstat},
        {"__lxstat64", test_lxstat64},
        {"__fxstat", test_xstat},
        {"__fxstat64", test_xstat64},
        {"__fxstatat", test_fxstatat},
        {"__fxstatat64", test_fxstatat64},
        {"statx", test_statx},
        {"path_descriptor", test_path_descriptor},
        {"long_name", test_long_name},
        {"of_another_user", test_of_another_user},
        {"access_time", test_access_time},
        {"write_time", test_write_time},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
