/*
 * The program's own locks: fcntl, lockf and flock on a managed descriptor lock the real inode, where other processes
 * see them (filelock.h tells how a commit lives with them). Files are locked so that what is read is what was written
 * under the last lock: taking one loads what was committed meanwhile, giving one back commits.
 */
#include "interpose/interpose.h"

#include "store/filelock.h"

#include <stdarg.h>
#include <sys/file.h>

/* The program's offsets count from its own descriptor's position, or the payload's end. */
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

static bool is_set(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

/* Behind a lock that was taken. A program that would read stale content does not get it. */
static int after_lock(struct session *session, int result)
{
    int error = result == 0 ? session_refresh(session) : 0;

    return error != 0 ? error : result;
}

/*
 * Before a lock is given back. What fails is in the log, and is tried again at the close, which reports it. Programs
 * unlock after a lock that they did not get, too: that must not wait for who has it.
 */
static void before_unlock(struct session *session)
{
    if ((session->flags & SESSION_WRITABLE) && !filelock_is_anothers(session->inode))
        (void)session_sync(session);
}

/* SHIM_PASS, or what fcntl() does with `lock` on a managed descriptor: a result, or a negative errno. */
static int shim_lock(int fd, int command, struct flock *lock)
{
    struct session_found found;
    struct flock real;
    enum session_role role = shim_identify(fd, &found);
    int result;

    if (role == SESSION_NONE || lock == NULL)
        return SHIM_PASS;
    if (role == SESSION_PRIVATE)
        return -EBADF;
    if (is_set(command) && !mode_allows(fd, lock->l_type))
        return -EBADF;
    if (command == F_SETLKW || command == F_OFD_SETLKW)
        shim_testcancel();
    if (found.session->flags & SESSION_LOCKED) { /* nobody else has any lock on it */
        if (!is_set(command))
            lock->l_type = F_UNLCK;
        return 0;
    }
    real = *lock;
    real.l_start += origin_of(fd, lock->l_whence);
    real.l_whence = lock->l_whence == SEEK_CUR || lock->l_whence == SEEK_END ? SEEK_SET : lock->l_whence;
    if (is_set(command) && lock->l_type == F_UNLCK)
        before_unlock(found.session);
    result = real_fcntl(found.session->inode, command, &real) == 0 ? 0 : -errno;
    if (is_set(command) && lock->l_type != F_UNLCK) {
        result = after_lock(found.session, result);
    } else if (result == 0 && !is_set(command))
        *lock = real;
    return result;
}

static bool is_lock(int command)
{
    return is_set(command) || command == F_GETLK || command == F_OFD_GETLK;
}

#ifndef F_CREATED_QUERY
#define F_CREATED_QUERY (F_LINUX_SPECIFIC_BASE + 4)
#endif
#ifndef F_LINUX_SPECIFIC_BASE
#define F_LINUX_SPECIFIC_BASE 1024
#endif

/* What memory files can, and others cannot; and leases, which nobody gets on a file that we, too, have open. */
static int shim_other(int fd, int command)
{
    struct session_found found;

    if (command != F_ADD_SEALS && command != F_GET_SEALS && command != F_SETLEASE &&
        command != F_CREATED_QUERY)
        return SHIM_PASS;
    if (shim_identify(fd, &found) != SESSION_PROGRAM)
        return SHIM_PASS;
    if (command == F_CREATED_QUERY) /* since Linux 6.12 */
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
    return is_lock(command) ? shim_lock(fd, command, argument) : shim_other(fd, command);
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
    return result == SHIM_PASS ? real_fcntl(fd, command, argument) : shim_result(result);
}

EXPORT int fcntl64(int fd, int command, ...)
{
    ARGUMENT(argument, command);
    int result = shim_fcntl(fd, command, argument);
    return result == SHIM_PASS ? real_fcntl64(fd, command, argument) : shim_result(result);
}

EXPORT int __fcntl(int fd, int command, ...)
{
    ARGUMENT(argument, command);
    int result = shim_fcntl(fd, command, argument);
    return result == SHIM_PASS ? real___fcntl(fd, command, argument) : shim_result(result);
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
    return result == SHIM_PASS ? real_lockf(fd, command, size) : shim_result(result);
}

EXPORT int lockf64(int fd, int command, off64_t size)
{
    int result = shim_lockf(fd, command, size);
    return result == SHIM_PASS ? real_lockf64(fd, command, size) : shim_result(result);
}

static int shim_flock(int fd, int operation)
{
    struct session_found found;
    enum session_role role = shim_identify(fd, &found);
    int result;

    if (role != SESSION_PROGRAM)
        return role == SESSION_NONE ? SHIM_PASS : -EBADF;
    if (operation & LOCK_UN)
        before_unlock(found.session);
    result = real_flock(found.session->inode, operation) == 0 ? 0 : -errno;
    return operation & LOCK_UN ? result : after_lock(found.session, result);
}

EXPORT int flock(int fd, int operation)
{
    int result = shim_flock(fd, operation);
    return result == SHIM_PASS ? real_flock(fd, operation) : shim_result(result);
}
