/* Decides at a close, a lock or a sync whether a session is over, who commits it, and who waits. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "store/filelock.h"
#include "store/rendezvous.h"

#include <errno.h>

enum { COMMITTER_PAUSE = 100 * 1000 }; /* nanoseconds */

/* True if this process has neither a descriptor nor a mapping of the session's buffer left. */
static bool is_closed_here(struct session *session)
{
    return descriptor_for_each(session_has_descriptor, session) == 0 && !session_is_mapped(session);
}

/* True if a last close in this process ends the session, though others may have it open; see
 * session.h. `last` is the kernel's answer. */
static bool is_decided_here(const struct session *session, int last)
{
    if (!(session->flags & SESSION_WRITABLE))
        return last < 0;
    if (session_is_released(session))
        return last < 0;
    return session_is_opener(session);
}

/* Asks the kernel for the last close. A buffer that no other process has needs no mark any more
 * when it is over, unless its commit has to wait: settle_session(). */
static int ask_last(const struct session *session)
{
    return session_may_be_shared(session) ? descriptor_is_last(session->buffer)
                                          : descriptor_end_if_last(session->buffer);
}

/*
 * Asks whether the session is over. A guardian in the middle of the same commit has the buffer
 * open: then this waits for the guardian, and asks once more. It notes the opener's last close
 * before it asks the kernel for the last time: so either the opener finds that no other process is
 * left, or the last of the others finds the note.
 */
static bool is_over(struct session *session)
{
    int last = ask_last(session);

    if (last == 0 && session_has_guardian(session) &&
        rendezvous_wait(session->inode, session->device, session->number, session_config->lock_timeout))
        last = ask_last(session);
    if (last == 1)
        return true;
    if (!is_decided_here(session, last) || !is_closed_here(session))
        return false;
    session->is_snapshot = false; /* others may have the buffer open */
    if (session->flags & SESSION_WRITABLE)
        session_release(session);
    return last < 0 || ask_last(session) == 1;
}

