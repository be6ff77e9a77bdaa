/* The table of sessions and their life; session.h has the states. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/signals.h"
#include "session/buffer.h"
#include "store/filelock.h"
#include "store/store.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static SYS_LARGE struct session table[SESSIONS_MAX];
static unsigned table_used; /* slots from here on have never been used */
/* atomic: no slot before it is free, except one that a thread is giving back */
static unsigned first_free;
int session_count;          /* slots that are not free */
static int sessions_closed; /* atomic: how many have `closed_here`, or more */
int session_strays_seen;

/* The process to which the table belongs. It stands in a page that fork() empties and vfork() does
 * not. */
static int *table_owner;

static bool is_bare_clone; /* a clone(2) that no wrapper saw made this process */

const struct config *session_config;

/* From here on the shim can tell a fork and a vfork apart. */
void session_configure(const struct config *config)
{
    int *page = sys_mmap(NULL, IMAGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    session_config = config;
    if (sys_is_error(page))
        return;
    (void)sys_madvise(page, IMAGE_PAGE, MADV_WIPEONFORK);
    *page = sys_getpid();
    __atomic_store_n(&table_owner, page, __ATOMIC_RELEASE);
}

bool session_any_stray(void)
{
    return __atomic_load_n(&session_strays_seen, __ATOMIC_RELAXED) != 0;
}

bool session_is_stray(const struct session *session)
{
    return session < table || session >= table + SESSIONS_MAX;
}

bool session_may_be_shared(const struct session *session)
{
    return SESSION_GET(session->is_shared) || session_is_stray(session);
}

/* Forgets the numbers before they are free: a child that another thread forks meanwhile closes all
 * that it finds. */
static void close_private(struct session *session)
{
    session_forget_kept(session);
    session_give_up_locks(session, true);
    descriptor_close_if_open(__atomic_exchange_n(&session->early, -1, __ATOMIC_ACQ_REL));
    buffer_close_all((int[]){__atomic_exchange_n(&session->buffer, -1, __ATOMIC_ACQ_REL),
                             __atomic_exchange_n(&session->inode, -1, __ATOMIC_ACQ_REL)},
                     2);
}

/* Tells whether this number is still the slot's descriptor. */
static bool is_inode_of(const struct session *session, int fd)
{
    struct stat status;

    return fd >= 0 && sys_fstat(fd, &status) == 0 && status.st_dev == session->device &&
           status.st_ino == session->number;
}

bool session_is_buffer(const struct session *session, const struct stat *status)
{
    return status->st_ino == SESSION_GET(session->buffer_number) &&
           status->st_dev == SESSION_GET(session->buffer_device);
}

static bool is_buffer_of(const struct session *session, int fd)
{
    struct stat status;

    return fd >= 0 && sys_fstat(fd, &status) == 0 && session_is_buffer(session, &status);
}

/*
 * Called in a forked child. The kernel copied the descriptors a little before the memory, and other
 * threads of the parent were at work meanwhile: a slot counts only if its numbers are still its
 * descriptors, and this closes only such numbers; none after a bare clone(2), for the parent may
 * share the descriptors (CLONE_FILES).
 */
static void sweep_after_fork(bool is_fork)
{
    sessions_closed = 0;
    first_free = 0;
    for (unsigned i = 0; i < table_used; i++) {
        struct session *session = &table[i];
        bool has_inode = is_inode_of(session, session->inode);

        /* a thread of the parent has asked whether it was the last */
        if (session->committer != 0 && is_buffer_of(session, session->buffer))
            descriptor_mark_buffer(session->buffer);

        bool has_buffer = is_buffer_of(session, session->buffer) && descriptor_is_buffer(session->buffer);

        session->committer = 0;
        session->has_posix_lock = false;
        session->pending_mode = 0; /* the parent sets it */
        session->is_shared = true;
        session->writer_thread = 0;     /* the child's threads may get the parent's numbers */
        session->several_opens = false; /* a child's close of an inherited one commits nothing */
        session->commit_lock = -1;
        descriptor_close_if_open(is_fork && session->state == SESSION_OPENING &&
                                         is_buffer_of(session, session->early)
                                     ? session->early
                                     : -1);
        session->early = -1;
        if (session->state == SESSION_FREE || (session->state == SESSION_LIVE && has_inode && has_buffer &&
                                               descriptor_is_private(session->inode))) {
            sessions_closed += session->state != SESSION_FREE && session->closed_here;
            continue;
        }
        descriptor_close_if_open(is_fork && has_buffer ? session->buffer : -1);
        descriptor_close_if_open(is_fork && has_inode ? session->inode : -1);
        session->state = SESSION_FREE;
        session->closed_here = false;
        session_count--;
    }
}

static bool is_table_ours(bool is_fork)
{
    int *page = __atomic_load_n(&table_owner, __ATOMIC_ACQUIRE);
    int process;
    int known;

    if (page == NULL)
        return true;
    process = sys_getpid();
    known = __atomic_load_n(page, __ATOMIC_ACQUIRE);
    if (known == 0 &&
        __atomic_compare_exchange_n(page, &known, process, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        is_bare_clone = !is_fork;
        session_forget_systems();
        session_forget_snapshot(is_fork);
        sweep_after_fork(is_fork);
        return true;
    }
    return known == process;
}

bool session_table_is_ours(void)
{
    return is_table_ours(false);
}

int session_process(const struct session *session)
{
    int *page = __atomic_load_n(&table_owner, __ATOMIC_ACQUIRE);
    int process = page != NULL && !session_is_stray(session) ? __atomic_load_n(page, __ATOMIC_ACQUIRE) : 0;

    return process != 0 ? process : sys_getpid();
}

bool session_descriptors_may_be_shared(void)
{
    return !session_table_is_ours() || is_bare_clone;
}

/* The page need not have been emptied: no other process shares our memory here. */
void session_after_fork(unsigned commit_locks)
{
    int *page = __atomic_load_n(&table_owner, __ATOMIC_ACQUIRE);

    if (page != NULL)
        __atomic_store_n(page, 0, __ATOMIC_RELEASE);
    (void)is_table_ours(true);
    session_close_commit_locks(commit_locks);
}

/* Takes the first free slot from `first` on. */
static struct session *take_slot_from(unsigned first)
{
    for (unsigned i = first; i < SESSIONS_MAX; i++) {
        int expected = SESSION_FREE;
        unsigned used = __atomic_load_n(&table_used, __ATOMIC_ACQUIRE);

        /* no locked access to the slots that are taken */
        if (__atomic_load_n(&table[i].state, __ATOMIC_RELAXED) != SESSION_FREE ||
            !__atomic_compare_exchange_n(&table[i].state, &expected, SESSION_OPENING, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        while (used <= i)
            if (__atomic_compare_exchange_n(&table_used, &used, i + 1, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE))
                break;
        __atomic_add_fetch(&session_count, 1, __ATOMIC_ACQ_REL);
        SESSION_SET(table[i].buffer_number, 0);
        /* unless one before it was given back meanwhile */
        (void)__atomic_compare_exchange_n(&first_free, &first, i + 1, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED);
        return &table[i];
    }
    return NULL;
}

struct session *session_take_slot(void)
{
    struct session *session = take_slot_from(__atomic_load_n(&first_free, __ATOMIC_ACQUIRE));

    return session != NULL ? session : take_slot_from(0);
}

static void give_back(unsigned slot)
{
    unsigned first = __atomic_load_n(&first_free, __ATOMIC_ACQUIRE);

    while (slot < first &&
           !__atomic_compare_exchange_n(&first_free, &first, slot, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        continue;
}

void session_set_inode(struct session *session, dev_t device, ino_t number)
{
    if (!session_is_stray(session))
        session_index_add(SESSION_BY_INODE, number, (unsigned)(session - table));
    SESSION_SET(session->device, device);
    SESSION_SET(session->number, number);
}

void session_set_buffer(struct session *session, dev_t device, ino_t number)
{
    ino_t before = SESSION_GET(session->buffer_number);

    if (!session_is_stray(session))
        session_index_add(SESSION_BY_BUFFER, number, (unsigned)(session - table));
    SESSION_SET(session->buffer_number, number);
    SESSION_SET(session->buffer_device, device);
    if (before != 0 && !session_is_stray(session))
        session_index_remove(SESSION_BY_BUFFER, before);
}

/* Atomic: no private descriptor of a buffer has had a lower number. */
static int lowest_buffer = INT_MAX;

void session_note_buffer(int number)
{
    int lowest = __atomic_load_n(&lowest_buffer, __ATOMIC_RELAXED);

    while (number < lowest)
        if (__atomic_compare_exchange_n(&lowest_buffer, &lowest, number, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            break;
}

/* Tells whether `fd`, a descriptor of the session's buffer, is a private one. Another process's
 * lease may have removed the mark. */
static bool is_private_buffer(const struct session *session, int fd)
{
    if (fd == SESSION_GET(session->buffer) || fd == SESSION_GET(session->commit_lock))
        return true;
    return (session_is_stray(session) || fd >= __atomic_load_n(&lowest_buffer, __ATOMIC_ACQUIRE)) &&
           descriptor_is_private(fd);
}

void session_note_closed(struct session *session)
{
    if (SESSION_GET(session->closed_here))
        return;
    __atomic_add_fetch(&sessions_closed, 1, __ATOMIC_ACQ_REL);
    if (session_is_stray(session) || __atomic_exchange_n(&session->closed_here, true, __ATOMIC_ACQ_REL))
        __atomic_sub_fetch(&sessions_closed, 1, __ATOMIC_ACQ_REL);
}

void session_forget_closed(struct session *session)
{
    if (__atomic_exchange_n(&session->closed_here, false, __ATOMIC_ACQ_REL))
        __atomic_sub_fetch(&sessions_closed, 1, __ATOMIC_ACQ_REL);
}

bool session_any_closed(void)
{
    return __atomic_load_n(&sessions_closed, __ATOMIC_ACQUIRE) != 0;
}

void session_reset(struct session *session)
{
    session->linked = false;
    SESSION_SET(session->closed_here, false);
    SESSION_SET(session->wants_guardian, false);
    SESSION_SET(session->is_shared, false);
    SESSION_SET(session->has_posix_lock, false);
    SESSION_SET(session->locks, false);
    SESSION_SET(session->has_privilege, false);
    SESSION_SET(session->takes_turns, false);
    SESSION_SET(session->emptied, false);
    SESSION_SET(session->syncs, 0);
    SESSION_SET(session->pending_mode, 0);
    SESSION_SET(session->shown_time, 0);
    session->is_snapshot = false;
    session->is_settled = false;
    SESSION_SET(session->writer_thread, 0);
    session->several_opens = false;
    session->descriptions = 0;
    for (int i = 0; i < SESSION_DESCRIPTIONS; i++)
        SESSION_SET(session->lock_inodes[i], 0);
    SESSION_SET(session->commit_lock, -1);
    SESSION_SET(session->early, -1);
    SESSION_SET(session->kept, -1);
}

struct session *session_enter(const struct session *found)
{
    struct session *session = session_take_slot();

    if (session == NULL)
        return NULL;
    session_set_inode(session, found->device, found->number);
    session_set_buffer(session, found->buffer_device, found->buffer_number);
    session_note_buffer(found->buffer);
    SESSION_SET(session->buffer, found->buffer);
    SESSION_SET(session->inode, found->inode);
    SESSION_SET(session->flags, found->flags & ~(unsigned)SESSION_STRAY);
    session_reset(session);
    SESSION_SET(session->is_shared, true);
    /* POSIX locks survive an exec */
    if (filelock_is_posix_obstacle(session->inode))
        session_note_posix_lock(session);
    session_publish(session);
    return session;
}

void session_publish(struct session *session)
{
    descriptor_close_if_open(__atomic_exchange_n(&session->early, -1, __ATOMIC_ACQ_REL));
    if (session->flags & SESSION_STRAY)
        __atomic_store_n(&session_strays_seen, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&session->state, SESSION_LIVE, __ATOMIC_RELEASE);
}

void session_drop(struct session *session)
{
    ino_t number;
    ino_t buffer_number;

    if (session->flags & SESSION_STRAY) {
        close_private(session);
        return;
    }
    number = SESSION_GET(session->number);
    buffer_number = SESSION_GET(session->buffer_number);
    __atomic_store_n(&session->state, SESSION_ENDING, __ATOMIC_RELEASE);
    close_private(session);
    session_forget_closed(session);
    __atomic_store_n(&session->state, SESSION_FREE, __ATOMIC_RELEASE);
    give_back((unsigned)(session - table));
    session_index_remove(SESSION_BY_INODE, number);
    if (buffer_number != 0)
        session_index_remove(SESSION_BY_BUFFER, buffer_number);
    __atomic_sub_fetch(&session_count, 1, __ATOMIC_ACQ_REL);
}

int session_for_each(int (*visit)(struct session *session, void *context), void *context)
{
    unsigned used = __atomic_load_n(&table_used, __ATOMIC_ACQUIRE);
    int result = 0;

    for (unsigned i = 0; i < used && result == 0; i++)
        if (__atomic_load_n(&table[i].state, __ATOMIC_ACQUIRE) == SESSION_LIVE)
            result = visit(&table[i], context);
    return result;
}

struct inode_identity {
    dev_t device;
    ino_t number;
    struct session *session;
};

static int has_inode(struct session *session, void *context)
{
    struct inode_identity *identity = context;

    if (SESSION_GET(session->device) != identity->device || SESSION_GET(session->number) != identity->number)
        return 0;
    identity->session = session;
    return 1;
}

struct session *session_find_on(dev_t device, ino_t number)
{
    struct inode_identity identity = {.device = device, .number = number};
    unsigned slot;

    if (session_index_find(SESSION_BY_INODE, number, &slot) &&
        (__atomic_load_n(&table[slot].state, __ATOMIC_ACQUIRE) != SESSION_LIVE ||
         has_inode(&table[slot], &identity) == 0))
        (void)session_for_each(has_inode, &identity);
    return identity.session;
}

static bool has_live_buffer(const struct session *session, dev_t device, ino_t number)
{
    return SESSION_GET(session->buffer_number) == number && SESSION_GET(session->buffer_device) == device &&
           __atomic_load_n(&session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE;
}

struct session *session_with_buffer(dev_t device, ino_t number)
{
    unsigned used = __atomic_load_n(&table_used, __ATOMIC_ACQUIRE);
    unsigned slot;

    if (!session_index_find(SESSION_BY_BUFFER, number, &slot))
        return NULL;
    if (has_live_buffer(&table[slot], device, number))
        return &table[slot];
    for (unsigned i = 0; i < used; i++)
        if (has_live_buffer(&table[i], device, number))
            return &table[i];
    return NULL;
}

static int take_stray(struct session *found, void *stray)
{
    *(struct session *)stray = *found;
    return 1;
}

struct session *session_of(const struct stat *status, struct session_found *found)
{
    found->session = NULL;
    found->buffer_number = status->st_ino;
    if (status->st_nlink != 0) /* no buffer has a name */
        return NULL;
    found->session = session_with_buffer(status->st_dev, status->st_ino);
    if (found->session == NULL && session_any_stray() &&
        session_search(status, take_stray, &found->stray) != 0)
        found->session = &found->stray;
    return found->session;
}

enum session_role session_identify(int fd, struct session_found *found)
{
    struct stat status;

    found->session = NULL;
    if (sys_fstat(fd, &status) != 0)
        return SESSION_NONE;
    if (session_of(&status, found) != NULL)
        return is_private_buffer(found->session, fd) ? SESSION_PRIVATE : SESSION_PROGRAM;

    bool suspect = session_on(status.st_dev, status.st_ino) != NULL ||
                   __atomic_load_n(&session_strays_seen, __ATOMIC_RELAXED);
    return suspect && descriptor_is_private(fd) ? SESSION_PRIVATE : SESSION_NONE;
}

int session_has_descriptor(int fd, void *context)
{
    const struct session *session = context;
    struct stat status;

    return sys_fstat(fd, &status) == 0 && session_is_buffer(session, &status) &&
           fd != SESSION_GET(session->buffer) && !descriptor_is_private(fd);
}
