/* Keeps at a commit the attributes that the program chose: times, mode, set-id bits,
 * capabilities. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "store/store.h"

#include <linux/xattr.h>

void session_carry_times(const struct session *session, const struct stat *buffer, const struct stat *inode)
{
    struct timespec times[2] = {inode->st_atim};

    if (!session_was_written(session, buffer, &times[1]))
        times[1].tv_nsec = UTIME_OMIT;
    (void)sys_utimensat(session->inode, NULL, times, 0);
}

/* A time of the last write that the program has not seen may be later by this, in nanoseconds. */
enum { UNSEEN_DELAY = 100 * 1000 * 1000 };

static int64_t nanoseconds_of(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void session_note_time(struct session *session, struct timespec shown)
{
    SESSION_SET(session->shown_time, nanoseconds_of(shown));
}

bool session_has_right_times(const struct session *session, const struct stat *buffer,
                             const struct stat *before, const struct stat *after)
{
    const int64_t delay = nanoseconds_of(after->st_mtim) - nanoseconds_of(buffer->st_mtim);

    return nanoseconds_of(after->st_atim) == nanoseconds_of(before->st_atim) && delay >= 0 &&
           delay <= UNSEEN_DELAY && SESSION_GET(session->shown_time) != nanoseconds_of(buffer->st_mtim) &&
           !session_may_be_shared(session);
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

/* Returns the bits that a write without privileges takes from a file with this mode, chmod(2). */
static mode_t set_id_of(mode_t mode)
{
    return mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID;
}

/* Returns the set-id bits that the file keeps, and takes the others away: see
 * session_note_privileges(), which has the statuses. */
static mode_t settle_set_id(const struct session *session, const struct stat *known, struct stat inode)
{
    struct stat buffer = {.st_mode = 0};
    mode_t taken;

    if (known != NULL)
        buffer = *known;
    else
        (void)sys_fstat(session->buffer, &buffer);
    (void)sys_fstat(session->inode, &inode); /* if that fails, the status of a moment ago counts */
    taken = buffer.st_mode & S_ISUID ? 0 : inode.st_mode & set_id_of(inode.st_mode);
    if (taken != 0)
        (void)sys_fchmod(session->inode, inode.st_mode & 07777 & ~taken);
    return buffer.st_mode & S_ISUID ? inode.st_mode & (S_ISUID | S_ISGID) : 0;
}

void session_note_privileges(const struct session *session, const struct stat *buffer,
                             const struct stat *inode, struct session_privileges *set)
{
    set->set_id = (inode->st_mode & (S_ISUID | S_ISGID)) != 0 ? settle_set_id(session, buffer, *inode) : 0;
    set->size = 0;
    if (SESSION_GET(session->has_privilege) || session_may_be_shared(session))
        set->size = sys_fgetxattr(session->buffer, XATTR_NAME_CAPS, NULL, 0);
    if (set->size > 0)
        set->size =
            sys_fgetxattr(session->inode, XATTR_NAME_CAPS, set->capabilities, sizeof set->capabilities);
    else if (SESSION_GET(session->has_privilege))
        (void)sys_fremovexattr(session->inode, XATTR_NAME_CAPS);
}

void session_keep_privileges(int inode, struct session_privileges *set)
{
    struct stat status;

    set->set_id = sys_fstat(inode, &status) == 0 ? status.st_mode & (S_ISUID | S_ISGID) : 0;
    set->size = sys_fgetxattr(inode, XATTR_NAME_CAPS, set->capabilities, sizeof set->capabilities);
}

void session_restore_privileges(int inode, const struct session_privileges *set)
{
    struct stat status;

    if (set->set_id != 0 && sys_fstat(inode, &status) == 0 && (set->set_id & ~status.st_mode) != 0)
        (void)sys_fchmod(inode, (status.st_mode & 07777) | set->set_id);
    if (set->size > 0)
        (void)sys_fsetxattr(inode, XATTR_NAME_CAPS, set->capabilities, (size_t)set->size, XATTR_CREATE);
}

/* ---- rights to bytes that are not committed yet ---- */

/* Tells whether the file holds bytes that the program has replaced. Called by the session's only
 * committer. */
static int holds_old_content(struct session *session, void *unused)
{
    struct stat inode;

    (void)unused;
    return sys_fstat(session->inode, &inode) == 0 && inode.st_size != 0 && session_is_changed(session);
}

/* The owner's bits act at once: the owner could set them anyway. */
static int set_mode(struct session *session, void *context)
{
    const mode_t mode = *(const mode_t *)context;
    struct stat inode;
    mode_t at_once;
    int error = sys_fstat(session->inode, &inode);

    if (error != 0)
        return error;
    at_once = holds_old_content(session, NULL) ? mode & (inode.st_mode | S_IRWXU) : mode;
    error = sys_fchmod(session->inode, at_once);
    if (error != 0)
        return error;
    session->pending_over = at_once;
    SESSION_SET(session->pending_mode, at_once == mode ? 0 : S_IFREG | mode);
    return 0;
}

/* Tells whether the session's fields can wait for this process's next commit, which is sure to
 * come. */
static bool can_wait(const struct session *session)
{
    return !session_is_stray(session) && session_table_is_ours() && session_is_opener(session);
}

int session_set_mode(struct session *session, mode_t mode)
{
    int error;

    mode &= 07777;
    if (can_wait(session))
        return session_in_turn(session, true, set_mode, &mode, 1);
    error = session_settle_rights(session);
    return error != 0 ? error : 1;
}

mode_t session_get_mode(const struct session *session, const struct stat *buffer, mode_t mode)
{
    mode_t pending = SESSION_GET(session->pending_mode);

    if (pending == 0)
        return mode;
    /* a write has taken the mark from the buffer */
    return buffer->st_mode & S_ISUID ? pending : pending & ~set_id_of(pending);
}

void session_apply_mode(struct session *session)
{
    const mode_t compared = S_ISVTX | S_IRWXU | S_IRWXG | S_IRWXO;
    struct stat inode;
    struct stat buffer;
    mode_t mode;
    int error;

    if (SESSION_GET(session->pending_mode) == 0 || sys_fstat(session->inode, &inode) != 0 ||
        sys_fstat(session->buffer, &buffer) != 0)
        return;
    mode = session_get_mode(session, &buffer, inode.st_mode) & 07777;
    SESSION_SET(session->pending_mode, 0);
    if (((inode.st_mode ^ session->pending_over) & compared) != 0)
        return; /* another process has set it since */
    error = sys_fchmod(session->inode, mode);
    if (error != 0)
        session_tell(session, LOG_WARN, "it is committed, but the mode that the program set was refused");
    else
        session_follow_mode(session);
}

int session_settle_rights(struct session *session)
{
    const bool can_ask = !session_is_stray(session) && session_table_is_ours();
    const ino_t buffer_number = SESSION_GET(session->buffer_number);

    return !can_ask || session_in_turn(session, true, holds_old_content, NULL, 0)
               ? session_sync(session, buffer_number)
               : 0;
}

static int make_plain(struct session *session, void *unused)
{
    const bool is_writable = (SESSION_GET(session->flags) & SESSION_WRITABLE) != 0;
    char path[PROC_PATH_SIZE];
    int inode = is_writable ? session->inode
                            : DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, descriptor_path(path, session->inode),
                                                           O_RDWR | O_CLOEXEC, 0));
    int error = inode < 0                                                ? inode
                : is_writable && holds_old_content(session, unused) != 0 ? 0
                                                                         : session_export(inode);

    if (inode >= 0 && !is_writable)
        (void)sys_close(inode);
    if (error != 0)
        session_tell(session, LOG_WARN,
                     "it may be executed, but stays in the sized format, which the kernel cannot read");
    return 0;
}

void session_make_plain(struct session *session)
{
    const bool is_writable = (SESSION_GET(session->flags) & SESSION_WRITABLE) != 0;

    if (!session_is_stray(session) && session_table_is_ours() &&
        (is_writable || !session_has_posix_lock(session->device, session->number)))
        (void)session_in_turn(session, true, make_plain, NULL, 0);
}
