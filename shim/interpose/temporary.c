/* Wraps functions that open files inside the libc, by calls that the shim cannot see. */
#include "interpose/interpose.h"

#include "config/pattern_index.h"

#include <stdlib.h>

/* ---- mkstemp: a session takes the descriptor over ---- */

/* Called after the libc has made the file `path` and opened it as `fd`. Returns the result of the
 * export. */
static int after_making(int fd, const char *path)
{
    const struct managed_request request = {.directory = AT_FDCWD, .path = path, .flags = O_NOFOLLOW};
    struct stat status;
    int flags;
    int result;

    if (fd < 0 || !shim_enabled() || !pattern_index_may_name(&shim_config.index, shim_config.paths, path))
        return fd;
    result = managed_opened(&request, fd, &status);
    if (result > 0) {
        flags = (int)sys_fcntl(fd, F_GETFL, 0) | (sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0);
        result = shim_take_over(fd, path, flags, true);
    }
    if (result == 0 || result == SHIM_PASS)
        return fd;
    (void)sys_unlinkat(AT_FDCWD, path, 0);
    return shim_result(result);
}

EXPORT int mkstemp(char *path)
{
    return after_making(REAL(mkstemp)(path), path);
}

EXPORT int mkstemp64(char *path)
{
    return after_making(REAL(mkstemp64)(path), path);
}

EXPORT int mkostemp(char *path, int flags)
{
    return after_making(REAL(mkostemp)(path, flags), path);
}

EXPORT int mkostemp64(char *path, int flags)
{
    return after_making(REAL(mkostemp64)(path, flags), path);
}

EXPORT int mkstemps(char *path, int suffix)
{
    return after_making(REAL(mkstemps)(path, suffix), path);
}

EXPORT int mkstemps64(char *path, int suffix)
{
    return after_making(REAL(mkstemps64)(path, suffix), path);
}

EXPORT int mkostemps(char *path, int suffix, int flags)
{
    return after_making(REAL(mkostemps)(path, suffix, flags), path);
}

EXPORT int mkostemps64(char *path, int suffix, int flags)
{
    return after_making(REAL(mkostemps64)(path, suffix, flags), path);
}

/* ---- updwtmp: the libc appends to the buffer ---- */

/* Returns SHIM_PASS, or 0 with a path of the session's buffer, or a negative errno. */
static int begin_append(const char *path, struct session_found *found, char buffer[PROC_PATH_SIZE])
{
    const struct managed_request request = {
        .directory = AT_FDCWD, .path = path, .flags = O_WRONLY | O_APPEND};
    int result = shim_begin(&request, found);

    if (result == 0)
        (void)descriptor_path(buffer, found->session->buffer);
    return result;
}

/* updwtmp(3) has no result to report an error with; the log does. */
static void end_append(struct session *session)
{
    session_publish(session);
    (void)session_settle(session, session->buffer_number);
}

EXPORT void updwtmp(const char *path, const struct utmp *entry)
{
    char buffer[PROC_PATH_SIZE];
    struct session_found found;
    int result = begin_append(path, &found, buffer);

    if (result == SHIM_PASS || result == 0)
        REAL(updwtmp)(result == 0 ? buffer : path, entry);
    if (result == 0)
        end_append(found.session);
}

EXPORT void updwtmpx(const char *path, const struct utmpx *entry)
{
    char buffer[PROC_PATH_SIZE];
    struct session_found found;
    int result = begin_append(path, &found, buffer);

    if (result == SHIM_PASS || result == 0)
        REAL(updwtmpx)(result == 0 ? buffer : path, entry);
    if (result == 0)
        end_append(found.session);
}
