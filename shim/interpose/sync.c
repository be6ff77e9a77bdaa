/* Wraps the calls other than close that commit, and the calls that take bytes from a descriptor
 * without read and write. */
#include "interpose/interpose.h"

#include "os/scratch.h"

static int sync_for_program(const struct session_found *found)
{
    struct session *session = found->session;
    int error = session->flags & SESSION_WRITABLE ? session_claim_file(session) : 0;

    return error == 0 && session->flags & SESSION_WRITABLE ? session_sync(session, found->buffer_number)
                                                           : error;
}

static int shim_sync(int fd)
{
    struct session_found found;
    enum session_role role = shim_identify(fd, &found);

    if (role == SESSION_NONE)
        return SHIM_PASS;
    if (role == SESSION_PRIVATE)
        return -EBADF;
    shim_testcancel();
    return sync_for_program(&found);
}

EXPORT int fsync(int fd)
{
    int result = shim_sync(fd);
    return result == SHIM_PASS ? REAL(fsync)(fd) : shim_result(result);
}

EXPORT int fdatasync(int fd)
{
    int result = shim_sync(fd);
    return result == SHIM_PASS ? REAL(fdatasync)(fd) : shim_result(result);
}

/* sync() cannot report an error: a commit that fails is logged, and the close tries again and
 * reports it. */
EXPORT void sync(void)
{
    if (shim_has_sessions())
        (void)session_sync_all();
    REAL(sync)();
}

EXPORT int syncfs(int fd)
{
    int error = shim_has_sessions() ? session_sync_all() : 0;
    int result = REAL(syncfs)(shim_target(fd));

    return error != 0 && result == 0 ? shim_result(error) : result;
}

EXPORT int msync(void *address, size_t size, int flags)
{
    int result = REAL(msync)(address, size, flags);
    struct session_found found;

    if (result != 0 || !(flags & MS_SYNC) || !shim_has_sessions())
        return result;
    if (session_mapped_at(address, &found) < 0)
        return shim_result(session_sync_all()); /* no /proc: it may be any session */
    if (found.session == NULL)
        return 0;
    session_clear_tail(found.session);
    return shim_result(sync_for_program(&found));
}

/* A mapping outlives the descriptor that it was made from: it may have been the last to hold a
 * session. */
EXPORT int munmap(void *address, size_t size)
{
    int result = REAL(munmap)(address, size);

    if (result == 0 && shim_has_sessions()) {
        session_clear_tails();
        (void)session_settle_closed(false);
    }
    return result;
}

/* The kernel copies only inside one file system, and the buffer is on another than the file. */
static ssize_t copy_by_hand(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size)
{
    struct scratch scratch;
    int64_t start = from_offset != NULL ? *from_offset : sys_lseek(from, 0, SEEK_CUR);
    ssize_t n;
    ssize_t written = 0;

    if (scratch_take(&scratch, SCRATCH_CHUNK) != 0)
        return -ENOMEM;
    n = sys_pread(from, scratch.bytes, size < SCRATCH_CHUNK ? size : SCRATCH_CHUNK, (uint64_t)start);
    if (n > 0)
        written = to_offset != NULL ? sys_pwrite(to, scratch.bytes, (size_t)n, (uint64_t)*to_offset)
                                    : sys_write(to, scratch.bytes, (size_t)n);
    scratch_give(&scratch);
    if (n <= 0 || written < 0)
        return n <= 0 ? n : written;
    if (from_offset != NULL)
        *from_offset += written;
    else
        (void)sys_lseek(from, start + written, SEEK_SET);
    if (to_offset != NULL)
        *to_offset += written;
    return written;
}

EXPORT ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
                               unsigned flags)
{
    struct session_found found;
    int saved = errno;
    ssize_t result = REAL(copy_file_range)(from, from_offset, to, to_offset, size, flags);

    if (result >= 0 || errno != EXDEV ||
        (shim_identify(from, &found) != SESSION_PROGRAM && shim_identify(to, &found) != SESSION_PROGRAM))
        return result;
    result = copy_by_hand(from, from_offset, to, to_offset, size);
    errno = result < 0 ? (int)-result : saved;
    return result < 0 ? -1 : result;
}
