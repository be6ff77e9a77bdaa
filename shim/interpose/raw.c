/* The fallbacks of calls.def: raw system calls, or ENOSYS where only a libc can do it. */
#include "interpose/real.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>

static int result_of(long result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

static ssize_t count_of(ssize_t result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

static mode_t mode_of(int flags, va_list *arguments)
{
    /* open(2): the mode is there exactly when a file may be created */
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*arguments, mode_t) : 0;
}

int raw_open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, &arguments);
    va_end(arguments);
    return result_of(sys_openat(AT_FDCWD, path, flags, mode));
}

int raw_openat(int directory, const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, &arguments);
    va_end(arguments);
    return result_of(sys_openat(directory, path, flags, mode));
}

int raw_open_2(const char *path, int flags)
{
    return result_of(sys_openat(AT_FDCWD, path, flags, 0));
}

int raw_openat_2(int directory, const char *path, int flags)
{
    return result_of(sys_openat(directory, path, flags, 0));
}

int raw_creat(const char *path, mode_t mode)
{
    return result_of(sys_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode));
}

int raw_truncate(const char *path, off_t size)
{
    return result_of(SYS_CALL(SYS_truncate, path, size, 0, 0, 0, 0));
}

FILE *missing_fopen(const char *path, const char *mode)
{
    (void)path;
    (void)mode;
    errno = ENOSYS;
    return NULL;
}

FILE *missing_fdopen(int fd, const char *mode)
{
    (void)fd;
    (void)mode;
    errno = ENOSYS;
    return NULL;
}

FILE *missing_freopen(const char *path, const char *mode, FILE *stream)
{
    (void)path;
    (void)mode;
    (void)stream;
    errno = ENOSYS;
    return NULL;
}

int missing_fclose(FILE *stream)
{
    (void)stream;
    errno = ENOSYS;
    return EOF;
}

int missing_fcloseall(void)
{
    errno = ENOSYS;
    return EOF;
}

int raw_close(int fd)
{
    return result_of(sys_close(fd));
}

int raw_close_range(unsigned first, unsigned last, int flags)
{
    return result_of(sys_close_range(first, last, (unsigned)flags));
}

void raw_closefrom(int lowest)
{
    (void)sys_close_range(lowest < 0 ? 0u : (unsigned)lowest, ~0u, 0);
}

int raw_dup2(int from, int to)
{
    /* dup3() refuses what dup2() takes as "nothing to do" */
    if (from == to)
        return sys_fcntl(from, F_GETFD, 0) < 0 ? result_of(-EBADF) : to;
    return result_of(sys_dup3(from, to, 0));
}

int raw_dup3(int from, int to, int flags)
{
    return result_of(sys_dup3(from, to, flags));
}

int raw_fsync(int fd)
{
    return result_of(sys_fsync(fd));
}

int raw_fdatasync(int fd)
{
    return result_of(sys_fdatasync(fd));
}

int raw_msync(void *address, size_t size, int flags)
{
    return result_of(sys_msync(address, size, flags));
}

int raw_munmap(void *address, size_t size)
{
    return result_of(sys_munmap(address, size));
}

ssize_t raw_copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
                            unsigned flags)
{
    return count_of(SYS_CALL(SYS_copy_file_range, from, from_offset, to, to_offset, size, flags));
}

int raw_fcntl(int fd, int command, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return result_of(sys_fcntl(fd, command, (long)argument));
}

int raw_lockf(int fd, int command, off_t size)
{
    (void)fd;
    (void)command;
    (void)size;
    return result_of(-ENOSYS);
}

int raw_flock(int fd, int operation)
{
    return result_of(sys_flock(fd, operation));
}

/* On 64-bit machines the kernel's struct stat is the libc's, and stat64 is the same. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one struct stat");

int raw_fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return result_of(sys_fstatat(directory, path, status, flags));
}

int raw_fstatat64(int directory, const char *path, struct stat64 *status, int flags)
{
    return raw_fstatat(directory, path, (struct stat *)status, flags);
}

int raw_stat(const char *path, struct stat *status)
{
    return raw_fstatat(AT_FDCWD, path, status, 0);
}

int raw_stat64(const char *path, struct stat64 *status)
{
    return raw_fstatat64(AT_FDCWD, path, status, 0);
}

int raw_lstat(const char *path, struct stat *status)
{
    return raw_fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

int raw_lstat64(const char *path, struct stat64 *status)
{
    return raw_fstatat64(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

int raw_fstat(int fd, struct stat *status)
{
    return result_of(sys_fstat(fd, status));
}

int raw_fstat64(int fd, struct stat64 *status)
{
    return raw_fstat(fd, (struct stat *)status);
}

/* glibc's before 2.33, whose version says which struct is meant: there is one here. */
#define RAW_VERSIONED(name, parameters, call)                                                                \
    int name parameters                                                                                      \
    {                                                                                                        \
        (void)version;                                                                                       \
        return call;                                                                                         \
    }

