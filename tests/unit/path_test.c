/*
 * os/path_without_proc.h against realpath(3), and where the two differ: the last component need not
 * exist.
 */
#include "check.h"

#include "os/path_without_proc.h"
#include "os/sys.h"

#include <errno.h>
#include <stdlib.h>

static char folder[] = "/tmp/path_test.XXXXXX";

static void check_path(int directory, const char *path, const char *expected)
{
    char found[PATH_MAX];
    int length = path_without_proc(directory, path, found);

    CHECK(length >= 0);
    if (length < 0)
        return;
    CHECK_STRING(found, expected);
    CHECK_EQUAL(length, strlen(expected));
}

static const char *below(const char *name)
{
    static char path[PATH_MAX];

    (void)snprintf(path, sizeof path, "%s%s", folder, name);
    return path;
}

static void test_existing(void)
{
    static const char *const names[] = {"a/b",   "a//b/.", "a/b/..", "l",          "l/b/../b",    "m",
                                        "m/..",  ".",      "..",     "absolute/b", "m/f",         "l/../a/b",
                                        "chain", "/",      "/tmp",   "a/../..",    "a/b/../../m", "to-dot"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char expected[PATH_MAX];

        CHECK(realpath(names[i], expected) != NULL);
        check_path(AT_FDCWD, names[i], expected);
    }
}

static void test_the_rest(void)
{
    int directory = open("a", O_RDONLY | O_DIRECTORY);
    char found[PATH_MAX];
    char longest[PATH_MAX + 8];

    check_path(AT_FDCWD, "a/new", below("/a/new"));
    check_path(AT_FDCWD, "dangling", below("/a/none"));
    check_path(directory, "b/f", below("/a/b/f"));
    check_path(directory, "../m/f", below("/a/b/f"));
    check_path(directory, "/tmp", "/tmp");
    CHECK_EQUAL(path_without_proc(AT_FDCWD, "none/f", found), -ENOENT);
    CHECK_EQUAL(path_without_proc(AT_FDCWD, "a/b/f/g", found), -ENOTDIR);
    CHECK_EQUAL(path_without_proc(AT_FDCWD, "loop", found), -ELOOP);
    CHECK_EQUAL(path_without_proc(-1, "b", found), -EBADF);
    memset(longest, '/', sizeof longest);
    longest[PATH_MAX - 1] = '\0';
    check_path(AT_FDCWD, longest, "/");
    longest[PATH_MAX - 1] = '/';
    longest[PATH_MAX] = '\0';
    CHECK_EQUAL(path_without_proc(AT_FDCWD, longest, found), -ENAMETOOLONG);
    CHECK_EQUAL(close(directory), 0);
}

int main(void)
{
    static const char *const links[][2] = {
        {"a", "l"},  {"l/b", "m"},    {"loop", "loop"}, {"a/none", "dangling"},
        {"m", "c1"}, {"c1", "chain"}, {".", "to-dot"}};

    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    CHECK(mkdir("a", 0700) == 0 && mkdir("a/b", 0700) == 0 && symlink(below("/a"), "absolute") == 0);
    CHECK(close(open("a/b/f", O_WRONLY | O_CREAT, 0600)) == 0);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        CHECK_EQUAL(symlink(links[i][0], links[i][1]), 0);
    test_existing();
    test_the_rest();
    CHECK(unlink("a/b/f") == 0 && rmdir("a/b") == 0 && rmdir("a") == 0 && unlink("absolute") == 0);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        CHECK_EQUAL(unlink(links[i][1]), 0);
    CHECK(chdir("/") == 0 && rmdir(folder) == 0);
    return check_result();
}
