/*
 * syscall(2). Programs reach the kernel with it past the libc's functions, and past ours; libuv
 * closes files so. The export makes a call that we export; every other number goes on as it is.
 */
#include "interpose/interpose.h"
#include "os/proc.h"
#include "os/process.h"

#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

#define POINTER(word) ((void *)(word))

/* Not every libc's fchmodat() makes fchmodat2(2), of Linux 6.6. */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
static long by_fchmodat2(int directory, const char *path, mode_t mode, int flags)
{
    struct aim aim;

    shim_aim(&aim, directory, path, flags);
    if (aim.found.session == NULL)
        return SHIM_PASS;
    return fchmodat(AT_FDCWD, descriptor_path(aim.buffer, aim.found.session->inode), mode, 0);
}

/*
 * True in a thread in which syscall() has called an export: the export may lead to a function of
 * the program, or of another library in front of the libc, that calls syscall() in turn. The
 * variable is volatile because the libc's headers say that its functions are leaves, which never
 * come back to us.
 */
static __thread volatile bool inside;

/*
 * Unlike the libc's functions, syscall() is no cancellation point, which may be why it was called.
 */
static int enter_export(void)
{
    int cancel;

    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    inside = true;
    return cancel;
}

static void leave_export(int cancel)
{
    inside = false;
    (void)pthread_setcancelstate(cancel, NULL);
}

/*
 * The exports make these calls, in four groups. Each function returns what the export returns, with
 * errno, or SHIM_PASS for a number that its group does not have.
 */
#define CASE(number, call)                                                                                   \
    case number: {                                                                                           \
        int cancel = enter_export();                                                                         \
        long result = (call);                                                                                \
        leave_export(cancel);                                                                                \
        return result;                                                                                       \
    }
