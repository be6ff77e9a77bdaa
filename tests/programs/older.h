/* Included before a test program that is built against an older C library than this machine's, or
 * musl (see Makefile): makes the missing calls from others. */
#ifndef ATOMSHIM_OLDER_H
#define ATOMSHIM_OLDER_H

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef STATX_TYPE /* musl before 1.2.5 */
#define WITHOUT_STATX
#include <linux/stat.h>
#endif

#ifndef SYS_close_range
#define SYS_close_range 436
#define SYS_openat2 437
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

#if !defined(__GLIBC__) || __GLIBC_MINOR__ < 34
#define _Fork fork
#define posix_spawn_file_actions_addclosefrom_np(actions, fd) posix_spawn_file_actions_addclose(actions, fd)

static inline int close_range(unsigned first, unsigned last, int flags)
{
    return (int)syscall(SYS_close_range, first, last, flags);
}

static inline void closefrom(int lowest)
{
    (void)close_range((unsigned)lowest, ~0u, 0);
}

static inline int execveat(int directory, const char *path, char *const arguments[],
                           char *const environment[], int flags)
{
    return (int)syscall(SYS_execveat, directory, path, arguments, environment, flags);
}
#endif

#ifndef __GLIBC__
#include <linux/fs.h>
#undef BLOCK_SIZE
#define fcntl64 fcntl
#define fcloseall() fflush(NULL)

#pragma weak __open_2
#pragma weak __open64_2
#pragma weak __openat_2
#pragma weak __openat64_2

#ifdef WITHOUT_STATX
static inline ssize_t preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    return syscall(SYS_preadv2, fd, pieces, count, offset, 0L, flags);
}

static inline int renameat2(int from_directory, const char *from, int to_directory, const char *to,
                            unsigned flags)
{
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
}

static inline int statx(int directory, const char *path, int flags, unsigned mask, struct statx *status)
{
    return (int)syscall(SYS_statx, directory, path, flags, mask, status);
}
#endif
#endif

#endif
