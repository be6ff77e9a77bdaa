/*
 * A library for LD_PRELOAD that asks for the status of each file that a program opens, and does
 * nothing else. It shows what the kernel charges for that question, which the shim cannot leave
 * out: for a file to be written before the open, since O_TRUNC would cut it; for another one
 * behind it.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_and_ask(int folder, const char *path, int flags, va_list arguments)
{
    const unsigned mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, unsigned) : 0;
    struct stat status;
    int fd;

    if ((flags & O_ACCMODE) != O_RDONLY)
        (void)fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW);
    fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if ((flags & O_ACCMODE) == O_RDONLY && fd >= 0)
        (void)fstat(fd, &status);
    return fd;
}

#define OPEN(name, parameters, folder)                                                                       \
    int name parameters                                                                                      \
    {                                                                                                        \
        va_list arguments;                                                                                   \
        int fd;                                                                                              \
                                                                                                             \
        va_start(arguments, flags);                                                                          \
        fd = open_and_ask(folder, path, flags, arguments);                                                   \
        va_end(arguments);                                                                                   \
        return fd;                                                                                           \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int directory, const char *path, int flags, ...), directory)
OPEN(openat64, (int directory, const char *path, int flags, ...), directory)
