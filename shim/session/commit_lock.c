/* The commit lock: one process at a time commits a session that several processes share. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "session/buffer.h"
#include "store/filelock.h"

#include <errno.h>
#include <sys/file.h>

/*
 * No program opens a file with these flags: a child that another thread forks knows the description
 * by them, also between the open and any call that could mark it. open(2) ignores O_ASYNC, but the
 * kernel shows it (F_GETFL, fcntl(2)).
 */
enum { LOCK_FLAGS = O_RDONLY | O_APPEND | O_ASYNC };

/* Atomic. `begun` counts before the open, `ended` behind the close. */
static unsigned begun;
static unsigned ended;

/*
 * Processes that share the session by fork share its descriptions, and its lock: only a flock() on
 * a fresh description of the buffer keeps their commits apart. With no number left for it only an
 * `exclusive` commit goes on: then the others have the same bytes to commit. Where /proc is not
 * mounted (any more), or this user is not the one who opened the file, a lock of this process must
 * serve, which it loses when another thread closes a descriptor of the buffer meanwhile.
 */
static bool is_refused(int commit_lock)
{
    return buffer_is_proc_missing(commit_lock) || commit_lock == -EACCES;
}

static int lock_process(const struct session *session)
{
    return session->flags & SESSION_WRITABLE ? filelock_commit_lock_process(session->buffer) : 0;
}

/*
 * A lock of the process is enough, too, for the last commit of a session that, as far as this
 * process knows, no other process has: no descriptor is left that a thread could close. A child by
 * a bare clone(2), of which the parent does not know, has both locks.
 */
int session_keep_committers_out(struct session *session, bool exclusive)
{
    const bool may_be_shared = session_may_be_shared(session);
    char path[PROC_PATH_SIZE];
    int commit_lock;
    int error;

    if (exclusive && !may_be_shared)
        return lock_process(session);
    (void)__atomic_add_fetch(&begun, 1, __ATOMIC_ACQ_REL);
    commit_lock = DESCRIPTOR_INSIST(
        sys_openat(AT_FDCWD, descriptor_path(path, session->buffer), LOCK_FLAGS | O_CLOEXEC, 0));
    SESSION_SET(session->commit_lock, commit_lock);
    if (commit_lock < 0)
        (void)__atomic_add_fetch(&ended, 1, __ATOMIC_ACQ_REL);
    if (is_refused(commit_lock))
        return lock_process(session);
    if (commit_lock < 0)
        return !exclusive && (commit_lock == -EMFILE || commit_lock == -ENFILE) ? commit_lock : 0;
    error = filelock_commit_lock(commit_lock);
    return error == 0 && may_be_shared ? lock_process(session) : error;
}

void session_let_committers_in(struct session *session, bool is_over)
{
    int commit_lock = SESSION_GET(session->commit_lock);

    if (!is_over && (session->flags & SESSION_WRITABLE))
        filelock_commit_unlock_process(session->buffer);
    SESSION_SET(session->commit_lock, -1);
    if (commit_lock < 0)
        return;
    (void)sys_flock(commit_lock, LOCK_UN); /* a child forked meanwhile has the description, too */
    (void)sys_close(commit_lock);
    (void)__atomic_add_fetch(&ended, 1, __ATOMIC_ACQ_REL);
}

unsigned session_commit_locks(void)
{
    const unsigned all_ended = __atomic_load_n(&ended, __ATOMIC_ACQUIRE);
    const unsigned all_begun = __atomic_load_n(&begun, __ATOMIC_ACQUIRE);

    return all_begun == all_ended ? all_begun : all_begun - 1;
}

static int close_lock(int fd, void *unused)
{
    struct stat status;

    (void)unused;
    if (((int)sys_fcntl(fd, F_GETFL, 0) & (O_ACCMODE | O_APPEND | O_ASYNC)) == LOCK_FLAGS &&
        sys_fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 0)
        (void)sys_close(fd);
    return 0;
}

void session_close_commit_locks(unsigned before)
{
    if (__atomic_load_n(&begun, __ATOMIC_ACQUIRE) != before)
        (void)descriptor_for_each(close_lock, NULL);
    /* the child has none of the parent's other threads: no commit is under way in it */
    __atomic_store_n(&ended, __atomic_load_n(&begun, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}
