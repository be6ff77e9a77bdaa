/* Metadata set or read through a descriptor is the real inode's. */
#include "interpose.h"

#include <linux/xattr.h>
#include <string.h>

/* The descriptor to make the call on: the real inode's for one of ours. -1, as good as none, for a private
 * one. */
static int target_of(int fd)
{
    struct session stray;
    struct session *session;
    enum session_role role = shim_identify(fd, &stray, &session);

    return role == SESSION_PROGRAM ? session->inode : role == SESSION_PRIVATE ? -1 : fd;
}

/* The session that commits what is written to `fd`, or NULL. */
static struct session *writable_at(int fd, struct session *stray)
{
    struct session *session;

    return shim_identify(fd, stray, &session) == SESSION_PROGRAM && (session->flags & SESSION_WRITABLE)
               ? session
               : NULL;
}

/*
 * Times are set on both inodes. That they are still equal at the commit tells that nothing was written since,
 * and that they must outlive the commit (session_commit.c).
 */
static int after_times(int result, int fd)
{
    struct session stray;
    struct session *session = result == 0 ? writable_at(fd, &stray) : NULL;
    struct stat status;

    if (session != NULL && sys_fstat(session->inode, &status) == 0) {
        struct timespec times[2] = {status.st_atim, status.st_mtim};

        (void)sys_utimensat(session->memory, NULL, times, 0);
    }
    return result;
}

/*
 * A write takes set-id bits and file capabilities away: the program's from the memfd, on which they are set, too, the
 * commit's from the inode. Those that the memfd has still at the commit must outlive it (session_commit.c). S_ISUID stands
 * for both bits there: whether S_ISGID goes depends on the group.
 */
EXPORT int fchmod(int fd, mode_t mode)
{
    int result = real_fchmod(target_of(fd), mode);
    struct session stray;
    struct session *session =
        result == 0 && (mode & (S_ISUID | S_ISGID)) != 0 ? writable_at(fd, &stray) : NULL;
    struct stat status;

    if (session != NULL && sys_fstat(session->memory, &status) == 0)
        (void)sys_fchmod(session->memory, (status.st_mode & 07777) | S_ISUID);
    return result;
}

EXPORT int fchown(int fd, uid_t user, gid_t group)
{
    return real_fchown(target_of(fd), user, group);
}

EXPORT int futimens(int fd, const struct timespec times[2])
{
    return after_times(real_futimens(target_of(fd), times), fd);
}

EXPORT int futimes(int fd, const struct timeval times[2])
{
    return after_times(real_futimes(target_of(fd), times), fd);
}

EXPORT int utimensat(int directory, const char *path, const struct timespec times[2], int flags)
{
    bool itself;

    SHIM_MAY_BE_NULL(path);
    itself = path == NULL || ((flags & AT_EMPTY_PATH) && *path == '\0');
    if (!itself)
        return real_utimensat(directory, path, times, flags);
    return after_times(real_utimensat(target_of(directory), path, times, flags), directory);
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    int result = real_fsetxattr(target_of(fd), name, value, size, flags);
    struct session stray;
    struct session *session =
        result == 0 && strcmp(name, XATTR_NAME_CAPS) == 0 ? writable_at(fd, &stray) : NULL;

    if (session != NULL)
        (void)sys_fsetxattr(session->memory, name, value, size, 0);
    return result;
}

EXPORT ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
    return real_fgetxattr(target_of(fd), name, value, size);
}

EXPORT ssize_t flistxattr(int fd, char *list, size_t size)
{
    return real_flistxattr(target_of(fd), list, size);
}

EXPORT int fremovexattr(int fd, const char *name)
{
    return real_fremovexattr(target_of(fd), name);
}
