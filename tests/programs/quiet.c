/*
 * quiet prctl|seccomp|errno|uname FILE...: gives itself a seccomp filter that allows the calls for
 * reading and writing files, and kills for every other call, or with errno makes every other call
 * fail; with uname only that call fails. Then, for each FILE, it reads "NAME" to stdout, writes
 * ">NAME", renames "NAME>TARGET", and for "=NAME" tries by syscall(2) all calls that open, cut or
 * replace a file. It prints the errno of a call that fails.
 */
#include "expect.h"

#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#define ALLOW(number)                                                                                        \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(SYS_read),
    ALLOW(SYS_write),
    ALLOW(SYS_openat),
    ALLOW(SYS_close),
    ALLOW(SYS_newfstatat),
    ALLOW(SYS_fstat),
    ALLOW(SYS_lseek),
    ALLOW(SYS_brk),
    ALLOW(SYS_mmap),
    ALLOW(SYS_exit_group),
#ifdef SYS_rename
    ALLOW(SYS_rename),
#endif
    ALLOW(SYS_renameat),
    ALLOW(SYS_renameat2),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

static struct sock_filter no_uname[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void set_filter(const char *way)
{
    struct sock_fprog filter = {sizeof code / sizeof code[0], code};

    if (strcmp(way, "uname") == 0)
        filter = (struct sock_fprog){sizeof no_uname / sizeof no_uname[0], no_uname};
    if (strcmp(way, "errno") == 0)
        code[filter.len - 1].k = SECCOMP_RET_ERRNO | ENOSYS;
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (strcmp(way, "seccomp") == 0)
        EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0);
    else
        EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0);
}

static void say(const char *text)
{
    EXPECT(write(1, text, strlen(text)) == (ssize_t)strlen(text));
}

static void tell_error(void)
{
    say(errno == EPERM ? "EPERM\n" : errno == ENOENT ? "ENOENT\n" : "another error\n");
}

static void read_it(const char *name)
{
    char line[64];
    FILE *stream = fopen(name, "r");
    int fd;

    if (stream == NULL) {
        tell_error();
        return;
    }
    EXPECT(fgets(line, sizeof line, stream) != NULL && fclose(stream) == 0);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    EXPECT(fd >= 0 && read(fd, line, sizeof line) == (ssize_t)strlen(line) && close(fd) == 0);
    say(line);
}

static void write_it(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (fd < 0)
        tell_error();
    else
        EXPECT(write(fd, "written\n", 8) == 8 && close(fd) == 0);
}

/* The filter kills for some of these calls, if they get that far. */
static void try_all(const char *name)
{
    struct open_how how = {.flags = O_WRONLY};
    int folder = AT_FDCWD;

#ifdef SYS_open
    EXPECT_ERROR(syscall(SYS_open, name, O_WRONLY | O_TRUNC), EPERM);
    EXPECT_ERROR(syscall(SYS_creat, name, 0600), EPERM);
    EXPECT_ERROR(syscall(SYS_rename, "hello", name), EPERM);
#endif
    EXPECT_ERROR(syscall(SYS_truncate, name, 1L), EPERM);
    EXPECT_ERROR(syscall(SYS_openat, folder, name, O_WRONLY | O_TRUNC), EPERM);
    EXPECT_ERROR(syscall(SYS_openat2, folder, name, &how, sizeof how), EPERM);
#ifdef SYS_renameat
    EXPECT_ERROR(syscall(SYS_renameat, folder, "hello", folder, name), EPERM);
#endif
    EXPECT_ERROR(syscall(SYS_renameat2, folder, "hello", folder, name, 0), EPERM);
    EXPECT_ERROR(syscall(SYS_close, -1), EBADF); /* another call is the kernel's */
    say("EPERM\n");
}

int main(int argc, char *argv[])
{
    EXPECT(argc > 2);
    EXPECT(fclose(fopen("/dev/null", "r")) == 0); /* the allocator asks for random bytes once */
    set_filter(argv[1]);
    for (int i = 2; i < argc; i++) {
        char *arrow = strchr(argv[i], '>');

        if (*argv[i] == '=')
            try_all(argv[i] + 1);
        else if (arrow == NULL)
            read_it(argv[i]);
        else if (arrow == argv[i])
            write_it(arrow + 1);
        else {
            *arrow = '\0';
            if (rename(argv[i], arrow + 1) != 0)
                tell_error();
        }
    }
    _exit(0);
}
