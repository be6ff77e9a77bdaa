/*
 * os/path_without_proc.h against realpath(3), and where the two differ: the last component need not
 * exist.
 */
#include "check.h"

#include "os/path_without_proc.h"
#include "os/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

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

/* Makes a folder with a name of `length` bytes in `parent`, and opens it. */
static int make_below(int parent, size_t length)
{
    char name[NAME_MAX + 1] = "";

    memset(name, 'n', length);
    CHECK_EQUAL(mkdirat(parent, name, 0700), 0);
    return openat(parent, name, O_RDONLY | O_DIRECTORY);
}

/* Folders so deep that the path of the last but one has just room, and of the last one none. */
static void test_too_long(void)
{
    char name[NAME_MAX + 1] = "";
    char path[PATH_MAX] = "dots/";
    char found[PATH_MAX];
    char dots[4000 + 1] = "";
    int start = open(".", O_RDONLY | O_DIRECTORY);
    int deep = start;

    for (size_t length = strlen(folder); length + 201 < PATH_MAX; length += 201) {
        deep = make_below(deep, 200);
        CHECK_EQUAL(fchdir(deep), 0);
    }
    memset(name, 'n', 200);
    CHECK_EQUAL(path_without_proc(AT_FDCWD, name, found), -ENAMETOOLONG);
    CHECK_EQUAL(path_as_given(AT_FDCWD, name, found), -ENAMETOOLONG);
    CHECK(path_without_proc(AT_FDCWD, "x", found) > 0);
    CHECK(path_without_proc(deep, "x", found) > 0);
    deep = make_below(deep, 200);
    CHECK_EQUAL(path_without_proc(deep, "x", found), -ENAMETOOLONG);
    CHECK_EQUAL(fchdir(deep), 0);
    CHECK_EQUAL(path_without_proc(AT_FDCWD, "x", found), -ENAMETOOLONG);
    CHECK_EQUAL(fchdir(start), 0);

    for (size_t i = 0; i + 1 < sizeof dots; i++)
        dots[i] = i % 2 == 0 ? '.' : '/';
    CHECK_EQUAL(symlink(dots, "dots"), 0);
    check_path(AT_FDCWD, "dots/a", below("/a"));
    memset(path + strlen(path), 'n', 100);
    CHECK_EQUAL(path_without_proc(AT_FDCWD, path, found), -ENAMETOOLONG);
}

static void have_no_memory(void)
{
    const struct rlimit none = {0, 0};
    char found[PATH_MAX];

    CHECK_EQUAL(setrlimit(RLIMIT_AS, &none), 0);
    CHECK_EQUAL(path_without_proc(AT_FDCWD, "a", found), -ENOMEM);
}

/* The name of a folder stands in its parent, which this user may not read. */
static void have_no_right(void)
{
    int directory = open("a/b", O_RDONLY | O_DIRECTORY);
    char found[PATH_MAX];

    CHECK(chmod(".", 0755) == 0 && chmod("a", 0711) == 0 && chmod("a/b", 0755) == 0);
    CHECK(getuid() != 0 || setresuid(65534, 65534, 65534) == 0);
    if (access("a", R_OK) != 0)
        CHECK_EQUAL(path_without_proc(directory, "f", found), -EACCES);
}

static void in_a_process(void (*test)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        test();
        _exit(check_result());
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
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
    in_a_process(have_no_memory); /* before any memory is kept for later calls */
    test_existing();
    test_the_rest();
    test_too_long();
    in_a_process(have_no_right);
    if (chdir("/") == 0 && fork() == 0)
        execl("/bin/rm", "rm", "-rf", folder, NULL);
    (void)wait(NULL);
    return check_result();
}
