/* The calls of interpose/metadata.c: they act on the real inode. */
#include "expect.h"

#include <linux/capability.h>
#include <linux/xattr.h>
#include <sys/time.h>
#include <sys/xattr.h>

enum { THEN = 1000000000 };

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

enum { WRITE = 1, SYNC = 2, CLEAR = 4 };

/* Sets the bits that a write clears, behind the first write, and then calls `then`. Returns the
 * mode at the end. */
static mode_t mode_after(const char *file, mode_t mode, int then)
{
    int fd = open_new(file);

    EXPECT(fchmod(fd, mode) == 0);
    if (then & SYNC)
        EXPECT(fsync(fd) == 0);
    if (then & WRITE)
        EXPECT(pwrite(fd, then & SYNC ? "New" : "new", 3, 0) == 3);
    if (then & CLEAR)
        EXPECT(fchmod(fd, 0755) == 0);
    EXPECT(close(fd) == 0);
    return status_of(file).st_mode & 07777;
}

/* Set-id bits outlive the close unless a write without privileges follows. */
static void check_set_id(const char *file, bool privileged)
{
    static const struct {
        mode_t mode, written;
    } modes[] = {{04755, 0755}, {02755, 0755}, {06711, 0711}, {02744, 02744}, {04600, 0600}};

    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        mode_t mode = modes[i].mode;
        mode_t written = privileged ? mode : modes[i].written;

        EXPECT(mode_after(file, mode, 0) == mode);
        EXPECT(mode_after(file, mode, SYNC) == mode);
        EXPECT(mode_after(file, mode, WRITE) == written);
        EXPECT(mode_after(file, mode, SYNC | WRITE) == written);
        EXPECT(mode_after(file, mode, CLEAR) == 0755);
    }
}

static void test_set_id(const char *file)
{
    bool root = geteuid() == 0;

    check_set_id(file, root);
    if (!root)
        return;
    EXPECT(chown(file, OTHER_USER, OTHER_USER) == 0);
    EXPECT(setegid(OTHER_USER) == 0 && seteuid(OTHER_USER) == 0);
    if (euidaccess(file, F_OK) == 0) /* else the folders above are closed to others */
        check_set_id(file, false);
}

/* The effect of a chmod() or chown() in between stays. */
static void test_set_id_by_path(const char *file)
{
    int fd = open_new(file);

    if (geteuid() == 0)
        EXPECT(chown(file, OTHER_USER, OTHER_USER) == 0 && setegid(OTHER_USER) == 0 &&
               seteuid(OTHER_USER) == 0);
    if (euidaccess(file, F_OK) != 0)
        return;
    EXPECT(close(fd) == 0);
    fd = open_new(file);
    EXPECT(fchmod(fd, 06755) == 0 && chmod(file, 0711) == 0);
    finish(fd, file);
    EXPECT((status_of(file).st_mode & 07777) == 0711);
    fd = open_new(file);
    EXPECT(fchmod(fd, 06755) == 0 && chown(file, (uid_t)-1, geteuid() == 0 ? OTHER_USER : getegid()) == 0);
    finish(fd, file);
    EXPECT((status_of(file).st_mode & 07777) == 0755);
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

/* Makes all four calls: set, get, list, remove. */
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

static int set_capabilities(int fd)
{
    struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                                .data[0].permitted = 1 << CAP_NET_RAW};

    return fsetxattr(fd, XATTR_NAME_CAPS, &data, sizeof data, 0);
}

static bool has_capabilities(const char *file)
{
    return getxattr(file, XATTR_NAME_CAPS, NULL, 0) > 0;
}

