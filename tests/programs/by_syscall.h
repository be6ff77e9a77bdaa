/* Included before a calls_*.c (see Makefile): makes its calls by syscall(2), which must do the
 * same. Where a kernel has not the older numbers, the C library makes the call. */
#ifndef ATOMSHIM_BY_SYSCALL_H
#define ATOMSHIM_BY_SYSCALL_H

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static inline int by_openat2(int directory, const char *path, int flags, mode_t mode)
{
    struct open_how how = {.flags = (unsigned)flags};

    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)
        how.mode = mode & 07777; /* it refuses flags that openat() ignores */
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

static inline _Noreturn void by_exit(int status)
{
    for (;;)
        (void)syscall(SYS_exit_group, status);
}

static inline int by_truncate(const char *path, off_t size)
{
    return (int)syscall(SYS_truncate, path, size);
}

static inline int by_fsync(int fd)
{
    return (int)syscall(SYS_fsync, fd);
}

static inline int by_fdatasync(int fd)
{
    return (int)syscall(SYS_fdatasync, fd);
}

static inline int by_fallocate(int fd, int mode, off_t offset, off_t size)
{
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

static inline ssize_t by_readlinkat(int directory, const char *path, char *link, size_t size)
{
    return syscall(SYS_readlinkat, directory, path, link, size);
}

#ifdef SYS_open
static inline ssize_t by_readlink(const char *path, char *link, size_t size)
{
    return syscall(SYS_readlink, path, link, size);
}

static inline int by_creat(const char *path, mode_t mode)
{
    return (int)syscall(SYS_creat, path, mode);
}

#define rename(from, to) ((int)syscall(SYS_rename, from, to))
#define renameat(...) ((int)syscall(SYS_renameat, __VA_ARGS__))
#define open(...) ((int)syscall(SYS_open, __VA_ARGS__))
#define chmod(path, mode) ((int)syscall(SYS_chmod, path, mode))
#define chown(path, user, group) ((int)syscall(SYS_chown, path, user, group))
#define utime(path, times) ((int)syscall(SYS_utime, path, times))
#define utimes(path, times) ((int)syscall(SYS_utimes, path, times))
#define futimesat(...) ((int)syscall(SYS_futimesat, __VA_ARGS__))
#define readlink by_readlink
#define access(path, mode) ((int)syscall(SYS_access, path, mode))
#define creat by_creat
#define dup2(from, to) ((int)syscall(SYS_dup2, from, to))
#define stat(path, status) ((int)syscall(SYS_stat, path, status))
#define lstat(path, status) ((int)syscall(SYS_lstat, path, status))
#endif
#define renameat2(...) ((int)syscall(SYS_renameat2, __VA_ARGS__))
#define openat(...) ((int)syscall(SYS_openat, __VA_ARGS__))
#define openat64 by_openat2
#define truncate by_truncate
#define close(fd) ((int)syscall(SYS_close, fd))
#define close_range(first, last, flags) ((int)syscall(SYS_close_range, first, last, flags))
#define dup3(from, to, flags) ((int)syscall(SYS_dup3, from, to, flags))
#define fsync by_fsync
#define prctl(...) ((int)syscall(SYS_prctl, __VA_ARGS__))
#define fdatasync by_fdatasync
#define msync(address, size, flags) ((int)syscall(SYS_msync, address, size, flags))
#define munmap(address, size) ((int)syscall(SYS_munmap, address, size))
#define copy_file_range(...) ((ssize_t)syscall(SYS_copy_file_range, __VA_ARGS__))
#define fcntl(...) ((int)syscall(SYS_fcntl, __VA_ARGS__))
#define flock(fd, operation) ((int)syscall(SYS_flock, fd, operation))
#define fstat(fd, status) ((int)syscall(SYS_fstat, fd, status))
#define fstatat(directory, path, status, flags) ((int)syscall(SYS_newfstatat, directory, path, status, flags))
#define statx(...) ((int)syscall(SYS_statx, __VA_ARGS__))
#define fchmod(fd, mode) ((int)syscall(SYS_fchmod, fd, mode))
#define fchown(fd, user, group) ((int)syscall(SYS_fchown, fd, user, group))
#define futimens(fd, times) ((int)syscall(SYS_utimensat, fd, NULL, times, 0))
#define utimensat(...) ((int)syscall(SYS_utimensat, __VA_ARGS__))
#define fsetxattr(...) ((int)syscall(SYS_fsetxattr, __VA_ARGS__))
#define fgetxattr(...) ((ssize_t)syscall(SYS_fgetxattr, __VA_ARGS__))
#define flistxattr(...) ((ssize_t)syscall(SYS_flistxattr, __VA_ARGS__))
#define fremovexattr(fd, name) ((int)syscall(SYS_fremovexattr, fd, name))
#define fchmodat(directory, path, mode, flags) ((int)syscall(SYS_fchmodat, directory, path, mode))
#define fchownat(...) ((int)syscall(SYS_fchownat, __VA_ARGS__))
#define setxattr(...) ((int)syscall(SYS_setxattr, __VA_ARGS__))
#define getxattr(...) ((ssize_t)syscall(SYS_getxattr, __VA_ARGS__))
#define listxattr(path, list, size) ((ssize_t)syscall(SYS_listxattr, path, list, size))
#define removexattr(path, name) ((int)syscall(SYS_removexattr, path, name))
#define readlinkat by_readlinkat
#define faccessat(...) ((int)syscall(SYS_faccessat2, __VA_ARGS__))
#define linkat(...) ((int)syscall(SYS_linkat, __VA_ARGS__))
#define name_to_handle_at(...) ((int)syscall(SYS_name_to_handle_at, __VA_ARGS__))
#define fstatfs(fd, status) ((int)syscall(SYS_fstatfs, fd, status))
#define ioctl(...) ((int)syscall(SYS_ioctl, __VA_ARGS__))
#define fallocate by_fallocate
#define syncfs(fd) ((int)syscall(SYS_syncfs, fd))
#define sync() ((void)syscall(SYS_sync))
#define _exit by_exit

#endif
