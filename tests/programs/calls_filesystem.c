/* The calls of interpose/filesystem.c: a managed file lies on its own file system, not in
 * memory. */
#include "expect.h"

#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

extern int by_statfs(const char *path, struct statfs *status) __asm__("__statfs");

/* Makes the call for the folder, which has no session. */
static struct statfs expected_of(const char *file)
{
    struct statfs status;
    const char *name;
    int directory = split(file, &name);

    EXPECT(fstatfs(directory, &status) == 0 && close(directory) == 0);
    return status;
}

static const char *path_of(int fd)
{
    static char path[64];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

#define CHECK_STATFS(type, by_fd, by_path)                                                                   \
    do {                                                                                                     \
        struct statfs expected = expected_of(file);                                                          \
        int fd = open(file, O_RDWR);                                                                         \
        struct type status;                                                                                  \
        EXPECT(by_fd(fd, &status) == 0 && status.f_type == expected.f_type &&                                \
               memcmp(&status.f_fsid, &expected.f_fsid, sizeof status.f_fsid) == 0);                         \
        (void)memset(&status, 0, sizeof status);                                                             \
        EXPECT(by_path(path_of(fd), &status) == 0 && status.f_type == expected.f_type &&                     \
               memcmp(&status.f_fsid, &expected.f_fsid, sizeof status.f_fsid) == 0);                         \
        EXPECT(close(fd) == 0);                                                                              \
        EXPECT_ERROR(by_fd(fd, &status), EBADF);                                                             \
        EXPECT_ERROR(by_path(sibling(file, ".none"), &status), ENOENT);                                      \
    } while (0)

static void test_statfs(const char *file)
{
    CHECK_STATFS(statfs, fstatfs, statfs);
    CHECK_STATFS(statfs, fstatfs, by_statfs);
}

static void test_statfs64(const char *file)
{
    CHECK_STATFS(statfs64, fstatfs64, statfs64);
}

#define CHECK_STATVFS(type, by_fd, by_path)                                                                  \
    do {                                                                                                     \
        struct type expected;                                                                                \
        struct type status;                                                                                  \
        int fd = open(file, O_RDWR);                                                                         \
        EXPECT(by_path(file, &expected) == 0);                                                               \
        EXPECT(by_fd(fd, &status) == 0 && status.f_fsid == expected.f_fsid);                                 \
        EXPECT(by_path(path_of(fd), &status) == 0 && status.f_fsid == expected.f_fsid);                      \
        EXPECT(close(fd) == 0);                                                                              \
        EXPECT_ERROR(by_fd(fd, &status), EBADF);                                                             \
    } while (0)

static void test_statvfs(const char *file)
{
    CHECK_STATVFS(statvfs, fstatvfs, statvfs);
}

static void test_statvfs64(const char *file)
{
    CHECK_STATVFS(statvfs64, fstatvfs64, statvfs64);
}

static void test_pathconf(const char *file)
{
    static const int names[] = {_PC_LINK_MAX, _PC_NAME_MAX, _PC_FILESIZEBITS, _PC_2_SYMLINKS};
    int fd = open(file, O_RDWR);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        EXPECT(fpathconf(fd, names[i]) == pathconf(file, names[i]));
        EXPECT(pathconf(path_of(fd), names[i]) == pathconf(file, names[i]));
    }
    EXPECT(close(fd) == 0);
}

/* lsattr and chattr */
static void check_flags(const char *file)
{
    int raw = sys_openat(AT_FDCWD, file, O_RDONLY, 0);
    int fd = open(file, O_RDWR);
    unsigned flags = 0;
    unsigned found = 0;

    if (SYS_CALL(SYS_ioctl, raw, FS_IOC_GETFLAGS, &flags, 0, 0, 0) != 0) {
        EXPECT(ioctl(fd, FS_IOC_GETFLAGS, &found) == -1);
    } else {
        EXPECT(ioctl(fd, FS_IOC_GETFLAGS, &found) == 0 && found == flags);
        flags |= FS_NODUMP_FL;
        EXPECT(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);
        EXPECT(SYS_CALL(SYS_ioctl, raw, FS_IOC_GETFLAGS, &found, 0, 0, 0) == 0);
        EXPECT(found & FS_NODUMP_FL);
    }
    (void)sys_close(raw);
    EXPECT(close(fd) == 0);
}

