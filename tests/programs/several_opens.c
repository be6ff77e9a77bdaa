/* One file opened several times, in one process and in several: what each of them sees, and what is left in the end. */
#include "expect.h"

static int open_as(const char *file, int flags)
{
    int fd = open(file, flags, 0644);

    EXPECT(fd >= 0);
    return fd;
}

/* In another process, which opens the file before `go` is closed here and writes after it. */
static pid_t append_elsewhere(const char *file, void (*begin)(int fd), int *go)
{
    int ready[2];
    int gate[2];
    char byte;
    pid_t child;

    EXPECT(pipe(ready) == 0 && pipe(gate) == 0);
    child = fork();
    if (child == 0) {
        int fd = open_as(file, O_WRONLY);

        EXPECT(close(gate[1]) == 0);
        begin(fd);
        EXPECT(write(ready[1], "r", 1) == 1 && read(gate[0], &byte, 1) == 0);
        write_text(fd, "theirs");
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    EXPECT(close(gate[0]) == 0 && read(ready[0], &byte, 1) == 1);
    *go = gate[1];
    return child;
}

static void check_appending(const char *file, void (*begin)(int fd))
{
    int go;
    pid_t child = append_elsewhere(file, begin, &go);
    int fd = open_as(file, O_WRONLY);

    begin(fd);
    write_text(fd, "ours");
    EXPECT(close(go) == 0);
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
    if (is_wrapped())
        expect_content(file, "oldtheirsours");
    else
        EXPECT(strlen(content_of(file)) == strlen("oldtheirsours"));
}

static void append_by_fcntl(int fd)
{
    EXPECT(fcntl(fd, F_SETFL, O_APPEND) == 0);
}

static void append_by_fcntl64(int fd)
{
    EXPECT(fcntl64(fd, F_SETFL, O_APPEND) == 0);
}

/* The libc sets the flag by a call of its own. The stream is left alone: it has nothing to write. */
static void append_by_fdopen(int fd)
{
    EXPECT(fdopen(fd, "a") != NULL);
}

static void test_fcntl(const char *file)
{
    check_appending(file, append_by_fcntl);
}

static void test_fcntl64(const char *file)
{
    check_appending(file, append_by_fcntl64);
}

static void test_fdopen(const char *file)
{
    check_appending(file, append_by_fdopen);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"append_by_fcntl", test_fcntl},
        {"append_by_fcntl64", test_fcntl64},
        {"append_by_fdopen", test_fdopen},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
