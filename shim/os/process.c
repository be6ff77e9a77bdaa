#include "os/process.h"

#include "os/descriptor.h"
#include "os/proc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

/* PIDFD_GET_INFO of <linux/pidfd.h>, of Linux 6.13: since 6.15 it tells the exit code after a wait,
 * too. */
struct process_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t number; /* in the caller's pid namespace */
    uint32_t ids[10];
    int32_t exit_code;
};
#define GET_PROCESS_INFO _IOWR(0xff, 11, struct process_info)
enum { INFO_NUMBER = 1 << 0, INFO_EXIT = 1 << 3 };

enum { LOOKS_MAX = 20, LOOK_PAUSE = 500 * 1000 /* nanoseconds */ };
enum { FLAGS_FIELD = 9, START_FIELD = 22, EXIT_CODE_FIELD = 52, FLAG_EXITING = 4 };

/* Reads the field of this number, from the third on; `text` is the blank in front of the third. */
static uint64_t read_field(const char *text, int number)
{
    uint64_t value = 0;

    for (int i = 3; i < number && text != NULL; i++)
        text = strchr(text + 1, ' ');
    if (text != NULL)
        (void)proc_parse_number(text + 1, 10, &value);
    return value;
}

bool process_parse_stat(const char *text, struct process_stat *stat)
{
    const char *end = strrchr(text, ')'); /* the second field is a name, which may hold anything */

    if (end == NULL || end[1] != ' ' || end[2] == '\0')
        return false;
    stat->ended = end[2] == 'Z' || end[2] == 'X';
    stat->exiting = (read_field(end + 1, FLAGS_FIELD) & FLAG_EXITING) != 0;
    stat->start = read_field(end + 1, START_FIELD);
    stat->exit_code = (int)read_field(end + 1, EXIT_CODE_FIELD);
    return true;
}

int process_stat(int process, struct process_stat *stat)
{
    char text[1024];
    ssize_t n = proc_read(process, "stat", text, sizeof text);

    if (n < 0)
        return (int)n;
    return process_parse_stat(text, stat) ? 0 : -ESRCH;
}

int process_descriptor_stat(int process, int fd, struct stat *status)
{
    char path[PROC_PATH_SIZE];
    int folder = proc_open(process, "fd", O_PATH);
    int error = folder;

    if (folder < 0)
        return error;
    error = sys_fstatat(folder, descriptor_process_path(path, fd) + strlen("/proc/"), status, 0);
    (void)sys_close(folder);
    return error;
}

bool process_proc_is_ours(void)
{
    char link[PROC_PATH_SIZE];
    char path[PROC_PATH_SIZE];
    ssize_t n = sys_readlinkat(AT_FDCWD, "/proc/self", link, sizeof link - 1);

    link[n < 0 ? 0 : n] = '\0';
    return strcmp(descriptor_process_path(path, sys_getpid()) + strlen("/proc/"), link) == 0;
}

/* The link is "pid:[4026531836]", namespaces(7). */
uint64_t process_namespace(void)
{
    char link[PROC_PATH_SIZE];
    uint64_t number = 0;
    ssize_t n = sys_readlinkat(AT_FDCWD, "/proc/self/ns/pid", link, sizeof link - 1);

    for (ssize_t i = 0; i < n; i++)
        if (link[i] >= '0' && link[i] <= '9')
            number = number * 10 + (uint64_t)(link[i] - '0');
    return number & UINT32_MAX;
}

/* A folder has a link from each folder in it, and two of its own (inode(7), st_nlink). */
int process_threads(int process)
{
    char path[PROC_PATH_SIZE];
    struct stat status;

    if (process == PROC_SELF)
        (void)strcpy(path, "/proc/self");
    else
        (void)descriptor_process_path(path, process);
    (void)strcat(path, "/task");
    return sys_fstatat(AT_FDCWD, path, &status, 0) == 0 ? (int)status.st_nlink - 2 : 0;
}

