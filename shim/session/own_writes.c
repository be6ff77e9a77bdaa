/*
 * Handles two opens of one file in one process. A thread sees its own writes through a second
 * descriptor and by name; every other thread and process sees the last commit. Two descriptors to
 * write with share one buffer: a database locks once for both, and with a buffer each the second
 * commit would undo the first.
 */
#include "session/internal.h"

#include "os/descriptor.h"
#include "session/buffer.h"
#include "store/filelock.h"

#include <errno.h>

static int count_if_writer(int fd, void *context)
{
    struct session *session = context;
    long flags;

    if (!session_has_descriptor(fd, session))
        return 0;
    flags = sys_fcntl(fd, F_GETFL, 0);
    if (flags >= 0 && (flags & O_PATH) == 0 && (flags & O_ACCMODE) != O_RDONLY)
        session->counted++;
    return 0;
}

/* Counts the descriptors of this process by which the program can write to the session. Called by
 * its only committer. */
static int count_writers(struct session *session)
{
    session->counted = 0;
    (void)descriptor_for_each(count_if_writer, session);
    return session->counted;
}

bool session_has_lost_writer(struct session *session)
{
    int before = session->writers;

    if (!session->several_opens)
        return false;
    session->writers = count_writers(session);
    return session->writers < before;
}

struct search {
    dev_t device;
    ino_t number;
    unsigned thread; /* 0: any */
    struct session *found;
};

/* A handler of a signal may come in between and number the thread first. */
unsigned session_this_thread(void)
{
    static __thread unsigned number;
    static unsigned threads; /* atomic */
    unsigned none = 0;

    if (number == 0)
        (void)__atomic_compare_exchange_n(&number, &none, __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED),
                                          false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return number;
}

/* Finds the session that was opened last. */
static int is_writer(struct session *session, void *context)
{
    struct search *search = context;

    if ((SESSION_GET(session->flags) & SESSION_WRITABLE) && SESSION_GET(session->device) == search->device &&
        SESSION_GET(session->number) == search->number &&
        (search->thread == 0 || SESSION_GET(session->writer_thread) == search->thread) &&
        (search->found == NULL || SESSION_GET(session->order) > SESSION_GET(search->found->order)))
        search->found = session;
    return 0;
}

static struct session *find_writer(dev_t device, ino_t number, bool by_this_thread)
{
    struct search search = {device, number, by_this_thread ? session_this_thread() : 0, NULL};

    if (session_table_is_ours())
        (void)session_for_each(is_writer, &search);
    return search.found;
}

struct session *session_writer(dev_t device, ino_t number)
{
    return find_writer(device, number, false);
}

static int has_writable(struct session *session, void *unused)
{
    (void)unused;
    return (SESSION_GET(session->flags) & SESSION_WRITABLE) != 0;
}

bool session_any_writable(void)
{
    return session_any() && session_for_each(has_writable, NULL) != 0;
}

/*
 * A second open gives another description, which has locks of its own. They lie on a separate
 * description of the real inode. F_SETSIG marks which one, for all processes that share it; the
 * kernel never sends a signal for a file of this kind.
 */
enum { FIRST_MARK = 40, SIGNALS_END = FIRST_MARK + SESSION_DESCRIPTIONS };

static int mark_of(int fd)
{
    long mark = sys_fcntl(fd, F_GETSIG, 0);

    return mark >= FIRST_MARK && mark < SIGNALS_END ? (int)mark - FIRST_MARK : -1;
}

/* Opens the description, unless another thread has. In lock_inodes 0 is none: something else takes
 * that number meanwhile, if it is free. */
static int open_lock_inode(struct session *session, void *context)
{
    const int mark = *(const int *)context;
    char path[PROC_PATH_SIZE];
    int inode = SESSION_GET(session->lock_inodes[mark]);
    int lowest;
    int moved;

    if (inode > 0)
        return inode;
    lowest = sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0);
    inode = DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, descriptor_path(path, session->inode),
                                         ((int)sys_fcntl(session->inode, F_GETFL, 0) & O_ACCMODE) | O_CLOEXEC,
                                         0));
    descriptor_close_if_open(lowest);
    if (inode <= 0)
        return session->inode;
    descriptor_mark_inode(inode);
    moved =
        session_must_stay(inode, session->device, session->number) ? inode : descriptor_make_private(inode);
    if (moved < 0)
        moved = inode;
    SESSION_SET(session->lock_inodes[mark], moved);
    return moved;
}

