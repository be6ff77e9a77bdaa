/* Finds sessions after an exec and at the end of a process, by /proc/self/fd. */
#include "session/internal.h"

#include "os/buffer_name.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/proc.h"
#include "os/process.h"
#include "session/buffer.h"

#include <linux/close_range.h>
#include <linux/kcmp.h>
#include <linux/sched.h>

/* Fills *session from the name of its buffer. Returns false if the name cannot be read. */
static bool read_buffer_name(int fd, struct session *session)
{
    char path[PROC_PATH_SIZE];
    char link[BUFFER_PATH_SIZE];
    const char *at;
    uint64_t fields[4];
    ssize_t n = sys_readlinkat(AT_FDCWD, descriptor_path(path, fd), link, sizeof link - 1);

    link[n < 0 ? 0 : n] = '\0';
    at = buffer_name_record(link);
    if (at == NULL)
        return false;
    for (int i = 0; i < 4; i++) {
        at = proc_parse_number(at, 16, &fields[i]);
        at += i < 3 && *at == ':';
    }
    session->flags = (unsigned)fields[0];
    session->device = fields[1];
    session->number = fields[2];
    session->inode = (int)fields[3];
    return true;
}

struct search {
    const struct stat *buffer; /* NULL: any */
    int (*visit)(struct session *found, void *context);
    void *context;
    struct session *session;
    bool by_sum; /* only a short form of the inode's identity is known */
    uint32_t sum;
    bool ambiguous;
};

/* True if this user could have made the session: the caller of a program chooses its
 * descriptors. */
static bool is_own_buffer(const struct stat *status)
{
    return S_ISREG(status->st_mode) && status->st_nlink == 0 &&
           (status->st_uid == sys_geteuid() ||
            status->st_uid == (uid_t)SYS_CALL(SYS_getuid, 0, 0, 0, 0, 0, 0));
}

/* Tells whether the descriptor is a private one of a buffer that the search is for; then fills
 * search->session as far as the buffer tells. */
static bool is_wanted_buffer(int fd, struct search *search)
{
    struct session found = {.buffer = fd, .inode = -1, .early = -1, .commit_lock = -1, .kept = -1};
    struct session_record record;
    struct stat status;

    if (!descriptor_is_buffer(fd) || sys_fstat(fd, &status) != 0 || !is_own_buffer(&status))
        return false;
    if (search->buffer != NULL &&
        (status.st_ino != search->buffer->st_ino || status.st_dev != search->buffer->st_dev))
        return false;
    search->by_sum = !read_buffer_name(fd, &found);
    if (search->by_sum) {
        record = session_get_record(fd);
        found.flags = record.flags;
        search->sum = record.identity;
    }
    found.flags |= SESSION_STRAY;
    found.buffer_device = status.st_dev;
    found.buffer_number = status.st_ino;
    *search->session = found;
    return true;
}

struct candidate {
    int inode;
    ino_t buffer_number;
};

/* Tells whether another session has the inode's descriptor. A session's own does not count: the
 * search comes upon the session again by the beacon, a second number of its buffer, which
 * session_adopt() closes. */
static int is_anothers_inode(struct session *session, void *context)
{
    const struct candidate *candidate = context;

    return session->inode == candidate->inode && session->buffer_number != candidate->buffer_number;
}

/* Tells whether this is the inode that the search is for. */
static bool is_wanted(const struct search *search, const struct stat *status)
{
    uint32_t sum;

    if (!search->by_sum)
        return status->st_dev == search->session->device && status->st_ino == search->session->number;
    sum = session_identity_sum(status->st_dev, status->st_ino);
    return (search->sum >> RECORD_LITTLE == 0 ? sum & ((1u << RECORD_LITTLE) - 1) : sum) == search->sum;
}

static bool is_read_write(int fd)
{
    return (sys_fcntl(fd, F_GETFL, 0) & O_ACCMODE) == O_RDWR;
}

