/*
 * A library for LD_PRELOAD that asks for the status of each file that a program opens, and hands
 * the calls of close and stat on. It shows what the kernel and the loader charge for what the shim
 * cannot leave out: the question, for a file to be written before the open, since O_TRUNC would cut
 * it, for another one behind it; and that a close and a stat come by.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_and_ask(int folder, const char *path, int flags, unsigned mode)
{
    struct stat status;
    int fd;

    if ((flags & O_ACCMODE) != O_RDONLY)
        (void)syscall(SYS_newfstatat, folder, path, &status, AT_SYMLINK_NOFOLLOW);
    fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if ((flags & O_ACCMODE) == O_RDONLY && fd >= 0)
        (void)syscall(SYS_fstat, fd, &status);
    return fd;
}

#define OPEN(name, parameters, folder)                                                                       \
    int name parameters                                                                                      \
    {                                                                                                        \
        va_list arguments;                                                                                   \
        unsigned mode;                                                                                       \
                                                                                                             \
        va_start(arguments, flags);                                                                          \
        mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, unsigned) : 0;                     \
        va_end(arguments);                                                                                   \
        return open_and_ask(folder, path, flags, mode);                                                      \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int directory, const char *path, int flags, ...), directory)
OPEN(openat64, (int directory, const char *path, int flags, ...), directory)

/* Programs that are compiled with _FORTIFY_SOURCE, as tar of Debian is, call these. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
int __openat64_2(int directory, const char *path, int flags);

int __open_2(const char *path, int flags)
{
    return open_and_ask(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return open_and_ask(AT_FDCWD, path, flags, 0);
}

int __openat_2(int directory, const char *path, int flags)
{
    return open_and_ask(directory, path, flags, 0);
}

int __openat64_2(int directory, const char *path, int flags)
{
    return open_and_ask(directory, path, flags, 0);
}

int close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

int fstat(int fd, struct stat *status)
{
    return (int)syscall(SYS_fstat, fd, status);
}

int fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return (int)syscall(SYS_newfstatat, directory, path, status, flags);
}