RAW_VERSIONED(raw_xstat, (int version, const char *path, struct stat *status), raw_stat(path, status))
RAW_VERSIONED(raw_xstat64, (int version, const char *path, struct stat64 *status), raw_stat64(path, status))
RAW_VERSIONED(raw_lxstat, (int version, const char *path, struct stat *status), raw_lstat(path, status))
RAW_VERSIONED(raw_lxstat64, (int version, const char *path, struct stat64 *status), raw_lstat64(path, status))
RAW_VERSIONED(raw_fxstat, (int version, int fd, struct stat *status), raw_fstat(fd, status))
RAW_VERSIONED(raw_fxstat64, (int version, int fd, struct stat64 *status), raw_fstat64(fd, status))
RAW_VERSIONED(raw_fxstatat, (int version, int directory, const char *path, struct stat *status, int flags),
              raw_fstatat(directory, path, status, flags))
RAW_VERSIONED(raw_fxstatat64,
              (int version, int directory, const char *path, struct stat64 *status, int flags),
              raw_fstatat64(directory, path, status, flags))

int raw_statx(int directory, const char *path, int flags, unsigned mask, struct statx *status)
{
    return result_of(SYS_CALL(SYS_statx, directory, path, flags, mask, status, 0));
}

/* A system call that has the function's parameters, or the same with something put in. */
#define RAW(name, parameters, number, a, b, c, d, e)                                                         \
    int name parameters                                                                                      \
    {                                                                                                        \
        return result_of(SYS_CALL(number, a, b, c, d, e, 0));                                                \
    }
#define RAW_COUNT(name, parameters, number, a, b, c, d)                                                      \
    ssize_t name parameters                                                                                  \
    {                                                                                                        \
        return count_of(SYS_CALL(number, a, b, c, d, 0, 0));                                                 \
    }

RAW(raw_openat2, (int directory, const char *path, const struct open_how *how, size_t size), SYS_openat2,
    directory, path, how, size, 0)
RAW(raw_open_by_handle_at, (int mount, struct file_handle *handle, int flags), SYS_open_by_handle_at, mount,
    handle, flags, 0, 0)
RAW(raw_syncfs, (int fd), SYS_syncfs, fd, 0, 0, 0, 0)

RAW(raw_fchmod, (int fd, mode_t mode), SYS_fchmod, fd, mode, 0, 0, 0)
RAW(raw_chmod, (const char *path, mode_t mode), SYS_fchmodat, AT_FDCWD, path, mode, 0, 0)
RAW(raw_fchown, (int fd, uid_t user, gid_t group), SYS_fchown, fd, user, group, 0, 0)
RAW(raw_chown, (const char *path, uid_t user, gid_t group), SYS_fchownat, AT_FDCWD, path, user, group, 0)
RAW(raw_fchownat, (int directory, const char *path, uid_t user, gid_t group, int flags), SYS_fchownat,
    directory, path, user, group, flags)

/* as a libc does without fchmodat2(2) */
int raw_fchmodat(int directory, const char *path, mode_t mode, int flags)
{
    return flags != 0 ? result_of(-EOPNOTSUPP)
                      : result_of(SYS_CALL(SYS_fchmodat, directory, path, mode, 0, 0, 0));
}

int raw_utimensat(int directory, const char *path, const struct timespec times[2], int flags)
{
    return result_of(sys_utimensat(directory, path, times, flags));
}

int raw_futimens(int fd, const struct timespec times[2])
{
    return raw_utimensat(fd, NULL, times, 0);
}

int raw_futimesat(int directory, const char *path, const struct timeval times[2])
{
    struct timespec precise[2];

    for (int i = 0; times != NULL && i < 2; i++)
        precise[i] = (struct timespec){times[i].tv_sec, times[i].tv_usec * 1000};
    return raw_utimensat(directory, path, times != NULL ? precise : NULL, 0);
}

int raw_futimes(int fd, const struct timeval times[2])
{
    return raw_futimesat(fd, NULL, times);
}

int raw_utimes(const char *path, const struct timeval times[2])
{
    return raw_futimesat(AT_FDCWD, path, times);
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

RAW(raw_fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags), SYS_fsetxattr, fd,
    name, value, size, flags)
