/*
 * The snapshot that this process keeps for its next open to read of the same file: the sealed
 * buffer of a session that is over. It is one file in memory of at most SNAPSHOT_MAX bytes, which
 * no other process has open; no descriptor of the real inode stays open. An open takes it out,
 * looks whether the file still holds that image, byte for byte, and has it to itself until its last
 * close.
 *
 * The slot changes hands by compare-and-swap, and nobody waits for it: a signal handler or another
 * thread that meets it BUSY loads. The program may have closed the number, or put a file of its own
 * there: the number counts only while the buffer is behind it.
 *
 * An image that was verified once is not read again while st_ctim stays what it was, but for its
 * headers. (A program without the shim that has the file mapped writes without a new time. It is
 * seen when the kernel writes its page out and sets the time, or at the next commit.)
 */
#include "session/internal.h"

#include "os/descriptor.h"

enum { SNAPSHOT_MAX = 1 << 20 };

enum slot_state { SLOT_EMPTY, SLOT_BUSY, SLOT_FULL };

struct snapshot {
    dev_t device; /* st_dev, st_ino and st_ctim of the real inode */
    ino_t number;
    struct timespec changed;
    bool is_settled; /* every write to the file gives it another st_ctim */
    int inode;       /* the number of its private descriptor, which is part of the buffer's name */
    int buffer;
    dev_t buffer_device;
    ino_t buffer_number;
    struct store_image image;
};

static struct snapshot kept_snapshot;
static int slot_state; /* atomic: enum slot_state */

static bool move_slot(int from, int to)
{
    return __atomic_compare_exchange_n(&slot_state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void set_slot(int state)
{
    __atomic_store_n(&slot_state, state, __ATOMIC_RELEASE);
}

/* Tells whether the snapshot is still there; fills `buffer` only then. */
static bool has_buffer(const struct snapshot *snapshot, struct stat *buffer)
{
    return sys_fstat(snapshot->buffer, buffer) == 0 && buffer->st_ino == snapshot->buffer_number &&
           buffer->st_dev == snapshot->buffer_device;
}

static void close_buffer(const struct snapshot *snapshot)
{
    struct stat buffer;

    if (has_buffer(snapshot, &buffer))
        (void)sys_close(snapshot->buffer);
}

/* Tells whether the file, its mode and its owner are unchanged. */
static bool is_unchanged(const struct snapshot *snapshot, const struct stat *inode)
{
    return snapshot->changed.tv_sec == inode->st_ctim.tv_sec &&
           snapshot->changed.tv_nsec == inode->st_ctim.tv_nsec;
}

/*
 * The file was changed longer ago than the steps in which its time is counted: those of the kernel
 * are at most 10 ms. A time in whole steps of 10 ms may be of a file system that counts seconds.
 */
static bool is_settled(const struct timespec *changed)
{
    enum { MILLION = 1000 * 1000, STEP = 10 * MILLION };
    struct timespec now = {0, 0}; /* a filter may refuse the call */
    int64_t age;

    (void)SYS_CALL(SYS_clock_gettime, CLOCK_REALTIME, &now, 0, 0, 0, 0);
    age = (now.tv_sec - changed->tv_sec) * 1000 * MILLION + now.tv_nsec - changed->tv_nsec;
    return age > 2L * STEP && changed->tv_nsec % STEP != 0;
}

bool session_has_snapshot(const struct stat *inode)
{
    bool found;

    if (!move_slot(SLOT_FULL, SLOT_BUSY))
        return false;
    found = kept_snapshot.device == inode->st_dev && kept_snapshot.number == inode->st_ino &&
            is_unchanged(&kept_snapshot, inode);
    set_slot(SLOT_FULL);
    return found;
}

/* Takes the snapshot of the session's file out of the slot, which is empty then. */
static bool take_snapshot(const struct session *session, struct snapshot *snapshot)
{
    if (!move_slot(SLOT_FULL, SLOT_BUSY))
        return false;
    *snapshot = kept_snapshot;
    if (snapshot->device == session->device && snapshot->number == session->number &&
        snapshot->inode == session->inode) {
        set_slot(SLOT_EMPTY);
        return true;
    }
    set_slot(SLOT_FULL);
    return false;
}

bool session_take_snapshot(struct session *session, const struct stat *inode)
{
    struct snapshot snapshot;
    struct stat buffer;

    if (session->flags != 0 || !take_snapshot(session, &snapshot) || !has_buffer(&snapshot, &buffer))
        return false;
    if (!is_unchanged(&snapshot, inode) || buffer.st_uid != sys_geteuid())
        goto stale;
    session->is_settled = snapshot.is_settled || is_settled(&inode->st_ctim);
    if (!store_is_current(session->inode, &snapshot.image, snapshot.is_settled))
        goto stale;
    descriptor_mark_buffer(snapshot.buffer);
    (void)sys_lseek(session->inode, (int64_t)snapshot.image.size, SEEK_SET);
    session_set_buffer(session, snapshot.buffer_device, snapshot.buffer_number);
    SESSION_SET(session->buffer, snapshot.buffer);
    session->image = snapshot.image;
    session->changed = inode->st_ctim;
    session->is_snapshot = true;
    if (!snapshot.is_settled)
        session_follow_mode(session);
    return true;
stale:
    (void)sys_close(snapshot.buffer);
    return false;
}

void session_keep_snapshot(struct session *session)
{
    struct snapshot before = {.buffer = -1};

    if (!session->is_snapshot || SESSION_GET(session->is_shared) || session->image.size > SNAPSHOT_MAX ||
        session_is_stray(session))
        return;
    if (move_slot(SLOT_FULL, SLOT_BUSY))
        before = kept_snapshot;
    else if (!move_slot(SLOT_EMPTY, SLOT_BUSY))
        return;
    kept_snapshot = (struct snapshot){
        .device = session->device,
        .number = session->number,
        .changed = session->changed,
        .is_settled = session->is_settled,
        .inode = session->inode,
        .buffer = __atomic_exchange_n(&session->buffer, -1, __ATOMIC_ACQ_REL),
        .buffer_device = session->buffer_device,
        .buffer_number = session->buffer_number,
        .image = session->image,
    };
    /* its mark is gone (settle.c): it is no session's, and no search may find it by its name */
    set_slot(SLOT_FULL);
    if (before.buffer >= 0)
        close_buffer(&before);
}

void session_forget_snapshot(bool close)
{
    if (close && __atomic_load_n(&slot_state, __ATOMIC_ACQUIRE) == SLOT_FULL)
        close_buffer(&kept_snapshot);
    set_slot(SLOT_EMPTY);
}
