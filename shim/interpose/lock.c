/*
 * The program's own locks: fcntl, lockf and flock on a managed descriptor lock the real inode,
 * where other processes see them (filelock.h tells how a commit lives with them). A program locks a
 * file to read what was written under the last lock: taking a lock loads the content that was
 * committed meanwhile, and giving it back commits.
 */
#include "interpose/interpose.h"

#include "store/filelock.h"

#include <stdarg.h>
#include <sys/file.h>

/* Turns the program's offsets, which count from its descriptor's position or the payload's end. */
static int64_t origin_of(int fd, int whence)
{
    struct stat status;

    if (whence == SEEK_CUR)
        return sys_lseek(fd, 0, SEEK_CUR);
    if (whence == SEEK_END)
        return sys_fstat(fd, &status) == 0 ? status.st_size : 0;
    return 0;
}

/* The real inode is open for reading and writing whatever the program's access mode. */
static bool mode_allows(int fd, int type)
{
    int mode = (int)sys_fcntl(fd, F_GETFL, 0) & O_ACCMODE;

    return !(type == F_RDLCK && mode == O_WRONLY) && !(type == F_WRLCK && mode == O_RDONLY);
}

/* POSIX locks belong to the process, and the others to the open file description, fcntl(2). */
static bool is_posix(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK;
}

