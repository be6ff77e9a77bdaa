/*
 * without_memfd WAY PROGRAM ARGUMENT...: runs the program under a seccomp filter for
 * memfd_create(): `kill` ends the process that calls it, or prctl(); `errno` refuses it; `other`
 * refuses another call, and the name of a call below that one; `list` prints the names. `ranges`
 * ends the process that calls close_range(); `lease` refuses leases, as a kernel without them does.
 * `self FILE`: overwrites FILE, sets up filters that end it for memfd_create() and close_range(),
 * and forbid new processes, then overwrites FILE again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set_up(const struct sock_fprog *program)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) != 0;
}

static int filter(unsigned action, unsigned number, unsigned other)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};

    return set_up(&program);
}

static int refuse_leases(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])), /* low half */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETLEASE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};

    return set_up(&program);
}

#define CALL(name)                                                                                           \
    {                                                                                                        \
#name, SYS_##name                                                                                    \
    }

/* The system calls of an open, a write and a close of a managed file. */
static const struct {
    const char *name;
    unsigned number;
} calls[] = {
    CALL(readlinkat), CALL(newfstatat), CALL(fstat),         CALL(fstatfs),        CALL(statx),
    CALL(getcwd),     CALL(getdents64), CALL(lseek),         CALL(fcntl),          CALL(flock),
    CALL(pread64),    CALL(pwrite64),   CALL(pwritev),       CALL(ftruncate),      CALL(fchmod),
    CALL(fdatasync),  CALL(fsync),      CALL(fgetxattr),     CALL(fsetxattr),      CALL(fremovexattr),
    CALL(utimensat),  CALL(dup3),       CALL(memfd_create),  CALL(getpid),         CALL(gettid),
    CALL(madvise),    CALL(fallocate),  CALL(rt_sigpending), CALL(rt_sigprocmask),
};

/* Returns the number of the call, or a number that no program uses. */
static unsigned number_of(const char *name)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].number;
    return SYS_swapoff;
}

static int overwrite(const char *file, const char *content)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    ssize_t size = (ssize_t)strlen(content);

    return fd < 0 || write(fd, content, (size_t)size) != size || close(fd) != 0;
}

/* Sets up the filter. */
static int set_filter(const char *way)
{
    if (strcmp(way, "kill") == 0)
        return filter(SECCOMP_RET_KILL_PROCESS, SYS_memfd_create, SYS_prctl);
    if (strcmp(way, "lease") == 0)
        return refuse_leases();
    if (strcmp(way, "ranges") == 0)
        return filter(SECCOMP_RET_KILL_PROCESS, SYS_close_range, SYS_swapoff);
    return filter(SECCOMP_RET_ERRNO | EPERM, strcmp(way, "errno") == 0 ? SYS_memfd_create : number_of(way),
                  SYS_swapoff);
}

int main(int argc, char *argv[])
{
    for (size_t i = 0; argc == 2 && i < sizeof calls / sizeof calls[0]; i++)
        puts(calls[i].name);

    if (argc < 3)
        return argc == 2 ? 0 : 2;
    if (strcmp(argv[1], "self") == 0) {
        if (overwrite(argv[2], "unfiltered") != 0 || set_filter("ranges") != 0 ||
            filter(SECCOMP_RET_KILL_PROCESS, SYS_memfd_create, SYS_clone) != 0)
            return 3;
        return overwrite(argv[2], "sandboxed");
    }
    if (set_filter(argv[1]) != 0)
        return 3;
    (void)execvp(argv[2], argv + 2);
    return 127;
}
