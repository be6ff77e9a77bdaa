/* Makes the stat family show the payload's size, and everything else of the real inode. */
#include "interpose/interpose.h"

#include "store/store.h"

#include <sys/sysmacros.h>

static bool is_earlier(struct timespec time, struct timespec other)
{
    return time.tv_sec < other.tv_sec || (time.tv_sec == other.tv_sec && time.tv_nsec < other.tv_nsec);
}

/* Puts the size and the time of the program's uncommitted writes into the real inode's status. */
static void put_written(struct session *session, const struct stat *buffer, struct stat *status)
{
    struct timespec written;

    status->st_size = buffer->st_size;
    status->st_mode = session_get_mode(session, buffer, status->st_mode);
    if (!session_was_written(session, buffer, &written))
        return;
    session_note_time(session, written);
    status->st_mtim = written;
    if (is_earlier(status->st_ctim, written))
        status->st_ctim = written;
}

/* Does the same for a file by name, with the writes of this thread. */
static bool fix_own_writes(struct stat *status)
{
    struct stat buffer;
    struct session *session =
        session_any_writable() ? session_written_here(status->st_dev, status->st_ino, &buffer) : NULL;

    if (session != NULL)
        put_written(session, &buffer, status);
    return session != NULL;
}

/*
 * Replaces the status of a session's buffer by the real inode's, and returns 1. Returns 0 for any
 * other status, or a negative errno: the inode does not tell its status.
 */
static int fix_buffer(struct stat *status)
{
    struct session_found found;
    struct session *session = shim_has_sessions() ? session_of(status, &found) : NULL;
    struct stat buffer = *status;
    int error;

    if (session == NULL)
        return 0;
    error = sys_fstat(session->inode, status);
    if (error != 0)
        return error;
    put_written(session, &buffer, status);
    return 1;
}

/*
 * Corrects the status that a successful stat of a path gave. The path may be /dev/stdin or the
 * like. Returns 0 or a negative errno, as fix_descriptor() does.
 */
static int fix_path(int directory, const char *path, int flags, struct stat *status)
{
    int fixed = shim_enabled() ? fix_buffer(status) : 1;

    if (fixed == 0 && !fix_own_writes(status))
        status->st_size = (off_t)managed_payload_size(directory, path, flags, status);
    return fixed < 0 ? fixed : 0;
}

/* An O_PATH descriptor shows the same as its path. Any other descriptor of a raw file shows the raw
 * size. */
static bool is_path_descriptor(int fd, const struct stat *status)
{
    return S_ISREG(status->st_mode) && store_may_be_sized(status) && shim_enabled() &&
           (sys_fcntl(fd, F_GETFL, 0) & O_PATH) != 0;
}

static int fix_descriptor(int fd, struct stat *status)
{
    char path[PROC_PATH_SIZE];
    int fixed = fix_buffer(status);

    if (fixed == 0 && is_path_descriptor(fd, status))
        return fix_path(AT_FDCWD, descriptor_path(path, fd), 0, status);
    return fixed < 0 ? fixed : 0;
}

/* True for the status of most files, which needs no correction. */
static inline bool is_as_shown(const struct stat *status)
{
    return !shim_has_sessions() && !store_may_be_sized(status) && !shim_config.may_be_plain;
}

static int fix_status(int result, int directory, const char *path, int flags, struct stat *status)
{
    SHIM_MAY_BE_NULL(path);
    if (result != 0 || is_as_shown(status))
        return result;
    if ((flags & AT_EMPTY_PATH) && (path == NULL || *path == '\0'))
        return shim_result(fix_descriptor(directory, status));
    return shim_result(fix_path(directory, path, flags, status));
}

EXPORT int stat(const char *path, struct stat *status)
{
    return fix_status(REAL(stat)(path, status), AT_FDCWD, path, 0, status);
}

EXPORT int stat64(const char *path, struct stat64 *status)
{
    return fix_status(REAL(stat64)(path, status), AT_FDCWD, path, 0, (struct stat *)status);
}

EXPORT int lstat(const char *path, struct stat *status)
{
    return fix_status(REAL(lstat)(path, status), AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, status);
}

EXPORT int lstat64(const char *path, struct stat64 *status)
{
    return fix_status(REAL(lstat64)(path, status), AT_FDCWD, path, AT_SYMLINK_NOFOLLOW,
                      (struct stat *)status);
}

EXPORT int fstat(int fd, struct stat *status)
{
    int result = REAL(fstat)(fd, status);

    if (result == 0 && !is_as_shown(status))
        result = shim_result(fix_descriptor(fd, status));
    return result;
}

EXPORT int fstat64(int fd, struct stat64 *status)
{
    int result = REAL(fstat64)(fd, status);

    if (result == 0 && !is_as_shown((struct stat *)status))
        result = shim_result(fix_descriptor(fd, (struct stat *)status));
    return result;
}

EXPORT int fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return fix_status(REAL(fstatat)(directory, path, status, flags), directory, path, flags, status);
}

