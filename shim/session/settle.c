/* What a close, a lock or a sync asks of a session: is it over, who commits, who waits. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "store/filelock.h"
#include "store/rendezvous.h"

#include <errno.h>

enum { COMMITTER_PAUSE = 100 * 1000 }; /* nanoseconds */

static int count_if_ours(int fd, void *context)
{
    const struct session *session = context;
    struct stat status;

    return sys_fstat(fd, &status) == 0 && session_is_buffer(session, &status) && !descriptor_is_private(fd);
}

/* True if this process has neither a descriptor nor a mapping of the session's buffer left. */
static bool is_closed_here(struct session *session)
{
    return descriptor_for_each(count_if_ours, session) == 0 && !session_is_mapped(session);
}

/* True if a last close in this process decides what becomes of the session, though others may have it open; see session.h.
 * `last` is the kernel's answer. */
static bool is_decided_here(const struct session *session, int last)
{
    if (!(session->flags & SESSION_WRITABLE))
        return last < 0;
    if (session_is_released(session))
        return last < 0;
    return session_is_opener(session);
}

/*
 * Asks whether the session is over. A guardian that is at the same commit has the buffer open: it is waited for, and the
 * question put once more. The opener's last close is noted before the kernel is asked for the last time: so either the
 * opener finds out that nobody else is left, or the last of the others finds the note.
 */
static bool is_over(struct session *session)
{
    int last = descriptor_is_last(session->buffer);

    if (last == 0 && session_is_guarded(session) &&
        rendezvous_wait(session->inode, session_config->lock_timeout))
        last = descriptor_is_last(session->buffer);
    if (last == 1)
        return true;
    if (!is_decided_here(session, last) || !is_closed_here(session))
        return false;
    if (session->flags & SESSION_WRITABLE)
        session_release(session);
    return last < 0 || descriptor_is_last(session->buffer) == 1;
}

