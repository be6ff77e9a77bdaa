/*
 * The fallbacks of calls.def: REAL(NAME) is one of these where no library has the function. Each is
 * the raw system call (syscalls(2)), or fails with ENOSYS where only a libc can do the work.
 */
#include "interpose/real.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>

/* Turns the result of a system call into that of a libc function: -1 and errno for an error. */
static long libc_result(long result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

/* A system call with up to six arguments. */
#define CALL_UP_TO_6(number, a, b, c, d, e, f, ...) SYS_CALL(number, a, b, c, d, e, f)
#define SYSTEM_CALL(...) libc_result(CALL_UP_TO_6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))

/* RAW(result, name, parameters, number, arguments...) makes a function of one system call. */
#define RAW(result, name, parameters, ...)                                                                   \
    result name parameters                                                                                   \
    {                                                                                                        \
        return (result)SYSTEM_CALL(__VA_ARGS__);                                                             \
    }

/* Does the same where the last argument, here `word`, is optional: the kernel reads it only if the
 * call has it. */
#define RAW_VARIADIC(name, parameters, last, ...)                                                            \
    int name parameters                                                                                      \
    {                                                                                                        \
        va_list list;                                                                                        \
        long word;                                                                                           \
        va_start(list, last);                                                                                \
        word = va_arg(list, long);                                                                           \
        va_end(list);                                                                                        \
        return (int)SYSTEM_CALL(__VA_ARGS__);                                                                \
    }

/* MADE(result, name, parameters, call) makes a function of another call. */
#define MADE(result, name, parameters, call)                                                                 \
    result name parameters                                                                                   \
    {                                                                                                        \
        return call;                                                                                         \
    }

/* MISSING(result, name, parameters, failure) makes a function that returns `failure` with
 * ENOSYS. */
#define MISSING(result, name, parameters, failure) MADE(result, name, parameters, (errno = ENOSYS, failure))

/* On 64-bit machines the kernel's structs are the libc's, and the 64 forms are the same. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one struct stat");
_Static_assert(sizeof(struct statfs) == sizeof(struct statfs64), "one struct statfs");

/* clang-format off */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* open.c */
RAW_VARIADIC(raw_open, (const char *path, int flags, ...), flags, SYS_openat, AT_FDCWD, path, flags, word)
RAW_VARIADIC(raw_openat, (int directory, const char *path, int flags, ...), flags, SYS_openat, directory,
    path, flags, word)
RAW(int, raw_open_2, (const char *path, int flags), SYS_openat, AT_FDCWD, path, flags)
RAW(int, raw_openat_2, (int directory, const char *path, int flags), SYS_openat, directory, path, flags)
RAW(int, raw_creat, (const char *path, mode_t mode), SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC,
    mode)
RAW(int, raw_openat2, (int directory, const char *path, const struct open_how *how, size_t size), SYS_openat2,
    directory, path, how, size)
RAW(int, raw_open_by_handle_at, (int mount, struct file_handle *handle, int flags), SYS_open_by_handle_at,
    mount, handle, flags)
RAW(int, raw_truncate, (const char *path, off_t size), SYS_truncate, path, size)
RAW(int, raw_ftruncate, (int fd, off_t size), SYS_ftruncate, fd, size)

/* stream.c, temporary.c */
MISSING(FILE *, missing_fopen, (const char *path, const char *mode), NULL)
MISSING(FILE *, missing_fdopen, (int fd, const char *mode), NULL)
MISSING(FILE *, missing_freopen, (const char *path, const char *mode, FILE *stream), NULL)
MISSING(int, missing_fclose, (FILE *stream), EOF)
MISSING(int, missing_fcloseall, (void), EOF)
MISSING(int, missing_closedir, (DIR *directory), -1)
MISSING(int, missing_mkstemp, (char *path), -1)
MISSING(int, missing_mkostemp, (char *path, int flags), -1)
MISSING(int, missing_mkostemps, (char *path, int suffix, int flags), -1)
MISSING(void, missing_updwtmp, (const char *path, const struct utmp *entry), (void)0)
MISSING(void, missing_updwtmpx, (const char *path, const struct utmpx *entry), (void)0)

/* close.c, sync.c, lock.c */
RAW(int, raw_close, (int fd), SYS_close, fd)
RAW(int, raw_posix_close, (int fd, int flags), SYS_close, fd)
RAW(int, raw_close_range, (unsigned first, unsigned last, int flags), SYS_close_range, first, last, flags)
RAW(void, raw_closefrom, (int lowest), SYS_close_range, lowest < 0 ? 0 : lowest, ~0u, 0)
RAW(int, raw_dup3, (int from, int to, int flags), SYS_dup3, from, to, flags)
RAW(int, raw_fsync, (int fd), SYS_fsync, fd)
RAW(int, raw_fdatasync, (int fd), SYS_fdatasync, fd)
RAW(void, raw_sync, (void), SYS_sync)
RAW(int, raw_syncfs, (int fd), SYS_syncfs, fd)
RAW(int, raw_msync, (void *address, size_t size, int flags), SYS_msync, address, size, flags)
RAW(int, raw_munmap, (void *address, size_t size), SYS_munmap, address, size)
RAW(ssize_t, raw_copy_file_range, (int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
    unsigned flags), SYS_copy_file_range, from, from_offset, to, to_offset, size, flags)
RAW_VARIADIC(raw_fcntl, (int fd, int command, ...), command, SYS_fcntl, fd, command, word)
MISSING(int, missing_lockf, (int fd, int command, off_t size), -1)
RAW(int, raw_flock, (int fd, int operation), SYS_flock, fd, operation)

/* status.c; the versioned forms are glibc's before 2.33 */
RAW(int, raw_stat, (const char *path, struct stat *status), SYS_newfstatat, AT_FDCWD, path, status, 0)
RAW(int, raw_stat64, (const char *path, struct stat64 *status), SYS_newfstatat, AT_FDCWD, path, status, 0)
RAW(int, raw_lstat, (const char *path, struct stat *status), SYS_newfstatat, AT_FDCWD, path, status,
    AT_SYMLINK_NOFOLLOW)
RAW(int, raw_lstat64, (const char *path, struct stat64 *status), SYS_newfstatat, AT_FDCWD, path, status,
    AT_SYMLINK_NOFOLLOW)
RAW(int, raw_fstat, (int fd, struct stat *status), SYS_fstat, fd, status)
RAW(int, raw_fstat64, (int fd, struct stat64 *status), SYS_fstat, fd, status)
RAW(int, raw_fstatat, (int directory, const char *path, struct stat *status, int flags), SYS_newfstatat,
    directory, path, status, flags)
RAW(int, raw_fstatat64, (int directory, const char *path, struct stat64 *status, int flags), SYS_newfstatat,
    directory, path, status, flags)
MADE(int, raw_xstat, (int version, const char *path, struct stat *status), raw_stat(path, status))
MADE(int, raw_xstat64, (int version, const char *path, struct stat64 *status), raw_stat64(path, status))
MADE(int, raw_lxstat, (int version, const char *path, struct stat *status), raw_lstat(path, status))
MADE(int, raw_lxstat64, (int version, const char *path, struct stat64 *status), raw_lstat64(path, status))
MADE(int, raw_fxstat, (int version, int fd, struct stat *status), raw_fstat(fd, status))
MADE(int, raw_fxstat64, (int version, int fd, struct stat64 *status), raw_fstat64(fd, status))
MADE(int, raw_fxstatat, (int version, int directory, const char *path, struct stat *status, int flags),
    raw_fstatat(directory, path, status, flags))
MADE(int, raw_fxstatat64, (int version, int directory, const char *path, struct stat64 *status, int flags),
    raw_fstatat64(directory, path, status, flags))
RAW(int, raw_statx, (int directory, const char *path, int flags, unsigned mask, struct statx *status),
    SYS_statx, directory, path, flags, mask, status)

/* metadata.c; a libc without fchmodat2(2) knows no flags, either */
RAW(int, raw_fchmod, (int fd, mode_t mode), SYS_fchmod, fd, mode)
RAW(int, raw_chmod, (const char *path, mode_t mode), SYS_fchmodat, AT_FDCWD, path, mode)
MADE(int, raw_fchmodat, (int directory, const char *path, mode_t mode, int flags),
    (int)libc_result(flags != 0 ? -EOPNOTSUPP : SYS_CALL(SYS_fchmodat, directory, path, mode, 0, 0, 0)))
MADE(int, raw_lchmod, (const char *path, mode_t mode), raw_fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW))
RAW(int, raw_fchown, (int fd, uid_t user, gid_t group), SYS_fchown, fd, user, group)
RAW(int, raw_chown, (const char *path, uid_t user, gid_t group), SYS_fchownat, AT_FDCWD, path, user, group)
RAW(int, raw_lchown, (const char *path, uid_t user, gid_t group), SYS_fchownat, AT_FDCWD, path, user, group,
    AT_SYMLINK_NOFOLLOW)
