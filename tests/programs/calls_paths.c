/* The calls of interpose/paths.c: paths that lead to an open file mean that file, though the shim
 * put a buffer in its place. */
#include "expect.h"

#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

enum { THEN = 1000000000, PATHS = 5 };

/* Fortified headers call these; they may not be declared here. */
extern ssize_t by_readlink_chk(const char *path, char *link, size_t size,
                               size_t room) __asm__("__readlink_chk");
extern ssize_t by_readlinkat_chk(int directory, const char *path, char *link, size_t size,
                                 size_t room) __asm__("__readlinkat_chk");
extern char *by_realpath_chk(const char *path, char *resolved, size_t room) __asm__("__realpath_chk");

/* Makes every path that means descriptor `fd`. */
static const char *path_of(int fd, int way)
{
    static char path[64];

    switch (way) {
    case 0:
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        break;
    case 1:
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), fd);
        break;
    case 2:
        (void)snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
        break;
    case 3:
        (void)snprintf(path, sizeof path, "/dev/fd/%d", fd);
        break;
    default:
        EXPECT(dup2(fd, 0) == 0);
        return "/dev/stdin";
    }
    return path;
}

static void finish(int fd, const char *file)
{
    EXPECT(close(fd) == 0 && (close(0) == 0 || errno == EBADF));
    expect_content(file, "new");
}

typedef ssize_t link_reader(const char *path, char *link, size_t size);

static void check_readlink(link_reader *read_link, const char *file)
{
    int fd = open_new(file);
    ssize_t length = (ssize_t)strlen(file);
    char link[PATH_MAX];

    for (int way = 0; way < PATHS - 1; way++) {
        EXPECT(read_link(path_of(fd, way), link, sizeof link) == length);
        EXPECT(memcmp(link, file, (size_t)length) == 0);
        EXPECT(read_link(path_of(fd, way), link, 3) == 3 && memcmp(link, file, 3) == 0);
        EXPECT(read_link(path_of(fd, way), link, 20) == (length < 20 ? length : 20));
        EXPECT(memcmp(link, file, (size_t)(length < 20 ? length : 20)) == 0);
    }
    EXPECT_ERROR(read_link(file, link, sizeof link), EINVAL);
    EXPECT_ERROR(read_link((const char *)1, link, sizeof link), EFAULT);
    EXPECT_ERROR(read_link(sibling(file, ".none"), link, sizeof link), ENOENT);
    finish(fd, file);
}

static ssize_t at_root(const char *path, char *link, size_t size)
{
    return readlinkat(-1, path, link, size);
}

static ssize_t checked(const char *path, char *link, size_t size)
{
    return by_readlink_chk(path, link, size, PATH_MAX);
}

static ssize_t checked_at(const char *path, char *link, size_t size)
{
    return by_readlinkat_chk(-1, path, link, size, PATH_MAX);
}

static void test_readlink(const char *file)
{
    check_readlink(readlink, file);
}

static void test_readlinkat(const char *file)
{
    int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    int fd = open(file, O_RDONLY);
    char link[PATH_MAX];
    char name[16];

    (void)snprintf(name, sizeof name, "%d", fd);
    EXPECT(readlinkat(directory, name, link, sizeof link) == (ssize_t)strlen(file));
    EXPECT(close(fd) == 0 && close(directory) == 0);
    check_readlink(at_root, file);
}

static void test_readlink_chk(const char *file)
{
    check_readlink(checked, file);
}

static void test_readlinkat_chk(const char *file)
{
    check_readlink(checked_at, file);
}

typedef char *resolver(const char *path);

static void check_realpath(resolver *resolve, const char *file)
{
    int fd = open_new(file);
    char *expected = resolve(file);

    EXPECT(expected != NULL);
    for (int way = 0; way < PATHS; way++) {
        char *resolved = resolve(path_of(fd, way));

        EXPECT(resolved != NULL && strcmp(resolved, expected) == 0);
    }
    EXPECT_ERROR(resolve(sibling(file, ".none")) == NULL ? -1 : 0, ENOENT);
    EXPECT_ERROR(resolve(NULL) == NULL ? -1 : 0, EINVAL);
    finish(fd, file);
}

static char *resolve(const char *path)
{
    return realpath(path, NULL);
}

static char *resolve_checked(const char *path)
{
    return by_realpath_chk(path, malloc(PATH_MAX), PATH_MAX);
}

static void test_realpath(const char *file)
{
    check_realpath(resolve, file);
}

static void test_realpath_chk(const char *file)
{
    check_realpath(resolve_checked, file);
}

static void test_canonicalize(const char *file)
{
    check_realpath(canonicalize_file_name, file);
}

