/*
 * The target is locked from the last look at the names to the end: where the source cannot be removed after all, the old
 * content is committed again, and nobody's commit lies between.
 */
#include "manage/replace.h"

#include "manage/managed.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/proc.h"
#include "os/signals.h"
#include "session/buffer.h"
#include "session/session.h"
#include "store/filelock.h"
#include "store/rendezvous.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

enum { PERMISSIONS = 07777 };

bool replace_carries_mode(mode_t from, mode_t target, mode_t umask)
{
    from &= PERMISSIONS;
    return from != (target & PERMISSIONS) && from != 0600 && from != (0666 & ~umask);
}

/* "Umask:\t0022" in /proc/self/status: umask(2) could only be asked by changing it, for all threads. */
static mode_t current_umask(void)
{
    char text[256];
    uint64_t umask = 022;

    if (proc_read(PROC_SELF, "status", text, sizeof text) > 0)
        (void)proc_find_field(text, "Umask", 8, &umask); /* since Linux 4.7 */
    return (mode_t)umask;
}

/* What rename(2) asks of the side that loses a name. rmdir(2) asks the same, and then finds that it is no folder. */
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

/* ---- who has the source open in this process ---- */

struct holders {
    const struct stat *file;
    dev_t device; /* of the file, or of a session's memory of it */
    ino_t number;
    bool writable;
    bool others; /* not all append */
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

/* The flags with which the target is to be opened in their place. */
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

/* What was written to it so far belongs to the source. */
static int sync_source(struct session *session, void *context)
{
    struct round *round = context;

    if (writes_to(session, round->file))
        round->error = session_sync(session);
    return round->error;
}

/* It was synced: it ends without another commit, unless another process has it, too. */
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

/* What this process goes on writing to the source's inode, or to a session's memory of it, is meant for the target. */
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
        log_line(LOG_ERROR, "a file that was renamed is still written to: %s; what follows is lost",
                 log_errno(error));
    session_publish(heir);
    (void)session_settle(heir, buffer_number); /* another thread may have closed them meanwhile */
}

/* A lease for reading is refused where somebody has the file open for writing. `source` bears our mark: breaking the
 * lease raises no signal that could kill. */
static void tell_other_writers(const struct replace_name *from, int source)
{
    long result = sys_fcntl(source, F_SETLEASE, F_RDLCK);

    if (result == 0)
        (void)sys_fcntl(source, F_SETLEASE, F_UNLCK);
    else if (result == -EAGAIN)
        log_line(LOG_WARN,
                 "%s: another process has it open and may write to it: that is not in the file that it "
                 "replaces",
                 from->path);
}

/* ---- the commit ---- */

/* A session on the target, with the source's payload. */
static int begin(const struct replace_name *to, int target, int source, int flags,
                 struct session_found *found)
{
    const struct store_wait wait = {.timeout = session_config->lock_timeout};
    struct store_image image;
    struct signals_held held;
    int inode = managed_reopen(to->directory, to->path, target, O_RDWR);
    int error = inode < 0 ? inode : session_begin(inode, flags | O_TRUNC, false, found);

    if (error != 0)
        return error;
    held = signals_hold(SIGXFSZ); /* see session_begin() */
    error = store_load(source, found->session->buffer, wait, &image);
    signals_release(&held);
    if (error == 0)
        return 0;
    if (error == -EIO)
        log_line(LOG_ERROR,
                 "%s: cannot be replaced: the new file holds no valid image, or its disk fails (EIO)",
                 to->path);
    session_drop(found->session);
    return error;
}

static void carry_over(int inode, const struct stat *from, const struct stat *before)
{
    const struct timespec times[2] = {from->st_atim, from->st_mtim};
    bool same_owner = from->st_uid == before->st_uid && from->st_gid == before->st_gid;
    mode_t mode = from->st_mode & (same_owner ? PERMISSIONS : 0777);

    if (replace_carries_mode(mode, before->st_mode, current_umask()))
        (void)sys_fchmod(inode, mode);
    (void)sys_utimensat(inode, NULL, times, 0);
}

/* The source could not be removed. */
static void put_back(const struct session *session, int kept, const struct stat *before)
{
    const struct timespec times[2] = {before->st_atim, before->st_mtim};
    struct session old = *session;

    old.buffer = kept;
    old.flags &= ~(unsigned)SESSION_REPLACES; /* the old content is rescued if it cannot be put back */
    session_set_base(&old, (struct session_base){.force = true});
    if (session_commit(&old, true) != 0)
        log_line(LOG_ERROR, "that was to undo a rename: the file has the new content");
    (void)sys_fchmod(session->inode, before->st_mode & PERMISSIONS);
    (void)sys_utimensat(session->inode, NULL, times, 0);
}

/* With the lock held. */
static int commit_and_unlink(struct session *session, const struct replace_name *from,
                             const struct replace_name *to)
{
    struct store_image image;
    struct stat before;
    int kept;
    int error;

    if (!leads_to(from) || !leads_to(to))
        return REPLACE_AGAIN;
    kept = buffer_scratch(session_config->rescue_dir);
    if (kept < 0)
        return kept;
    error = sys_fstat(session->inode, &before);
    if (error == 0)
        error = store_load(session->inode, kept, (struct store_wait){.locked = true}, &image);
    if (error == 0)
        error = session_commit(session, true);
    else
        session_report(session, NULL, 0, error);
    if (error == 0) {
        carry_over(session->inode, &from->status, &before);
        error = sys_unlinkat(from->directory, from->path, 0);
        if (error != 0)
            put_back(session, kept, &before);
    }
    (void)sys_close(kept);
    return error;
}

static int replace(struct session *session, const struct replace_name *from, const struct replace_name *to)
{
    const unsigned flags = session->flags;
    struct signals_held held = signals_hold(SIGXFSZ); /* see session_commit() */
    struct filelock lock;
    int error = 0;

    SESSION_SET(session->flags, flags | SESSION_LOCKED | SESSION_REPLACES);
    if (!(flags & SESSION_LOCKED))
        error = filelock_acquire(&lock, session->inode, F_WRLCK, session_config->lock_timeout);
    if (error != 0)
        session_report(session, NULL, 0, error);
    else {
        error = commit_and_unlink(session, from, to);
        if (!(flags & SESSION_LOCKED))
            filelock_release(&lock);
    }
    SESSION_SET(session->flags, flags);
    signals_release(&held);
    return error;
}

/* Opens what is to be read; a session's own descriptor where there is one, as closing another drops POSIX locks. */
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

int replace_commit(const struct replace_name *from, const struct replace_name *to, int target)
{
    struct round round = {.file = &from->status};
    struct holders holders;
    struct session_found found;
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
    (void)rendezvous_wait(source, session_config->lock_timeout);
    holders = look_for_holders(&from->status);
    error = begin(to, target, source, O_RDWR | (holders.writable && !holders.others ? O_APPEND : 0), &found);
    if (error != 0)
        goto out;
    error = replace(found.session, from, to);
    if (error == 0 && holders.writable)
        take_writers_over(&from->status, found.session);
    else {
        if (found.session->flags & SESSION_LOCKED)
            filelock_give_up(found.session->inode);
        session_drop(found.session);
    }
    if (error == 0 && is_ours)
        tell_other_writers(from, source);
out:
    if (is_ours)
        (void)sys_close(source);
    return error;
}
