/* A program with a close() of its own, which calls syscall(): the two must not call each other for
 * ever. */
#include "expect.h"

int close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static void test_own_close(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_WRONLY | O_TRUNC);

        write_text(fd, "new");
        EXPECT(close(fd) == 0);
        EXPECT_ERROR(close(fd), EBADF);
        exit(0); /* its close() is not ours: the exit commits */
    }
    expect_exit(child, 0);
    expect_content(file, "new");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {{"own_close", test_own_close}, {NULL, NULL}};

    return run_case(cases, argc, argv);
}