EXPORT int fstatat64(int directory, const char *path, struct stat64 *status, int flags)
{
    return fix_status(REAL(fstatat64)(directory, path, status, flags), directory, path, flags,
                      (struct stat *)status);
}

/* glibc before 2.33 had these in place of the calls above. */
EXPORT int __xstat(int version, const char *path, struct stat *status)
{
    return fix_status(REAL(__xstat)(version, path, status), AT_FDCWD, path, 0, status);
}

EXPORT int __xstat64(int version, const char *path, struct stat64 *status)
{
    return fix_status(REAL(__xstat64)(version, path, status), AT_FDCWD, path, 0, (struct stat *)status);
}

EXPORT int __lxstat(int version, const char *path, struct stat *status)
{
    return fix_status(REAL(__lxstat)(version, path, status), AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, status);
}

EXPORT int __lxstat64(int version, const char *path, struct stat64 *status)
{
    return fix_status(REAL(__lxstat64)(version, path, status), AT_FDCWD, path, AT_SYMLINK_NOFOLLOW,
                      (struct stat *)status);
}

EXPORT int __fxstat(int version, int fd, struct stat *status)
{
    return fix_status(REAL(__fxstat)(version, fd, status), fd, "", AT_EMPTY_PATH, status);
}

EXPORT int __fxstat64(int version, int fd, struct stat64 *status)
{
    return fix_status(REAL(__fxstat64)(version, fd, status), fd, "", AT_EMPTY_PATH, (struct stat *)status);
}

EXPORT int __fxstatat(int version, int directory, const char *path, struct stat *status, int flags)
{
    return fix_status(REAL(__fxstatat)(version, directory, path, status, flags), directory, path, flags,
                      status);
}

EXPORT int __fxstatat64(int version, int directory, const char *path, struct stat64 *status, int flags)
{
    return fix_status(REAL(__fxstatat64)(version, directory, path, status, flags), directory, path, flags,
                      (struct stat *)status);
}

static struct timespec time_of(const struct statx_timestamp *time)
{
    return (struct timespec){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

static void put_time(struct statx_timestamp *target, struct timespec time)
{
    target->tv_sec = time.tv_sec;
    target->tv_nsec = (uint32_t)time.tv_nsec;
}

/*
 * Asks the real inode if the status is that of a session's buffer, and puts the buffer's size in.
 * Returns false if it is not.
 */
static bool fix_statx_buffer(int flags, unsigned mask, struct statx *status, int *result)
{
    struct stat key = {.st_dev = makedev(status->stx_dev_major, status->stx_dev_minor),
                       .st_ino = status->stx_ino,
                       .st_nlink = status->stx_nlink};
    struct session_found found;
    struct session *session = shim_has_sessions() ? session_of(&key, &found) : NULL;
    struct stat buffer = {.st_mode = status->stx_mode,
                          .st_size = (off_t)status->stx_size,
                          .st_mtim = time_of(&status->stx_mtime)};
    struct stat shown;

    if (session == NULL)
        return false;
    *result = REAL(statx)(session->inode, "", flags | AT_EMPTY_PATH, mask, status);
    shown = (struct stat){.st_mode = status->stx_mode,
                          .st_mtim = time_of(&status->stx_mtime),
                          .st_ctim = time_of(&status->stx_ctime)};
    put_written(session, &buffer, &shown);
    status->stx_mode = (uint16_t)shown.st_mode;
    status->stx_size = (uint64_t)shown.st_size;
    put_time(&status->stx_mtime, shown.st_mtim);
    put_time(&status->stx_ctime, shown.st_ctim);
    return true;
}

EXPORT int statx(int directory, const char *path, int flags, unsigned mask, struct statx *status)
{
    int result = REAL(statx)(directory, path, flags, mask, status);
    struct stat known;

    SHIM_MAY_BE_NULL(path);
    if (result != 0 || fix_statx_buffer(flags, mask, status, &result))
        return result;
    if (!(status->stx_mask & STATX_SIZE) || !shim_enabled())
        return 0;
    known = (struct stat){.st_dev = makedev(status->stx_dev_major, status->stx_dev_minor),
                          .st_ino = status->stx_ino,
                          .st_mode = status->stx_mode,
                          .st_size = (off_t)status->stx_size,
                          .st_mtim = time_of(&status->stx_mtime),
                          .st_ctim = time_of(&status->stx_ctime),
                          .st_blocks = (blkcnt_t)status->stx_blocks};
    if (!(flags & AT_EMPTY_PATH) || (path != NULL && *path != '\0'))
        (void)fix_path(directory, path, flags, &known); /* a buffer does not come here */
    else
        (void)fix_descriptor(directory, &known);
    status->stx_mode = (uint16_t)known.st_mode;
    status->stx_size = (uint64_t)known.st_size;
    put_time(&status->stx_mtime, known.st_mtim);
    put_time(&status->stx_ctime, known.st_ctim);
    return 0;
}