/* The file's own mode decides, not the buffer's, which is open to all. */
static void test_access(const char *file)
{
    int fd = open_new(file);

    EXPECT(chmod(file, 0600) == 0);
    for (int way = 0; way < PATHS; way++) {
        const char *path = path_of(fd, way);

        EXPECT(access(path, R_OK | W_OK) == 0 && euidaccess(path, R_OK) == 0 && eaccess(path, R_OK) == 0);
        EXPECT_ERROR(access(path, X_OK), EACCES);
        EXPECT_ERROR(euidaccess(path, X_OK), EACCES);
        EXPECT_ERROR(eaccess(path, X_OK), EACCES);
        EXPECT_ERROR(faccessat(AT_FDCWD, path, X_OK, 0), EACCES);
        EXPECT_ERROR(faccessat(-1, path, X_OK, AT_EACCESS), EACCES);
    }
    EXPECT_ERROR(faccessat(fd, "", X_OK, AT_EMPTY_PATH), EACCES);
    EXPECT_ERROR(access((const char *)1, F_OK), EFAULT);
    finish(fd, file);
}

static void test_linkat(const char *file)
{
    const char *name = sibling(file, ".more");
    int fd = open_new(file);

    for (int way = 0; way < PATHS; way++) {
        EXPECT(linkat(AT_FDCWD, path_of(fd, way), AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0);
        EXPECT(status_of(name).st_ino == status_of(file).st_ino && unlink(name) == 0);
        /* the link itself */
        EXPECT_ERROR(linkat(AT_FDCWD, path_of(fd, way), AT_FDCWD, name, 0), EXDEV);
    }
    if (geteuid() == 0) {
        EXPECT(linkat(fd, "", AT_FDCWD, name, AT_EMPTY_PATH) == 0);
        EXPECT(status_of(name).st_ino == status_of(file).st_ino && unlink(name) == 0);
    }
    finish(fd, file);
}

struct handle {
    struct file_handle head;
    unsigned char room[MAX_HANDLE_SZ];
};

static bool same_handle(const struct handle *one, const struct handle *other)
{
    return one->head.handle_bytes == other->head.handle_bytes &&
           memcmp(one->head.f_handle, other->head.f_handle, one->head.handle_bytes) == 0;
}

static void test_name_to_handle_at(const char *file)
{
    struct handle expected = {.head.handle_bytes = MAX_HANDLE_SZ};
    int expected_mount;
    int fd = open_new(file);

    if (name_to_handle_at(AT_FDCWD, file, &expected.head, &expected_mount, 0) != 0) {
        EXPECT(errno == EOPNOTSUPP); /* a file system without handles */
        finish(fd, file);
        return;
    }
    for (int way = 0; way <= PATHS; way++) {
        struct handle found = {.head.handle_bytes = MAX_HANDLE_SZ};
        int mount;

        EXPECT(name_to_handle_at(way == PATHS ? fd : AT_FDCWD, way == PATHS ? "" : path_of(fd, way),
                                 &found.head, &mount, way == PATHS ? AT_EMPTY_PATH : AT_SYMLINK_FOLLOW) == 0);
        EXPECT(mount == expected_mount && same_handle(&found, &expected));
    }
    finish(fd, file);
}

/* ---- interpose/metadata.c, by path ---- */

static void test_chmod(const char *file)
{
    int fd = open_new(file);

    for (int way = 0; way < PATHS; way++) {
        EXPECT(chmod(path_of(fd, way), 0601 + (mode_t)way) == 0);
        EXPECT((status_of(file).st_mode & 07777) == 0601 + (mode_t)way);
        EXPECT(fchmodat(AT_FDCWD, path_of(fd, way), 0611 + (mode_t)way, 0) == 0);
        EXPECT((status_of(file).st_mode & 07777) == 0611 + (mode_t)way);
    }
    EXPECT(chmod(path_of(fd, 0), 04755) == 0);
    finish(fd, file);
    EXPECT((status_of(file).st_mode & 07777) == 04755); /* set after the last write: it stays */
    EXPECT_ERROR(chmod((const char *)1, 0), EFAULT);
    EXPECT_ERROR(chmod(sibling(file, ".none"), 0), ENOENT);
}

/* Where the kernel knows it. */
static void test_fchmodat2(const char *file)
{
    enum { NUMBER = 452 };
    int fd = open_new(file);

    if (syscall(NUMBER, AT_FDCWD, path_of(fd, 0), 0605, 0) == 0) {
        EXPECT((status_of(file).st_mode & 07777) == 0605);
        EXPECT(syscall(NUMBER, fd, "", 0606, AT_EMPTY_PATH) == 0);
        EXPECT((status_of(file).st_mode & 07777) == 0606);
    } else
        EXPECT(errno == ENOSYS);
    finish(fd, file);
}

static void test_chown(const char *file)
{
    int fd = open_new(file);
    uid_t user = geteuid() == 0 ? 12345 : geteuid();

    for (int way = 0; way < PATHS; way++) {
        EXPECT(chown(path_of(fd, way), user, (gid_t)-1) == 0 && status_of(file).st_uid == user);
        user += geteuid() == 0;
        EXPECT(fchownat(-1, path_of(fd, way), user, (gid_t)-1, 0) == 0 && status_of(file).st_uid == user);
        user += geteuid() == 0;
    }
    EXPECT(fchownat(fd, "", user, (gid_t)-1, AT_EMPTY_PATH) == 0 && status_of(file).st_uid == user);
    finish(fd, file);
}

static void test_times(const char *file)
{
    int fd = open_new(file);
    time_t then = THEN;

    for (int way = 0; way < PATHS; way++) {
        const char *path = path_of(fd, way);
        struct timespec times[2] = {{then, 0}, {then, 0}};
        struct timeval micro[2] = {{then + 1, 0}, {then + 1, 0}};
        struct utimbuf whole = {then + 2, then + 2};

        EXPECT(utimensat(-1, path, times, 0) == 0 && status_of(file).st_mtime == then);
        EXPECT(utimes(path, micro) == 0 && status_of(file).st_mtime == then + 1);
        EXPECT(utime(path, &whole) == 0 && status_of(file).st_mtime == then + 2);
        micro[1].tv_sec = then + 3;
        EXPECT(futimesat(-1, path, micro) == 0 && status_of(file).st_mtime == then + 3);
        micro[1].tv_sec = then + 4;
        EXPECT(futimesat(fd, NULL, micro) == 0 && status_of(file).st_mtime == then + 4);
        then += 5;
    }
    finish(fd, file);
    EXPECT(status_of(file).st_mtime == then - 1); /* set after the last write: it stays */
}

static void test_xattr(const char *file)
{
    int fd = open_new(file);
    char bytes[256];

    for (int way = 0; setxattr(file, "user.probe", "x", 1, 0) == 0 && way < PATHS; way++) {
        const char *path = path_of(fd, way);

        EXPECT(setxattr(path, "user.colour", "red", 3, 0) == 0);
        EXPECT(getxattr(file, "user.colour", bytes, sizeof bytes) == 3);
        EXPECT(getxattr(path, "user.colour", bytes, sizeof bytes) == 3 && memcmp(bytes, "red", 3) == 0);
        EXPECT(listxattr(path, bytes, sizeof bytes) >= (ssize_t)sizeof "user.colour");
        EXPECT(removexattr(path, "user.colour") == 0);
        EXPECT_ERROR(getxattr(file, "user.colour", bytes, sizeof bytes), ENODATA);
    }
    EXPECT_ERROR(getxattr((const char *)1, "user.colour", bytes, sizeof bytes), EFAULT);
    finish(fd, file);
}

/* A file that is open for reading is opened for writing by its descriptor's path. */
static void test_open_by_path(const char *file)
{
    for (int way = 0; way < PATHS; way++) {
        int reader = open(file, O_RDONLY);
        int fd = open(path_of(reader, way), O_WRONLY | O_TRUNC);
        char bytes[8];

        EXPECT(fd >= 0);
        write_text(fd, "new");
        EXPECT(close(fd) == 0);
        expect_content(file, "new");
        EXPECT(truncate(path_of(reader, way), 1) == 0);
        expect_content(file, "n");
        EXPECT(read(reader, bytes, sizeof bytes) >= 0);
        EXPECT(close(reader) == 0 && (close(0) == 0 || errno == EBADF));
    }
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"readlink", test_readlink},
        {"readlinkat", test_readlinkat},
        {"__readlink_chk", test_readlink_chk},
        {"__readlinkat_chk", test_readlinkat_chk},
        {"realpath", test_realpath},
        {"__realpath_chk", test_realpath_chk},
        {"canonicalize_file_name", test_canonicalize},
        {"access", test_access},
        {"euidaccess", test_access},
        {"eaccess", test_access},
        {"faccessat", test_access},
        {"linkat", test_linkat},
        {"name_to_handle_at", test_name_to_handle_at},
        {"chmod", test_chmod},
        {"fchmodat", test_chmod},
        {"fchmodat2", test_fchmodat2},
        {"chown", test_chown},
        {"fchownat", test_chown},
        {"futimesat", test_times},
        {"utime", test_times},
        {"utimes", test_times},
        {"setxattr", test_xattr},
        {"getxattr", test_xattr},
        {"listxattr", test_xattr},
        {"removexattr", test_xattr},
        {"open_by_path", test_open_by_path},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
