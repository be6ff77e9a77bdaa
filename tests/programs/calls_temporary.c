/* The calls of interpose/temporary.c, and the libc's own streams. */
#include "expect.h"

#include <mntent.h>
#include <utmp.h>
#include <utmpx.h>

extern FILE *by_setmntent(const char *path, const char *mode) __asm__("__setmntent");
extern int by_endmntent(FILE *stream) __asm__("__endmntent");

typedef int maker(char *path);

static void check_making(maker *make, const char *file, const char *suffix, int flags)
{
    char path[PATH_MAX];
    int lowest = lowest_free();
    struct stat status;
    int fd;

    (void)snprintf(path, sizeof path, "%s.XXXXXX%s", file, suffix);
    fd = make(path);
    EXPECT(fd == lowest && strstr(path, "XXXXXX") == NULL);
    EXPECT((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_RDWR | (flags & O_APPEND)));
    EXPECT(fcntl(fd, F_GETFD) == (flags & O_CLOEXEC ? FD_CLOEXEC : 0));
    EXPECT(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600 && status.st_size == 0);
    EXPECT(lowest_free() > fd);
    write_text(fd, "temporary");
    EXPECT(fstat(fd, &status) == 0 && status.st_size == 9);
    EXPECT(stat(path, &status) == 0 && status.st_size == 9); /* not before the commit */
    EXPECT(close(fd) == 0 && lowest_free() == lowest);
    expect_stored(path, "temporary");
    expect_content(path, "temporary");
    EXPECT(unlink(path) == 0);

    (void)snprintf(path, sizeof path, "%s.none/XXXXXX%s", file, suffix);
    EXPECT_ERROR(make(path), ENOENT);
    (void)snprintf(path, sizeof path, "%s.XXXXX%s", file, suffix);
    EXPECT_ERROR(make(path), EINVAL);
    (void)snprintf(path, sizeof path, "/tmp/unmanaged.XXXXXX%s", suffix);
    fd = make(path);
    EXPECT(fd == lowest && close(fd) == 0 && unlink(path) == 0);
}

#define MAKER(name, call)                                                                                    \
    static int name(char *path)                                                                              \
    {                                                                                                        \
        return call;                                                                                         \
    }
MAKER(ostemp, mkostemp(path, O_CLOEXEC | O_APPEND))
MAKER(ostemp64, mkostemp64(path, O_CLOEXEC))
MAKER(stemps, mkstemps(path, 4))
MAKER(stemps64, mkstemps64(path, 4))
MAKER(ostemps, mkostemps(path, 4, O_CLOEXEC))
MAKER(ostemps64, mkostemps64(path, 4, O_APPEND))

static void test_mkstemp(const char *file)
{
    check_making(mkstemp, file, "", 0);
    check_making(mkstemp64, file, "", 0);
}

static void test_mkostemp(const char *file)
{
    check_making(ostemp, file, "", O_CLOEXEC | O_APPEND);
    check_making(ostemp64, file, "", O_CLOEXEC);
}

static void test_mkstemps(const char *file)
{
    check_making(stemps, file, ".cfg", 0);
    check_making(stemps64, file, ".cfg", 0);
}

static void test_mkostemps(const char *file)
{
    check_making(ostemps, file, ".cfg", O_CLOEXEC);
    check_making(ostemps64, file, ".cfg", O_APPEND);
}

static void check_mntent(FILE *(*begin)(const char *, const char *), int (*end)(FILE *), const char *file)
{
    const struct mntent entry = {"/dev/x", "/mnt", "ext4", "rw", 0, 0};
    FILE *stream = begin(file, "w");
    struct mntent *found;

    EXPECT(stream != NULL && addmntent(stream, &entry) == 0 && fflush(stream) == 0);
    expect_content(file, is_wrapped() ? "old" : "/dev/x /mnt ext4 rw 0 0\n");
    EXPECT(end(stream) == 1);
    expect_stored(file, "/dev/x /mnt");
    expect_content(file, "/dev/x /mnt ext4 rw 0 0\n");
    stream = begin(file, "r");
    EXPECT(stream != NULL && (found = getmntent(stream)) != NULL && strcmp(found->mnt_dir, "/mnt") == 0);
    EXPECT(getmntent(stream) == NULL && end(stream) == 1);
    EXPECT_ERROR(begin(sibling(file, ".none"), "r") == NULL ? -1 : 0, ENOENT);
}

static void test_setmntent(const char *file)
{
    check_mntent(setmntent, endmntent, file);
}

static void test_setmntent_(const char *file)
{
    check_mntent(by_setmntent, by_endmntent, file);
}

static void test_updwtmp(const char *file)
{
    struct utmp entry = {.ut_type = USER_PROCESS, .ut_line = "tty1"};
    struct utmpx more = {.ut_type = USER_PROCESS, .ut_line = "tty2"};
    struct stat status;
    struct utmp found[2];
    int fd;

    EXPECT(truncate(file, 0) == 0);
    updwtmp(file, &entry);
    updwtmpx(file, &more);
    EXPECT(stat(file, &status) == 0 && status.st_size == 2 * sizeof entry);
    fd = open(file, O_RDONLY);
    EXPECT(read(fd, found, sizeof found) == (ssize_t)sizeof found && close(fd) == 0);
    EXPECT(memcmp(&found[0], &entry, sizeof entry) == 0 && memcmp(&found[1], &more, sizeof more) == 0);
    updwtmp(sibling(file, ".none"), &entry);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"mkstemp", test_mkstemp},        {"mkstemp64", test_mkstemp},
        {"mkostemp", test_mkostemp},      {"mkostemp64", test_mkostemp},
        {"mkstemps", test_mkstemps},      {"mkstemps64", test_mkstemps},
        {"mkostemps", test_mkostemps},    {"mkostemps64", test_mkostemps},
        {"setmntent", test_setmntent},    {"endmntent", test_setmntent},
        {"addmntent", test_setmntent},    {"__setmntent", test_setmntent_},
        {"__endmntent", test_setmntent_}, {"updwtmp", test_updwtmp},
        {"updwtmpx", test_updwtmp},       {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