/* Finds the inode's private descriptor if it had to move: no session has it yet, and it is writable
 * if it must be. If only the sum is known, exactly one inode must fit; so this looks at all. */
static int find_inode(int fd, void *context)
{
    struct search *search = context;
    struct session *session = search->session;
    bool writable = (session->flags & SESSION_WRITABLE) != 0;
    struct candidate candidate = {fd, session->buffer_number};
    struct stat status;

    if (!descriptor_is_private(fd) || descriptor_is_buffer(fd) || sys_fstat(fd, &status) != 0 ||
        !S_ISREG(status.st_mode) || !is_wanted(search, &status))
        return 0;
    if (writable != is_read_write(fd) || (writable && !is_read_write(session->buffer)))
        return 0;
    if (session_on(status.st_dev, status.st_ino) != NULL &&
        session_for_each(is_anothers_inode, &candidate) != 0)
        return 0;
    if (search->by_sum && session->inode >= 0) {
        search->ambiguous |= session->device != status.st_dev || session->number != status.st_ino;
        return 0;
    }
    session->inode = fd;
    session->device = status.st_dev;
    session->number = status.st_ino;
    return search->by_sum ? 0 : 1;
}

static bool search_inode(struct search *search)
{
    if (!search->by_sum)
        return find_inode(search->session->inode, search) == 1 ||
               descriptor_for_each(find_inode, search) == 1;
    search->ambiguous = false;
    (void)descriptor_for_each(find_inode, search);
    if (search->ambiguous)
        log_line(LOG_ERROR,
                 "this process inherited managed files and cannot tell them apart without /proc; it does not "
                 "commit one of them");
    return search->session->inode >= 0 && !search->ambiguous;
}

static int search_session(int fd, void *context)
{
    struct search *search = context;

    return is_wanted_buffer(fd, search) && search_inode(search)
               ? search->visit(search->session, search->context)
               : 0;
}

int session_search(const struct stat *buffer, int (*visit)(struct session *found, void *context),
                   void *context)
{
    struct session found;
    struct search search = {.buffer = buffer, .visit = visit, .context = context, .session = &found};

    return descriptor_for_each(search_session, &search);
}

/* Tells whether the table has the session that a search has found. */
static bool is_known(const struct session *found)
{
    return session_with_buffer(found->buffer_device, found->buffer_number) != NULL;
}

static bool is_beacon_lit(void)
{
    int first = descriptor_beacon();

    for (int number = first; number < first + DESCRIPTOR_BEACONS; number++)
        if (sys_fcntl(number, F_GETFD, 0) >= 0)
            return true;
    return false;
}

/* True if the slot does not belong to that session any more. */
static bool has_ended(struct session *session, ino_t buffer_number)
{
    return session_is_stray(session) ? session->buffer < 0
                                     : SESSION_GET(session->buffer_number) != buffer_number ||
                                           __atomic_load_n(&session->state, __ATOMIC_ACQUIRE) != SESSION_LIVE;
}

/* Notes that the program has a descriptor of the session. Returns 1 once it has one of each. */
static int note_descriptor(int fd, void *unused)
{
    struct session_found found;

    (void)unused;
    if (session_identify(fd, &found) == SESSION_PROGRAM)
        session_forget_closed(found.session);
    return session_any_closed() ? 0 : 1;
}

/* Gives up a session of which no descriptor came through the exec. By the exec the opener has
 * closed it, and commits at its end at the latest. */
static int settle_or_drop(struct session *session, void *unused)
{
    ino_t buffer_number = session->buffer_number;

    (void)unused;
    if (!session->closed_here)
        return 0;
    (void)session_settle(session, buffer_number);
    if (!has_ended(session, buffer_number) && !session_is_opener(session))
        session_drop(session);
    return 0;
}

/* Makes this process the opener, if posix_spawn() has opened the file for it. */
static void take_place(struct session *session)
{
    (void)sys_fcntl(session->inode, F_SETFD, FD_CLOEXEC);
    (void)sys_fcntl(session->buffer, F_SETFD, FD_CLOEXEC);
    if ((session->flags & SESSION_WRITABLE) && descriptor_opener(session->inode) == DESCRIPTOR_NO_OPENER)
        descriptor_set_opener(session->inode, sys_getpid());
}