RAW(int, raw_fchownat, (int directory, const char *path, uid_t user, gid_t group, int flags), SYS_fchownat,
    directory, path, user, group, flags)
RAW(int, raw_utimensat, (int directory, const char *path, const struct timespec times[2], int flags),
    SYS_utimensat, directory, path, times, flags)
RAW(int, raw_futimens, (int fd, const struct timespec times[2]), SYS_utimensat, fd, 0, times)
MADE(int, raw_futimes, (int fd, const struct timeval times[2]), raw_futimesat(fd, NULL, times))
MADE(int, raw_utimes, (const char *path, const struct timeval times[2]), raw_futimesat(AT_FDCWD, path, times))
RAW(int, raw_fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags), SYS_fsetxattr,
    fd, name, value, size, flags)
RAW(int, raw_setxattr, (const char *path, const char *name, const void *value, size_t size, int flags),
    SYS_setxattr, path, name, value, size, flags)
RAW(int, raw_lsetxattr, (const char *path, const char *name, const void *value, size_t size, int flags),
    SYS_lsetxattr, path, name, value, size, flags)
RAW(ssize_t, raw_fgetxattr, (int fd, const char *name, void *value, size_t size), SYS_fgetxattr, fd, name,
    value, size)
RAW(ssize_t, raw_getxattr, (const char *path, const char *name, void *value, size_t size), SYS_getxattr, path,
    name, value, size)
