/* Keeps at a commit what belongs to the program: the times, set-id bits and capabilities. */
#include "session/internal.h"

#include <linux/xattr.h>

void session_carry_times(const struct session *session, const struct stat *buffer, const struct stat *inode)
{
    struct timespec times[2] = {inode->st_atim};

    if (!session_was_written(session, buffer, &times[1]))
        times[1].tv_nsec = UTIME_OMIT;
    (void)sys_utimensat(session->inode, NULL, times, 0);
}

void session_carry_newer_time(const struct session *session, const struct stat *buffer)
{
    struct timespec written;
    struct stat inode;

    if (session_was_written(session, buffer, &written) && sys_fstat(session->inode, &inode) == 0 &&
        (written.tv_sec > inode.st_mtim.tv_sec ||
         (written.tv_sec == inode.st_mtim.tv_sec && written.tv_nsec > inode.st_mtim.tv_nsec)))
        session_carry_times(session, buffer, &inode);
}

void session_note_privileges(const struct session *session, const struct stat *known,
                             struct session_privileges *set)
{
    struct stat buffer;
    struct stat inode;

    set->set_id = 0;
    if (known != NULL)
        buffer = *known;
    if ((known != NULL || sys_fstat(session->buffer, &buffer) == 0) && (buffer.st_mode & S_ISUID) &&
        sys_fstat(session->inode, &inode) == 0)
        set->set_id = inode.st_mode & (S_ISUID | S_ISGID);
    set->size = sys_fgetxattr(session->buffer, XATTR_NAME_CAPS, NULL, 0);
    if (set->size > 0)
        set->size =
            sys_fgetxattr(session->inode, XATTR_NAME_CAPS, set->capabilities, sizeof set->capabilities);
}

void session_restore_privileges(const struct session *session, const struct session_privileges *set)
{
    struct stat inode;

    if (set->set_id != 0 && sys_fstat(session->inode, &inode) == 0 && (set->set_id & ~inode.st_mode) != 0)
        (void)sys_fchmod(session->inode, (inode.st_mode & 07777) | set->set_id);
    if (set->size > 0)
        (void)sys_fsetxattr(session->inode, XATTR_NAME_CAPS, set->capabilities, (size_t)set->size,
                            XATTR_CREATE);
}