static int adopt_one(struct session *found, void *unused)
{
    struct session *session;

    (void)unused;
    if (is_known(found)) {
        (void)sys_close(found->buffer); /* a second number of the same description */
        return 0;
    }
    session = session_enter(found);
    if (session == NULL) {
        log_line(LOG_ERROR, "this process inherited more than %d managed files; it does not commit the rest",
                 SESSIONS_MAX);
        return 1;
    }
    take_place(session);
    session_note_closed(session); /* until note_descriptor() comes to a descriptor of the program */
    return 0;
}

void session_adopt(void)
{
    if (!is_beacon_lit())
        return;
    (void)session_search(NULL, adopt_one, NULL);
    (void)descriptor_for_each(note_descriptor, NULL);
    (void)session_for_each(settle_or_drop, NULL);
}

static int adopt_stray(struct session *found, void *unused)
{
    struct session *session = is_known(found) ? NULL : session_enter(found);

    (void)unused;
    if (session != NULL)
        (void)session_want_guardian(session);
    return 0;
}

void session_adopt_strays(void)
{
    (void)session_search(NULL, adopt_stray, NULL);
}

/* ---- the end of the process ---- */

static int close_if_program(int fd, void *context)
{
    struct session_found found;

    (void)context;
    if (session_identify(fd, &found) == SESSION_PROGRAM)
        (void)sys_close(fd);
    return 0;
}

/*
 * Called at the proper end of the process. An opener commits though others still have the file
 * open. Another process commits, too, if the opener has released the session and a private mapping
 * hides whether this close is the last.
 */
static void finish_session(struct session *session)
{
    ino_t buffer_number = session->buffer_number;
    bool writable = (session->flags & SESSION_WRITABLE) != 0;
    bool is_opener = writable && session_is_opener(session);
    /* the mappings of a vfork() child belong to its parent */
    bool is_hidden = writable && !session_is_stray(session) && descriptor_is_last(session->buffer) == 0 &&
                     session_remap(session);

    if (is_opener)
        session_release(session);
    (void)session_settle(session, buffer_number);
    if (has_ended(session, buffer_number))
        return;
    if (is_opener || (is_hidden && session_is_released(session)))
        (void)session_sync(session, buffer_number);
    if (has_ended(session, buffer_number))
        return;
    if (is_opener)
        session_watch_kernel(session);
    session_drop(session);
}

static int finish_one(struct session *session, void *context)
{
    (void)context;
    if (!session_is_stray(session) || !is_known(session)) /* a stray may be the parent's */
        finish_session(session);
    return 0;
}

static bool has_parents_table(void)
{
    return SYS_CALL(SYS_kcmp, sys_getpid(), SYS_CALL(SYS_getppid, 0, 0, 0, 0, 0, 0), KCMP_FILES, 0, 0, 0) ==
           0;
}

/*
 * Gives this process a descriptor table of its own, if it shares one: from then on a close here is
 * no close there. Both calls do nothing to a table that is not shared; close_range(2), which closes
 * nothing here, is the one that containers allow. Threads of this process share the table, too: if
 * it has some, this asks the kernel only about the parent.
 */
static void leave_shared_table(void)
{
    if (!session_descriptors_may_be_shared() ||
        (session_table_is_ours() && process_threads(PROC_SELF) > 1 && !has_parents_table()))
        return;
    if (sys_close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE) != 0)
        (void)SYS_CALL(SYS_unshare, CLONE_FILES, 0, 0, 0, 0, 0);
}

void session_finish(void)
{
    leave_shared_table();
    (void)descriptor_for_each(close_if_program, NULL);
    if (session_table_is_ours())
        (void)session_for_each(finish_one, NULL);
    else
        (void)session_search(NULL, finish_one, NULL);
}