RAW(ssize_t, raw_flistxattr, (int fd, char *list, size_t size), SYS_flistxattr, fd, list, size)
RAW(ssize_t, raw_listxattr, (const char *path, char *list, size_t size), SYS_listxattr, path, list, size)
RAW(int, raw_fremovexattr, (int fd, const char *name), SYS_fremovexattr, fd, name)
RAW(int, raw_lremovexattr, (const char *path, const char *name), SYS_lremovexattr, path, name)
RAW(int, raw_removexattr, (const char *path, const char *name), SYS_removexattr, path, name)

/* paths.c */
RAW(ssize_t, raw_readlink, (const char *path, char *link, size_t size), SYS_readlinkat, AT_FDCWD, path, link,
    size)
RAW(ssize_t, raw_readlinkat, (int directory, const char *path, char *link, size_t size), SYS_readlinkat,
    directory, path, link, size)
MADE(ssize_t, raw_readlink_chk, (const char *path, char *link, size_t size, size_t room), raw_readlink(path,
    link, size < room ? size : room))
MADE(ssize_t, raw_readlinkat_chk, (int directory, const char *path, char *link, size_t size, size_t room),
    raw_readlinkat(directory, path, link, size < room ? size : room))
RAW(int, raw_access, (const char *path, int mode), SYS_faccessat, AT_FDCWD, path, mode)
MADE(int, raw_euidaccess, (const char *path, int mode), raw_faccessat(AT_FDCWD, path, mode, AT_EACCESS))
RAW(int, raw_link, (const char *path, const char *new_path), SYS_linkat, AT_FDCWD, path, AT_FDCWD, new_path)
RAW(int, raw_linkat, (int directory, const char *path, int new_directory, const char *new_path, int flags),
    SYS_linkat, directory, path, new_directory, new_path, flags)
