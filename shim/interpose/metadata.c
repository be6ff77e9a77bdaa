/* Metadata set or read through a descriptor is the real inode's. */
#include "interpose.h"

/* The descriptor to make the call on: the real inode's for one of ours. -1, as good as none, for a private
 * one. */
static int target_of(int fd)
{
    struct session stray;
    struct session *session;
    enum session_role role = shim_identify(fd, &stray, &session);

    return role == SESSION_PROGRAM ? session->inode : role == SESSION_PRIVATE ? -1 : fd;
}

/*
 * Times are set on both inodes. That they are still equal at the commit tells that nothing was written since,
 * and that they must outlive the commit (session_commit.c).
 */
static int after_times(int result, int fd)
{
    struct session stray;
    struct session *session;
    struct stat status;

    if (result == 0 && shim_identify(fd, &stray, &session) == SESSION_PROGRAM &&
        (session->flags & SESSION_WRITABLE) && sys_fstat(session->inode, &status) == 0) {
        struct timespec times[2] = {status.st_atim, status.st_mtim};

        (void)sys_utimensat(session->memory, NULL, times, 0);
    }
    return result;
}

EXPORT int fchmod(int fd, mode_t mode)
{
    return real_fchmod(target_of(fd), mode);
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
    return real_fsetxattr(target_of(fd), name, value, size, flags);
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