RAW(raw_setxattr, (const char *path, const char *name, const void *value, size_t size, int flags),
    SYS_setxattr, path, name, value, size, flags)
RAW_COUNT(raw_fgetxattr, (int fd, const char *name, void *value, size_t size), SYS_fgetxattr, fd, name, value,
          size)
RAW_COUNT(raw_getxattr, (const char *path, const char *name, void *value, size_t size), SYS_getxattr, path,
          name, value, size)
RAW_COUNT(raw_flistxattr, (int fd, char *list, size_t size), SYS_flistxattr, fd, list, size, 0)
RAW_COUNT(raw_listxattr, (const char *path, char *list, size_t size), SYS_listxattr, path, list, size, 0)
RAW(raw_fremovexattr, (int fd, const char *name), SYS_fremovexattr, fd, name, 0, 0, 0)
RAW(raw_removexattr, (const char *path, const char *name), SYS_removexattr, path, name, 0, 0, 0)

RAW_COUNT(raw_readlink, (const char *path, char *link, size_t size), SYS_readlinkat, AT_FDCWD, path, link,
          size)
RAW_COUNT(raw_readlinkat, (int directory, const char *path, char *link, size_t size), SYS_readlinkat,
          directory, path, link, size)
RAW(raw_access, (const char *path, int mode), SYS_faccessat, AT_FDCWD, path, mode, 0, 0)
RAW(raw_link, (const char *path, const char *new_path), SYS_linkat, AT_FDCWD, path, AT_FDCWD, new_path, 0)
RAW(raw_linkat, (int directory, const char *path, int new_directory, const char *new_path, int flags),
    SYS_linkat, directory, path, new_directory, new_path, flags)
RAW(raw_name_to_handle_at,
    (int directory, const char *path, struct file_handle *handle, int *mount, int flags),
    SYS_name_to_handle_at, directory, path, handle, mount, flags)

ssize_t raw_readlink_chk(const char *path, char *link, size_t size, size_t room)
{
    return raw_readlink(path, link, size < room ? size : room);
}

ssize_t raw_readlinkat_chk(int directory, const char *path, char *link, size_t size, size_t room)
{
    return raw_readlinkat(directory, path, link, size < room ? size : room);
}

int raw_faccessat(int directory, const char *path, int mode, int flags)
{
    long result = flags == 0 ? -ENOSYS : SYS_CALL(SYS_faccessat2, directory, path, mode, flags, 0, 0);

    return result_of(result == -ENOSYS ? SYS_CALL(SYS_faccessat, directory, path, mode, 0, 0, 0) : result);
}

int raw_euidaccess(const char *path, int mode)
{
    return raw_faccessat(AT_FDCWD, path, mode, AT_EACCESS);
}

RAW(raw_fstatfs, (int fd, struct statfs *status), SYS_fstatfs, fd, status, 0, 0, 0)
RAW(raw_fstatfs64, (int fd, struct statfs64 *status), SYS_fstatfs, fd, status, 0, 0, 0)
RAW(raw_statfs, (const char *path, struct statfs *status), SYS_statfs, path, status, 0, 0, 0)
RAW(raw_statfs64, (const char *path, struct statfs64 *status), SYS_statfs, path, status, 0, 0, 0)
RAW(raw_fallocate, (int fd, int mode, off_t offset, off_t size), SYS_fallocate, fd, mode, offset, size, 0)

int raw_posix_close(int fd, int flags)
{
    (void)flags;
    return raw_close(fd);
}

void raw_sync(void)
{
    (void)SYS_CALL(SYS_sync, 0, 0, 0, 0, 0, 0);
}

int raw_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return result_of(SYS_CALL(SYS_ioctl, fd, request, argument, 0, 0, 0));
}

/* What only a libc can do. */
#define MISSING(type, name, parameters, failure)                                                             \
    type name parameters                                                                                     \
    {                                                                                                        \
        errno = ENOSYS;                                                                                      \
        return failure;                                                                                      \
    }

