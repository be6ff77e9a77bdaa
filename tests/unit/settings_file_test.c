/* config/settings_file.h: which file is obeyed, and which lines. */
#include "check.h"

#include "config/settings_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char *environment[] = {"ATOMSHIM_SYNC=0", NULL};

static void put_file(const char *text, size_t size)
{
    int fd = open("settings", O_WRONLY | O_CREAT | O_TRUNC, 0644);

    CHECK(write(fd, text, size) == (ssize_t)size);
    (void)close(fd);
}

/* Checks what a file with this content adds to the environment. */
static void expect_lines(const char *text, size_t count, const char *first)
{
    const char *fault = "";
    char **list;

    put_file(text, strlen(text));
    list = config_add_file(environment, "settings", &fault);
    CHECK(fault == NULL);
    CHECK_STRING(list[0], environment[0]);
    for (size_t i = 0; i < count; i++)
        CHECK(list[1 + i] != NULL);
    CHECK(list[1 + count] == NULL);
    CHECK_STRING(count == 0 ? "" : list[1], first);
}

/* Checks that the file is ignored as a whole, for this reason. */
static void expect_fault(const char *path, const char *reason)
{
    const char *fault = NULL;

    CHECK(config_add_file(environment, path, &fault) == environment);
    CHECK_STRING(fault == NULL ? "" : fault, reason);
}

static void test_lines(void)
{
    static const char accepted[] = "accepted are lines ATOMSHIM_NAME=value, and comments that begin with '#'";

    expect_lines("", 0, "");
    expect_lines("# a comment\n\n \t\r\n", 0, "");
    expect_lines("ATOMSHIM_PATHS=/a b/=c", 1, "ATOMSHIM_PATHS=/a b/=c"); /* without a newline */
    expect_lines("#\nATOMSHIM_PATHS=/a/\n\nATOMSHIM_FORMAT=plain\n", 2, "ATOMSHIM_PATHS=/a/");
    put_file("ATOMSHIM_PATHS=/a/\nPATH=/b\n", 27);
    expect_fault("settings", accepted);
    put_file("ATOMSHIM_PATHS\n", 15);
    expect_fault("settings", accepted);
    put_file(" ATOMSHIM_PATHS=/a/\n", 20);
    expect_fault("settings", accepted);
    put_file("ATOMSHIM_PATHS=/a/\n\0PATH=/b\n", 28);
    expect_fault("settings", "it cannot be read");
}

/* Whoever writes the file decides about every program of the system. */
static void test_trust(void)
{
    static char large[(1 << 16) + 1];
    const char *fault = "";

    put_file("ATOMSHIM_PATHS=/a/\n", 19);
    CHECK(chmod("settings", 0664) == 0);
    expect_fault("settings", "users other than root may write to it");
    CHECK(chmod("settings", 0646) == 0);
    expect_fault("settings", "users other than root may write to it");
    CHECK(chmod("settings", 0600) == 0 && chown("settings", 65534, 0) == 0);
    expect_fault("settings", "its owner is not root");
    CHECK(chown("settings", 0, 0) == 0);
    memset(large, '\n', sizeof large);
    put_file(large, sizeof large - 1);
    CHECK(config_add_file(environment, "settings", &fault) != environment && fault == NULL);
    put_file(large, sizeof large);
    expect_fault("settings", "it has more than 65536 bytes");
    CHECK(symlink("settings", "link") == 0);
    expect_fault("link", "it cannot be opened, or is a symbolic link");
    CHECK(mkfifo("fifo", 0600) == 0);
    expect_fault("fifo", "it is no regular file");
    expect_fault(".", "it is no regular file");
    CHECK(config_add_file(environment, "missing", &fault) == environment && fault == NULL);
}

static void test_no_memory(void)
{
    struct rlimit before;
    struct rlimit none;

    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    none = (struct rlimit){0, before.rlim_max};
    put_file("ATOMSHIM_PATHS=/a/\n", 19);
    CHECK(setrlimit(RLIMIT_AS, &none) == 0);
    expect_fault("settings", "it cannot be read");
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
}

int main(void)
{
    char folder[] = "settings.XXXXXX";

    if (geteuid() != 0) { /* no file of this user is obeyed */
        put_file("ATOMSHIM_PATHS=/a/\n", 19);
        expect_fault("settings", "its owner is not root");
        return check_result();
    }
    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    test_lines();
    test_trust();
    test_no_memory();
    CHECK(unlink("settings") == 0 && unlink("link") == 0 && unlink("fifo") == 0);
    CHECK(chdir("..") == 0 && rmdir(folder) == 0);
    return check_result();
}