int session_lock_inode(struct session *session, int fd)
{
    int mark = mark_of(fd);
    int inode = mark < 0 ? session->inode : SESSION_GET(session->lock_inodes[mark]);

    if (inode > 0)
        return inode;
    /* the numbers that a vfork() child opens are not its parent's */
    return session_table_is_ours() ? session_in_turn(session, true, open_lock_inode, &mark, -EBADF) : -ENOLCK;
}

static bool is_lock_inode(const struct session *session, int fd)
{
    struct stat status;

    return fd > 0 && sys_fstat(fd, &status) == 0 && status.st_dev == session->device &&
           status.st_ino == session->number && descriptor_is_private(fd);
}

bool session_holds_other_lock(const struct session *session)
{
    for (int i = 0; i < SESSION_DESCRIPTIONS; i++)
        if (SESSION_GET(session->lock_inodes[i]) > 0 &&
            filelock_is_locked_through(SESSION_GET(session->lock_inodes[i])))
            return true;
    return false;
}

/* The descriptions of a session that this process has open. */
struct marks {
    const struct session *session;
    unsigned used;
    bool has_first;
};

static int note_mark(int fd, void *context)
{
    struct marks *marks = context;
    struct stat status;
    int mark = mark_of(fd);

    if (sys_fstat(fd, &status) != 0 || !session_is_buffer(marks->session, &status))
        return 0;
    if (mark >= 0)
        marks->used |= 1u << mark;
    else if (!descriptor_is_private(fd))
        marks->has_first = true;
    return 0;
}

void session_give_up_locks(struct session *session, bool all)
{
    struct marks marks = {.session = session};

    if (!all && !SESSION_GET(session->takes_turns)) /* the program has locked nothing */
        return;
    if (!all)
        (void)descriptor_for_each(note_mark, &marks);
    if (!all && !marks.has_first && !SESSION_GET(session->is_shared) && !(session->flags & SESSION_LOCKED))
        filelock_end_program(session->inode);
    for (int i = 0; i < SESSION_DESCRIPTIONS; i++) {
        int inode =
            marks.used >> i & 1 ? 0 : __atomic_exchange_n(&session->lock_inodes[i], 0, __ATOMIC_ACQ_REL);

        if (is_lock_inode(session, inode))
            (void)sys_close(inode);
    }
}

/* An appender that has not written yet sees the bytes that others have appended since its open. */
static bool has_nothing_to_show(const struct session *session, const struct stat *buffer)
{
    struct timespec when;

    return (session->flags & SESSION_APPEND) && !session_was_written(session, buffer, &when);
}

/* Declines if this process has not the session open for writing any more. */
static int open_another(struct session *session, void *context)
{
    const int *flags = context;
    struct stat buffer;
    int fd;

    if (count_writers(session) == 0)
        return -ENOENT;
    if ((*flags & O_ACCMODE) == O_RDONLY && sys_fstat(session->buffer, &buffer) == 0 &&
        has_nothing_to_show(session, &buffer))
        return -ENOENT;
    fd = session_open_descriptor(session, *flags);
    if (fd < 0)
        return buffer_is_proc_missing(fd) || fd == -EACCES ? -ENOENT : fd;
    if (session->descriptions < SESSION_DESCRIPTIONS)
        (void)sys_fcntl(fd, F_SETSIG, FIRST_MARK + session->descriptions++);
    session->several_opens = true;
    session->writers = count_writers(session);
    if (*flags & O_APPEND)
        session_set_append(session);
    return fd;
}

int session_open_again(dev_t device, ino_t number, int flags)
{
    bool reads = (flags & O_ACCMODE) == O_RDONLY;
    bool isolates = session_config->isolation == CONFIG_SESSION;
    struct session *session;

    /* with ATOMSHIM_ISOLATION=session another thread waits for the end of this one's session */
    session = find_writer(device, number, reads || isolates);
    /* Two appenders need no common buffer: their commits merge what they wrote. */
    if (session != NULL && !reads && (flags & O_APPEND) && (SESSION_GET(session->flags) & SESSION_APPEND))
        return -ENOENT;
    return session == NULL ? -ENOENT : session_in_turn(session, true, open_another, &flags, -ENOENT);
}

static int look_at_buffer(struct session *session, void *buffer)
{
    int error = count_writers(session) == 0 ? -ENOENT : sys_fstat(session->buffer, buffer);

    return error == 0 && has_nothing_to_show(session, buffer) ? -ENOENT : error;
}

struct session *session_written_here(dev_t device, ino_t number, struct stat *buffer)
{
    struct session *session = find_writer(device, number, true);

    return session != NULL && session_in_turn(session, true, look_at_buffer, buffer, -ENOENT) == 0 ? session
                                                                                                   : NULL;
}
