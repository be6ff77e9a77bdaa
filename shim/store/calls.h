/*
 * Every system call that the store makes on a managed inode, or about it, goes through this one
 * table, so that a test can count them, fail the Nth one, cut it short or kill the process at it.
 * Nothing else may replace an entry.
 */
#ifndef ATOMSHIM_STORE_CALLS_H
#define ATOMSHIM_STORE_CALLS_H

#include "os/sys.h"

#include <errno.h>

struct store_calls {
    ssize_t (*pread)(int fd, void *buffer, size_t size, uint64_t offset);
    ssize_t (*pwrite)(int fd, const void *buffer, size_t size, uint64_t offset);
    ssize_t (*pwritev)(int fd, const struct iovec *pieces, int count, uint64_t offset);
    int (*fdatasync)(int fd);
    int (*fsync)(int fd);
    int (*write_out)(int fd, uint64_t size);
    int (*ftruncate)(int fd, uint64_t size);
    int (*fallocate)(int fd, int mode, uint64_t offset, uint64_t size);
    int (*fstat)(int fd, struct stat *status);
    int (*statx)(int fd, struct statx *status);
    int64_t (*lseek)(int fd, int64_t offset, int whence);
    int (*prlimit)(int resource, const void *new_limit, void *old_limit);
    int (*openat)(int directory, const char *path, int flags, mode_t mode);
    int (*unlinkat)(int directory, const char *path, int flags);
    long (*fcntl)(int fd, int command, long argument);
    ssize_t (*fgetxattr)(int fd, const char *name, void *value, size_t size);
    int (*fsetxattr)(int fd, const char *name, const void *value, size_t size, int flags);
    int (*fremovexattr)(int fd, const char *name);
};

/* Holds the raw system calls of sys.h, unless a test replaces one. */
extern struct store_calls store_calls;

/* Makes a call again after EINTR: on some file systems (FUSE, NFS) a signal interrupts calls that
 * it never interrupts elsewhere. */
#define STORE_RETRY(call)                                                                                    \
    ({                                                                                                       \
        long store_result;                                                                                   \
        do                                                                                                   \
            store_result = (call);                                                                           \
        while (store_result == -EINTR);                                                                      \
        store_result;                                                                                        \
    })

#endif
