/*
 * replace_commit() keeps the target locked from its last look at the names to its end. Where the
 * source cannot be removed after all, it commits the old content again, and no other commit lies
 * between.
 */
#include "manage/replace.h"

#include "manage/managed.h"
#include "manage/rights.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/signals.h"
#include "session/buffer.h"
#include "session/session.h"
#include "store/filelock.h"
#include "store/rendezvous.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

/*
 * Returns the error with which rename(2) would refuse to take this name away, or 0. rmdir(2) makes
 * the same checks before it finds that the file is no folder.
 */
static int may_unlink(const struct replace_name *from)
{
    struct statx status = {.stx_attributes = 0};
    int error = sys_unlinkat(from->directory, from->path, AT_REMOVEDIR);

    if (error != -ENOTDIR)
        return error < 0 ? error : -ENOENT;
    error = (int)SYS_CALL(SYS_statx, from->directory, from->path, AT_SYMLINK_NOFOLLOW, 0, &status, 0);
    return error == 0 && (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) ? -EBUSY : 0;
}

static bool leads_to(const struct replace_name *name)
{
    struct stat status;

    return sys_fstatat(name->directory, name->path, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           status.st_dev == name->status.st_dev && status.st_ino == name->status.st_ino;
}

/* ---- descriptors of the source in this process ---- */

struct holders {
    const struct stat *file;
    dev_t device; /* the identity of the file, or of a session's buffer for it */
    ino_t number;
    bool writable;
    bool others; /* one of the descriptors does not append */
};

static int look_at_descriptor(int fd, void *context)
{
    struct holders *holders = context;
    struct stat status;
    long flags;

    if (sys_fstat(fd, &status) != 0 || status.st_dev != holders->device || status.st_ino != holders->number ||
        descriptor_is_private(fd))
        return 0;
    flags = sys_fcntl(fd, F_GETFL, 0);
    if (flags >= 0 && (flags & (O_ACCMODE | O_PATH)) != O_RDONLY) {
        holders->writable = true;
        holders->others |= (flags & O_APPEND) == 0;
    }
    return 0;
}

static bool writes_to(const struct session *session, const struct stat *file)
{
    return SESSION_GET(session->device) == file->st_dev && SESSION_GET(session->number) == file->st_ino &&
           (SESSION_GET(session->flags) & SESSION_WRITABLE);
}

static int look_at_session(struct session *session, void *context)
{
    struct holders *holders = context;

    if (!writes_to(session, holders->file))
        return 0;
    holders->device = SESSION_GET(session->buffer_device);
    holders->number = SESSION_GET(session->buffer_number);
    return descriptor_for_each(look_at_descriptor, holders);
}

/* Looks for descriptors of this process that can write to the file, directly or through a
 * session. */
static struct holders look_for_holders(const struct stat *from)
{
    struct holders holders = {.file = from};

    (void)session_for_each(look_at_session, &holders);
    holders.device = from->st_dev;
    holders.number = from->st_ino;
    (void)descriptor_for_each(look_at_descriptor, &holders);
    return holders;
}

struct round {
    const struct stat *file;
    const struct session *heir;
    int error;
};

/* Commits the source's sessions. */
static int sync_source(struct session *session, void *context)
{
    struct round *round = context;
    ino_t buffer_number = SESSION_GET(session->buffer_number);

    if (writes_to(session, round->file))
        round->error = session_sync(session, buffer_number);
    return round->error;
}

/* The session was synced: it ends without another commit, unless another process has it, too. */
static int take_over_session(struct session *session, void *context)
{
    struct round *round = context;
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    int error;

    if (!writes_to(session, round->file))
        return 0;
    error = session_take_over(round->heir, SESSION_GET(session->buffer_device), buffer_number);
    if (round->error == 0)
        round->error = error;
    (void)session_settle(session, buffer_number);
    return 0;
}

/* This process may go on writing to the source's inode, or to a session's buffer for it, and means
 * the target: puts its descriptors on the target's session. */
static void take_writers_over(const struct stat *from, struct session *heir)
{
    struct round round = {.file = from, .heir = heir};
    ino_t buffer_number = heir->buffer_number;
    int error;

    (void)session_for_each(take_over_session, &round);
    error = session_take_over(heir, from->st_dev, from->st_ino);
    if (error == 0)
        error = round.error;
    if (error != 0)
        log_line(LOG_ERROR,
                 "this process still writes to a file that it renamed: %s; its further writes are lost",
                 log_errno(error));
    session_publish(heir);
    (void)session_settle(heir, buffer_number); /* another thread may have closed them meanwhile */
}

/* The kernel refuses a read lease where any process has the file open for writing (fcntl(2)).
 * `source` bears our mark: a break of the lease raises no signal that could kill. */
static void tell_other_writers(const struct replace_name *from, int source)
{
    long result = sys_fcntl(source, F_SETLEASE, F_RDLCK);

    if (result == 0)
        (void)sys_fcntl(source, F_SETLEASE, F_UNLCK);
    else if (result == -EAGAIN)
        log_line(LOG_WARN,
                 "%s: renamed while another process has it open to write; what that process writes from "
                 "now on is lost",
                 from->path);
}

/* ---- the commit ---- */

/* Begins a session on the target and fills its buffer with the source's payload. */
static int begin_on_target(const struct replace_name *to, int target, int source, int flags,
                           struct session_found *found)
{
    const struct store_wait wait = {.timeout = session_config->lock_timeout};
    struct store_image image;
    struct signals_held held;
    int inode = managed_reopen(to->directory, to->path, target, O_RDWR);
    int error = inode < 0 ? inode : session_begin(inode, NULL, flags | O_TRUNC, SESSION_OPENED, found);

    if (error != 0)
        return error;
    held = signals_hold(SIGXFSZ); /* see session_begin() */
    error = store_load(source, found->session->buffer, wait, &image);
    signals_release(&held);
    if (error == 0)
        return 0;
    if (error == -EIO)
        log_line(LOG_ERROR,
                 "%s: cannot be replaced: the new file holds no valid image, or its disk failed (EIO)",
                 to->path);
    session_drop(found->session);
    return error;
}

/* A rename that is under way: the session's file is to get the content of `source`. */
struct replacement {
    const struct replace_name *from;
    const struct replace_name *to;
    int source;
    struct session *session;
};

static void set_times(int inode, const struct stat *status)
{
    const struct timespec times[2] = {status->st_atim, status->st_mtim};

    (void)sys_utimensat(inode, NULL, times, 0);
}

/* Commits the old content, which is in `kept`, again: the source could not be removed. */
static void put_back(const struct session *session, int kept, const struct rights *rights,
                     const struct stat *before)
{
    struct session old = *session;

    old.buffer = kept;
    /* the old content is rescued if it cannot be put back */
    old.flags &= ~(unsigned)SESSION_REPLACES;
    session_set_base(&old, (struct session_base){.force = true});
    (void)rights_narrow(rights, session->inode);
    if (session_commit(&old, true) == 0)
        (void)rights_grant_before(rights, session->inode);
    else {
        (void)rights_grant_after(rights, session->inode);
        log_line(LOG_ERROR, "a rename failed and could not be undone: the file has the new content");
    }
    set_times(session->inode, before);
}

/* Commits and removes the source, between rights_look() and rights_release(). */
static int commit_with_rights(const struct replacement *replacement, int kept, const struct rights *rights,
                              const struct stat *before)
{
    struct session *session = replacement->session;
    const struct replace_name *from = replacement->from;
    int error = rights_narrow(rights, session->inode);

    if (error != 0) {
        log_line(LOG_ERROR, "%s: cannot be replaced: its mode cannot be changed to that of the new file: %s",
                 replacement->to->path, log_errno(error));
        return error;
    }
    error = session_commit(session, true);
    if (error != 0) {
        (void)rights_grant_before(rights, session->inode);
        return error;
    }
    error = rights_grant_after(rights, session->inode);
    if (error != 0)
        log_line(LOG_ERROR, "%s: replaced, but it grants less than the new file did: %s",
                 replacement->to->path, log_errno(error));
    set_times(session->inode, &from->status);
    error = sys_unlinkat(from->directory, from->path, 0);
    if (error != 0)
        put_back(session, kept, rights, before);
    return error;
}

/* Commits if both names still lead to the files that they led to. The target is locked. */
static int commit_and_unlink(const struct replacement *replacement)
{
    struct session *session = replacement->session;
    struct store_image image;
    struct rights rights;
    struct stat before;
    int kept;
    int error;

    if (!leads_to(replacement->from) || !leads_to(replacement->to))
        return REPLACE_AGAIN;
    kept = buffer_scratch(session_config->rescue_dir);
    if (kept < 0)
        return kept;
    error = sys_fstat(session->inode, &before);
    if (error == 0)
        error = store_load(session->inode, kept, (struct store_wait){.locked = true}, &image);
    if (error == 0)
        error = rights_look(&rights, session->inode, replacement->source, &replacement->from->status);
    if (error == 0) {
        error = commit_with_rights(replacement, kept, &rights, &before);
        rights_release(&rights);
    } else
        session_report(session, error);
    (void)sys_close(kept);
    return error;
}

static int replace_locked(const struct replacement *replacement)
{
    struct session *session = replacement->session;
    const unsigned flags = session->flags;
    struct signals_held held = signals_hold(SIGXFSZ); /* see session_commit() */
    struct filelock lock;
    int error = 0;

    SESSION_SET(session->flags, flags | SESSION_LOCKED | SESSION_REPLACES);
    if (!(flags & SESSION_LOCKED))
        error = filelock_acquire(&lock, session->inode, F_WRLCK, session_config->lock_timeout);
    if (error != 0)
        session_report(session, error);
    else {
        error = commit_and_unlink(replacement);
        if (!(flags & SESSION_LOCKED))
            filelock_release(&lock);
    }
    SESSION_SET(session->flags, flags);
    signals_release(&held);
    return error;
}

/* Opens the source to be read. Where there is a session, its own descriptor must serve: closing
 * another one would drop POSIX locks of the program. */
static int open_source(const struct replace_name *from, bool *is_ours)
{
    struct session *session = session_on(from->status.st_dev, from->status.st_ino);
    int fd;

    *is_ours = session == NULL;
    if (session != NULL)
        return SESSION_GET(session->inode);
    fd =
        sys_openat(from->directory, from->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0);
    if (fd >= 0)
        descriptor_mark_inode(fd);
    return fd;
}

/* Replaces the target by what `source` is open on. */
static int replace_by(const struct replace_name *from, const struct replace_name *to, int target, int source)
{
    const struct holders holders = look_for_holders(&from->status);
    const int append = holders.writable && !holders.others ? O_APPEND : 0;
    struct session_found found;
    int error = begin_on_target(to, target, source, O_RDWR | append, &found);

    if (error != 0)
        return error;
    error = replace_locked(&(struct replacement){from, to, source, found.session});
    if (error == 0 && holders.writable)
        take_writers_over(&from->status, found.session);
    else {
        if (found.session->flags & SESSION_LOCKED)
            filelock_give_up(found.session->inode);
        session_drop(found.session);
    }
    return error;
}

int replace_commit(const struct replace_name *from, const struct replace_name *to, int target)
{
    struct round round = {.file = &from->status};
    bool is_ours = false;
    int source;
    int error = may_unlink(from);

    if (error == 0)
        error = session_for_each(sync_source, &round);
    if (error != 0)
        return error;
    source = open_source(from, &is_ours);
    if (source < 0)
        return source;
    (void)rendezvous_wait(source, from->status.st_dev, from->status.st_ino, session_config->lock_timeout);
    error = replace_by(from, to, target, source);
    if (error == 0 && to->status.st_nlink > 1)
        log_line(LOG_INFO, "%s: replaced by a rename; its other names show the new content, too", to->path);
    if (is_ours) {
        if (error == 0)
            tell_other_writers(from, source);
        (void)sys_close(source);
    }
    return error;
}