RAW(int, raw_name_to_handle_at, (int directory, const char *path, struct file_handle *handle, int *mount,
    int flags), SYS_name_to_handle_at, directory, path, handle, mount, flags)
MISSING(char *, missing_realpath, (const char *path, char *resolved), NULL)
MISSING(char *, missing_realpath_chk, (const char *path, char *resolved, size_t room), NULL)
MISSING(char *, missing_canonicalize, (const char *path), NULL)

/* filesystem.c */
RAW(int, raw_fstatfs, (int fd, struct statfs *status), SYS_fstatfs, fd, status)
RAW(int, raw_fstatfs64, (int fd, struct statfs64 *status), SYS_fstatfs, fd, status)
RAW(int, raw_statfs, (const char *path, struct statfs *status), SYS_statfs, path, status)
RAW(int, raw_statfs64, (const char *path, struct statfs64 *status), SYS_statfs, path, status)
RAW(int, raw_fallocate, (int fd, int mode, off_t offset, off_t size), SYS_fallocate, fd, mode, offset, size)
RAW_VARIADIC(raw_ioctl, (int fd, unsigned long request, ...), request, SYS_ioctl, fd, request, word)
MISSING(int, missing_fstatvfs, (int fd, struct statvfs *status), -1)
MISSING(int, missing_fstatvfs64, (int fd, struct statvfs64 *status), -1)
MISSING(int, missing_statvfs, (const char *path, struct statvfs *status), -1)
MISSING(int, missing_statvfs64, (const char *path, struct statvfs64 *status), -1)
MISSING(long, missing_fpathconf, (int fd, int name), -1)
MISSING(long, missing_pathconf, (const char *path, int name), -1)

/* walk.c */
MISSING(int, missing_ftw, (const char *path, __ftw_func_t function, int descriptors), -1)
MISSING(int, missing_ftw64, (const char *path, __ftw64_func_t function, int descriptors), -1)
MISSING(int, missing_nftw, (const char *path, __nftw_func_t function, int descriptors, int flags), -1)
MISSING(int, missing_nftw64, (const char *path, __nftw64_func_t function, int descriptors, int flags), -1)
MISSING(FTSENT *, missing_fts_read, (FTS *tree), NULL)
MISSING(FTSENT64 *, missing_fts64_read, (FTS64 *tree), NULL)
MISSING(FTSENT *, missing_fts_children, (FTS *tree, int options), NULL)
MISSING(FTSENT64 *, missing_fts64_children, (FTS64 *tree, int options), NULL)

/* rename.c */
RAW(int, raw_renameat2, (int from_directory, const char *from, int to_directory, const char *to,
    unsigned flags), SYS_renameat2, from_directory, from, to_directory, to, flags)
RAW(int, raw_renameat, (int from_directory, const char *from, int to_directory, const char *to),
    SYS_renameat2, from_directory, from, to_directory, to)
RAW(int, raw_rename, (const char *from, const char *to), SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to)
RAW(int, raw_symlink, (const char *target, const char *path), SYS_symlinkat, target, AT_FDCWD, path)
RAW(int, raw_symlinkat, (const char *target, int directory, const char *path), SYS_symlinkat, target,
    directory, path)

