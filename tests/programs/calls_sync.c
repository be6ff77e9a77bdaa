/* The calls of interpose/sync.c. */
#include "expect.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

static void check_sync(int (*sync_file)(int fd), const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);

    write_text(fd, "one");
    EXPECT(sync_file(fd) == 0);
    expect_stored(file, "one");
    expect_content(file, "one");
    write_text(fd, " two");
    expect_content(file, is_wrapped() ? "one" : "one two");
    EXPECT(sync_file(fd) == 0);
    EXPECT(close(fd) == 0);
    expect_content(file, "one two");
    fd = open(file, O_RDONLY);
    EXPECT(sync_file(fd) == 0);
    EXPECT(close(fd) == 0);
    EXPECT_ERROR(sync_file(fd), EBADF);
    EXPECT_ERROR(sync_file(-1), EBADF);
}

static void test_fsync(const char *file)
{
    check_sync(fsync, file);
}

/* Starts a child whose memory is the parent's. Nothing else is inlined beside vfork(): the register
 * variables of a raw call are clobbered there, as gcc 14 finds for aarch64. */
static __attribute__((noinline)) pid_t fsync_in_child(int fd)
{
    pid_t child = vfork();

    if (child == 0)
        _exit(fsync(fd) != 0); /* NOLINT(clang-analyzer-unix.Vfork) */
    return child;
}

static void test_fsync_in_vfork(const char *file)
{
    int fd = open(file, O_RDWR | O_TRUNC);

    write_text(fd, "new");
    expect_exit(fsync_in_child(fd), 0);
    expect_stored(file, "new");
    write_text(fd, "er");
    EXPECT(close(fd) == 0);
    expect_content(file, "newer");
}

static void test_fdatasync(const char *file)
{
    check_sync(fdatasync, file);
}

static int everything(int fd)
{
    (void)fd;
    sync();
    return 0;
}

static int whole_filesystem(int fd)
{
    return syncfs(fd);
}

/* These calls commit every session of this process. */
static void check_all(int (*synchronise)(int fd), const char *file)
{
    const char *second = sibling(file, ".second");
    int one = open(file, O_WRONLY | O_TRUNC);
    int two = open(second, O_WRONLY | O_CREAT, 0600);

    write_text(one, "first file");
    write_text(two, "second file");
    EXPECT(synchronise(one) == 0);
    expect_stored(file, "first file");
    expect_stored(second, "second file");
    EXPECT(close(one) == 0 && close(two) == 0 && unlink(second) == 0);
}

static void test_syncs(const char *file)
{
    check_all(everything, file);
    check_all(whole_filesystem, file);
    EXPECT_ERROR(syncfs(-1), EBADF);
}

static char *map(const char *file, int *fd)
{
    char *bytes;

    *fd = open(file, O_RDWR);
    bytes = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    EXPECT(bytes != MAP_FAILED);
    return bytes;
}

static void test_msync(const char *file)
{
    int fd;
    char *bytes = map(file, &fd);

    bytes[0] = 'O';
    EXPECT(msync(bytes, 3, MS_SYNC) == 0);
    expect_stored(file, "Old");
    expect_content(file, "Old");
    EXPECT(close(fd) == 0);
    bytes[1] = 'L';
    EXPECT(msync(bytes, 3, MS_SYNC) == 0);
    expect_content(file, "OLd");
    EXPECT_ERROR(msync(bytes + 1, 3, MS_SYNC), EINVAL);
    EXPECT_ERROR(msync(bytes, 3, MS_SYNC | MS_ASYNC), EINVAL);
    EXPECT(munmap(bytes, 3) == 0);
    EXPECT_ERROR(msync(bytes, 3, MS_SYNC), ENOMEM);
}

/* No business of the managed file that is open. */
static void test_msync_elsewhere(const char *file)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = open_new(file);

    EXPECT(page != MAP_FAILED && msync(page, 4096, MS_SYNC) == 0);
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close(fd) == 0);
}

static void test_munmap(const char *file)
{
    int fd;
    char *bytes = map(file, &fd);

    EXPECT(close(fd) == 0);
    bytes[0] = 'O';
    expect_content(file, "Old"); /* the open must see the mapping's writes */
    bytes[1] = 'L';
    EXPECT(munmap(bytes, 3) == 0);
    expect_stored(file, "OLd");
    expect_content(file, "OLd");
    EXPECT_ERROR(munmap((void *)1, 3), EINVAL);
}

/* A file without a name on the same file system that is not managed: its folder is the managed
 * one's parent. */
static int open_beside(const char *file)
{
    char name[PATH_MAX];
    int fd;

    (void)snprintf(name, sizeof name, "%s", file);
    for (int i = 0; i < 2; i++)
        *strrchr(name, '/') = '\0';
    (void)strncat(name, "/beside", sizeof name - strlen(name) - 1);
    fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    EXPECT(fd >= 0 && unlink(name) == 0);
    return fd;
}

static void test_copy_file_range(const char *file)
{
    const char *other = sibling(file, ".other");
    int from = open(file, O_RDONLY);
    int to = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
    off64_t start = 1;
    off64_t place = 8;
    char text[16];

    EXPECT(copy_file_range(from, NULL, to, NULL, 100, 0) == 3);
    EXPECT(copy_file_range(from, &start, to, NULL, 1, 0) == 1 && start == 2);
    EXPECT(copy_file_range(from, NULL, to, NULL, 100, 0) == 0);
    EXPECT(close(to) == 0);
    expect_content(other, "oldl");
    EXPECT(unlink(other) == 0);
    to = open_beside(file);
    EXPECT(to >= 0 && lseek(from, 0, SEEK_SET) == 0);
    EXPECT(copy_file_range(from, NULL, to, NULL, 100, 0) == 3);
    EXPECT(lseek(to, 0, SEEK_CUR) == 3);
    EXPECT(lseek(from, 0, SEEK_SET) == 0);
    EXPECT(sendfile(to, from, NULL, 100) == 3);
    EXPECT(lseek(to, 0, SEEK_CUR) == 6);
    start = 1;
    EXPECT(copy_file_range(from, &start, to, &place, 100, 0) == 2 && start == 3 && place == 10);
    EXPECT(lseek(to, 0, SEEK_CUR) == 6 && lseek(from, 0, SEEK_CUR) == 3);
    EXPECT(pread(to, text, sizeof text, 0) == 10 && memcmp(text, "oldold\0\0ld", 10) == 0);
    start = -5;
    EXPECT_ERROR(copy_file_range(from, &start, to, NULL, 1, 0), EINVAL);
    EXPECT(lseek(from, 0, SEEK_SET) == 0);
    EXPECT_ERROR(copy_file_range(from, NULL, to, &start, 1, 0), EINVAL);
    EXPECT(lseek(from, 0, SEEK_CUR) == 0 && start == -5);
    EXPECT(close(to) == 0 && close(from) == 0);
    EXPECT_ERROR(copy_file_range(-1, NULL, 1, NULL, 1, 0), EBADF);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fsync", test_fsync},
        {"fsync_in_vfork", test_fsync_in_vfork},
        {"fdatasync", test_fdatasync},
        {"sync", test_syncs},
        {"syncfs", test_syncs},
        {"msync", test_msync},
        {"msync_elsewhere", test_msync_elsewhere},
        {"munmap", test_munmap},
        {"copy_file_range", test_copy_file_range},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
