#include "interpose.h"

#include "descriptor.h"
#include "log.h"
#include "managed.h"

#include <stdarg.h>

/* *created: by this attempt, or by an earlier one. */
static int begin(int directory, const char *path, int flags, mode_t mode, bool may_ask, bool *created,
                 struct session *stray, struct session **session)
{
    bool before = *created;
    int inode;
    int result = managed_open(&shim_config, directory, path, before ? flags & ~O_EXCL : flags, mode, may_ask,
                              &inode, created);

    *created |= before;
    if (result == MANAGED_NO || result == MANAGED_ASK)
        return result == MANAGED_NO ? SHIM_PASS : SHIM_ASK;
    if (result < 0)
        return result;
    (void)session_settle_closed(false); /* what children have closed since */
    return session_begin(inode, flags, *created, stray, session);
}

static void log_unreadable(const char *path)
{
    log_line(LOG_ERROR, "%s: cannot be opened: it holds no valid image, or its disk fails (EIO)", path);
}

int shim_begin(int directory, const char *path, int flags, mode_t mode, bool may_ask, struct session *stray,
               struct session **session)
{
    bool created = false;
    struct rlimit limit;
    int result;

    if (!shim_enabled())
        return SHIM_PASS;
    result = begin(directory, path, flags, mode, may_ask, &created, stray, session);
    if (result == -EMFILE && descriptor_is_one_free() && descriptor_raise_limit(&limit)) {
        result = begin(directory, path, flags, mode, may_ask, &created, stray, session);
        descriptor_restore_limit(&limit);
    }
    if (result == -EIO)
        log_unreadable(path);
    return result;
}

int shim_openat(int directory, const char *path, int flags, mode_t mode, bool may_ask)
{
    struct session stray;
    struct session *session;
    int result = shim_begin(directory, path, flags, mode, may_ask, &stray, &session);

    return result == 0 ? session_hand_out(session, flags) : result;
}

/* Puts a session in place of `fd`, a descriptor of a managed file. Returns `fd` or a negative errno. */
static int take_over(int fd, const char *path, int flags)
{
    struct session stray;
    struct session *session;
    int inode = DESCRIPTOR_INSIST((int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 0));
    int program = inode < 0 ? inode : session_begin(inode, flags, false, &stray, &session);

    if (program == -EIO)
        log_unreadable(path);
    if (program == 0) {
        program = DESCRIPTOR_INSIST(session_open(session, flags | O_CLOEXEC));
        if (program < 0)
            session_drop(session);
    }
    if (program < 0)
        return program;
    (void)sys_dup3(program, fd, flags & O_CLOEXEC);
    session_publish(session);
    (void)sys_close(program);
    return fd;
}

int shim_opened(int fd, int directory, const char *path, int flags)
{
    int saved = errno;
    int result = fd < 0 ? 0 : managed_opened(&shim_config, directory, path, flags, fd);
    struct rlimit limit;

    if (result == 0)
        return fd;
    if (result > 0)
        result = take_over(fd, path, flags);
    if (result == -EMFILE &&
        descriptor_raise_limit(&limit)) { /* the program has the number that it asked for */
        result = take_over(fd, path, flags);
        descriptor_restore_limit(&limit);
    }
    if (result < 0)
        (void)sys_close(fd);
    else
        errno = saved;
    return shim_result(result);
}

static int shim_truncate(const char *path, int64_t size)
{
    struct session stray;
    struct session *session;
    int result = size < 0 ? SHIM_PASS : shim_begin(AT_FDCWD, path, O_WRONLY, 0, false, &stray, &session);

    if (result != 0)
        return result;
    result = sys_ftruncate(session->memory, (uint64_t)size);
    if (result != 0) {
        session_drop(session);
        return result;
    }
    session_publish(session);
    return session_settle(session, session->memory_number);
}

/* open(2): the mode is there exactly when a file may be created */
#define MODE_ARGUMENT(flags, mode)                                                                           \
    mode_t mode = 0;                                                                                         \
    if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) {                                             \
        va_list arguments;                                                                                   \
        va_start(arguments, flags);                                                                          \
        mode = va_arg(arguments, mode_t);                                                                    \
        va_end(arguments);                                                                                   \
    }

/* What an export makes of shim_openat(), with `real` the libc's call. */
#define OPEN(directory, flags, mode, real)                                                                   \
    ({                                                                                                       \
        int open_fd = shim_openat(directory, path, flags, mode, true);                                       \
        open_fd == SHIM_PASS  ? (real)                                                                       \
        : open_fd == SHIM_ASK ? shim_opened(real, directory, path, flags)                                    \
                              : shim_result(open_fd);                                                        \
    })

EXPORT int open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(AT_FDCWD, flags, mode, real_open(path, flags, mode));
}

EXPORT int open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(AT_FDCWD, flags, mode, real_open64(path, flags, mode));
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(directory, flags, mode, real_openat(directory, path, flags, mode));
}

EXPORT int openat64(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(directory, flags, mode, real_openat64(directory, path, flags, mode));
}

/* The _2 forms are what the fortified headers make of a call without a mode. */
EXPORT int __open_2(const char *path, int flags)
{
    return OPEN(AT_FDCWD, flags & ~O_CREAT, 0, real___open_2(path, flags));
}

EXPORT int __open64_2(const char *path, int flags)
{
    return OPEN(AT_FDCWD, flags & ~O_CREAT, 0, real___open64_2(path, flags));
}

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    return OPEN(directory, flags & ~O_CREAT, 0, real___openat_2(directory, path, flags));
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    return OPEN(directory, flags & ~O_CREAT, 0, real___openat64_2(directory, path, flags));
}

EXPORT int creat(const char *path, mode_t mode)
{
    return OPEN(AT_FDCWD, O_CREAT | O_WRONLY | O_TRUNC, mode, real_creat(path, mode));
}

EXPORT int creat64(const char *path, mode_t mode)
{
    return OPEN(AT_FDCWD, O_CREAT | O_WRONLY | O_TRUNC, mode, real_creat64(path, mode));
}

EXPORT int truncate(const char *path, off_t size)
{
    int result = shim_truncate(path, size);
    return result == SHIM_PASS ? real_truncate(path, size) : shim_result(result);
}

EXPORT int truncate64(const char *path, off64_t size)
{
    int result = shim_truncate(path, size);
    return result == SHIM_PASS ? real_truncate64(path, size) : shim_result(result);
}
