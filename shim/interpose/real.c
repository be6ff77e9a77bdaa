#include "real.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

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

/* ---- fallbacks: raw system calls ---- */

static mode_t mode_of(int flags, va_list *arguments)
{
    /* open(2): the mode is there exactly when a file may be created */
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*arguments, mode_t) : 0;
}

static int raw_open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, &arguments);
    va_end(arguments);
    return result_of(sys_openat(AT_FDCWD, path, flags, mode));
}

static int raw_openat(int directory, const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, &arguments);
    va_end(arguments);
    return result_of(sys_openat(directory, path, flags, mode));
}

static int raw_open_2(const char *path, int flags)
{
    return result_of(sys_openat(AT_FDCWD, path, flags, 0));
}

static int raw_openat_2(int directory, const char *path, int flags)
{
    return result_of(sys_openat(directory, path, flags, 0));
}

static int raw_creat(const char *path, mode_t mode)
{
    return result_of(sys_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode));
}

static int raw_truncate(const char *path, off_t size)
{
    return result_of(SYS_CALL(SYS_truncate, path, size, 0, 0, 0, 0));
}

static FILE *missing_fopen(const char *path, const char *mode)
{
    (void)path;
    (void)mode;
    errno = ENOSYS;
    return NULL;
}

static FILE *missing_fdopen(int fd, const char *mode)
{
    (void)fd;
    (void)mode;
    errno = ENOSYS;
    return NULL;
}

static FILE *missing_freopen(const char *path, const char *mode, FILE *stream)
{
    (void)path;
    (void)mode;
    (void)stream;
    errno = ENOSYS;
    return NULL;
}

static int missing_fclose(FILE *stream)
{
    (void)stream;
    errno = ENOSYS;
    return EOF;
}

static int missing_fcloseall(void)
{
    errno = ENOSYS;
    return EOF;
}

static int raw_close(int fd)
{
    return result_of(sys_close(fd));
}

static int raw_close_range(unsigned first, unsigned last, int flags)
{
    return result_of(sys_close_range(first, last, (unsigned)flags));
}

static void raw_closefrom(int lowest)
{
    (void)sys_close_range(lowest < 0 ? 0u : (unsigned)lowest, ~0u, 0);
}

static int raw_dup2(int from, int to)
{
    /* dup3() refuses what dup2() takes as "nothing to do" */
    if (from == to)
        return sys_fcntl(from, F_GETFD, 0) < 0 ? result_of(-EBADF) : to;
    return result_of(sys_dup3(from, to, 0));
}

static int raw_dup3(int from, int to, int flags)
{
    return result_of(sys_dup3(from, to, flags));
}

static int raw_fsync(int fd)
{
    return result_of(sys_fsync(fd));
}

static int raw_fdatasync(int fd)
{
    return result_of(sys_fdatasync(fd));
}

static int raw_msync(void *address, size_t size, int flags)
{
    return result_of(sys_msync(address, size, flags));
}

static int raw_munmap(void *address, size_t size)
{
    return result_of(sys_munmap(address, size));
}

static ssize_t raw_copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
                                   unsigned flags)
{
    return count_of(SYS_CALL(SYS_copy_file_range, from, from_offset, to, to_offset, size, flags));
}

static int raw_fcntl(int fd, int command, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return result_of(sys_fcntl(fd, command, (long)argument));
}

static int raw_lockf(int fd, int command, off_t size)
{
    (void)fd;
    (void)command;
    (void)size;
    return result_of(-ENOSYS);
}

static int raw_flock(int fd, int operation)
{
    return result_of(sys_flock(fd, operation));
}

