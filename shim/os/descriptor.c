#include "os/descriptor.h"

#include "os/proc.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>

enum {
    HIGH = 768,
    LOW_LIMIT = 256,
    HIGH_LIMIT = 4096,    /* with a larger one the kernel's table would have to grow */
    MARK_BUFFER = SIGURG, /* all three are ignored by default */
    MARK_INODE = SIGWINCH,
    MARK_RELEASED = SIGCHLD,
    WALK_MAX = 1 << 16, /* without /proc/self/fd the shim tries so many numbers */
};

static const char *numbered_path(char path[PROC_PATH_SIZE], const char *directory, int number)
{
    char digits[12];
    int count = 0;
    char *end = stpcpy(path, directory);

    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count != 0)
        *end++ = digits[--count];
    *end = '\0';
    return path;
}

const char *descriptor_path(char path[PROC_PATH_SIZE], int fd)
{
    return numbered_path(path, "/proc/self/fd/", fd);
}

const char *descriptor_info_path(char path[PROC_PATH_SIZE], int fd)
{
    return numbered_path(path, "/proc/self/fdinfo/", fd);
}

const char *descriptor_process_path(char path[PROC_PATH_SIZE], int process)
{
    return numbered_path(path, "/proc/", process);
}

bool descriptor_raise_limit(struct rlimit *before)
{
    struct rlimit raised;

    if (sys_prlimit(RLIMIT_NOFILE, NULL, before) != 0 || before->rlim_cur >= before->rlim_max)
        return false;
    raised = (struct rlimit){before->rlim_max, before->rlim_max};
    return sys_prlimit(RLIMIT_NOFILE, &raised, NULL) == 0;
}

void descriptor_restore_limit(const struct rlimit *before)
{
    (void)sys_prlimit(RLIMIT_NOFILE, before, NULL);
}

/* Returns where private numbers begin, within the limit. */
static long high_number(const struct rlimit *limit)
{
    return limit->rlim_cur / 4 * 3 < HIGH ? (long)(limit->rlim_cur / 4 * 3) : HIGH;
}

int descriptor_beacon(void)
{
    struct rlimit limit = {.rlim_cur = 1024, .rlim_max = 1024};

    (void)sys_prlimit(RLIMIT_NOFILE, NULL, &limit);
    return (int)high_number(&limit);
}

/*
 * Private numbers lie at 768, or at three quarters of a lower limit, and beyond the program's limit
 * where they would be in its way: with a low limit, or a table that is half full. They do not
 * always lie beyond it, because that takes a raised limit, which a child that another thread forks
 * at that moment keeps.
 */
int descriptor_copy_private(int fd)
{
    struct rlimit limit = {.rlim_cur = 1024, .rlim_max = 1024};
    bool raised = false;
    long number;

    /* a limit that lets this succeed is high enough for the number and for the table */
    number = fd < HIGH / 2 ? sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH + DESCRIPTOR_BEACONS) : -EINVAL;
    if (number >= 0)
        return (int)number;
    (void)sys_prlimit(RLIMIT_NOFILE, NULL, &limit);
    if (limit.rlim_cur <= LOW_LIMIT || (rlim_t)fd >= limit.rlim_cur / 2)
        raised = descriptor_raise_limit(&limit);
    if (raised && limit.rlim_cur <= HIGH_LIMIT)
        number = sys_fcntl(fd, F_DUPFD_CLOEXEC, (long)limit.rlim_cur);
    else
        number = sys_fcntl(fd, F_DUPFD_CLOEXEC, high_number(&limit) + DESCRIPTOR_BEACONS);
    if (number == -EMFILE || number == -EINVAL)
        number = sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (raised)
        descriptor_restore_limit(&limit);
    return (int)number;
}

int descriptor_make_private(int fd)
{
    int number = descriptor_copy_private(fd);

    if (number >= 0)
        (void)sys_close(fd);
    return number;
}

void descriptor_mark_inode(int fd)
{
    (void)sys_fcntl(fd, F_SETSIG, MARK_INODE);
}

void descriptor_mark_buffer(int fd)
{
    (void)sys_fcntl(fd, F_SETSIG, MARK_BUFFER);
}

void descriptor_set_opener(int inode, int process)
{
    struct f_owner_ex owner = {F_OWNER_PID, process};

    if (process == DESCRIPTOR_NO_OPENER) /* a type of owner that the shim uses for nothing else */
        owner = (struct f_owner_ex){F_OWNER_PGRP, 0};
    (void)sys_fcntl(inode, F_SETOWN_EX, (long)&owner);
}

int descriptor_opener(int inode)
{
    struct f_owner_ex owner = {F_OWNER_PID, 0};

    (void)sys_fcntl(inode, F_GETOWN_EX, (long)&owner);
    return owner.type == F_OWNER_PGRP ? DESCRIPTOR_NO_OPENER : owner.pid;
}

void descriptor_release(int inode)
{
    (void)sys_fcntl(inode, F_SETSIG, MARK_RELEASED);
}

bool descriptor_is_released(int inode)
{
    return sys_fcntl(inode, F_GETSIG, 0) == MARK_RELEASED;
}

bool descriptor_is_private(int fd)
{
    long mark = sys_fcntl(fd, F_GETSIG, 0);

    return mark == MARK_BUFFER || mark == MARK_INODE || mark == MARK_RELEASED;
}

bool descriptor_is_buffer(int fd)
{
    return sys_fcntl(fd, F_GETSIG, 0) == MARK_BUFFER;
}

int descriptor_end_if_last(int buffer)
{
    long result = sys_fcntl(buffer, F_SETLEASE, F_WRLCK);

    /* the kernel sends the mark's signal to us if another process opens the file; the lease lasts
     * for one system call */
    if (result == 0) {
        (void)sys_fcntl(buffer, F_SETLEASE, F_UNLCK);
        return 1;
    }
    return result == -EAGAIN ? 0 : (int)result;
}

int descriptor_is_last(int buffer)
{
    int last = descriptor_end_if_last(buffer);

    if (last == 1)
        descriptor_mark_buffer(buffer);
    return last;
}

bool descriptor_is_one_free(void)
{
    int fd = sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0);

    if (fd >= 0)
        (void)sys_close(fd);
    return fd >= 0;
}

/* Finds the descriptors where the table is full, /proc is not mounted, or a filter forbids to read
 * it. The limit does not bound their numbers: it may have been lowered since they were opened. */
static int try_each_number(int (*visit)(int fd, void *context), void *context)
{
    int result = 0;

    for (int fd = 0; result == 0 && fd < WALK_MAX; fd++)
        if (sys_fcntl(fd, F_GETFD, 0) >= 0)
            result = visit(fd, context);
    return result;
}

int descriptor_for_each(int (*visit)(int fd, void *context), void *context)
{
    _Alignas(struct dirent64) char buffer[512];
    int directory = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    long size = directory < 0 ? directory : sys_getdents(directory, buffer, sizeof buffer);
    int result = 0;

    if (size < 0) {
        descriptor_close_if_open(directory);
        return try_each_number(visit, context);
    }
    for (; result == 0 && size > 0; size = sys_getdents(directory, buffer, sizeof buffer))
        for (long at = 0; result == 0 && at < size;) {
            const struct dirent64 *entry = (const struct dirent64 *)(buffer + at);
            uint64_t fd;

            /* not "." and ".." */
            if (*proc_parse_number(entry->d_name, 10, &fd) == '\0' && (int)fd != directory)
                result = visit((int)fd, context);
            at += entry->d_reclen;
        }
    (void)sys_close(directory);
    return result;
}