static bool take_committer(struct session *session)
{
    int holder = 0;

    return __atomic_compare_exchange_n(&session->committer, &holder, 1, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static void release_committer(struct session *session)
{
    __atomic_store_n(&session->committer, 0, __ATOMIC_RELEASE);
}

/*
 * Makes this thread the session's only committer in this process, until end_turn(), and blocks all
 * signals as long: a handler that jumped out would leave the session without a committer. False if
 * the session ended meanwhile, whose slot may be another one's by now; or if another thread has it
 * and `wait` is false: then the holder looks once more.
 */
static bool take_turn(struct session *session, ino_t buffer_number, bool wait, uint64_t *mask)
{
    const uint64_t all = ~UINT64_C(0);

    (void)sys_sigprocmask(&all, mask);
    while (!take_committer(session)) {
        if (!wait)
            __atomic_store_n(&session->commit_again, 1, __ATOMIC_RELEASE);
        if (!wait && take_committer(session)) /* it left before it could see the request */
            break;
        (void)sys_sigprocmask(mask, NULL);
        if (!wait)
            return false;
        sys_sleep(COMMITTER_PAUSE);
        (void)sys_sigprocmask(&all, mask);
    }
    if (session_is_stray(session) || (__atomic_load_n(&session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE &&
                                      SESSION_GET(session->buffer_number) == buffer_number))
        return true;
    release_committer(session);
    (void)sys_sigprocmask(mask, NULL);
    return false;
}

/* Returns true if the committer must look at the session again. */
static bool end_turn(struct session *session, uint64_t mask)
{
    bool again;

    release_committer(session);
    again = __atomic_exchange_n(&session->commit_again, 0, __ATOMIC_ACQ_REL) != 0;
    (void)sys_sigprocmask(&mask, NULL);
    return again;
}

/* Returns the error of the commit that ended the session in another thread, once, to the thread
 * that closed it. */
static int take_last_error(struct session *session, ino_t buffer_number)
{
    if (session_is_stray(session) || SESSION_GET(session->ended_number) != buffer_number)
        return 0;
    return __atomic_exchange_n(&session->ended_error, 0, __ATOMIC_ACQ_REL);
}

/* Called by the session's only committer. */
static void end_session(struct session *session, int error, uint64_t mask)
{
    if (session->flags & SESSION_LOCKED) /* a forked child may still have the description */
        filelock_give_up(session->inode);
    SESSION_SET(session->ended_error, error);
    SESSION_SET(session->ended_number, session->buffer_number);
    __atomic_store_n(&session->state, SESSION_ENDING, __ATOMIC_RELEASE);
    (void)end_turn(session, mask);
    session_keep_snapshot(session);
    session_drop(session);
}

/*
 * Only a committer may look at a session's descriptors: their numbers may be reused once it has
 * ended. The committer holds nothing while it waits for a lock; `closed_here` makes the next one
 * look again, should a handler jump out.
 */
static int settle_session(struct session *session, ino_t buffer_number, bool wait)
{
    struct filelock_patience patience = {.timeout = session_config->lock_timeout};
    bool must_commit = false; /* though others have it open */
    bool again;
    int error;

    if (!session_is_stray(session) && !session_table_is_ours())
        return 0; /* a vfork child: its parent's descriptors are open as before */
    do {
        if (!take_turn(session, buffer_number, wait, &patience.mask))
            return wait ? take_last_error(session, buffer_number) : 0;
        session_note_closed(session);
        error = 0;
        if (is_over(session)) {
            if (session->flags & SESSION_WRITABLE)
                error = session_try_commit(session, true, &patience);
            if (error != -EAGAIN) {
                end_session(session, error, patience.mask);
                return error;
            }
            descriptor_mark_buffer(session->buffer);
        } else if (session_has_lost_writer(session))
            must_commit = true;
        if (must_commit) {
            error = session_try_commit(session, false, &patience);
            must_commit = error == -EAGAIN;
        }
        if (session->several_opens && error != -EAGAIN)
            session_give_up_locks(session, false);
        if (!SESSION_GET(session->is_shared) && session_is_released(session))
            session_watch_kernel(session);
        again = end_turn(session, patience.mask);
        if (error == -EAGAIN)
            (void)filelock_wait(&patience);
    } while (again || error == -EAGAIN);
    return error;
}

static bool any_posix_lock; /* atomic: this process has had one */

void session_note_posix_lock(struct session *session)
{
    SESSION_SET(session->has_posix_lock, true);
    SESSION_SET(any_posix_lock, true);
}

static int has_posix_lock(struct session *session, void *context)
{
    const struct stat *inode = context;

    return SESSION_GET(session->device) == inode->st_dev && SESSION_GET(session->number) == inode->st_ino &&
           SESSION_GET(session->has_posix_lock);
}

bool session_has_posix_lock(dev_t device, ino_t number)
{
    struct stat inode = {.st_dev = device, .st_ino = number};

    return SESSION_GET(any_posix_lock) && session_for_each(has_posix_lock, &inode) != 0;
}

bool session_must_stay(int inode, dev_t device, ino_t number)
{
    return session_has_posix_lock(device, number) && filelock_is_posix_holder(inode);
}

/* Gives up POSIX locks, as the kernel does at the close of any descriptor of the file. Commits
 * first, so that the next holder sees what was written under the lock. */
static int give_up_posix_locks(struct session *session, void *context)
{
    const struct session *closed = context;
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 0};
    int error = 0;

    if (SESSION_GET(session->device) != closed->device || SESSION_GET(session->number) != closed->number ||
        !__atomic_exchange_n(&session->has_posix_lock, false, __ATOMIC_ACQ_REL))
        return 0;
    if (SESSION_GET(session->flags) & SESSION_WRITABLE)
        error = session_sync(session, buffer_number);
    (void)sys_fcntl(SESSION_GET(session->inode), F_SETLK, (long)&all);
    return error;
}

int session_settle(struct session *session, ino_t buffer_number)
{
    struct session closed = {.device = SESSION_GET(session->device), .number = SESSION_GET(session->number)};
    int unpublished = SESSION_GET(any_posix_lock) && session_table_is_ours()
                          ? session_for_each(give_up_posix_locks, &closed)
                          : 0;
    int error = settle_session(session, buffer_number, true);

    return error != 0 ? error : unpublished;
}

/* A request that goes to every session, and the first error that one returns. */
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
    error = settle_session(session, SESSION_GET(session->buffer_number), round->wait);
    if (round->error == 0)
        round->error = error;
    return 0;
}

static int settle_each(struct round *round)
{
    if ((round->closed_only ? session_any_closed() : session_any()) && session_table_is_ours())
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

static int insist_on(struct session *session, ino_t buffer_number, int64_t timeout,
                     int (*try)(struct session *session, const struct filelock_patience *patience))
{
    struct filelock_patience patience = {.timeout = timeout};
    bool again;
    int error;

    do {
        if (!take_turn(session, buffer_number, true, &patience.mask))
            return 0;
        error = try(session, &patience);
        again = end_turn(session, patience.mask);
        if (error == -EAGAIN)
            (void)filelock_wait(&patience);
    } while (error == -EAGAIN);
    /* the last descriptor may have gone meanwhile, in another thread or in a signal handler */
    if (again && error == 0)
        error = settle_session(session, buffer_number, true);
    return error;
}

int session_insist(struct session *session, int64_t timeout,
                   int (*try)(struct session *session, const struct filelock_patience *patience))
{
    return insist_on(session, SESSION_GET(session->buffer_number), timeout, try);
}

static int try_sync(struct session *session, const struct filelock_patience *patience)
{
    return session_try_commit(session, false, patience);
}

int session_sync(struct session *session, ino_t buffer_number)
{
    int error;

    if (!session_is_stray(session) && !session_table_is_ours()) {
        struct session copy = *session; /* a vfork child: the table is its parent's */

        copy.flags |= SESSION_STRAY;
        return session_commit(&copy, false);
    }
    error = insist_on(session, buffer_number, session_config->lock_timeout, try_sync);
    return error == 0 ? settle_session(session, buffer_number, true) : error;
}

int session_refresh(struct session *session)
{
    if (!session_is_stray(session) && !session_table_is_ours())
        return 0;
    return session_insist(session, session_config->lock_timeout, session_try_refresh);
}

int session_keep_base(struct session *session)
{
    return session_is_stray(session) || !session_table_is_ours()
               ? 0
               : session_insist(session, session_config->lock_timeout, session_try_keep);
}

void session_set_append(struct session *session)
{
    SESSION_SET(session->flags, session->flags | SESSION_APPEND);
    session_set_base(session, session_get_base(session));
}

static int set_append(struct session *session, const struct filelock_patience *unused)
{
    (void)unused;
    session_set_append(session);
    return 0;
}

void session_begin_appending(struct session *session)
{
    if (session_is_stray(session) || !session_table_is_ours())
        (void)set_append(session, NULL);
    else
        (void)session_insist(session, session_config->lock_timeout, set_append);
}

int session_in_turn(struct session *session, bool wait, int (*use)(struct session *session, void *context),
                    void *context, int otherwise)
{
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    uint64_t mask;
    int result;

    if (!take_turn(session, buffer_number, wait, &mask))
        return otherwise;
    result = use(session, context);
    if (end_turn(session, mask))
        (void)settle_session(session, buffer_number, true);
    return result;
}

struct move {
    int number;
    int lowest;
};

static int move_private(struct session *session, void *context)
{
    const struct move *move = context;
    int *slot = session->inode == move->number    ? &session->inode
                : session->buffer == move->number ? &session->buffer
                                                  : NULL;
    long moved;

    for (int i = 0; slot == NULL && i < SESSION_DESCRIPTIONS; i++)
        if (move->number != 0 && SESSION_GET(session->lock_inodes[i]) == move->number)
            slot = &session->lock_inodes[i];
    if (slot == NULL)
        return 0;
    moved = sys_fcntl(move->number, F_DUPFD_CLOEXEC, move->lowest);
    if (moved == -EINVAL || moved == -EMFILE) /* the limit is too low */
        moved = sys_fcntl(move->number, F_DUPFD_CLOEXEC, 3);
    if (moved < 0)
        return (int)moved;
    if (slot == &session->buffer)
        session_note_buffer((int)moved);
    __atomic_store_n(slot, (int)moved, __ATOMIC_RELEASE);
    return 1;
}

int session_move_private(struct session *session, int number, int lowest)
{
    return session_in_turn(session, true, move_private, &(struct move){number, lowest}, 0);
}

static int sync_one(struct session *session, void *context)
{
    struct round *round = context;
    ino_t buffer_number = SESSION_GET(session->buffer_number);
    int error = SESSION_GET(session->flags) & SESSION_WRITABLE ? session_sync(session, buffer_number) : 0;

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