/* fork.c, exec.c, spawn.c; posix_spawn(3) and its actions return the error and leave errno alone */
RAW(pid_t, raw_fork, (void), SYS_clone, SIGCHLD)
RAW(int, raw_execve, (const char *path, char *const arguments[], char *const environment[]), SYS_execve, path,
    arguments, environment)
RAW(int, raw_execveat, (int directory, const char *path, char *const arguments[], char *const environment[],
    int flags), SYS_execveat, directory, path, arguments, environment, flags)
RAW(int, raw_fexecve, (int fd, char *const arguments[], char *const environment[]), SYS_execveat, fd, "",
    arguments, environment, AT_EMPTY_PATH)
MISSING(int, missing_execv, (const char *path, char *const arguments[]), -1)
MISSING(int, missing_execvpe, (const char *file, char *const arguments[], char *const environment[]), -1)
MISSING(int, missing_execl, (const char *path, const char *first, ...), -1)
MISSING(int, missing_system, (const char *command), -1)
RAW(ssize_t, raw_sendmsg, (int socket, const struct msghdr *message, int flags), SYS_sendmsg, socket, message,
    flags)
RAW(int, raw_sendmmsg, (int socket, struct mmsghdr *messages, unsigned count, int flags), SYS_sendmmsg,
    socket, messages, count, flags)
MADE(int, missing_spawn, (pid_t *process, const char *path, const posix_spawn_file_actions_t *actions,
    const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]), ENOSYS)
MADE(int, missing_actions, (posix_spawn_file_actions_t *actions), ENOSYS)
MADE(int, missing_addclose, (posix_spawn_file_actions_t *actions, int fd), ENOSYS)
MADE(int, missing_adddup2, (posix_spawn_file_actions_t *actions, int from, int to), ENOSYS)
MADE(int, missing_addchdir, (posix_spawn_file_actions_t *actions, const char *path), ENOSYS)
MADE(int, missing_addopen, (posix_spawn_file_actions_t *actions, int fd, const char *path, int flags,
    mode_t mode), ENOSYS)

#pragma GCC diagnostic pop
/* clang-format on */

/* dup3() refuses two equal numbers, for which dup2() does nothing. */
int raw_dup2(int from, int to)
{
    long result = from == to ? sys_fcntl(from, F_GETFD, 0) : sys_dup3(from, to, 0);

    return (int)libc_result(result < 0 ? result : to);
}

int raw_futimesat(int directory, const char *path, const struct timeval times[2])
{
    struct timespec precise[2];

    for (int i = 0; times != NULL && i < 2; i++)
        precise[i] = (struct timespec){times[i].tv_sec, times[i].tv_usec * 1000};
    return raw_utimensat(directory, path, times != NULL ? precise : NULL, 0);
}

int raw_utime(const char *path, const struct utimbuf *times)
{
    struct timespec precise[2];

    if (times != NULL) {
        precise[0] = (struct timespec){times->actime, 0};
        precise[1] = (struct timespec){times->modtime, 0};
    }
    return raw_utimensat(AT_FDCWD, path, times != NULL ? precise : NULL, 0);
}

/* faccessat(2) has no flags, faccessat2(2) is of Linux 5.8. */
int raw_faccessat(int directory, const char *path, int mode, int flags)
{
    long result = flags == 0 ? -ENOSYS : SYS_CALL(SYS_faccessat2, directory, path, mode, flags, 0, 0);

    return (int)libc_result(result == -ENOSYS ? SYS_CALL(SYS_faccessat, directory, path, mode, 0, 0, 0)
                                              : result);
}

void raw_exit(int status)
{
    sys_exit_group(status);
}

int raw_prctl(int option, ...)
{
    PRCTL_WORDS(words, option);
    return (int)SYSTEM_CALL(SYS_prctl, option, words[0], words[1], words[2], words[3]);
}

long raw_syscall(long number, ...)
{
    SYSCALL_WORDS(words, number);
    return SYSTEM_CALL(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