static bool take(struct session *session, int self, int *holder)
{
    *holder = 0;
    return __atomic_compare_exchange_n(&session->committer, holder, self, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static void release(struct session *session)
{
    __atomic_store_n(&session->committer, 0, __ATOMIC_RELEASE);
}

/*
 * Makes this thread the session's only committer in this process. False if the session ended meanwhile, whose
 * slot may be another one's by now; or if another thread has it and `wait` is false, or this is a signal
 * handler inside a commit of the same thread: then leave() tells the holder to look once more.
 */
static bool enter(struct session *session, ino_t buffer_number, bool wait)
{
    int self = sys_gettid();
    int holder;

    while (!take(session, self, &holder)) {
        if (wait && holder != self) {
            sys_sleep(COMMITTER_PAUSE);
            continue;
        }
        __atomic_store_n(&session->commit_again, 1, __ATOMIC_RELEASE);
        if (holder == self || !take(session, self, &holder))
            return false;
        break; /* it left before it could see the request */
    }
    if (session_is_stray(session) || (__atomic_load_n(&session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE &&
                                      SESSION_GET(session->buffer_number) == buffer_number))
        return true;
    release(session);
    return false;
}

/* Returns true if the session is to be looked at again. */
static bool leave(struct session *session)
{
    release(session);
    return __atomic_exchange_n(&session->commit_again, 0, __ATOMIC_ACQ_REL) != 0;
}

/* The error of the commit that ended the session in another thread, once; for the one whose close it was. */
static int take_last_error(struct session *session, ino_t buffer_number)
{
    if (session_is_stray(session) || SESSION_GET(session->ended_number) != buffer_number)
        return 0;
    return __atomic_exchange_n(&session->ended_error, 0, __ATOMIC_ACQ_REL);
}

static void end(struct session *session, int error)
{
    if (session->flags & SESSION_LOCKED) /* a forked child may still have the description */
        filelock_give_up(session->inode);
    SESSION_SET(session->ended_error, error);
    SESSION_SET(session->ended_number, session->buffer_number);
    __atomic_store_n(&session->state, SESSION_ENDING, __ATOMIC_RELEASE);
    (void)leave(session);
    session_drop(session);
}

/* Only a committer may look at a session's descriptors: their numbers are somebody else's once it has ended. */
static int settle(struct session *session, ino_t buffer_number, bool wait)
{
    int error;

    if (!session_is_stray(session) && !session_table_is_ours())
        return 0; /* a vfork child: its parent's descriptors are open as before */
    do {
        if (!enter(session, buffer_number, wait))
            return wait ? take_last_error(session, buffer_number) : 0;
        if (is_over(session)) {
            error = session->flags & SESSION_WRITABLE ? session_commit(session, true) : 0;
            end(session, error);
            return error;
        }
        SESSION_SET(session->closed_here, true);
        if (!SESSION_GET(session->is_shared) && session_is_released(session))
            session_watch_kernel(session);
    } while (leave(session));
    return 0;
}

int session_settle(struct session *session, ino_t buffer_number)
{
    return settle(session, buffer_number, true);
}

/* What every session is asked, and the first error. */
struct round {
    bool wait;
    bool closed_only;
    int error;
};

static int settle_one(struct session *session, void *context)
{
    struct round *round = context;
    int error;

    if (round->closed_only && !SESSION_GET(session->closed_here)) /* the program has it open */
        return 0;
    error = settle(session, SESSION_GET(session->buffer_number), round->wait);
    if (round->error == 0)
        round->error = error;
    return 0;
}

static int settle_each(struct round *round)
{
    if (session_table_is_ours())
        (void)session_for_each(settle_one, round);
    return round->error;
}

int session_settle_closed(bool wait)
{
    struct round round = {.wait = wait, .closed_only = true};

    return settle_each(&round);
}

int session_settle_all(void)
{
    struct round round = {.wait = true};

    return settle_each(&round);
}

int session_sync(struct session *session)
{
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    int error;

    if (!session_is_stray(session) && !session_table_is_ours()) {
        struct session copy = *session; /* a vfork child: the table is its parent's */

        copy.flags |= SESSION_STRAY;
        return session_commit(&copy, false);
    }
    if (!enter(session, buffer_number, true))
        return 0;
    error = session_commit(session, false);
    (void)leave(session);
    /* the last descriptor may have gone meanwhile, in another thread or in a signal handler */
    if (error == 0)
        error = settle(session, buffer_number, true);
    return error;
}

int session_refresh(struct session *session)
{
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    int error;

    if (!session_is_stray(session) && !session_table_is_ours())
        return 0;
    if (!enter(session, buffer_number, true))
        return 0;
    error = session_refresh_locked(session);
    if (leave(session))
        (void)settle(session, buffer_number, true);
    return error;
}

void session_begin_appending(struct session *session)
{
    ino_t buffer_number = SESSION_GET(session->buffer_number);

    if (!session_is_stray(session) && session_table_is_ours() && !enter(session, buffer_number, true))
        return;
    SESSION_SET(session->flags, session->flags | SESSION_APPEND);
    session_set_base(session, session_get_base(session));
    if (!session_is_stray(session) && session_table_is_ours() && leave(session))
        (void)settle(session, buffer_number, true);
}

void session_abandon_commit(struct session *session)
{
    int commit_lock;

    if (__atomic_load_n(&session->committer, __ATOMIC_ACQUIRE) != sys_gettid())
        return;
    commit_lock = __atomic_exchange_n(&session->commit_lock, -1, __ATOMIC_ACQ_REL);
    if (commit_lock >= 0)
        (void)sys_close(commit_lock);
    release(session);
}

int session_move_private(struct session *session, int number, int lowest)
{
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    int *slot;
    long moved = 0;

    if (!enter(session, buffer_number, true))
        return 0;
    slot = session->inode == number ? &session->inode : session->buffer == number ? &session->buffer : NULL;
    if (slot != NULL) {
        moved = sys_fcntl(number, F_DUPFD_CLOEXEC, lowest);
        if (moved == -EINVAL || moved == -EMFILE) /* the limit is in the way */
            moved = sys_fcntl(number, F_DUPFD_CLOEXEC, 3);
        if (moved >= 0)
            __atomic_store_n(slot, (int)moved, __ATOMIC_RELEASE);
    }
    if (leave(session))
        (void)settle(session, buffer_number, true);
    return moved < 0 ? (int)moved : slot != NULL;
}

static int sync_one(struct session *session, void *context)
{
    struct round *round = context;
    int error = SESSION_GET(session->flags) & SESSION_WRITABLE ? session_sync(session) : 0;

    if (round->error == 0)
        round->error = error;
    return 0;
}

int session_sync_all(void)
{
    struct round round = {.wait = true};

    if (session_table_is_ours())
        (void)session_for_each(sync_one, &round);
    return round.error;
}
