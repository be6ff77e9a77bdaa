#include "interpose.h"

#include "descriptor.h"
#include "log.h"
#include "managed.h"

#include <stdarg.h>

/* *created: by this attempt, or by an earlier one. */
static int begin(int directory, const char *path, int flags, mode_t mode, bool *created,
                 struct session *stray, struct session **session)
{
    bool before = *created;
    int inode;
    int result =
        managed_open(&shim_config, directory, path, before ? flags & ~O_EXCL : flags, mode, &inode, created);

    *created |= before;
    if (result == MANAGED_NO)
        return SHIM_PASS;
    if (result < 0)
        return result;
    (void)session_settle_closed(false); /* what children have closed since */
    return session_begin(inode, flags, *created, stray, session);
}

int shim_begin(int directory, const char *path, int flags, mode_t mode, struct session *stray,
               struct session **session)
{
    bool created = false;
    struct rlimit limit;
    int result;

    if (!shim_enabled())
        return SHIM_PASS;
    result = begin(directory, path, flags, mode, &created, stray, session);
    if (result == -EMFILE && descriptor_is_one_free() && descriptor_raise_limit(&limit)) {
        result = begin(directory, path, flags, mode, &created, stray, session);
        descriptor_restore_limit(&limit);
    }
    if (result == -EIO)
        log_line(LOG_ERROR, "%s: cannot be opened: it holds no valid image, or its disk fails (EIO)", path);
    return result;
}

int shim_openat(int directory, const char *path, int flags, mode_t mode)
{
    struct session stray;
    struct session *session;
    int result = shim_begin(directory, path, flags, mode, &stray, &session);

    return result == 0 ? session_hand_out(session, flags) : result;
}

static int shim_truncate(const char *path, int64_t size)
{
    struct session stray;
    struct session *session;
    int result = size < 0 ? SHIM_PASS : shim_begin(AT_FDCWD, path, O_WRONLY, 0, &stray, &session);

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

EXPORT int open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    int fd = shim_openat(AT_FDCWD, path, flags, mode);
    return fd == SHIM_PASS ? real_open(path, flags, mode) : shim_result(fd);
}

EXPORT int open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    int fd = shim_openat(AT_FDCWD, path, flags, mode);
    return fd == SHIM_PASS ? real_open64(path, flags, mode) : shim_result(fd);
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    int fd = shim_openat(directory, path, flags, mode);
    return fd == SHIM_PASS ? real_openat(directory, path, flags, mode) : shim_result(fd);
}

EXPORT int openat64(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    int fd = shim_openat(directory, path, flags, mode);
    return fd == SHIM_PASS ? real_openat64(directory, path, flags, mode) : shim_result(fd);
}

/* The _2 forms are what the fortified headers make of a call without a mode. */
EXPORT int __open_2(const char *path, int flags)
{
    int fd = shim_openat(AT_FDCWD, path, flags & ~O_CREAT, 0);
    return fd == SHIM_PASS ? real___open_2(path, flags) : shim_result(fd);
}

EXPORT int __open64_2(const char *path, int flags)
{
    int fd = shim_openat(AT_FDCWD, path, flags & ~O_CREAT, 0);
    return fd == SHIM_PASS ? real___open64_2(path, flags) : shim_result(fd);
}

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    int fd = shim_openat(directory, path, flags & ~O_CREAT, 0);
    return fd == SHIM_PASS ? real___openat_2(directory, path, flags) : shim_result(fd);
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    int fd = shim_openat(directory, path, flags & ~O_CREAT, 0);
    return fd == SHIM_PASS ? real___openat64_2(directory, path, flags) : shim_result(fd);
}

EXPORT int creat(const char *path, mode_t mode)
{
    int fd = shim_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
    return fd == SHIM_PASS ? real_creat(path, mode) : shim_result(fd);
}

EXPORT int creat64(const char *path, mode_t mode)
{
    int fd = shim_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
    return fd == SHIM_PASS ? real_creat64(path, mode) : shim_result(fd);
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
