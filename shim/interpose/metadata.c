/* Makes calls that read or set metadata, by a descriptor or a path that leads to one, work on the
 * real inode. */
#include "interpose/interpose.h"

#include <linux/xattr.h>
#include <string.h>

int shim_target(int fd)
{
    struct session_found found;
    enum session_role role = shim_identify(fd, &found);

    return role == SESSION_PROGRAM ? found.session->inode : role == SESSION_PRIVATE ? -1 : fd;
}

/* True for sessions that will commit; the bookkeeping below is needed only for those. */
static bool is_writable(const struct session *session)
{
    return session != NULL && (session->flags & SESSION_WRITABLE) != 0;
}

/* Aims a call by path, and returns its session: of the descriptor that the path leads to, or the
 * one by which this process writes the file; NULL if there is none. */
static struct session *aim_session(struct aim *aim, int directory, const char *path, int flags)
{
    struct stat status;

    shim_aim(aim, directory, path, flags);
    if (aim->found.session != NULL || !session_any_writable() ||
        sys_fstatat(aim->directory, aim->path, &status, flags & AT_SYMLINK_NOFOLLOW) != 0)
        return aim->found.session;
    return session_writer(status.st_dev, status.st_ino);
}

static struct session *session_at(int fd, struct session_found *found)
{
    return shim_identify(fd, found) == SESSION_PROGRAM ? found->session : NULL;
}

/* Times are set on both inodes: a commit gives the file its buffer's time of modification
 * (session/commit.c). */
static int after_times(int result, struct session *session)
{
    struct stat status;

    if (result == 0 && is_writable(session) && sys_fstat(session->inode, &status) == 0) {
        struct timespec times[2] = {status.st_atim, status.st_mtim};

        (void)sys_utimensat(session->buffer, NULL, times, 0);
        session_note_time(session, status.st_mtim);
    }
    return result;
}

/*
 * A program that sets set-id bits renews the buffer's mark (session_note_privileges()); what it
 * wrote before counts no more.
 *
 * A file that may be executed is plain, so that the kernel can read it.
 */
static int after_mode(int result, mode_t mode, struct session *session, const struct aim *aim)
{
    int saved = errno;
    struct stat status;

    if (result != 0)
        return result;
    if (session != NULL)
        session_follow_mode(session);
    if ((mode & (S_ISUID | S_ISGID)) != 0 && is_writable(session) && sys_fstat(session->buffer, &status) == 0)
        (void)sys_fchmod(session->buffer, (status.st_mode & 07777) | S_ISUID);
    if ((mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0 && session != NULL)
        session_make_plain(session);
    else if ((mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0 && aim != NULL && shim_enabled())
        managed_make_plain(aim->directory, aim->path);
    errno = saved;
    return 0;
}

static int after_xattr(int result, const char *name, const void *value, size_t size, struct session *session)
{
    if (result == 0 && session != NULL && strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0)
        session_follow_mode(session);
    if (result == 0 && is_writable(session) && strcmp(name, XATTR_NAME_CAPS) == 0) {
        SESSION_SET(session->has_privilege, true);
        (void)sys_fsetxattr(session->buffer, name, value, size, 0);
    }
    return result;
}

/* ---- mode ---- */

/* Sets the mode by the session, if there is one that writes; SHIM_PASS: the libc's call is to be
 * made. */
static int set_mode(struct session *session, mode_t mode)
{
    int result = is_writable(session) ? session_set_mode(session, mode) : 1;

    return result > 0 ? SHIM_PASS : result;
}

EXPORT int fchmod(int fd, mode_t mode)
{
    struct session_found found;
    struct session *session = session_at(fd, &found);
    int result = set_mode(session, mode);

    result = result == SHIM_PASS ? REAL(fchmod)(shim_target(fd), mode) : shim_result(result);
    return after_mode(result, mode, session, NULL);
}

enum mode_call { CHMOD, LCHMOD, FCHMODAT };

static int change_mode(enum mode_call call, int directory, const char *path, mode_t mode, int flags)
{
    struct aim aim;
    struct session *session = aim_session(&aim, directory, path, flags);
    int result;

    result = set_mode(session, mode);
    if (result != SHIM_PASS)
        result = shim_result(result);
    else if (call == CHMOD)
        result = REAL(chmod)(aim.path, mode);
    else if (call == LCHMOD)
        result = REAL(lchmod)(aim.path, mode);
    else
        result = REAL(fchmodat)(aim.directory, aim.path, mode, flags);
    return after_mode(result, mode, session, &aim);
}

EXPORT int chmod(const char *path, mode_t mode)
{
    return change_mode(CHMOD, AT_FDCWD, path, mode, AIM_FOLLOW);
}

EXPORT int lchmod(const char *path, mode_t mode)
{
    return change_mode(LCHMOD, AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}

EXPORT int fchmodat(int directory, const char *path, mode_t mode, int flags)
{
    return change_mode(FCHMODAT, directory, path, mode, flags);
}

/* ---- owner ---- */

/* Commits what another owner is to get. A call that names the present owner takes no more than
 * set-id bits away. Returns 0, or -1 and errno, as does before_xattr(). */
static int before_owner(struct session *session, uid_t user, gid_t group)
{
    struct stat status;

    if (!is_writable(session) || sys_fstat(session->inode, &status) != 0)
        return 0;
    if ((user == (uid_t)-1 || user == status.st_uid) && (group == (gid_t)-1 || group == status.st_gid) &&
        (SESSION_GET(session->pending_mode) & (S_ISUID | S_ISGID)) == 0)
        return 0;
    return shim_result(session_settle_rights(session));
}

EXPORT int fchown(int fd, uid_t user, gid_t group)
{
    struct session_found found;

    return before_owner(session_at(fd, &found), user, group) != 0
               ? -1
               : REAL(fchown)(shim_target(fd), user, group);
}

EXPORT int chown(const char *path, uid_t user, gid_t group)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AIM_FOLLOW);

    return before_owner(session, user, group) != 0 ? -1 : REAL(chown)(aim.path, user, group);
}

EXPORT int lchown(const char *path, uid_t user, gid_t group)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);

    return before_owner(session, user, group) != 0 ? -1 : REAL(lchown)(aim.path, user, group);
}