bool process_children_are_elsewhere(void)
{
    char own[PROC_PATH_SIZE];
    char childrens[PROC_PATH_SIZE];
    ssize_t n = sys_readlinkat(AT_FDCWD, "/proc/self/ns/pid", own, sizeof own);
    /* ENOENT until the new namespace has its first process */
    ssize_t m = sys_readlinkat(AT_FDCWD, "/proc/self/ns/pid_for_children", childrens, sizeof childrens);

    return n > 0 && (m != n || memcmp(own, childrens, (size_t)n) != 0);
}

int process_of_pidfd(int pidfd)
{
    struct process_info info = {.mask = INFO_NUMBER};
    char path[PROC_PATH_SIZE];
    char text[512];
    uint64_t number = 0;
    int fd;

    if (SYS_CALL(SYS_ioctl, pidfd, GET_PROCESS_INFO, &info, 0, 0, 0) == 0)
        return info.number != 0 ? (int)info.number : PROCESS_NOBODY;
    fd = DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, descriptor_info_path(path, pidfd), O_RDONLY | O_CLOEXEC, 0));
    (void)proc_read_open(fd, text, sizeof text);
    if (process_proc_is_ours()) /* "Pid:\t-1" of one that is gone has no digit in front */
        (void)proc_find_field(text, "Pid", 10, &number);
    return number != 0 ? (int)number : PROCESS_NOBODY;
}

static bool is_same_process(const struct process *process, const struct process_stat *stat)
{
    return process->start == 0 || stat->start == process->start;
}

bool process_open(struct process *process, int number)
{
    struct process_stat stat = {0};

    *process = (struct process){.number = number};
    process->pidfd = (int)SYS_CALL(SYS_pidfd_open, number, 0, 0, 0, 0, 0);
    if (process_stat(number, &stat) == 0)
        process->start = stat.start;
    if (process->pidfd < 0 && process->pidfd != -ESRCH && process->start != 0 && !stat.ended)
        process->pidfd = -1;
    else if (process->pidfd < 0)
        return false;
    return true;
}

bool process_has_ended(const struct process *process)
{
    const struct timespec at_once = {0, 0};
    struct pollfd poll = {.fd = process->pidfd, .events = POLLIN};
    struct process_stat stat;

    if (process->pidfd >= 0)
        return SYS_CALL(SYS_ppoll, &poll, 1, &at_once, 0, 0, 0) == 1;
    return process_stat(process->number, &stat) != 0 || !is_same_process(process, &stat) || stat.ended;
}

/*
 * Tells whether stat->exit_code is the true one. Without ptrace rights the kernel shows 0
 * (do_task_stat() in its fs/proc/array.c), and does not show the link of a namespace either:
 * proc(5).
 */
static bool is_exit_code_shown(int number, const struct process_stat *stat)
{
    char path[PROC_PATH_SIZE];
    char link[PROC_PATH_SIZE];

    (void)strcat((char *)descriptor_process_path(path, number), "/ns/pid");
    return stat->exit_code != 0 || sys_readlinkat(AT_FDCWD, path, link, sizeof link) > 0;
}

static enum process_end end_of_status(int status)
{
    return WIFSIGNALED(status) ? PROCESS_KILLED : PROCESS_EXITED;
}

enum process_end process_how_ended(const struct process *process)
{
    struct process_info info;
    struct process_stat stat;

    /* a parent may have waited for the process between the two questions: ask again */
    for (int look = 0; look < LOOKS_MAX; look++) {
        info = (struct process_info){.mask = INFO_EXIT};
        if (process->pidfd >= 0 &&
            SYS_CALL(SYS_ioctl, process->pidfd, GET_PROCESS_INFO, &info, 0, 0, 0) == 0 &&
            (info.mask & INFO_EXIT) != 0)
            return end_of_status(info.exit_code);
        if (process_stat(process->number, &stat) == 0 && is_same_process(process, &stat)) {
            if (!stat.exiting)
                return PROCESS_LIVES;
            if (is_exit_code_shown(process->number, &stat))
                return end_of_status(stat.exit_code);
            if (stat.ended)
                break;
        }
        sys_sleep(LOOK_PAUSE);
    }
    return process_has_ended(process) ? PROCESS_UNKNOWN : PROCESS_LIVES;
}
