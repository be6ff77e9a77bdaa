/* The table of sessions and their life; session.h has the states. */
#include "session.h"

#include "descriptor.h"
#include "filelock.h"
#include "log.h"
#include "signals.h"
#include "store.h"

#include <errno.h>
#include <string.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

enum state { FREE, OPENING, LIVE, ENDING };

enum { COMMITTER_PAUSE = 100 * 1000 }; /* nanoseconds */

static struct session table[SESSIONS_MAX];
static unsigned table_used; /* slots from here on have never been used */
static int sessions_live;   /* slots that are not FREE */
static int strays_seen;     /* a vfork child had a session that is not in the table */
static dev_t memory_device; /* st_dev of every memfd */

/* The process that the table belongs to, in a page that fork() empties and vfork() does not. */
static int *owner;

const struct config *session_config;

/* From here on a fork and a vfork can be told apart. */
void session_configure(const struct config *config)
{
    int *page = sys_mmap(NULL, IMAGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    session_config = config;
    if (sys_is_error(page))
        return;
    (void)sys_madvise(page, IMAGE_PAGE, MADV_WIPEONFORK);
    *page = sys_getpid();
    __atomic_store_n(&owner, page, __ATOMIC_RELEASE);
}

bool session_any(void)
{
    return __atomic_load_n(&sessions_live, __ATOMIC_ACQUIRE) != 0 ||
           __atomic_load_n(&strays_seen, __ATOMIC_RELAXED) != 0;
}

static bool is_stray(const struct session *session)
{
    return session < table || session >= table + SESSIONS_MAX;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        (void)sys_close(fd);
}

/* Forgets the numbers before they are free for others: a child that another thread forks meanwhile closes what it finds. */
static void close_private(struct session *session)
{
    close_if_open(__atomic_exchange_n(&session->memory, -1, __ATOMIC_ACQ_REL));
    close_if_open(__atomic_exchange_n(&session->inode, -1, __ATOMIC_ACQ_REL));
}

/* Is this number still the descriptor that the slot means? */
static bool is_inode_of(const struct session *session, int fd)
{
    struct stat status;

    return fd >= 0 && sys_fstat(fd, &status) == 0 && status.st_dev == session->device &&
           status.st_ino == session->number;
}

static bool is_memory_of(const struct session *session, int fd)
{
    struct stat status;

    return fd >= 0 && sys_fstat(fd, &status) == 0 && status.st_dev == memory_device &&
           status.st_ino == session->memory_number && descriptor_is_private(fd);
}

/*
 * In a forked child. The kernel copied the descriptors a little before the memory, and other threads of the parent were
 * at work meanwhile: a slot counts only if its numbers are what it says, and only those are closed.
 */
static void sweep_after_fork(void)
{
    for (unsigned i = 0; i < table_used; i++) {
        struct session *session = &table[i];
        bool has_inode = is_inode_of(session, session->inode);
        bool has_memory = is_memory_of(session, session->memory);

        session->committer = 0;
        close_if_open(is_memory_of(session, session->guard) ? session->guard : -1);
        session->guard = -1;
        if (session->state == FREE ||
            (session->state == LIVE && has_inode && has_memory && descriptor_is_private(session->inode)))
            continue;
        close_if_open(has_memory ? session->memory : -1);
        close_if_open(has_inode ? session->inode : -1);
        session->state = FREE;
        sessions_live--;
    }
}

bool session_table_is_ours(void)
{
    int *page = __atomic_load_n(&owner, __ATOMIC_ACQUIRE);
    int process;
    int known;

    if (page == NULL)
        return true;
    process = sys_getpid();
    known = __atomic_load_n(page, __ATOMIC_ACQUIRE);
    if (known == 0 &&
        __atomic_compare_exchange_n(page, &known, process, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        sweep_after_fork();
        return true;
    }
    return known == process;
}

/* A slot in state OPENING, or NULL if all are taken. */
static struct session *claim(void)
{
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        int expected = FREE;
        unsigned used = __atomic_load_n(&table_used, __ATOMIC_ACQUIRE);

        if (!__atomic_compare_exchange_n(&table[i].state, &expected, OPENING, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        while (used <= i && !__atomic_compare_exchange_n(&table_used, &used, i + 1, false, __ATOMIC_ACQ_REL,
                                                         __ATOMIC_ACQUIRE))
            continue;
        __atomic_add_fetch(&sessions_live, 1, __ATOMIC_ACQ_REL);
        SESSION_SET(table[i].memory_number, 0);
        return &table[i];
    }
    return NULL;
}

struct session *session_enter(const struct session *found)
{
    struct session *session = claim();
    struct stat status;

    if (session == NULL)
        return NULL;
    if (sys_fstat(found->memory, &status) == 0)
        SESSION_SET(memory_device, status.st_dev);
    SESSION_SET(session->device, found->device);
    SESSION_SET(session->number, found->number);
    SESSION_SET(session->memory_number, found->memory_number);
    SESSION_SET(session->memory, found->memory);
    SESSION_SET(session->inode, found->inode);
    SESSION_SET(session->flags, found->flags & ~(unsigned)SESSION_STRAY);
    session->linked = false;
    SESSION_SET(session->closed_here, false);
    SESSION_SET(session->guard, -1);
    session_publish(session);
    return session;
}

static char *append_hex(char *end, uint64_t value)
{
    int digits = 1;

    while (digits < 16 && value >> (4 * digits) != 0)
        digits++;
    for (int i = digits; i != 0; i--)
        *end++ = "0123456789abcdef"[value >> (4 * (i - 1)) & 15];
    return end;
}

/* "atomshim:FLAGS:DEVICE:NUMBER:INODE", all in hexadecimal: what session_search() needs after an exec. INODE is the
 * private descriptor of the inode: other sessions on it have a base of their own. */
static void memory_name(char name[64], const struct session *session)
{
    char *end = stpcpy(name, "atomshim:");

    end = append_hex(end, session->flags);
    *end++ = ':';
    end = append_hex(end, session->device);
    *end++ = ':';
    end = append_hex(end, session->number);
    *end++ = ':';
    end = append_hex(end, (uint64_t)session->inode);
    *end = '\0';
}

/* Makes the memfd, with what it must hold. Returns a private descriptor of a description of its own. */
static int make_memory(struct session *session, bool truncate)
{
    const struct timespec never[2] = {{0, 1}, {0, 1}};
    struct session_base base = {.force = truncate};
    struct store_image image = {0};
    struct stat status;
    char name[64];
    char path[PROC_PATH_SIZE];
    int created;
    int private;
    int fd = -1;
    int error = 0;

    memory_name(name, session);
    created = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (created == -EINVAL)
        created = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (created < 0)
        return created;

    if (!truncate)
        error = store_load(session->inode, created,
                           (struct store_wait){.locked = (session->flags & SESSION_LOCKED) != 0,
                                               .timeout = session_config->lock_timeout},
                           &image);
    if (error == 0)
        session_tell_edits(session, &image);
    if (error == 0)
        error = sys_fstat(created, &status);
    if (error != 0)
        goto out;
    base.size = image.size;
    base.crc = image.payload_crc;
    SESSION_SET(session->memory_number, status.st_ino);
    SESSION_SET(memory_device, status.st_dev);
    if (session->flags & SESSION_WRITABLE)
        (void)sys_utimensat(created, NULL, never, 0); /* any write sets it: see times_were_set() */
    else
        /* a new description for writing, through /proc/self/fd, would write where nobody commits */
        (void)sys_fcntl(created, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);

    fd = sys_openat(AT_FDCWD, descriptor_path(path, created),
                    (session->flags & SESSION_WRITABLE ? O_RDWR : O_RDONLY) | O_CLOEXEC, 0);
    error = fd < 0 ? fd : 0;
out:
    /* the lease counts only descriptions that were opened by path */
    (void)sys_close(created);
    if (error != 0)
        return error;
    private = descriptor_make_private(fd);
    if (private < 0) {
        (void)sys_close(fd);
        return private;
    }
    SESSION_SET(session->memory, private);
    session_set_base(session, base);
    return 0;
}

struct swap {
    const struct session *session;
    ino_t old_number;
    int fresh; /* a descriptor of a new description, or -1 */
};

/* Puts the program's descriptor on the new memfd, at the same position. Those at one position are taken for copies. */
static int swap_one(int fd, void *context)
{
    struct swap *swap = context;
    const struct session *session = swap->session;
    struct stat status;
    char path[PROC_PATH_SIZE];
    int64_t position;

    if (sys_fstat(fd, &status) != 0 || status.st_dev != SESSION_GET(memory_device) ||
        status.st_ino != swap->old_number || descriptor_is_private(fd))
        return 0;
    position = sys_lseek(fd, 0, SEEK_CUR);
    if (swap->fresh < 0 || sys_lseek(swap->fresh, 0, SEEK_CUR) != position) {
        if (swap->fresh >= 0)
            (void)sys_close(swap->fresh);
        swap->fresh = sys_openat(AT_FDCWD, descriptor_path(path, session->memory),
                                 (int)sys_fcntl(fd, F_GETFL, 0) & ~O_CREAT, 0);
        if (swap->fresh < 0)
            return swap->fresh;
        (void)sys_lseek(swap->fresh, position, SEEK_SET);
    }
    return sys_dup3(swap->fresh, fd, sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0) < 0 ? -EBADF : 0;
}

int session_load_anew(struct session *session)
{
    struct swap swap = {.session = session, .old_number = session->memory_number, .fresh = -1};
    int old_memory = session->memory;
    int error;

    if (is_stray(session) || !session_table_is_ours())
        return 0;
    error = make_memory(session, false);
    if (error != 0)
        return error;
    error = descriptor_for_each(swap_one, &swap);
    if (swap.fresh >= 0)
        (void)sys_close(swap.fresh);
    (void)sys_close(old_memory);
    return error;
}

static bool wants_writing(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

static unsigned initial_flags(bool stray, int flags, bool created)
{
    unsigned result = stray ? SESSION_STRAY : 0u;

    if (wants_writing(flags))
        result |=
            SESSION_WRITABLE | (flags & O_APPEND ? SESSION_APPEND : 0u) | (created ? SESSION_CREATED : 0u);
    if (wants_writing(flags) && session_config->isolation == CONFIG_SESSION)
        result |= SESSION_LOCKED;
    return result;
}

/* Closing a descriptor of an inode drops this process's POSIX locks on it: then it must stay where it is. */
static int make_inode_private(int inode, const struct stat *status)
{
    if (session_on(status->st_dev, status->st_ino) == NULL || !filelock_is_posix_holder(inode))
        return descriptor_make_private(inode);
    descriptor_mark(inode);
    return inode;
}

int session_begin(int inode, int flags, bool created, struct session *stray, struct session **result)
{
    struct session *session = stray;
    struct signals_held held;
    struct stat status;
    int private;
    int error = sys_fstat(inode, &status);

    if (error == 0 && session_table_is_ours()) {
        session = claim();
        error = session == NULL ? -ENFILE : 0;
    }
    if (error != 0) {
        (void)sys_close(inode);
        return error;
    }
    SESSION_SET(session->device, status.st_dev);
    SESSION_SET(session->number, status.st_ino);
    SESSION_SET(session->memory_number, 0);
    SESSION_SET(session->memory, -1);
    SESSION_SET(session->inode, inode);
    SESSION_SET(session->flags, initial_flags(session == stray, flags, created));
    session->linked = false;
    SESSION_SET(session->closed_here, false);
    SESSION_SET(session->guard, -1);
    if (session == stray) {
        session->committer = 0;
        session->commit_again = 0;
    }

    if (session->flags & SESSION_LOCKED)
        error = filelock_keep(inode, session_config->lock_timeout);
    private = error == 0 ? make_inode_private(inode, &status) : error;
    if (private < 0) {
        session_drop(session);
        return private;
    }
    SESSION_SET(session->inode, private);
    held = signals_hold(SIGXFSZ); /* RLIMIT_FSIZE is not for what is read: EFBIG, but no signal */
    error = make_memory(session, (flags & O_TRUNC) != 0);
    signals_release(&held);
    if (error != 0) {
        session_drop(session);
        return error;
    }
    *result = session;
    return 0;
}

void session_publish(struct session *session)
{
    if (session->flags & SESSION_STRAY)
        __atomic_store_n(&strays_seen, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&session->state, LIVE, __ATOMIC_RELEASE);
}

int session_hand_out(struct session *session, int flags)
{
    char path[PROC_PATH_SIZE];
    int fd = sys_openat(AT_FDCWD, descriptor_path(path, session->memory),
                        flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_NOCTTY), 0);

    if (fd < 0)
        session_drop(session);
    else
        session_publish(session);
    return fd;
}

void session_drop(struct session *session)
{
    if (session->flags & SESSION_STRAY) {
        close_private(session);
        return;
    }
    __atomic_store_n(&session->state, ENDING, __ATOMIC_RELEASE);
    close_private(session);
    __atomic_store_n(&session->state, FREE, __ATOMIC_RELEASE);
    __atomic_sub_fetch(&sessions_live, 1, __ATOMIC_ACQ_REL);
}

int session_for_each(int (*visit)(struct session *session, void *context), void *context)
{
    unsigned used = __atomic_load_n(&table_used, __ATOMIC_ACQUIRE);
    int result = 0;

    for (unsigned i = 0; i < used && result == 0; i++)
        if (__atomic_load_n(&table[i].state, __ATOMIC_ACQUIRE) == LIVE)
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

struct session *session_on(dev_t device, ino_t number)
{
    struct inode_identity identity = {.device = device, .number = number};

    (void)session_for_each(has_inode, &identity);
    return identity.session;
}

struct session *session_of(const struct stat *status, struct session *stray)
{
    unsigned used = __atomic_load_n(&table_used, __ATOMIC_ACQUIRE);
    int after = -1;

    if (SESSION_GET(memory_device) == 0 || status->st_dev != SESSION_GET(memory_device))
        return NULL;
    for (unsigned i = 0; i < used; i++)
        if (SESSION_GET(table[i].memory_number) == status->st_ino &&
            __atomic_load_n(&table[i].state, __ATOMIC_ACQUIRE) == LIVE)
            return &table[i];
    if (__atomic_load_n(&strays_seen, __ATOMIC_RELAXED) && session_search(status->st_ino, &after, stray))
        return stray;
    return NULL;
}

enum session_role session_identify(int fd, struct session *stray, struct session **session)
{
    struct stat status;

    *session = NULL;
    if (sys_fstat(fd, &status) != 0)
        return SESSION_NONE;
    *session = session_of(&status, stray);
    if (*session != NULL) /* by its number, too: another process's lease may just have wiped the mark */
        return fd == SESSION_GET((*session)->memory) || descriptor_is_private(fd) ? SESSION_PRIVATE
                                                                                  : SESSION_PROGRAM;

    bool suspect =
        session_on(status.st_dev, status.st_ino) != NULL || __atomic_load_n(&strays_seen, __ATOMIC_RELAXED);
    return suspect && descriptor_is_private(fd) ? SESSION_PRIVATE : SESSION_NONE;
}

static int count_if_ours(int fd, void *context)
{
    const struct session *session = context;
    struct stat status;

    return sys_fstat(fd, &status) == 0 && status.st_dev == SESSION_GET(memory_device) &&
           status.st_ino == session->memory_number && !descriptor_is_private(fd);
}

/* Is the last description gone? Where the kernel cannot say, this process's last descriptor counts. */
static bool is_over(struct session *session)
{
    int answer = descriptor_is_last(session->memory);

    if (answer < 0)
        answer = descriptor_for_each(count_if_ours, session) == 0 && !session_is_mapped(session);
    return answer == 1;
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
static bool enter(struct session *session, ino_t memory_number, bool wait)
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
    if (is_stray(session) || (__atomic_load_n(&session->state, __ATOMIC_ACQUIRE) == LIVE &&
                              SESSION_GET(session->memory_number) == memory_number))
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
static int take_last_error(struct session *session, ino_t memory_number)
{
    if (is_stray(session) || SESSION_GET(session->ended_number) != memory_number)
        return 0;
    return __atomic_exchange_n(&session->ended_error, 0, __ATOMIC_ACQ_REL);
}

static void end(struct session *session, int error)
{
    if (session->flags & SESSION_LOCKED) /* a forked child may still have the description */
        filelock_give_up(session->inode);
    SESSION_SET(session->ended_error, error);
    SESSION_SET(session->ended_number, session->memory_number);
    __atomic_store_n(&session->state, ENDING, __ATOMIC_RELEASE);
    (void)leave(session);
    session_drop(session);
}

/* Only a committer may look at a session's descriptors: their numbers are somebody else's once it has ended. */
static int settle(struct session *session, ino_t memory_number, bool wait)
{
    int error;

    if (!is_stray(session) && !session_table_is_ours())
        return 0; /* a vfork child: its parent's descriptors are open as before */
    do {
        if (!enter(session, memory_number, wait))
            return wait ? take_last_error(session, memory_number) : 0;
        if (is_over(session)) {
            error = session->flags & SESSION_WRITABLE ? session_commit(session, true) : 0;
            end(session, error);
            return error;
        }
        SESSION_SET(session->closed_here, true);
    } while (leave(session));
    return 0;
}

int session_settle(struct session *session, ino_t memory_number)
{
    return settle(session, memory_number, true);
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
    error = settle(session, SESSION_GET(session->memory_number), round->wait);
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
    ino_t memory_number = SESSION_GET(session->memory_number);
    int error;

    if (!is_stray(session) && !session_table_is_ours()) {
        struct session copy = *session; /* a vfork child: the table is its parent's */

        copy.flags |= SESSION_STRAY;
        return session_commit(&copy, false);
    }
    if (!enter(session, memory_number, true))
        return 0;
    error = session_commit(session, false);
    (void)leave(session);
    /* the last descriptor may have gone meanwhile, in another thread or in a signal handler */
    if (error == 0)
        error = settle(session, memory_number, true);
    return error;
}

int session_refresh(struct session *session)
{
    ino_t memory_number = SESSION_GET(session->memory_number);
    int error;

    if (!is_stray(session) && !session_table_is_ours())
        return 0;
    if (!enter(session, memory_number, true))
        return 0;
    error = session_reload(session);
    if (leave(session))
        (void)settle(session, memory_number, true);
    return error;
}

void session_abandon_commit(struct session *session)
{
    if (__atomic_load_n(&session->committer, __ATOMIC_ACQUIRE) != sys_gettid())
        return;
    close_if_open(__atomic_exchange_n(&session->guard, -1, __ATOMIC_ACQ_REL));
    release(session);
}

int session_move_private(struct session *session, int number)
{
    ino_t memory_number = SESSION_GET(session->memory_number);
    int *slot;
    long moved = 0;

    if (!enter(session, memory_number, true))
        return 0;
    slot = session->inode == number ? &session->inode : session->memory == number ? &session->memory : NULL;
    if (slot != NULL) {
        moved = sys_fcntl(number, F_DUPFD, number + 1);
        if (moved == -EINVAL || moved == -EMFILE) /* the limit is in the way */
            moved = sys_fcntl(number, F_DUPFD, 3);
        if (moved >= 0)
            __atomic_store_n(slot, (int)moved, __ATOMIC_RELEASE);
    }
    if (leave(session))
        (void)settle(session, memory_number, true);
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

struct session_base session_get_base(const struct session *session)
{
    uint64_t cell = (uint64_t)sys_lseek(session->memory, 0, SEEK_CUR);

    return (struct session_base){
        .size = (uint64_t)sys_lseek(session->inode, 0, SEEK_CUR),
        .crc = (uint32_t)cell,
        .force = (cell >> 32 & 1) != 0,
    };
}

void session_set_base(const struct session *session, struct session_base base)
{
    (void)sys_lseek(session->inode, (int64_t)base.size, SEEK_SET);
    (void)sys_lseek(session->memory, (int64_t)((uint64_t)base.force << 32 | base.crc), SEEK_SET);
}
