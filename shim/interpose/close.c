#include "interpose/interpose.h"

#include "manage/folders.h"
#include "os/descriptor.h"
#include "os/log.h"

#include <linux/close_range.h>
#include <pthread.h>

/* Acts on a request to cancel this thread before the close, or not at all: a commit is part of the
 * close. */
static int close_uncancelled(int fd)
{
    int before;
    int result;

    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    result = REAL(close)(fd) == 0 ? 0 : -errno;
    (void)pthread_setcancelstate(before, NULL);
    return result;
}

static int shim_close(int fd)
{
    struct session_found found;
    enum session_role role;
    int error;

    folders_forget_number(fd);
    if (!shim_has_sessions())
        return SHIM_PASS;
    role = shim_identify(fd, &found);
    if (role == SESSION_NONE)
        return SHIM_PASS;
    if (role == SESSION_PRIVATE)
        return -EBADF; /* the program never opened it */
    shim_testcancel();
    error = close_uncancelled(fd);
    if (error != 0)
        return error;
    return session_settle(found.session, found.buffer_number);
}

EXPORT int close(int fd)
{
    int result = shim_close(fd);
    return result == SHIM_PASS ? REAL(close)(fd) : shim_result(result);
}

EXPORT int __close(int fd)
{
    int result = shim_close(fd);
    return result == SHIM_PASS ? REAL(__close)(fd) : shim_result(result);
}

/* musl's */
EXPORT int posix_close(int fd, int flags)
{
    int result = shim_close(fd);
    return result == SHIM_PASS ? REAL(posix_close)(fd, flags) : shim_result(result);
}

/* Closes a descriptor, too. */
EXPORT int closedir(DIR *directory)
{
    folders_forget();
    return REAL(closedir)(directory);
}

/* ---- ranges: our private descriptors are left out ---- */

struct lowest {
    unsigned from;
    unsigned found;
};

static int find_lowest(struct session *session, void *context)
{
    struct lowest *lowest = context;
    const int numbers[] = {SESSION_GET(session->inode), SESSION_GET(session->buffer),
                           SESSION_GET(session->commit_lock)};

    for (int i = 0; i < 3; i++)
        if ((unsigned)numbers[i] >= lowest->from && (unsigned)numbers[i] < lowest->found)
            lowest->found = (unsigned)numbers[i];
    return 0;
}

/* Returns the lowest private descriptor in first..last, or last + 1 (0 when last is the largest
 * number). */
static unsigned next_private(unsigned first, unsigned last)
{
    struct lowest lowest = {first, ~0u};

    (void)session_for_each(find_lowest, &lowest);
    return lowest.found <= last && lowest.found != ~0u ? lowest.found : last + 1;
}

static int shim_close_range(unsigned first, unsigned last, int flags)
{
    folders_forget();
    if (!shim_has_sessions() || first > last)
        return SHIM_PASS;
    for (;;) {
        unsigned gap = next_private(first, last);

        if (gap != first && REAL(close_range)(first, gap - 1, flags) != 0)
            return -errno;
        if (gap == last || gap == last + 1)
            break;
        first = gap + 1;
    }
    if (!(flags & CLOSE_RANGE_CLOEXEC))
        (void)session_settle_all(); /* close_range() has no way to report; the log has it */
    return 0;
}

static int close_if_above(int fd, void *context)
{
    if (fd >= *(int *)context && !descriptor_is_private(fd))
        (void)sys_close(fd);
    return 0;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    int result = shim_close_range(first, last, flags);
    return result == SHIM_PASS ? REAL(close_range)(first, last, flags) : shim_result(result);
}

EXPORT void closefrom(int lowest)
{
    folders_forget();
    if (!shim_has_sessions()) {
        REAL(closefrom)(lowest);
        return;
    }
    if (shim_close_range(lowest < 0 ? 0u : (unsigned)lowest, ~0u, 0) != 0) {
        /* before Linux 5.9 */
        (void)descriptor_for_each(close_if_above, &lowest);
        (void)session_settle_all();
    }
}

/* ---- dup2 and dup3 close what they replace ---- */

static int move_private(struct session *session, void *context)
{
    const int *number = context;

    return session_move_private(session, *number, *number + 1);
}

/* Describes `to` before the call; buffer_number is 0 if it was nothing of ours. */
struct replaced {
    struct session_found found;
    ino_t buffer_number;
};

/* Returns 0, or a negative errno: the call must not be made. */
static int before_replace(int from, int to, struct replaced *replaced)
{
    enum session_role role = shim_identify(from, &replaced->found);

    folders_forget_number(to);
    replaced->buffer_number = 0;
    if (role == SESSION_PRIVATE)
        return -EBADF;
    role = shim_identify(to, &replaced->found);
    if (role == SESSION_PROGRAM)
        replaced->buffer_number = replaced->found.buffer_number;
    return role == SESSION_PRIVATE && session_table_is_ours() ? session_for_each(move_private, &to) : 0;
}

/* Like the kernel, dup2() and dup3() do not report the close; the log does. */
static int after_replace(int result, const struct replaced *replaced)
{
    if (result == STDERR_FILENO && shim_is_at_work())
        log_remember_stderr();
    if (result >= 0 && replaced->buffer_number != 0)
        (void)session_settle(replaced->found.session, replaced->buffer_number);
    return result;
}

EXPORT int dup2(int from, int to)
{
    struct replaced replaced;
    int error = before_replace(from, to, &replaced);

    return error < 0 ? shim_result(error) : after_replace(REAL(dup2)(from, to), &replaced);
}

EXPORT int __dup2(int from, int to)
{
    struct replaced replaced;
    int error = before_replace(from, to, &replaced);

    return error < 0 ? shim_result(error) : after_replace(REAL(__dup2)(from, to), &replaced);
}

EXPORT int dup3(int from, int to, int flags)
{
    struct replaced replaced;
    int error = before_replace(from, to, &replaced);

    return error < 0 ? shim_result(error) : after_replace(REAL(dup3)(from, to, flags), &replaced);
}
