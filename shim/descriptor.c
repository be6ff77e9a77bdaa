#include "descriptor.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

/*
 * Private descriptors start at the largest of these numbers that is at most three quarters of the soft limit.
 * Few candidates, so that one poll() probes them all.
 */
static const int bases[] = {768, 192, 48, 12};

enum { BASES = sizeof bases / sizeof bases[0], MARK = SIGURG };

/* The number that keeps us findable though its first owner was closed, or -1. */
static int anchor = -1;

const char *descriptor_path(char path[PROC_PATH_SIZE], int fd)
{
    char digits[12];
    int count = 0;
    size_t length = sizeof "/proc/self/fd/" - 1;

    memcpy(path, "/proc/self/fd/", length);
    do
        digits[count++] = (char)('0' + fd % 10);
    while ((fd /= 10) != 0);
    while (count != 0)
        path[length++] = digits[--count];
    path[length] = '\0';
    return path;
}

static int private_base(void)
{
    struct rlimit limit = {.rlim_cur = 1024};

    (void)sys_prlimit(RLIMIT_NOFILE, NULL, &limit);
    for (int i = 0; i < BASES; i++)
        if ((rlim_t)bases[i] * 4 <= limit.rlim_cur * 3)
            return bases[i];
    return 3;
}

int descriptor_make_private(int fd)
{
    long number = sys_fcntl(fd, F_DUPFD, private_base());

    if (number == -EMFILE || number == -EINVAL)
        number = sys_fcntl(fd, F_DUPFD, 3);
    if (number < 0)
        return (int)number;
    (void)sys_fcntl((int)number, F_SETSIG, MARK);
    (void)sys_close(fd);
    return (int)number;
}

bool descriptor_is_private(int fd)
{
    return sys_fcntl(fd, F_GETSIG, 0) == MARK;
}

bool descriptor_inherited_any(void)
{
    struct pollfd entries[BASES];
    const struct timespec at_once = {0, 0};

    for (int i = 0; i < BASES; i++)
        entries[i] = (struct pollfd){.fd = bases[i], .events = 0};
    if (sys_ppoll(entries, BASES, &at_once) < 0)
        return true;
    for (int i = 0; i < BASES; i++)
        if (!(entries[i].revents & POLLNVAL))
            return true;
    return false;
}

void descriptor_keep_findable(int closed, int other)
{
    if (other < 0) {
        int number = __atomic_exchange_n(&anchor, -1, __ATOMIC_ACQ_REL);

        if (number >= 0)
            (void)sys_close(number);
        return;
    }
    for (int i = 0; i < BASES; i++) {
        long number = closed == bases[i] ? sys_fcntl(other, F_DUPFD, closed) : -1;

        if (number == closed && descriptor_is_private(closed))
            __atomic_store_n(&anchor, closed, __ATOMIC_RELEASE);
        else if (number >= 0)
            (void)sys_close((int)number);
    }
}

int descriptor_is_last(int private)
{
    long result = sys_fcntl(private, F_SETLEASE, F_WRLCK);

    /* taking a lease makes its break send us the mark's signal; it is held for one system call */
    if (result == 0) {
        (void)sys_fcntl(private, F_SETLEASE, F_UNLCK);
        return 1;
    }
    return result == -EAGAIN ? 0 : (int)result;
}

/* "123" to 123, "." to -1 */
static int parse_number(const char *name)
{
    int number = 0;

    for (; *name != '\0'; name++) {
        if (*name < '0' || *name > '9')
            return -1;
        number = number * 10 + (*name - '0');
    }
    return number;
}

int descriptor_for_each(int (*visit)(int fd, void *context), void *context)
{
    _Alignas(struct dirent64) char buffer[512];
    int directory = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int result = 0;
    long size;

    if (directory < 0)
        return directory;
    while (result == 0 && (size = sys_getdents(directory, buffer, sizeof buffer)) > 0)
        for (long at = 0; result == 0 && at < size;) {
            const struct dirent64 *entry = (const struct dirent64 *)(buffer + at);
            int fd = parse_number(entry->d_name);

            if (fd >= 0 && fd != directory)
                result = visit(fd, context);
            at += entry->d_reclen;
        }
    (void)sys_close(directory);
    return result;
}
