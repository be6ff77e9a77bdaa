/* The calls of interpose/metadata.c: they act on the real inode. */
#include "expect.h"

#include <sys/time.h>
#include <sys/xattr.h>

enum { THEN = 1000000000 };

static struct stat status_of(const char *file)
{
    struct stat status;

    EXPECT(stat(file, &status) == 0);
    return status;
}

/* A descriptor with something written, so that a commit follows the call. */
static int open_new(const char *file)
{
    int fd = open(file, O_RDWR | O_TRUNC);

    EXPECT(fd >= 0);
    write_text(fd, "new");
    return fd;
}

static void finish(int fd, const char *file)
{
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

static void test_fchmod(const char *file)
{
    int fd = open_new(file);
    struct stat status;

    EXPECT(fchmod(fd, 0604) == 0);
    EXPECT((status_of(file).st_mode & 07777) == 0604);
    EXPECT(fstat(fd, &status) == 0 && (status.st_mode & 07777) == 0604);
    finish(fd, file);
    EXPECT((status_of(file).st_mode & 07777) == 0604);
    EXPECT_ERROR(fchmod(fd, 0600), EBADF);
}

static void test_fchown(const char *file)
{
    int fd = open_new(file);
    uid_t user = geteuid() == 0 ? 12345 : geteuid();

    EXPECT(fchown(fd, user, getegid()) == 0);
    EXPECT(status_of(file).st_uid == user);
    finish(fd, file);
    EXPECT(status_of(file).st_uid == user);
    EXPECT_ERROR(fchown(fd, user, getegid()), EBADF);
}

static void test_futimens(const char *file)
{
    struct timespec times[2] = {{THEN, 0}, {THEN + 1, 500}};
    int fd = open_new(file);

    EXPECT(futimens(fd, times) == 0);
    EXPECT(status_of(file).st_atime == THEN && status_of(file).st_mtime == THEN + 1);
    finish(fd, file);
    EXPECT(status_of(file).st_mtime == THEN + 1); /* set after the last write: it stays */
    EXPECT_ERROR(futimens(fd, times), EBADF);
}

static void test_futimes(const char *file)
{
    struct timeval times[2] = {{THEN, 0}, {THEN + 2, 7}};
    int fd = open_new(file);

    EXPECT(futimes(fd, times) == 0);
    EXPECT(status_of(file).st_mtime == THEN + 2);
    finish(fd, file);
    EXPECT(status_of(file).st_mtime == THEN + 2);
    EXPECT_ERROR(futimes(fd, times), EBADF);
}

static void test_utimensat(const char *file)
{
    struct timespec times[2] = {{THEN, 0}, {THEN + 3, 0}};
    struct timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    int fd = open_new(file);

    const char *volatile none = NULL; /* glibc refuses what the kernel takes */

    EXPECT(utimensat(fd, none, times, 0) == 0 || errno == EINVAL);
    EXPECT(utimensat(AT_FDCWD, file, times, 0) == 0);
    EXPECT(status_of(file).st_mtime == THEN + 3);
    EXPECT(utimensat(AT_FDCWD, file, now, 0) == 0);
    EXPECT(status_of(file).st_mtime > THEN + 3);
    finish(fd, file);
    EXPECT_ERROR(utimensat(AT_FDCWD, sibling(file, ".none"), times, 0), ENOENT);
}

static bool has_xattrs(const char *file)
{
    bool has = setxattr(file, "user.probe", "x", 1, 0) == 0;

    if (has)
        EXPECT(removexattr(file, "user.probe") == 0);
    return has;
}

/* All four: set, get, list, remove. */
static void test_xattr(const char *file)
{
    char value[16];
    char list[256];
    int fd = open_new(file);

    if (!has_xattrs(file)) {
        EXPECT(fsetxattr(fd, "user.colour", "red", 3, 0) == -1);
        finish(fd, file);
        return;
    }
    EXPECT(fsetxattr(fd, "user.colour", "red", 3, 0) == 0);
    EXPECT_ERROR(fsetxattr(fd, "user.colour", "red", 3, XATTR_CREATE), EEXIST);
    EXPECT(getxattr(file, "user.colour", value, sizeof value) == 3 && memcmp(value, "red", 3) == 0);
    EXPECT(fgetxattr(fd, "user.colour", value, sizeof value) == 3);
    EXPECT_ERROR(fgetxattr(fd, "user.none", value, sizeof value), ENODATA);
    EXPECT(flistxattr(fd, list, sizeof list) >= (ssize_t)sizeof "user.colour");
    finish(fd, file);
    EXPECT(getxattr(file, "user.colour", value, sizeof value) == 3);
    fd = open_new(file);
    EXPECT(fremovexattr(fd, "user.colour") == 0);
    EXPECT_ERROR(getxattr(file, "user.colour", value, sizeof value), ENODATA);
    finish(fd, file);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fchmod", test_fchmod},       {"fchown", test_fchown},
        {"futimens", test_futimens},   {"futimes", test_futimes},
        {"utimensat", test_utimensat}, {"fsetxattr", test_xattr},
        {"fgetxattr", test_xattr},     {"flistxattr", test_xattr},
        {"fremovexattr", test_xattr},  {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
