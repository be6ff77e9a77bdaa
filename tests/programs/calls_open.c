/* The calls of interpose/open.c. */
#include "expect.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int directory, const char *path, int flags);
extern int __openat64_2(int directory, const char *path, int flags);

typedef int opener(const char *path, int flags, mode_t mode);

static bool is_split(int directory)
{
    return directory >= 0 || directory == AT_FDCWD;
}

static int finish_at(int fd, int directory)
{
    int error = errno;
    int result = fd;

    if (directory >= 0) {
        if (fd > directory) { /* the number that it would have without the directory */
            result = dup2(fd, directory);
            EXPECT(fcntl(result, F_SETFD, fcntl(fd, F_GETFD)) == 0);
            EXPECT(close(fd) == 0);
        } else
            EXPECT(close(directory) == 0);
    }
    errno = error;
    return result;
}

static int by_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static int by_open64(const char *path, int flags, mode_t mode)
{
    return open64(path, flags, mode);
}

#define BY_DIRECTORY(by, call, ...)                                                                          \
    static int by(const char *path, int flags, mode_t mode)                                                  \
    {                                                                                                        \
        const char *name;                                                                                    \
        int directory = split(path, &name);                                                                  \
        (void)mode;                                                                                          \
        return is_split(directory) ? finish_at(call(directory, name, flags, ##__VA_ARGS__), directory) : -1; \
    }
BY_DIRECTORY(by_openat, openat, mode)
BY_DIRECTORY(by_openat64, openat64, mode)
BY_DIRECTORY(in_directory_2, __openat_2)
BY_DIRECTORY(in_directory64_2, __openat64_2)

static int by_open_2(const char *path, int flags, mode_t mode)
{
    return flags & O_CREAT ? open(path, flags, mode) : __open_2(path, flags);
}

static int by_open64_2(const char *path, int flags, mode_t mode)
{
    return flags & O_CREAT ? open(path, flags, mode) : __open64_2(path, flags);
}

static int by_openat_2(const char *path, int flags, mode_t mode)
{
    return flags & O_CREAT ? open(path, flags, mode) : in_directory_2(path, flags, 0);
}

static int by_openat64_2(const char *path, int flags, mode_t mode)
{
    return flags & O_CREAT ? open(path, flags, mode) : in_directory64_2(path, flags, 0);
}

static void check_writing(opener *open_file, const char *file)
{
    int lowest = lowest_free();
    int fd = open_file(file, O_WRONLY | O_TRUNC, 0);

    EXPECT(fd == lowest); /* the lowest free number, as without the shim */
    EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY);
    EXPECT(fcntl(fd, F_GETFD) == 0);
    write_text(fd, "new");
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT_ERROR(read(fd, (char[1]){0}, 1), EBADF);
    EXPECT(close(fd) == 0);
    expect_stored(file, "new");
    expect_content(file, "new");

    fd = open_file(file, O_RDWR | O_CLOEXEC, 0);
    EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    EXPECT(lseek(fd, 0, SEEK_END) == 3);
    write_text(fd, "er");
    EXPECT(pwrite(fd, "N", 1, 0) == 1);
    EXPECT(close(fd) == 0);
    expect_content(file, "Newer");

    fd = open_file(file, O_WRONLY | O_APPEND, 0);
    EXPECT((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
    write_text(fd, " and longer");
    EXPECT(close(fd) == 0);
    expect_content(file, "Newer and longer");

    fd = open_file(file, O_RDWR, 0);
    EXPECT(ftruncate(fd, 5) == 0);
    EXPECT(close(fd) == 0);
    expect_content(file, "Newer");
}

static void check_reading(opener *open_file, const char *file)
{
    char bytes[8] = "";
    struct iovec piece = {bytes, 5};
    int lowest = lowest_free();
    int fd = open_file(file, O_RDONLY, 0);
    char *mapping;

    EXPECT(fd == lowest);
    EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    EXPECT(read(fd, bytes, 8) == 5);
    EXPECT(memcmp(bytes, "Newer", 5) == 0);
    EXPECT(read(fd, bytes, 8) == 0);
    EXPECT(lseek(fd, 1, SEEK_SET) == 1);
    EXPECT(lseek(fd, 0, SEEK_DATA) == 0);
    EXPECT(lseek(fd, 0, SEEK_HOLE) == 5);
    EXPECT_ERROR(lseek(fd, 5, SEEK_DATA), ENXIO);
    EXPECT(preadv2(fd, &piece, 1, 2, 0) == 3);
    EXPECT(memcmp(bytes, "wer", 3) == 0);
    EXPECT_ERROR(write(fd, "x", 1), EBADF);
    EXPECT_ERROR(ftruncate(fd, 0), EINVAL);
    mapping = mmap(NULL, 5, PROT_READ, MAP_SHARED, fd, 0);
    EXPECT(mapping != MAP_FAILED);
    EXPECT(memcmp(mapping, "Newer", 5) == 0);
    EXPECT(munmap(mapping, 5) == 0);
    EXPECT_ERROR(mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES);
    EXPECT(close(fd) == 0);
}

static void check_creating(opener *open_file, const char *file)
{
    static const mode_t denied[] = {0400, 0200, 0, 0040};
    const char *new = sibling(file, ".new");
    struct stat status;
    int lowest = lowest_free();
    int fd;

    EXPECT_ERROR(open_file(file, O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    EXPECT_ERROR(open_file(new, O_WRONLY, 0600), ENOENT);
    (void)umask(027);
    fd = open_file(new, O_WRONLY | O_CREAT | O_EXCL, 0666);
    EXPECT(fd == lowest);
    EXPECT(fstat(fd, &status) == 0);
    EXPECT((status.st_mode & 07777) == 0640);
    EXPECT(status.st_size == 0);
    write_text(fd, "created");
    EXPECT(close(fd) == 0);
    expect_content(new, "created");
    EXPECT(unlink(new) == 0);

    for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++) { /* whatever the mode */
        fd = open_file(new, i % 2 == 0 ? O_WRONLY | O_CREAT : O_RDWR | O_CREAT | O_TRUNC, denied[i]);
        EXPECT(fd == lowest);
        EXPECT(fstat(fd, &status) == 0 && (status.st_mode & 07777) == denied[i]);
        write_text(fd, "created");
        EXPECT(close(fd) == 0);
        EXPECT(chmod(new, 0600) == 0);
        expect_content(new, "created");
        EXPECT(unlink(new) == 0);
    }

    fd = open_file(new, O_RDONLY | O_CREAT, 0600);
    EXPECT(fd == lowest);
    EXPECT(close(fd) == 0);
    expect_content(new, "");
    EXPECT(unlink(new) == 0);
}

static void check_errors(opener *open_file, const char *file)
{
    const char *link = sibling(file, ".link");
    const char *loop = sibling(file, ".loop");
    char *directory = strdup(file);
    char long_name[PATH_MAX + 10];
    int fd;

    *strrchr(directory, '/') = '\0';
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    EXPECT(symlink(file, link) == 0);
    EXPECT(symlink(loop, loop) == 0);
    EXPECT_ERROR(open_file(link, O_WRONLY | O_NOFOLLOW, 0), ELOOP);
    EXPECT_ERROR(open_file(loop, O_WRONLY, 0), ELOOP);
    EXPECT_ERROR(open_file(directory, O_WRONLY, 0), EISDIR);
    EXPECT_ERROR(open_file(directory, O_WRONLY | O_CREAT, 0600), EISDIR);
    EXPECT_ERROR(open_file(file, O_RDONLY | O_DIRECTORY, 0), ENOTDIR);
    EXPECT_ERROR(open_file(sibling(file, "/below"), O_WRONLY | O_CREAT, 0600), ENOTDIR);
    EXPECT_ERROR(open_file(sibling(file, ".none/below"), O_WRONLY | O_CREAT, 0600), ENOENT);
    EXPECT_ERROR(open_file("", O_RDONLY, 0), ENOENT);
    EXPECT_ERROR(open_file(long_name, O_RDONLY, 0), ENAMETOOLONG);
    EXPECT_ERROR(open_file((const char *)1, O_RDONLY, 0), EFAULT);
    fd = open_file(link, O_WRONLY | O_TRUNC, 0); /* but followed, it leads to the file */
    write_text(fd, "by link");
    EXPECT(close(fd) == 0);
    expect_content(file, "by link");
    EXPECT(unlink(link) == 0 && unlink(loop) == 0);
}

static void check_refusals(opener *open_file, const char *file)
{
    struct rlimit limit;
    struct rlimit none;
    int fd;

    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = (rlim_t)lowest_free();
    EXPECT(setrlimit(RLIMIT_NOFILE, &none) == 0);
    EXPECT_ERROR(open(file, O_RDWR), EMFILE);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);

    EXPECT(chmod(file, 0200) == 0);
    if (geteuid() == 0)
        EXPECT(chown(file, OTHER_USER, (gid_t)-1) == 0 && seteuid(OTHER_USER) == 0);
    if (euidaccess(file, F_OK) != 0) /* the folders above are closed to others */
        return;
    /* libatomshim(7), LIMITS: a user who may not read a file cannot find its live image. */
    fd = open_file(file, O_WRONLY, 0);
    EXPECT(is_wrapped() ? fd == -1 && errno == EACCES : close(fd) == 0);
    EXPECT(chmod(file, 0444) == 0);
    EXPECT_ERROR(open_file(file, O_WRONLY, 0), EACCES);
    EXPECT_ERROR(open_file(file, O_WRONLY | O_TRUNC, 0), EACCES);
    if (getuid() == 0) /* the folder is root's then */
        EXPECT_ERROR(open_file(sibling(file, ".denied"), O_WRONLY | O_CREAT, 0600), EACCES);
}

static void check(opener *open_file, const char *file)
{
    check_writing(open_file, file);
    check_reading(open_file, file);
    check_creating(open_file, file);
    check_errors(open_file, file);
    check_refusals(open_file, file);
}

#define OPENER(name, function)                                                                               \
    static void name(const char *file)                                                                       \
    {                                                                                                        \
        check(function, file);                                                                               \
    }

OPENER(test_open, by_open)
OPENER(test_open64, by_open64)
OPENER(test_openat, by_openat)
OPENER(test_openat64, by_openat64)
OPENER(test_open_2, by_open_2)
OPENER(test_open64_2, by_open64_2)
OPENER(test_openat_2, by_openat_2)
OPENER(test_openat64_2, by_openat64_2)

static void check_creat(int (*create)(const char *path, mode_t mode), const char *file)
{
    const char *new = sibling(file, ".new");
    struct stat status;
    int lowest = lowest_free();
    int fd = create(file, 0600);

    EXPECT(fd == lowest);
    EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY);
    write_text(fd, "new");
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
    (void)umask(0);
    fd = create(new, 0606);
    EXPECT(fstat(fd, &status) == 0);
    EXPECT((status.st_mode & 07777) == 0606);
    write_text(fd, "created");
    EXPECT(close(fd) == 0);
    expect_content(new, "created");
    EXPECT(unlink(new) == 0);
    EXPECT_ERROR(create("/", 0600), EISDIR);
}

static void test_creat(const char *file)
{
    check_creat(creat, file);
}

static void test_creat64(const char *file)
{
    check_creat(creat64, file);
}

static void check_truncate(int (*cut)(const char *path, off_t size), const char *file)
{
    struct stat status;
    int fd;

    EXPECT(cut(file, 2) == 0);
    if (is_wrapped())
        expect_stored(file, "#atomshim/1 generation=");
    expect_content(file, "ol");
    EXPECT(cut(file, 2) == 0);
    EXPECT(cut(file, 5) == 0);
    EXPECT(stat(file, &status) == 0);
    EXPECT(status.st_size == 5);
    expect_content(file, "ol"); /* and three NULs */
    EXPECT(cut(file, 0) == 0);
    expect_content(file, "");
    EXPECT_ERROR(cut(file, -1), EINVAL);
    EXPECT_ERROR(cut(sibling(file, ".none"), 0), ENOENT);
    EXPECT_ERROR(cut("/", 0), EISDIR);
    EXPECT_ERROR(cut((const char *)1, 0), EFAULT);
    fd = open(file, O_RDONLY);
    EXPECT_ERROR(ftruncate(fd, 1), EINVAL);
    EXPECT(close(fd) == 0);
    EXPECT(chmod(file, 0444) == 0);
    if (geteuid() == 0)
        EXPECT(seteuid(OTHER_USER) == 0);
    EXPECT_ERROR(cut(file, 0), EACCES);
}

static void test_truncate(const char *file)
{
    check_truncate(truncate, file);
}

static void test_truncate64(const char *file)
{
    check_truncate(truncate64, file);
}

/* An open that fails creates nothing, whichever step fails. */
static void test_created_or_not(const char *file)
{
    const char *made = sibling(file, ".made");
    struct stat status;
    struct rlimit limit;
    struct rlimit few;
    int fd;

    for (fd = 3; fd < 64; fd++) /* inherited descriptors must not take the numbers */
        (void)close(fd);
    fd = dup(0);
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && fd >= 0);
    for (int i = 0; i < 4; i++) { /* with no number left, and with a few */
        few = (struct rlimit){(rlim_t)(fd + i), limit.rlim_max};
        EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
        for (int flags = O_RDWR; flags != 0; flags = flags == O_RDWR ? O_WRONLY | O_EXCL : 0) {
            int opened = open(made, flags | O_CREAT, 0600);

            EXPECT(opened >= 0 || errno == EMFILE);
            EXPECT((opened >= 0) == (i > 1));
            EXPECT((lstat(made, &status) == 0) == (opened >= 0));
            EXPECT(opened < 0 || (close(opened) == 0 && unlink(made) == 0));
        }
        EXPECT(i > 1 || fopen(made, "w") == NULL);
        EXPECT(i > 1 || lstat(made, &status) != 0);
    }
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0 && close(fd) == 0);
}