EXPORT int fchownat(int directory, const char *path, uid_t user, gid_t group, int flags)
{
    struct aim aim;
    struct session *session = aim_session(&aim, directory, path, flags);

    return before_owner(session, user, group) != 0
               ? -1
               : REAL(fchownat)(aim.directory, aim.path, user, group, flags);
}

/* ---- times ---- */

EXPORT int futimens(int fd, const struct timespec times[2])
{
    struct session_found found;

    return after_times(REAL(futimens)(shim_target(fd), times), session_at(fd, &found));
}

EXPORT int futimes(int fd, const struct timeval times[2])
{
    struct session_found found;

    return after_times(REAL(futimes)(shim_target(fd), times), session_at(fd, &found));
}

EXPORT int utimensat(int directory, const char *path, const struct timespec times[2], int flags)
{
    struct aim aim;
    struct session *session;

    SHIM_MAY_BE_NULL(path);
    session = aim_session(&aim, directory, path, flags);
    return after_times(REAL(utimensat)(aim.directory, aim.path, times, flags), session);
}

EXPORT int futimesat(int directory, const char *path, const struct timeval times[2])
{
    struct aim aim;
    struct session *session;

    SHIM_MAY_BE_NULL(path);
    session = aim_session(&aim, directory, path, AIM_FOLLOW);
    return after_times(REAL(futimesat)(aim.directory, aim.path, times), session);
}

EXPORT int utime(const char *path, const struct utimbuf *times)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AIM_FOLLOW);

    return after_times(REAL(utime)(aim.path, times), session);
}

EXPORT int utimes(const char *path, const struct timeval times[2])
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AIM_FOLLOW);

    return after_times(REAL(utimes)(aim.path, times), session);
}

/* ---- extended attributes ---- */

/* Commits before an access control list or capabilities change: neither may act on the old
 * content. */
static int before_xattr(struct session *session, const char *name)
{
    if (!is_writable(session) || !sys_is_readable(name) ||
        (strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) != 0 && strcmp(name, XATTR_NAME_CAPS) != 0))
        return 0;
    return shim_result(session_settle_rights(session));
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    struct session_found found;
    struct session *session = session_at(fd, &found);

    if (before_xattr(session, name) != 0)
        return -1;
    return after_xattr(REAL(fsetxattr)(shim_target(fd), name, value, size, flags), name, value, size,
                       session);
}

EXPORT int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AIM_FOLLOW);

    if (before_xattr(session, name) != 0)
        return -1;
    return after_xattr(REAL(setxattr)(aim.path, name, value, size, flags), name, value, size, session);
}

EXPORT int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);

    if (before_xattr(session, name) != 0)
        return -1;
    return after_xattr(REAL(lsetxattr)(aim.path, name, value, size, flags), name, value, size, session);
}

EXPORT ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
    return REAL(fgetxattr)(shim_target(fd), name, value, size);
}

EXPORT ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
    return REAL(getxattr)(SHIM_PATH(path), name, value, size);
}

EXPORT ssize_t flistxattr(int fd, char *list, size_t size)
{
    return REAL(flistxattr)(shim_target(fd), list, size);
}

EXPORT ssize_t listxattr(const char *path, char *list, size_t size)
{
    return REAL(listxattr)(SHIM_PATH(path), list, size);
}

EXPORT int fremovexattr(int fd, const char *name)
{
    struct session_found found;

    return before_xattr(session_at(fd, &found), name) != 0 ? -1 : REAL(fremovexattr)(shim_target(fd), name);
}

EXPORT int removexattr(const char *path, const char *name)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AIM_FOLLOW);

    return before_xattr(session, name) != 0 ? -1 : REAL(removexattr)(aim.path, name);
}

EXPORT int lremovexattr(const char *path, const char *name)
{
    struct aim aim;
    struct session *session = aim_session(&aim, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);

    return before_xattr(session, name) != 0 ? -1 : REAL(lremovexattr)(aim.path, name);
}