static bool sets_lock(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

/* Translates the program's range to the real inode: it counts from the start of the file, and
 * leaves the bytes behind FILELOCK_PROGRAM_END to commits. Returns 0 or -EOVERFLOW. */
static int translate_range(int fd, const struct flock *lock, struct flock *real)
{
    *real = *lock;
    if (__builtin_add_overflow(lock->l_start, origin_of(fd, lock->l_whence), &real->l_start))
        return -EOVERFLOW;
    real->l_whence = lock->l_whence == SEEK_CUR || lock->l_whence == SEEK_END ? SEEK_SET : lock->l_whence;
    if (lock->l_len < 0 || real->l_start < 0)
        return 0;
    if (real->l_start > FILELOCK_PROGRAM_END)
        return -EOVERFLOW;
    if (lock->l_len == 0)
        real->l_len = FILELOCK_PROGRAM_END - real->l_start + 1;
    return 0;
}

/* Answers F_GETLK: copies the conflicting lock to the program's struct. Without a conflict only
 * l_type changes (fcntl(2)). */
static void show_conflict(const struct flock *found, struct flock *lock)
{
    if (found->l_type == F_UNLCK) {
        lock->l_type = F_UNLCK;
        return;
    }
    *lock = *found;
    if (found->l_len != 0 && found->l_start + (found->l_len - 1) >= FILELOCK_PROGRAM_END)
        lock->l_len = 0;
}

static bool is_readable(const struct flock *lock)
{
    for (size_t i = 0; i < sizeof *lock; i += sizeof(uint64_t))
        if (!sys_is_readable((const char *)lock + i))
            return false;
    return true;
}

/* Tells whether the struct, which can be read, can be written, too: has the kernel write a signal
 * mask to its first and last words. */
static bool is_writable(struct flock *lock)
{
    const struct flock before = *lock;
    uint64_t *words = (uint64_t *)lock;

    if (sys_sigprocmask(NULL, words) != 0)
        return false;
    if (sys_sigprocmask(NULL, words + sizeof *lock / sizeof *words - 1) != 0) {
        words[0] = ((const uint64_t *)&before)[0];
        return false;
    }
    *lock = before;
    return true;
}

/* Called after a lock was taken: if the content cannot be loaded, the program does not get the
 * lock, since it would read stale content. */
static int after_lock(struct session *session)
{
    return session_refresh(session);
}

/*
 * Called before a lock is given back: commits, so that others see what was written under it.
 * Programs also unlock after a lock that they did not get: then this must not wait for the process
 * that has it.
 */
static int before_unlock(const struct session_found *found, int inode)
{
    return (found->session->flags & SESSION_WRITABLE) && !filelock_is_held_by_other(inode)
               ? session_sync(found->session, found->buffer_number)
               : 0;
}

/* Sets a lock on a part or all of the file, and loads or commits. */
static int set_lock(const struct session_found *found, int inode, int command, const struct flock *real)
{
    struct session *session = found->session;
    int unpublished = real->l_type == F_UNLCK ? before_unlock(found, inode) : 0;
    int result;

    SESSION_SET(session->locks, true);
    result = REAL(fcntl)(inode, command, real) == 0 ? 0 : -errno;
    if (result != 0)
        return result;
    if (real->l_type == F_UNLCK)
        return unpublished;
    session_note_lock(session);
    if (is_posix(command))
        session_note_posix_lock(session);
    result = after_lock(session);
    if (result == 0 && real->l_type == F_WRLCK &&
        (real->l_start != 0 || real->l_len != FILELOCK_PROGRAM_END + 1))
        result = session_keep_base(session);
    return result;
}

/* Does what fcntl() does with `lock` on a managed descriptor. Returns its result, a negative errno,
 * or SHIM_PASS. */
static int shim_lock(int fd, int command, struct flock *lock)
{
    struct session_found found;
    enum session_role role = shim_identify(fd, &found);
    struct flock real;
    int result;
    int inode;

    if (role == SESSION_NONE)
        return SHIM_PASS;
    if (role == SESSION_PRIVATE)
        return -EBADF;
    if (!is_readable(lock) || (!sets_lock(command) && !is_writable(lock)))
        return -EFAULT;
    if (sets_lock(command) && !mode_allows(fd, lock->l_type))
        return -EBADF;
    if (command == F_SETLKW || command == F_OFD_SETLKW)
        shim_testcancel();
    if (found.session->flags & SESSION_LOCKED) { /* no other process has any lock on it */
        if (!sets_lock(command))
            lock->l_type = F_UNLCK;
        return 0;
    }
    inode = is_posix(command) ? found.session->inode : session_lock_inode(found.session, fd);
    result = inode < 0 ? inode : translate_range(fd, lock, &real);
    if (result != 0)
        return result;
    if (sets_lock(command))
        return set_lock(&found, inode, command, &real);
    result = REAL(fcntl)(inode, command, &real) == 0 ? 0 : -errno;
    if (result == 0)
        show_conflict(&real, lock);
    return result;
}

static bool is_lock_command(int command)
{
    return sets_lock(command) || command == F_GETLK || command == F_OFD_GETLK;
}

#ifndef F_CREATED_QUERY
#define F_CREATED_QUERY (F_LINUX_SPECIFIC_BASE + 4)
#endif
#ifndef F_LINUX_SPECIFIC_BASE
#define F_LINUX_SPECIFIC_BASE 1024
#endif

/* Handles the commands that a memfd would accept but a regular file refuses (seals), and leases:
 * the kernel gives none on a file that we have open, too. */
static int shim_other(int fd, int command)
{
    struct session_found found;

    if (command != F_ADD_SEALS && command != F_GET_SEALS && command != F_SETLEASE &&
        command != F_CREATED_QUERY)
        return SHIM_PASS;
    if (shim_identify(fd, &found) != SESSION_PROGRAM)
        return SHIM_PASS;
    if (command == F_CREATED_QUERY) /* Linux 6.12 */
        return sys_fcntl(fd, command, 0) < 0 ? -EINVAL : (found.session->flags & SESSION_CREATED) != 0;
    return command == F_SETLEASE ? -EAGAIN : -EINVAL;
}

void shim_note_append(int fd)
{
    struct session_found found;

    if (shim_identify(fd, &found) == SESSION_PROGRAM && (found.session->flags & SESSION_WRITABLE))
        session_begin_appending(found.session);
}

static int shim_fcntl(int fd, int command, void *argument)
{
    if (command == F_SETFL && ((intptr_t)argument & O_APPEND))
        shim_note_append(fd);
    return is_lock_command(command) ? shim_lock(fd, command, argument) : shim_other(fd, command);
}

/* fcntl(2): no command takes more than one word. */
#define ARGUMENT(argument, last)                                                                             \
    void *argument;                                                                                          \
    va_list arguments;                                                                                       \
    va_start(arguments, last);                                                                               \
    (argument) = va_arg(arguments, void *);                                                                  \
    va_end(arguments)

EXPORT int fcntl(int fd, int command, ...)
{
    ARGUMENT(argument, command);
    int result = shim_fcntl(fd, command, argument);
    return result == SHIM_PASS ? REAL(fcntl)(fd, command, argument) : shim_result(result);
}

EXPORT int fcntl64(int fd, int command, ...)
{
    ARGUMENT(argument, command);
    int result = shim_fcntl(fd, command, argument);
    return result == SHIM_PASS ? REAL(fcntl64)(fd, command, argument) : shim_result(result);
}

EXPORT int __fcntl(int fd, int command, ...)
{
    ARGUMENT(argument, command);
    int result = shim_fcntl(fd, command, argument);
    return result == SHIM_PASS ? REAL(__fcntl)(fd, command, argument) : shim_result(result);
}

/* lockf(3) by fcntl(2): the libc's own call of it is invisible to us. */
static int shim_lockf(int fd, int command, int64_t size)
{
    static const struct {
        int set;
        short type;
    } commands[] = {
        [F_ULOCK] = {F_SETLK, F_UNLCK},
        [F_LOCK] = {F_SETLKW, F_WRLCK},
        [F_TLOCK] = {F_SETLK, F_WRLCK},
        [F_TEST] = {F_GETLK, F_WRLCK},
    };
    struct flock lock = {.l_whence = SEEK_CUR, .l_len = size};
    int result;

    if (command < 0 || (size_t)command >= sizeof commands / sizeof commands[0])
        return SHIM_PASS; /* EINVAL from libc */
    lock.l_type = commands[command].type;
    result = shim_lock(fd, commands[command].set, &lock);
    if (result != 0 || command != F_TEST)
        return result;
    return lock.l_type == F_UNLCK ? 0 : -EACCES;
}

EXPORT int lockf(int fd, int command, off_t size)
{
    int result = shim_lockf(fd, command, size);
    return result == SHIM_PASS ? REAL(lockf)(fd, command, size) : shim_result(result);
}

EXPORT int lockf64(int fd, int command, off64_t size)
{
    int result = shim_lockf(fd, command, size);
    return result == SHIM_PASS ? REAL(lockf64)(fd, command, size) : shim_result(result);
}

static int shim_flock(int fd, int operation)
{
    struct session_found found;
    enum session_role role = shim_identify(fd, &found);
    int unpublished;
    int result;
    int inode;

    if (role != SESSION_PROGRAM)
        return role == SESSION_NONE ? SHIM_PASS : -EBADF;
    inode = session_lock_inode(found.session, fd);
    if (inode < 0)
        return inode;
    unpublished = operation & LOCK_UN ? before_unlock(&found, inode) : 0;
    result = REAL(flock)(inode, operation) == 0 ? 0 : -errno;
    if (result != 0)
        return result;
    if (operation & LOCK_UN)
        return unpublished;
    session_note_lock(found.session);
    return after_lock(found.session);
}

EXPORT int flock(int fd, int operation)
{
    int result = shim_flock(fd, operation);
    return result == SHIM_PASS ? REAL(flock)(fd, operation) : shim_result(result);
}