/* Without a way to get more numbers an open may fail because the shim needs some; it leaves nothing
 * either. */
static void test_no_numbers(const char *file)
{
    const char *made = sibling(file, ".made");
    struct stat status;
    int child = fork();

    EXPECT(child >= 0);
    for (int numbers = 16; child == 0 && numbers >= 3; numbers--) {
        const struct rlimit few = {(rlim_t)numbers, (rlim_t)numbers};
        int fd;

        EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
        fd = open(made, O_RDWR | O_CREAT | O_EXCL, 0600);
        EXPECT(fd >= 0 || errno == EMFILE);
        EXPECT((lstat(made, &status) == 0) == (fd >= 0));
        EXPECT(fd < 0 || (close(fd) == 0 && unlink(made) == 0));
    }
    if (child == 0)
        _exit(0);
    EXPECT(waitpid(child, &child, 0) > 0 && child == 0);
}

/* A file whose path is longer than PATH_MAX can be made and written by its name, in a folder that
 * has a shorter one. */
static void test_long_path(const char *file)
{
    static const char folder[] = "a-folder-with-a-name-of-some-length-so-that-not-too-many-are-needed";
    const char *top = sibling(file, ".folder");
    int home = open(".", O_PATH | O_DIRECTORY);
    char name[200];
    char here[PATH_MAX];
    char text[8] = "";
    int depth = 0;
    int fd;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    EXPECT(home >= 0 && mkdir(top, 0700) == 0 && chdir(top) == 0);
    for (; getcwd(here, sizeof here) != NULL && strlen(here) + sizeof name < PATH_MAX; depth++)
        EXPECT(mkdir(folder, 0700) == 0 && chdir(folder) == 0);
    EXPECT(getcwd(here, sizeof here) != NULL);
    fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    EXPECT(fd >= 0 && write(fd, "new", 3) == 3 && close(fd) == 0);
    EXPECT_ERROR(open(name, O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    fd = open(name, O_RDWR | O_CREAT, 0600);
    EXPECT(fd >= 0 && read(fd, text, sizeof text) == 3 && close(fd) == 0);
    EXPECT(unlink(name) == 0);
    for (; depth > 0; depth--)
        EXPECT(chdir("..") == 0 && rmdir(folder) == 0);
    EXPECT(fchdir(home) == 0 && close(home) == 0 && rmdir(top) == 0);
}

#ifndef F_CREATED_QUERY
#define F_CREATED_QUERY (1024 + 4)
#endif

/* Asks whether this open made the file: fcntl(2), since Linux 6.12. */
static void test_created_query(const char *file)
{
    const char *made = sibling(file, ".made");
    int fd = open(file, O_RDWR | O_CREAT, 0600);

    EXPECT(fd >= 0);
    if (fcntl(fd, F_CREATED_QUERY) < 0) {
        EXPECT(errno == EINVAL && close(fd) == 0);
        return;
    }
    EXPECT(fcntl(fd, F_CREATED_QUERY) == 0 && close(fd) == 0);
    for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
        fd = open(made, flags | O_CREAT, 0600);
        EXPECT(fd >= 0 && fcntl(fd, F_CREATED_QUERY) == 1 && close(fd) == 0);
        EXPECT(unlink(made) == 0);
    }
}

/* Programs that ask for O_DIRECT get a descriptor. */
static void test_direct(const char *file)
{
    static _Alignas(4096) char block[4096];
    int fd = open(file, O_RDWR | O_DIRECT);

    if (fd < 0) {
        EXPECT(!is_wrapped() && errno == EINVAL); /* this file system has no such thing */
        return;
    }
    memset(block, 'b', sizeof block);
    EXPECT(pwrite(fd, block, sizeof block, 0) == sizeof block && close(fd) == 0);
    EXPECT(status_of(file).st_size == sizeof block);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"created-or-not", test_created_or_not},
        {"no-numbers", test_no_numbers},
        {"long-path", test_long_path},
        {"created-query", test_created_query},
        {"direct", test_direct},
        {"open", test_open},
        {"open64", test_open64},
        {"openat", test_openat},
        {"openat64", test_openat64},
        {"__open_2", test_open_2},
        {"__open64_2", test_open64_2},
        {"__openat_2", test_openat_2},
        {"__openat64_2", test_openat64_2},
        {"creat", test_creat},
        {"creat64", test_creat64},
        {"truncate", test_truncate},
        {"truncate64", test_truncate64},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