/* clang-format off */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
MISSING(char *, missing_realpath, (const char *path, char *resolved), NULL)
MISSING(char *, missing_realpath_chk, (const char *path, char *resolved, size_t room), NULL)
MISSING(char *, missing_canonicalize, (const char *path), NULL)
MISSING(int, missing_fstatvfs, (int fd, struct statvfs *status), -1)
MISSING(int, missing_fstatvfs64, (int fd, struct statvfs64 *status), -1)
MISSING(int, missing_statvfs, (const char *path, struct statvfs *status), -1)
MISSING(int, missing_statvfs64, (const char *path, struct statvfs64 *status), -1)
MISSING(long, missing_fpathconf, (int fd, int name), -1)
MISSING(long, missing_pathconf, (const char *path, int name), -1)
MISSING(int, missing_mkstemp, (char *path), -1)
MISSING(int, missing_mkostemp, (char *path, int flags), -1)
MISSING(int, missing_mkostemps, (char *path, int suffix, int flags), -1)
MISSING(void, missing_updwtmp, (const char *path, const struct utmp *entry), )
MISSING(void, missing_updwtmpx, (const char *path, const struct utmpx *entry), )
MISSING(int, missing_ftw, (const char *path, __ftw_func_t function, int descriptors), -1)
MISSING(int, missing_ftw64, (const char *path, __ftw64_func_t function, int descriptors), -1)
MISSING(int, missing_nftw, (const char *path, __nftw_func_t function, int descriptors, int flags), -1)
MISSING(int, missing_nftw64, (const char *path, __nftw64_func_t function, int descriptors, int flags), -1)
MISSING(FTSENT *, missing_fts_read, (FTS * tree), NULL)
MISSING(FTSENT64 *, missing_fts64_read, (FTS64 * tree), NULL)
MISSING(FTSENT *, missing_fts_children, (FTS * tree, int options), NULL)
MISSING(FTSENT64 *, missing_fts64_children, (FTS64 * tree, int options), NULL)
#pragma GCC diagnostic pop
/* clang-format on */

int raw_execve(const char *path, char *const arguments[], char *const environment[])
{
    return result_of(SYS_CALL(SYS_execve, path, arguments, environment, 0, 0, 0));
}

int raw_execveat(int directory, const char *path, char *const arguments[], char *const environment[],
                 int flags)
{
    return result_of(SYS_CALL(SYS_execveat, directory, path, arguments, environment, flags, 0));
}

int raw_fexecve(int fd, char *const arguments[], char *const environment[])
{
    return raw_execveat(fd, "", arguments, environment, AT_EMPTY_PATH);
}

int missing_execv(const char *path, char *const arguments[])
{
    (void)path;
    (void)arguments;
    return result_of(-ENOSYS);
}

int missing_execvpe(const char *file, char *const arguments[], char *const environment[])
{
    (void)environment;
    return missing_execv(file, arguments);
}

int missing_execl(const char *path, const char *first, ...)
{
    (void)first;
    return missing_execv(path, NULL);
}

int missing_system(const char *command)
{
    (void)command;
    return result_of(-ENOSYS);
}

ssize_t raw_sendmsg(int socket, const struct msghdr *message, int flags)
{
    return count_of(SYS_CALL(SYS_sendmsg, socket, message, flags, 0, 0, 0));
}

int raw_sendmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags)
{
    return result_of(SYS_CALL(SYS_sendmmsg, socket, messages, count, flags, 0, 0));
}

/* posix_spawn(3) and its actions return the error, and leave errno alone. */
int missing_spawn(pid_t *process, const char *path, const posix_spawn_file_actions_t *actions,
                  const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    (void)process;
    (void)path;
    (void)actions;
    (void)attributes;
    (void)arguments;
    (void)environment;
    return ENOSYS;
}

int missing_actions(posix_spawn_file_actions_t *actions)
{
    (void)actions;
    return ENOSYS;
}

int missing_addclose(posix_spawn_file_actions_t *actions, int fd)
{
    (void)fd;
    return missing_actions(actions);
}

int missing_adddup2(posix_spawn_file_actions_t *actions, int from, int to)
{
    (void)from;
    return missing_addclose(actions, to);
}

int missing_addchdir(posix_spawn_file_actions_t *actions, const char *path)
{
    (void)path;
    return missing_actions(actions);
}

int missing_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags, mode_t mode)
{
    (void)path;
    (void)flags;
    (void)mode;
    return missing_addclose(actions, fd);
}

int raw_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags)
{
    return result_of(SYS_CALL(SYS_renameat2, from_directory, from, to_directory, to, flags, 0));
}

int raw_renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return raw_renameat2(from_directory, from, to_directory, to, 0);
}

int raw_rename(const char *from, const char *to)
{
    return raw_renameat(AT_FDCWD, from, AT_FDCWD, to);
}

pid_t raw_fork(void)
{
    return result_of(SYS_CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0));
}

void raw_exit(int status)
{
    sys_exit_group(status);
}

long raw_syscall(long number, ...)
{
    SYSCALL_WORDS(words, number);
    return count_of(SYS_CALL(number, words[0], words[1], words[2], words[3], words[4], words[5]));
}
