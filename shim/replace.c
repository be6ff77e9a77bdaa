#include "replace.h"

#include "descriptor.h"
#include "log.h"
#include "managed.h"
#include "memory.h"
#include "rendezvous.h"
#include "session.h"
#include "store.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PERMISSIONS = 07777 };

bool replace_carries_mode(mode_t from, mode_t target, mode_t umask)
{
    from &= PERMISSIONS;
    return from != (target & PERMISSIONS) && from != 0600 && from != (0666 & ~umask);
}

/* "Umask:\t0022" in /proc/self/status: umask(2) could only be asked by changing it, for all threads. */
static mode_t current_umask(void)
{
    static const char label[] = "Umask:\t";
    char text[256];
    int fd = sys_openat(AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
    ssize_t n = fd < 0 ? fd : sys_read(fd, text, sizeof text - 1);
    const char *at;
    mode_t umask = 0;

    if (fd >= 0)
        (void)sys_close(fd);
    text[n < 0 ? 0 : n] = '\0';
    at = strstr(text, label);
    if (at == NULL)
        return 022;
    for (at += sizeof label - 1; *at >= '0' && *at <= '7'; at++)
        umask = umask << 3 | (mode_t)(*at - '0');
    return umask;
}

/* What rename(2) asks of the side that loses a name. */
static int may_unlink(const struct replace_name *from)
{
    int parent = managed_open_parent(from->directory, from->path);
    uid_t user = (uid_t)SYS_CALL(SYS_geteuid, 0, 0, 0, 0, 0, 0);
    struct stat status;
    int error;

    if (parent < 0)
        return parent;
    error = (int)SYS_CALL(SYS_faccessat2, parent, ".", W_OK | X_OK, AT_EACCESS, 0, 0);
    if (error == -ENOSYS) /* before Linux 5.8 */
        error = (int)SYS_CALL(SYS_faccessat, parent, ".", W_OK | X_OK, 0, 0, 0);
    if (error == 0)
        error = sys_fstat(parent, &status);
    if (error == 0 && (status.st_mode & S_ISVTX) && user != 0 && user != status.st_uid &&
        user != from->status.st_uid)
        error = -EPERM;
    (void)sys_close(parent);
    return error;
}

struct in_use {
    const struct stat *file;
    int error;
};

static int sync_source(struct session *session, void *context)
{
    struct in_use *in_use = context;

    if (SESSION_GET(session->device) == in_use->file->st_dev &&
        SESSION_GET(session->number) == in_use->file->st_ino &&
        (SESSION_GET(session->flags) & SESSION_WRITABLE))
        in_use->error = session_sync(session);
    return in_use->error;
}

/* Opens what is to be read; a session's own descriptor where there is one, as closing another drops POSIX locks. */
static int open_source(const struct replace_name *from, bool *is_ours)
{
    struct session *session = session_on(from->status.st_dev, from->status.st_ino);
    struct stat status;
    int fd;

    *is_ours = session == NULL;
    if (session != NULL)
        return SESSION_GET(session->inode);
    fd =
        sys_openat(from->directory, from->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    if (sys_fstat(fd, &status) == 0 && status.st_dev == from->status.st_dev &&
        status.st_ino == from->status.st_ino)
        return fd;
    (void)sys_close(fd);
    return -ENOENT; /* somebody else was quicker */
}

/* A session on the target, as of a program that opens it with `flags`. */
static int begin(const struct replace_name *to, int target, int flags, struct session *stray,
                 struct session **session)
{
    int inode = managed_reopen(to->directory, to->path, target, O_RDWR);

    return inode < 0 ? inode : session_begin(inode, flags, false, stray, session);
}

/* Commits what `source` holds into the target, as a program would that opens, writes and closes it. */
static int commit(const struct config *config, const struct replace_name *to, int target, int source)
{
    const struct store_wait wait = {.timeout = config->lock_timeout};
    struct session stray;
    struct session *session;
    struct store_image image;
    int error = begin(to, target, O_WRONLY | O_TRUNC, &stray, &session);

    if (error != 0)
        return error;
    error = store_load(source, session->memory, wait, &image);
    if (error != 0) {
        session_drop(session);
        return error;
    }
    session_publish(session);
    return session_settle(session, session->memory_number);
}

/* The target's content as it is, in case that it must be put back; a damaged one has none. */
static int keep_content(const struct config *config, const struct replace_name *to, int target)
{
    const struct store_wait wait = {.timeout = config->lock_timeout};
    const struct session *session = session_on(to->status.st_dev, to->status.st_ino);
    struct store_image image;
    int inode = session != NULL ? SESSION_GET(session->inode)
                                : managed_reopen(to->directory, to->path, target, O_RDONLY);
    int kept = inode < 0 ? inode : DESCRIPTOR_INSIST(memory_scratch(config->rescue_dir));

    if (kept >= 0 && store_load(inode, kept, wait, &image) != 0) {
        (void)sys_close(kept);
        kept = -EIO;
    }
    if (session == NULL && inode >= 0)
        (void)sys_close(inode);
    return kept;
}

static void carry_over(const struct stat *from, const struct replace_name *to)
{
    const struct timespec times[2] = {from->st_atim, from->st_mtim};
    bool same_owner = from->st_uid == to->status.st_uid && from->st_gid == to->status.st_gid;

    if (replace_carries_mode(from->st_mode, to->status.st_mode, current_umask()))
        (void)SYS_CALL(SYS_fchmodat, to->directory, to->path,
                       from->st_mode & (same_owner ? PERMISSIONS : 0777), 0, 0, 0);
    (void)sys_utimensat(to->directory, to->path, times, AT_SYMLINK_NOFOLLOW);
}

/* What this process goes on writing to the source's inode, or to a session's memory of it, is meant for the target. */
static void take_writers_over(const struct stat *from, const struct replace_name *to, int target)
{
    struct session stray;
    struct session *session;
    struct session *old = session_on(from->st_dev, from->st_ino);
    ino_t old_number = old != NULL ? SESSION_GET(old->memory_number) : 0;
    int error = begin(to, target, O_RDWR, &stray, &session);

    if (error == 0) {
        error = old != NULL ? session_take_over(session, old->memory_device, old_number)
                            : session_take_over(session, from->st_dev, from->st_ino);
        session_publish(session);
        if (old != NULL)
            (void)session_settle(old, old_number);
        (void)session_settle(session, session->memory_number);
    }
    if (error != 0)
        log_line(LOG_ERROR, "a file that was renamed is still written to: %s; what follows is lost",
                 log_errno(error));
}

struct writer {
    const struct stat *file;
    ino_t memory_number;
};

static int is_writer(int fd, void *context)
{
    const struct writer *writer = context;
    struct stat status;

    if (sys_fstat(fd, &status) != 0 ||
        (status.st_ino != writer->memory_number &&
         (status.st_dev != writer->file->st_dev || status.st_ino != writer->file->st_ino)))
        return 0;
    return !descriptor_is_private(fd) && (sys_fcntl(fd, F_GETFL, 0) & (O_ACCMODE | O_PATH)) != O_RDONLY;
}

/* Does this process go on writing to it? */
static bool has_writers_here(const struct stat *from)
{
    const struct session *session = session_on(from->st_dev, from->st_ino);
    struct writer writer = {from, session != NULL ? session->memory_number : 0};

    return descriptor_for_each(is_writer, &writer) == 1;
}

static bool has_writers(int source)
{
    long result = sys_fcntl(source, F_SETLEASE, F_RDLCK);

    if (result == 0)
        (void)sys_fcntl(source, F_SETLEASE, F_UNLCK);
    return result == -EAGAIN;
}

int replace_commit(const struct config *config, const struct replace_name *from,
                   const struct replace_name *to, int target)
{
    struct in_use in_use = {.file = &from->status};
    bool is_ours = false;
    bool written_here;
    int kept = -1;
    int source;
    int error = may_unlink(from);

    if (error != 0)
        return error;
    (void)session_for_each(sync_source, &in_use);
    if (in_use.error != 0)
        return in_use.error;
    source = open_source(from, &is_ours);
    if (source < 0)
        return source;
    (void)rendezvous_wait(source, config->lock_timeout);
    written_here = has_writers_here(&from->status);
    if (is_ours && !written_here && has_writers(source))
        log_line(LOG_WARN,
                 "%s: another process has it open and may write to it: that is not in the file that it "
                 "replaces",
                 from->path);
    kept = keep_content(config, to, target);
    error = commit(config, to, target, source);
    if (error == 0) {
        carry_over(&from->status, to);
        error = (int)SYS_CALL(SYS_unlinkat, from->directory, from->path, 0, 0, 0, 0);
        if (error != 0 && error != -ENOENT && kept >= 0)
            (void)commit(config, to, target, kept);
        if (error == -ENOENT) /* as if it had been renamed before */
            error = 0;
    }
    if (error == 0 && written_here)
        take_writers_over(&from->status, to, target);
    if (kept >= 0)
        (void)sys_close(kept);
    if (is_ours)
        (void)sys_close(source);
    return error;
}