#define GROUP(name)                                                                                          \
    static long name(long number, long a, long b, long c, const long rest[3])                                \
    {                                                                                                        \
        const long d = rest[0];                                                                              \
        const long e = rest[1];                                                                              \
        const long f = rest[2];                                                                              \
        (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;                                                \
        switch (number) {
#define END_GROUP                                                                                            \
    default:                                                                                                 \
        return SHIM_PASS;                                                                                    \
        }                                                                                                    \
        }

/*
 * Tells whether the address is good. A C library's function may itself read or write there: times
 * in glibc's utimes() and musl's utimensat(), a status in musl's fstatat(). The kernel would answer
 * EFAULT.
 */
static bool is_there(long address, size_t size)
{
    return sys_is_readable(POINTER(address)) && sys_is_readable(POINTER(address + (long)size - 8));
}

static bool are_readable(long times, size_t size)
{
    return times == 0 || is_there(times, size);
}

/* clang-format off */
GROUP(by_names)
#ifdef SYS_open
    CASE(SYS_open, open(POINTER(a), (int)b, (mode_t)c))
    CASE(SYS_creat, creat(POINTER(a), (mode_t)b))
    CASE(SYS_readlink, readlink(POINTER(a), POINTER(b), (size_t)c))
    CASE(SYS_access, access(POINTER(a), (int)b))
    CASE(SYS_link, link(POINTER(a), POINTER(b)))
    CASE(SYS_symlink, symlink(POINTER(a), POINTER(b)))
#endif
#ifdef SYS_rename
    CASE(SYS_rename, rename(POINTER(a), POINTER(b)))
#endif
#ifdef SYS_renameat
    CASE(SYS_renameat, renameat((int)a, POINTER(b), (int)c, POINTER(d)))
#endif
    CASE(SYS_renameat2, renameat2((int)a, POINTER(b), (int)c, POINTER(d), (unsigned)e))
    CASE(SYS_symlinkat, symlinkat(POINTER(a), (int)b, POINTER(c)))
    CASE(SYS_openat, openat((int)a, POINTER(b), (int)c, (mode_t)d))
    CASE(SYS_openat2, openat2((int)a, POINTER(b), POINTER(c), (size_t)d))
    CASE(SYS_open_by_handle_at, open_by_handle_at((int)a, POINTER(b), (int)c))
    CASE(SYS_truncate, truncate(POINTER(a), b))
    CASE(SYS_readlinkat, readlinkat((int)a, POINTER(b), POINTER(c), (size_t)d))
    CASE(SYS_faccessat, faccessat((int)a, POINTER(b), (int)c, 0))
    CASE(SYS_faccessat2, faccessat((int)a, POINTER(b), (int)c, (int)d))
    CASE(SYS_linkat, linkat((int)a, POINTER(b), (int)c, POINTER(d), (int)e))
    CASE(SYS_name_to_handle_at, name_to_handle_at((int)a, POINTER(b), POINTER(c), POINTER(d), (int)e))
    CASE(SYS_statfs, statfs(POINTER(a), POINTER(b)))
END_GROUP

GROUP(by_metadata)
#ifdef SYS_open
    CASE(SYS_stat, is_there(b, sizeof(struct stat)) ? stat(POINTER(a), POINTER(b)) : SHIM_PASS)
    CASE(SYS_lstat, is_there(b, sizeof(struct stat)) ? lstat(POINTER(a), POINTER(b)) : SHIM_PASS)
    CASE(SYS_chmod, chmod(POINTER(a), (mode_t)b))
    CASE(SYS_chown, chown(POINTER(a), (uid_t)b, (gid_t)c))
    CASE(SYS_lchown, lchown(POINTER(a), (uid_t)b, (gid_t)c))
    CASE(SYS_utime, are_readable(b, sizeof(struct utimbuf)) ? utime(POINTER(a), POINTER(b)) : SHIM_PASS)
    CASE(SYS_utimes, are_readable(b, 2 * sizeof(struct timeval)) ? utimes(POINTER(a), POINTER(b)) : SHIM_PASS)
    CASE(SYS_futimesat,
         are_readable(c, 2 * sizeof(struct timeval)) ? futimesat((int)a, POINTER(b), POINTER(c)) : SHIM_PASS)
#endif
    CASE(SYS_fstat, is_there(b, sizeof(struct stat)) ? fstat((int)a, POINTER(b)) : SHIM_PASS)
    CASE(SYS_newfstatat,
         is_there(c, sizeof(struct stat)) ? fstatat((int)a, POINTER(b), POINTER(c), (int)d) : SHIM_PASS)
    CASE(SYS_statx, statx((int)a, POINTER(b), (int)c, (unsigned)d, POINTER(e)))
    CASE(SYS_fchmod, fchmod((int)a, (mode_t)b))
    CASE(SYS_fchown, fchown((int)a, (uid_t)b, (gid_t)c))
    CASE(SYS_fchmodat, fchmodat((int)a, POINTER(b), (mode_t)c, 0))
    CASE(SYS_fchmodat2, by_fchmodat2((int)a, POINTER(b), (mode_t)c, (int)d))
    CASE(SYS_fchownat, fchownat((int)a, POINTER(b), (uid_t)c, (gid_t)d, (int)e))
    /* the libc's utimensat() takes no NULL */
    CASE(SYS_utimensat, !are_readable(c, 2 * sizeof(struct timespec)) ? SHIM_PASS
                        : b != 0   ? utimensat((int)a, POINTER(b), POINTER(c), (int)d)
                        : d == 0 && (int)a != AT_FDCWD ? futimens((int)a, POINTER(c))
                                 : SHIM_PASS)
    CASE(SYS_setxattr, setxattr(POINTER(a), POINTER(b), POINTER(c), (size_t)d, (int)e))
    CASE(SYS_lsetxattr, lsetxattr(POINTER(a), POINTER(b), POINTER(c), (size_t)d, (int)e))
    CASE(SYS_getxattr, getxattr(POINTER(a), POINTER(b), POINTER(c), (size_t)d))
    CASE(SYS_listxattr, listxattr(POINTER(a), POINTER(b), (size_t)c))
    CASE(SYS_removexattr, removexattr(POINTER(a), POINTER(b)))
    CASE(SYS_lremovexattr, lremovexattr(POINTER(a), POINTER(b)))
    CASE(SYS_fsetxattr, fsetxattr((int)a, POINTER(b), POINTER(c), (size_t)d, (int)e))
    CASE(SYS_fgetxattr, fgetxattr((int)a, POINTER(b), POINTER(c), (size_t)d))
    CASE(SYS_flistxattr, flistxattr((int)a, POINTER(b), (size_t)c))
    CASE(SYS_fremovexattr, fremovexattr((int)a, POINTER(b)))
END_GROUP

GROUP(by_descriptor)
#ifdef SYS_dup2
    CASE(SYS_dup2, dup2((int)a, (int)b))
#endif
    CASE(SYS_dup3, dup3((int)a, (int)b, (int)c))
    CASE(SYS_close, close((int)a))
    CASE(SYS_close_range, close_range((unsigned)a, (unsigned)b, (int)c))
    CASE(SYS_fsync, fsync((int)a))
    CASE(SYS_fdatasync, fdatasync((int)a))
    CASE(SYS_syncfs, syncfs((int)a))
    CASE(SYS_msync, msync(POINTER(a), (size_t)b, (int)c))
    CASE(SYS_munmap, munmap(POINTER(a), (size_t)b))
    CASE(SYS_copy_file_range, copy_file_range((int)a, POINTER(b), (int)c, POINTER(d), (size_t)e, (unsigned)f))
    CASE(SYS_fcntl, fcntl((int)a, (int)b, c))
    CASE(SYS_flock, flock((int)a, (int)b))
    CASE(SYS_fstatfs, fstatfs((int)a, POINTER(b)))
    CASE(SYS_ioctl, ioctl((int)a, (unsigned long)b, c))
    CASE(SYS_fallocate, fallocate((int)a, (int)b, c, d))
    CASE(SYS_ftruncate, ftruncate((int)a, b))
END_GROUP

/* The end of the only thread is that of the program. If /proc does not tell, what is written so far
 * is committed, lest it be lost. */
static long end_thread(int status)
{
    int threads = process_threads(PROC_SELF);

    if (threads == 1)
        _exit(status);
    if (threads == 0)
        (void)session_sync_all();
    return SHIM_PASS;
}

GROUP(by_process)
    CASE(SYS_execve, execve(POINTER(a), POINTER(b), POINTER(c)))
    CASE(SYS_execveat, execveat((int)a, POINTER(b), POINTER(c), POINTER(d), (int)e))
    CASE(SYS_sendmsg, sendmsg((int)a, POINTER(b), (int)c))
    CASE(SYS_sendmmsg, sendmmsg((int)a, POINTER(b), (unsigned)c, (int)d))
case SYS_sync:
    sync();
    return 0;
case SYS_exit:
    return end_thread((int)a);
case SYS_exit_group:
    _exit((int)a);
END_GROUP
/* clang-format on */

/* Returns what the export for this number returns, with errno, or SHIM_PASS if there is none. */
static long by_export(long number, const long words[6])
{
    static long (*const groups[])(long number, long a, long b, long c,
                                  const long rest[3]) = {by_names, by_metadata, by_descriptor, by_process};
    long result = SHIM_PASS;

    for (size_t i = 0; i < sizeof groups / sizeof groups[0] && result == SHIM_PASS; i++)
        result = groups[i](number, words[0], words[1], words[2], words + 3);
    return result;
}

static long by_seccomp(const long words[6])
{
    bool quieted = (words[0] == SECCOMP_SET_MODE_STRICT || words[0] == SECCOMP_SET_MODE_FILTER) &&
                   shim_before_filter(words[0] == SECCOMP_SET_MODE_STRICT, POINTER(words[2]));
    long result = REAL(syscall)(SYS_seccomp, words[0], words[1], words[2], words[3], words[4], words[5]);

    shim_after_filter(quieted, result >= 0);
    return result;
}

/*
 * True for a call on a managed file in a quiet process. Any other call is made as it is: the libc's
 * function may make another one, for which the filter kills.
 */
static bool refuses_call(long number, const long words[6])
{
    switch (number) {
#ifdef SYS_open
    case SYS_open:
    case SYS_creat:
        return shim_refuse(AT_FDCWD, POINTER(words[0])) != SHIM_PASS;
    case SYS_rename:
        return shim_refuse(AT_FDCWD, POINTER(words[1])) != SHIM_PASS;
#endif
    case SYS_truncate:
        return shim_refuse(AT_FDCWD, POINTER(words[0])) != SHIM_PASS;
    case SYS_openat:
    case SYS_openat2:
        return shim_refuse((int)words[0], POINTER(words[1])) != SHIM_PASS;
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2:
        return shim_refuse((int)words[2], POINTER(words[3])) != SHIM_PASS;
    default:
        return false;
    }
}

/* The function is variadic, though seven parameters would be enough: a function may write to the
 * place of its seventh argument, where a caller that gave fewer may have a variable of its own. */
EXPORT long syscall(long number, ...)
{
    SYSCALL_WORDS(words, number);
    long result = SHIM_PASS;

    if (number == SYS_seccomp)
        return by_seccomp(words);
    if (number == SYS_prctl && words[0] == PR_SET_SECCOMP)
        return prctl(PR_SET_SECCOMP, words[1], words[2], words[3], words[4]);
    if (shim_is_quiet() && refuses_call(number, words))
        return shim_result(-EPERM);
    if (!inside && shim_is_at_work())
        result = by_export(number, words);
    if (result == SHIM_PASS)
        result = REAL(syscall)(number, words[0], words[1], words[2], words[3], words[4], words[5]);
    return result;
}