/* On 64-bit machines the kernel's struct stat is the libc's, and stat64 is the same. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one struct stat");

static int raw_fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return result_of(sys_fstatat(directory, path, status, flags));
}

static int raw_fstatat64(int directory, const char *path, struct stat64 *status, int flags)
{
    return raw_fstatat(directory, path, (struct stat *)status, flags);
}

static int raw_stat(const char *path, struct stat *status)
{
    return raw_fstatat(AT_FDCWD, path, status, 0);
}

static int raw_stat64(const char *path, struct stat64 *status)
{
    return raw_fstatat64(AT_FDCWD, path, status, 0);
}

static int raw_lstat(const char *path, struct stat *status)
{
    return raw_fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

static int raw_lstat64(const char *path, struct stat64 *status)
{
    return raw_fstatat64(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

static int raw_fstat(int fd, struct stat *status)
{
    return result_of(sys_fstat(fd, status));
}

static int raw_fstat64(int fd, struct stat64 *status)
{
    return raw_fstat(fd, (struct stat *)status);
}

static int raw_xstat(int version, const char *path, struct stat *status)
{
    (void)version;
    return raw_stat(path, status);
}

static int raw_xstat64(int version, const char *path, struct stat64 *status)
{
    (void)version;
    return raw_stat64(path, status);
}

static int raw_lxstat(int version, const char *path, struct stat *status)
{
    (void)version;
    return raw_lstat(path, status);
}

static int raw_lxstat64(int version, const char *path, struct stat64 *status)
{
    (void)version;
    return raw_lstat64(path, status);
}

static int raw_fxstat(int version, int fd, struct stat *status)
{
    (void)version;
    return raw_fstat(fd, status);
}

static int raw_fxstat64(int version, int fd, struct stat64 *status)
{
    (void)version;
    return raw_fstat64(fd, status);
}

static int raw_fxstatat(int version, int directory, const char *path, struct stat *status, int flags)
{
    (void)version;
    return raw_fstatat(directory, path, status, flags);
}

static int raw_fxstatat64(int version, int directory, const char *path, struct stat64 *status, int flags)
{
    (void)version;
    return raw_fstatat64(directory, path, status, flags);
}

static int raw_statx(int directory, const char *path, int flags, unsigned mask, struct statx *status)
{
    return result_of(SYS_CALL(SYS_statx, directory, path, flags, mask, status, 0));
}

static int raw_fchmod(int fd, mode_t mode)
{
    return result_of(sys_fchmod(fd, mode));
}

static int raw_fchown(int fd, uid_t user, gid_t group)
{
    return result_of(SYS_CALL(SYS_fchown, fd, user, group, 0, 0, 0));
}

static int raw_utimensat(int directory, const char *path, const struct timespec times[2], int flags)
{
    return result_of(sys_utimensat(directory, path, times, flags));
}

static int raw_futimens(int fd, const struct timespec times[2])
{
    return raw_utimensat(fd, NULL, times, 0);
}

static int raw_futimes(int fd, const struct timeval times[2])
{
    struct timespec precise[2];

    for (int i = 0; times != NULL && i < 2; i++)
        precise[i] = (struct timespec){times[i].tv_sec, times[i].tv_usec * 1000};
    return raw_utimensat(fd, NULL, times != NULL ? precise : NULL, 0);
}

static int raw_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    return result_of(sys_fsetxattr(fd, name, value, size, flags));
}

static ssize_t raw_fgetxattr(int fd, const char *name, void *value, size_t size)
{
    return count_of(sys_fgetxattr(fd, name, value, size));
}

static ssize_t raw_flistxattr(int fd, char *list, size_t size)
{
    return count_of(SYS_CALL(SYS_flistxattr, fd, list, size, 0, 0, 0));
}

static int raw_fremovexattr(int fd, const char *name)
{
    return result_of(SYS_CALL(SYS_fremovexattr, fd, name, 0, 0, 0, 0));
}

static int raw_execve(const char *path, char *const arguments[], char *const environment[])
{
    return result_of(SYS_CALL(SYS_execve, path, arguments, environment, 0, 0, 0));
}

static int raw_execveat(int directory, const char *path, char *const arguments[], char *const environment[],
                        int flags)
{
    return result_of(SYS_CALL(SYS_execveat, directory, path, arguments, environment, flags, 0));
}

static int raw_fexecve(int fd, char *const arguments[], char *const environment[])
{
    return raw_execveat(fd, "", arguments, environment, AT_EMPTY_PATH);
}

static int missing_execv(const char *path, char *const arguments[])
{
    (void)path;
    (void)arguments;
    return result_of(-ENOSYS);
}

static int missing_execvpe(const char *file, char *const arguments[], char *const environment[])
{
    (void)environment;
    return missing_execv(file, arguments);
}

static int missing_execl(const char *path, const char *first, ...)
{
    (void)first;
    return missing_execv(path, NULL);
}

static int missing_system(const char *command)
{
    (void)command;
    return result_of(-ENOSYS);
}

static ssize_t raw_sendmsg(int socket, const struct msghdr *message, int flags)
{
    return count_of(SYS_CALL(SYS_sendmsg, socket, message, flags, 0, 0, 0));
}

static int raw_sendmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags)
{
    return result_of(SYS_CALL(SYS_sendmmsg, socket, messages, count, flags, 0, 0));
}

/* posix_spawn(3) and its actions return the error, and leave errno alone. */
static int missing_spawn(pid_t *process, const char *path, const posix_spawn_file_actions_t *actions,
                         const posix_spawnattr_t *attributes, char *const arguments[],
                         char *const environment[])
{
    (void)process;
    (void)path;
    (void)actions;
    (void)attributes;
    (void)arguments;
    (void)environment;
    return ENOSYS;
}

static int missing_actions(posix_spawn_file_actions_t *actions)
{
    (void)actions;
    return ENOSYS;
}

static int missing_addclose(posix_spawn_file_actions_t *actions, int fd)
{
    (void)fd;
    return missing_actions(actions);
}

static int missing_adddup2(posix_spawn_file_actions_t *actions, int from, int to)
{
    (void)from;
    return missing_addclose(actions, to);
}

static int missing_addchdir(posix_spawn_file_actions_t *actions, const char *path)
{
    (void)path;
    return missing_actions(actions);
}

static int missing_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags,
                           mode_t mode)
{
    (void)path;
    (void)flags;
    (void)mode;
    return missing_addclose(actions, fd);
}

static int raw_renameat2(int from_directory, const char *from, int to_directory, const char *to,
                         unsigned flags)
{
    return result_of(SYS_CALL(SYS_renameat2, from_directory, from, to_directory, to, flags, 0));
}

static int raw_renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return raw_renameat2(from_directory, from, to_directory, to, 0);
}

static int raw_rename(const char *from, const char *to)
{
    return raw_renameat(AT_FDCWD, from, AT_FDCWD, to);
}

static pid_t raw_fork(void)
{
    return result_of(SYS_CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0));
}

static void raw_exit(int status)
{
    sys_exit_group(status);
}

static long raw_syscall(long number, ...)
{
    SYSCALL_WORDS(words, number);
    return count_of(SYS_CALL(number, words[0], words[1], words[2], words[3], words[4], words[5]));
}

/* ---- the table ---- */

#define CALL(result, name, parameters, fallback) result(*real_##name) parameters = fallback;
#include "calls.def"
#undef CALL

void real_resolve(void)
{
    static const struct {
        const char *name;
        void *pointer; /* to real_NAME */
    } table[] = {
#define CALL(result, name, parameters, fallback) {#name, (void *)&real_##name},
#include "calls.def"
#undef CALL
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        void *symbol = real_lookup(table[i].name);

        if (symbol != NULL)
            memcpy(table[i].pointer, &symbol, sizeof symbol);
    }
}
