/* The calls of interpose/filter.c: a program overwrites a file, gives itself a filter that kills
 * for memfd_create(2), and overwrites the file again. */
#include "expect.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
static struct sock_fprog filter = {sizeof code / sizeof code[0], code};

static int filter_by_prctl(void)
{
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

static int filter_by_seccomp(void)
{
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

static void overwrite(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_TRUNC);

    EXPECT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static void check_filter(int (*set_up)(void), const char *file)
{
    overwrite(file, "before");
    overwrite(file, "again");
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (set_up() != 0) {
        EXPECT(errno == EINVAL || errno == ENOSYS); /* an emulator */
        return;
    }
    expect_content(file, "again");
    overwrite(file, "behind the filter");
    expect_content(file, "behind the filter");
}

static void test_prctl(const char *file)
{
    char name[16] = "";

    EXPECT(prctl(PR_SET_NAME, "a name") == 0 && prctl(PR_GET_NAME, name) == 0);
    EXPECT(strcmp(name, "a name") == 0);
    EXPECT_ERROR(prctl(-1, 0, 0, 0, 0), EINVAL);
    check_filter(filter_by_prctl, file);
}

static void test_seccomp(const char *file)
{
    check_filter(filter_by_seccomp, file);
}

/* Closes a descriptor that the program's own filter keeps open. */
static void close_and_end(const char *file)
{
    struct sock_filter refusal[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof refusal / sizeof refusal[0], refusal};
    int fd = open(file, O_WRONLY | O_TRUNC);

    EXPECT(dup2(fd, 77) == 77 && close(fd) == 0);
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0) {
        EXPECT_ERROR(close(77), EIO);
    } else
        EXPECT(errno == EINVAL || errno == ENOSYS); /* an emulator */
    write_text(77, "still open");
    EXPECT(dup2(2, 77) == 77); /* a guardian could not close it either, and would wait for itself */
    _exit(0);
}

static void test_close_fails(const char *file)
{
    pid_t child = fork();

    if (child == 0)
        close_and_end(file);
    expect_exit(child, 0);
    expect_content(file, "still open");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"prctl", test_prctl},
        {"seccomp", test_seccomp},
        {"close-fails", test_close_fails},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