/* No call shares its blocks or tells where they lie: programs copy it by reading. */
static void check_blocks(const char *file)
{
    struct file_clone_range range = {.src_length = 0};
    const char *copy = sibling(file, ".copy");
    int fd = open(file, O_RDWR);
    int other = open(copy, O_RDWR | O_CREAT | O_TRUNC, 0600);

    range.src_fd = fd;
    if (is_wrapped()) {
        EXPECT(ioctl(other, FICLONE, fd) == -1 && (errno == EXDEV || errno == EOPNOTSUPP));
        EXPECT(ioctl(fd, FICLONE, other) == -1 && (errno == EXDEV || errno == EOPNOTSUPP));
        EXPECT(ioctl(other, FICLONERANGE, &range) == -1 && (errno == EXDEV || errno == EOPNOTSUPP));
        EXPECT(ioctl(fd, FS_IOC_FIEMAP, (char[4096]){0}) == -1);
    }
    EXPECT(close(fd) == 0 && close(other) == 0 && unlink(copy) == 0);
}

static void test_ioctl(const char *file)
{
    int fd = open(file, O_RDONLY);
    int count = 0;

    EXPECT(ioctl(fd, FIONREAD, &count) == 0 && count == 3);
    EXPECT(close(fd) == 0);
    EXPECT_ERROR(ioctl(fd, FS_IOC_GETFLAGS, &count), EBADF);
    check_flags(file);
    check_blocks(file);
}

typedef int allocator(int fd, int mode, off_t offset, off_t size);

static void check_fallocate(allocator *allocate, const char *file)
{
    int fd = open(file, O_RDWR | O_TRUNC);
    struct stat status;

    write_text(fd, "0123456789");
    EXPECT(allocate(fd, 0, 0, 20) == 0 && fstat(fd, &status) == 0 && status.st_size == 20);
    EXPECT(ftruncate(fd, 10) == 0);
    EXPECT(allocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100) == 0 && fstat(fd, &status) == 0 && status.st_size == 10);
    EXPECT(allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 2) == 0);
    if (is_wrapped() || allocate(fd, FALLOC_FL_ZERO_RANGE, 4, 2) == 0) { /* tmpfs itself has none */
        EXPECT(allocate(fd, FALLOC_FL_ZERO_RANGE, 4, 2) == 0);
        EXPECT(allocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 9, 4) == 0);
        EXPECT(fstat(fd, &status) == 0 && status.st_size == 10);
        EXPECT(allocate(fd, FALLOC_FL_ZERO_RANGE, 9, 3) == 0);
        EXPECT(fstat(fd, &status) == 0 && status.st_size == 12);
        EXPECT(close(fd) == 0);
        fd = open(file, O_RDONLY);
        EXPECT(read(fd, (char[16]){0}, 16) == 12);
        char bytes[12];
        EXPECT(pread(fd, bytes, 12, 0) == 12 && memcmp(bytes, "01\0\0\0\000678\0\0\0", 12) == 0);
    }
    EXPECT(close(fd) == 0);
    EXPECT_ERROR(allocate(fd, FALLOC_FL_ZERO_RANGE, 0, 1), EBADF);
}

static void test_fallocate(const char *file)
{
    check_fallocate(fallocate, file);
}

static void test_fallocate64(const char *file)
{
    check_fallocate(fallocate64, file);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fstatfs", test_statfs},      {"statfs", test_statfs},           {"__statfs", test_statfs},
        {"fstatfs64", test_statfs64},  {"statfs64", test_statfs64},       {"fstatvfs", test_statvfs},
        {"statvfs", test_statvfs},     {"fstatvfs64", test_statvfs64},    {"statvfs64", test_statvfs64},
        {"fpathconf", test_pathconf},  {"pathconf", test_pathconf},       {"ioctl", test_ioctl},
        {"fallocate", test_fallocate}, {"fallocate64", test_fallocate64}, {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