/* File capabilities outlive the close unless a write follows, root's too. */
static void test_capabilities(const char *file)
{
    int fd = open_new(file);

    if (set_capabilities(fd) != 0) { /* see programs.bats, which says so */
        EXPECT(close(fd) == 0);
        return;
    }
    EXPECT(fchmod(fd, 0755) == 0);
    finish(fd, file);
    EXPECT(has_capabilities(file));

    fd = open_new(file);
    EXPECT(set_capabilities(fd) == 0 && fsync(fd) == 0);
    EXPECT(has_capabilities(file));
    EXPECT(pwrite(fd, "New", 3, 0) == 3);
    EXPECT(close(fd) == 0);
    EXPECT(!has_capabilities(file));

    fd = open_new(file);
    EXPECT(set_capabilities(fd) == 0 && pwrite(fd, "new", 3, 0) == 3);
    finish(fd, file);
    EXPECT(!has_capabilities(file));

    fd = open_new(file);
    EXPECT(set_capabilities(fd) == 0 && fremovexattr(fd, XATTR_NAME_CAPS) == 0);
    finish(fd, file);
    EXPECT(!has_capabilities(file));

    fd = open_new(file);
    EXPECT(set_capabilities(fd) == 0 && removexattr(file, XATTR_NAME_CAPS) == 0);
    finish(fd, file);
    EXPECT(!has_capabilities(file));
}

/* Opens the file, and writes a text that no image of it had. */
static int open_writing(const char *file, const char *text)
{
    int fd = open(file, O_RDWR | O_TRUNC);

    EXPECT(fd >= 0);
    write_text(fd, text);
    return fd;
}

/* An access control list was set, after a commit of `text`, or the file system has none. */
static void expect_list_set(int result, const char *file, const char *text)
{
    if (result == 0)
        expect_stored(file, text);
    else
        EXPECT(errno == EOPNOTSUPP);
}

/* Nobody gets a right to the old content that the program meant for the new one: that is stored
 * first. */
static void test_rights_wait(const char *file)
{
    static const struct {
        uint32_t version;
        struct {
            uint16_t tag, permissions;
            uint32_t id;
        } entries[5];
    } list = {2, {{1, 6, -1U}, {2, 4, OTHER_USER}, {4, 4, -1U}, {16, 4, -1U}, {32, 4, -1U}}};
    char *folder = sibling(file, ".folder");
    char *name = sibling(folder, "/link");
    int fd = open_writing(file, "by fsetxattr");

    expect_list_set(fsetxattr(fd, XATTR_NAME_POSIX_ACL_ACCESS, &list, sizeof list, 0), file, "by fsetxattr");
    EXPECT(close(fd) == 0);
    fd = open_writing(file, "by setxattr");
    expect_list_set(setxattr(file, XATTR_NAME_POSIX_ACL_ACCESS, &list, sizeof list, 0), file, "by setxattr");
    EXPECT(close(fd) == 0);
    fd = open_writing(file, "by lsetxattr");
    expect_list_set(lsetxattr(file, XATTR_NAME_POSIX_ACL_ACCESS, &list, sizeof list, 0), file,
                    "by lsetxattr");
    EXPECT(close(fd) == 0 && mkdir(folder, 0700) == 0);
    fd = open_writing(file, "by link");
    EXPECT(link(file, name) == 0 && unlink(name) == 0);
    expect_stored(file, "by link");
    EXPECT(close(fd) == 0);
    fd = open_writing(file, "by linkat");
    EXPECT(linkat(AT_FDCWD, file, AT_FDCWD, name, 0) == 0 && unlink(name) == 0);
    expect_stored(file, "by linkat");
    EXPECT(close(fd) == 0 && rmdir(folder) == 0);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fchmod", test_fchmod},
        {"fchown", test_fchown},
        {"futimens", test_futimens},
        {"futimes", test_futimes},
        {"utimensat", test_utimensat},
        {"fsetxattr", test_xattr},
        {"fgetxattr", test_xattr},
        {"flistxattr", test_xattr},
        {"fremovexattr", test_xattr},
        {"set_id", test_set_id},
        {"set_id_by_path", test_set_id_by_path},
        {"capabilities", test_capabilities},
        {"rights_wait", test_rights_wait},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
