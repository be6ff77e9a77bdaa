/* The calls of interpose/close.c. */
#include "expect.h"

static void test_close(const char *file)
{
    int fd = open_new(file);
    int copy = dup(fd);

    EXPECT(close(fd) == 0);
    EXPECT_ERROR(close(fd), EBADF);
    expect_content(file, is_wrapped() ? "old" : "new");
    write_text(copy, "er");
    EXPECT(close(copy) == 0);
    expect_content(file, "newer");
    EXPECT_ERROR(close(-1), EBADF);
    EXPECT_ERROR(close(100000), EBADF);
}

/* A loop over every number must neither end the session's own descriptors nor see them. */
static void test_close_loop(const char *file)
{
    int fd;

    for (int i = 3; i < 1024; i++)
        (void)close(i); /* inherited from any parent */
    fd = open_new(file);
    for (int i = 3; i < 1024; i++)
        if (i != fd)
            EXPECT_ERROR(close(i), EBADF);
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

static void test_close_range(const char *file)
{
    int fd = open_new(file);
    int second = open(file, O_RDONLY);

    EXPECT(close_range((unsigned)fd + 1, ~0U, 0) == 0);
    EXPECT_ERROR(fcntl(second, F_GETFD), EBADF);
    write_text(fd, "er");
    EXPECT(close_range((unsigned)fd, ~0U, CLOSE_RANGE_CLOEXEC) == 0);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    EXPECT(close_range((unsigned)fd, ~0U, 0) == 0);
    EXPECT_ERROR(fcntl(fd, F_GETFD), EBADF);
    expect_content(file, "newer");
    EXPECT_ERROR(close_range(5, 4, 0), EINVAL);
    EXPECT_ERROR(close_range(5, 6, 1 << 20), EINVAL);
}

static void test_closefrom(const char *file)
{
    int fd = open_new(file);

    closefrom(fd + 1);
    write_text(fd, "er");
    closefrom(fd);
    EXPECT_ERROR(fcntl(fd, F_GETFD), EBADF);
    expect_content(file, "newer");
}

static void test_dup2(const char *file)
{
    int null = open("/dev/null", O_WRONLY);
    int fd = open_new(file);

    EXPECT(dup2(fd, fd) == fd);
    EXPECT(dup2(fd, 20) == 20);
    EXPECT(fcntl(20, F_GETFD) == 0);
    EXPECT(close(fd) == 0);
    write_text(20, "er"); /* one offset */
    expect_content(file, is_wrapped() ? "old" : "newer");
    EXPECT(dup2(null, 20) == 20); /* closes the last one */
    expect_stored(file, "newer");
    expect_content(file, "newer");
    EXPECT_ERROR(dup2(99, 20), EBADF);
    EXPECT_ERROR(dup2(null, -1), EBADF);
    EXPECT(dup2(null, 900) == 900);
    fd = open_new(file);
    EXPECT(dup2(null, 800) == 800); /* the numbers that the shim may use itself */
    EXPECT(dup2(null, 768) == 768 && dup2(null, 769) == 769 && dup2(null, 770) == 770);
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

static void test_dup3(const char *file)
{
    int null = open("/dev/null", O_WRONLY);
    int fd = open_new(file);

    EXPECT_ERROR(dup3(fd, fd, 0), EINVAL);
    EXPECT(dup3(fd, 20, O_CLOEXEC) == 20);
    EXPECT(fcntl(20, F_GETFD) == FD_CLOEXEC);
    EXPECT(close(fd) == 0);
    write_text(20, "er");
    EXPECT_ERROR(dup3(null, 20, O_APPEND), EINVAL);
    EXPECT(dup3(null, 20, 0) == 20);
    expect_stored(file, "newer");
    expect_content(file, "newer");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"close", test_close},
        {"close_loop", test_close_loop},
        {"close_range", test_close_range},
        {"closefrom", test_closefrom},
        {"dup2", test_dup2},
        {"dup3", test_dup3},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
