/* Begins a session at an open: makes the buffer, loads it, and opens the program's descriptor. */
#include "session/internal.h"

#include "os/buffer_name.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/signals.h"
#include "session/buffer.h"
#include "store/filelock.h"
#include "store/rendezvous.h"
#include "store/store.h"

#include <errno.h>
#include <linux/xattr.h>
#include <string.h>

/* "atomshim:FLAGS:DEVICE:NUMBER:INODE", all in hexadecimal, for session_search() after an exec.
 * INODE is the private descriptor of the inode: other sessions on it have a base of their own. */
static void buffer_name(char name[64], const struct session *session)
{
    (void)log_format(name, 64, BUFFER_NAME_PREFIX "%x:%lx:%lx:%x", session->flags,
                     (unsigned long)session->device, (unsigned long)session->number,
                     (unsigned)session->inode);
}

/*
 * Returns the permission bits of a buffer. The user who made it owns it, whoever owns the file: a
 * user whose class (owner, group, others) on the buffer differs from the one on the file gets only
 * the bits that the file gives to every class.
 */
static mode_t buffer_mode(const struct stat *inode, const struct stat *buffer, bool writable)
{
    const mode_t mode = inode->st_mode & (writable ? 0666 : 0444);
    const mode_t own = writable ? 0600 : 0400;
    mode_t others = mode & 6;

    if (buffer->st_uid == inode->st_uid && buffer->st_gid == inode->st_gid)
        return own | (mode & 066);
    others &= mode >> 3;
    if (buffer->st_uid != inode->st_uid)
        others &= mode >> 6;
    return own | others << 3 | others;
}

/* True if the mode of the file says less than its access control list, acl(5). */
static bool has_acl(int inode)
{
    return sys_fgetxattr(inode, XATTR_NAME_POSIX_ACL_ACCESS, NULL, 0) > 0;
}

/* `buffer` is any descriptor of the buffer; `status` and `inode` are the statuses of the buffer and
 * of the real inode. The set-id bits of the buffer are its own, see session_note_privileges(). */
static void follow_mode(const struct session *session, int buffer, const struct stat *status,
                        const struct stat *inode)
{
    mode_t mode = buffer_mode(inode, status, (session->flags & SESSION_WRITABLE) != 0);

    if ((mode & 077) != 0 && has_acl(session->inode))
        mode &= 0700;
    (void)sys_fchmod(buffer, (status->st_mode & 07000) | mode);
}

void session_follow_mode(const struct session *session)
{
    struct stat status;
    struct stat inode;

    if (sys_fstat(session->buffer, &status) == 0 && sys_fstat(session->inode, &inode) == 0)
        follow_mode(session, session->buffer, &status, &inode);
}

/* The time of modification of a buffer that no program has written to. */
static const struct timespec never_written = {0, 1};

static bool is_never(struct timespec time)
{
    return time.tv_sec == never_written.tv_sec && time.tv_nsec == never_written.tv_nsec;
}

void session_set_unwritten(int buffer)
{
    const struct timespec times[2] = {never_written, never_written};

    (void)sys_utimensat(buffer, NULL, times, 0);
}

bool session_was_written(const struct session *session, const struct stat *buffer, struct timespec *when)
{
    *when = buffer->st_mtim;
    return (session->flags & SESSION_WRITABLE) && !is_never(buffer->st_mtim);
}

/* Mends a plain file in which a commit died, for programs without the shim, if this program opens
 * it to write. Waits for no lock: the next commit mends it as well. */
static void mend_plain(const struct session *session)
{
    struct filelock lock;

    if (session->flags & SESSION_LOCKED)
        (void)store_recover(session->inode, session_config->sync);
    else if ((session->flags & SESSION_WRITABLE) &&
             filelock_acquire(&lock, session->inode, F_WRLCK, 0) == 0) {
        (void)store_recover(session->inode, session_config->sync);
        filelock_release(&lock);
    }
}

/* Loads the content. A read must not raise the signal of RLIMIT_FSIZE; EFBIG is enough. */
static int load_content(const struct session *session, int target, int64_t timeout, struct store_image *image)
{
    const struct store_wait wait = {.locked = (session->flags & SESSION_LOCKED) != 0, .timeout = timeout};
    struct signals_held held = signals_hold(SIGXFSZ);
    int error = store_load(session->inode, target, wait, image);

    if (error == 0 && image->unsettled)
        mend_plain(session);
    signals_release(&held);
    return error;
}

/* Fills the new buffer with the session's first content, which *base describes. It stays empty if
 * base->force says that the open truncates. */
static int fill_buffer(struct session *session, int filler, const struct stat *inode, int64_t timeout,
                       struct session_base *base)
{
    struct store_image image = {0};
    int error = 0;

    if (!base->force)
        error = buffer_is_too_small(filler, session->inode, (uint64_t)inode->st_size)
                    ? -ENOMEM
                    : load_content(session, filler, timeout, &image);
    if (error == 0)
        session_tell_edits(session, &image);
    base->size = image.size;
    base->crc = image.payload_crc;
    session->image = image;
    session->changed = inode->st_ctim;
    return error;
}

/* Gives the session the filled buffer, by a private descriptor. `inode` is the real inode's status.
 * Returns 0 or a negative errno. */
static int take_buffer(struct session *session, const struct buffer *buffer, const struct stat *inode,
                       struct session_base base)
{
    struct stat status;
    int descriptor = sys_fstat(buffer->filler, &status);

    if (descriptor < 0)
        return descriptor;
    session_set_buffer(session, status.st_dev, status.st_ino);
    if (session->flags & SESSION_WRITABLE)
        status.st_mode |= S_ISUID; /* the mark of session_note_privileges() */
    follow_mode(session, buffer->filler, &status, inode);
    if (base.force && (inode->st_mode & (S_ISUID | S_ISGID)) != 0)
        (void)sys_ftruncate(buffer->filler, 0); /* takes the mark, as O_TRUNC takes set-id bits */
    if (!(session->flags & SESSION_WRITABLE))
        buffer_seal(buffer);
    else if (!base.force) /* a truncation is a write */
        session_set_unwritten(buffer->filler);
    descriptor_mark_buffer(buffer->fd);
    descriptor = descriptor_copy_private(buffer->fd);
    if (descriptor < 0)
        return descriptor;
    session_note_buffer(descriptor);
    SESSION_SET(session->buffer, descriptor);
    SESSION_SET(session->early, buffer->program);
    session->is_snapshot = session->flags == 0 && buffer->program < 0 && session->image.kind == STORE_SIZED &&
                           !session->image.edited && !session->image.resized;
    session_begin_base(session, base);
    return 0;
}

/* Makes and fills the buffer, and opens its private descriptor. `flags` are those of open(2),
 * `inode` is the status of the real inode, `timeout` is for the lock. Closes `spare`, unless it is
 * -1. */
static int make_buffer(struct session *session, int flags, const struct stat *inode, int64_t timeout,
                       int spare)
{
    struct session_base base = {.force = (flags & O_TRUNC) != 0};
    struct buffer buffer;
    char name[64];
    int error;

    buffer_name(name, session);
    error = buffer_make(name, (session->flags & SESSION_WRITABLE) != 0, flags, session_config->rescue_dir,
                        &buffer);
    if (error != 0) {
        descriptor_close_if_open(spare);
        return error;
    }
    error = fill_buffer(session, buffer.filler, inode, timeout, &base);
    if (error == 0)
        error = take_buffer(session, &buffer, inode, base);
    buffer_close_all((int[]){spare, buffer.fd, buffer.filler != buffer.fd ? buffer.filler : -1}, 3);
    if (error != 0)
        descriptor_close_if_open(buffer.program);
    return error;
}

struct swap {
    const struct session *session;
    dev_t old_device;
    ino_t old_number;
    int fresh;  /* a descriptor of a new description, or -1 */
    long flags; /* flags and mark of the old description: see session_lock_inode() */
    long mark;
};

/* The new description keeps these flags of the old one. Temporary files have O_NOFOLLOW and
 * O_TMPFILE, with which the open would fail. */
#define KEPT_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_NOATIME)

/* Puts the program's descriptor on the new buffer, at the same position. Descriptors with the same
 * position and flags count as copies. */
static int swap_one(int fd, void *context)
{
    struct swap *swap = context;
    const struct session *session = swap->session;
    struct stat status;
    char path[PROC_PATH_SIZE];
    int64_t position;
    long flags;
    long mark;

    if (sys_fstat(fd, &status) != 0 || status.st_dev != swap->old_device ||
        status.st_ino != swap->old_number || descriptor_is_private(fd))
        return 0;
    position = sys_lseek(fd, 0, SEEK_CUR);
    if (position < 0) /* O_PATH */
        return 0;
    flags = sys_fcntl(fd, F_GETFL, 0);
    mark = sys_fcntl(fd, F_GETSIG, 0);
    if (swap->fresh < 0 || swap->flags != flags || swap->mark != mark ||
        sys_lseek(swap->fresh, 0, SEEK_CUR) != position) {
        descriptor_close_if_open(swap->fresh);
        swap->fresh = DESCRIPTOR_INSIST(
            sys_openat(AT_FDCWD, descriptor_path(path, session->buffer), (int)flags & KEPT_FLAGS, 0));
        if (buffer_is_proc_missing(swap->fresh) && session->early >= 0)
            swap->fresh = (int)sys_fcntl(session->early, F_DUPFD_CLOEXEC, 0);
        if (swap->fresh < 0)
            return swap->fresh;
        (void)sys_lseek(swap->fresh, position, SEEK_SET);
        (void)sys_fcntl(swap->fresh, F_SETSIG, mark);
        swap->flags = flags;
        swap->mark = mark;
    }
    return sys_dup3(swap->fresh, fd, sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0) < 0 ? -EBADF : 0;
}

static int swap_all(struct swap *swap)
{
    int error = descriptor_for_each(swap_one, swap);

    descriptor_close_if_open(swap->fresh);
    return error;
}

int session_take_over(const struct session *session, dev_t device, ino_t number)
{
    struct swap swap = {.session = session, .old_device = device, .old_number = number, .fresh = -1};

    return swap_all(&swap);
}

int session_refresh_reader(struct session *session)
{
    struct swap swap = {.session = session,
                        .old_device = session->buffer_device,
                        .old_number = session->buffer_number,
                        .fresh = -1};
    int old_buffer = session->buffer;
    struct stat inode;
    int error;

    error = sys_fstat(session->inode, &inode);
    if (error == 0)
        error = make_buffer(session, O_RDONLY, &inode, 0, -1);
    if (error != 0)
        return error;
    error = swap_all(&swap);
    (void)sys_close(old_buffer);
    return error;
}

static unsigned initial_flags(bool stray, int flags, bool created)
{
    unsigned result = stray ? SESSION_STRAY : 0u;

    if (descriptor_wants_writing(flags))
        result |= SESSION_WRITABLE | (flags & O_APPEND ? SESSION_APPEND : 0u);
    if (created)
        result |= SESSION_CREATED;
    if (descriptor_wants_writing(flags) && session_config->isolation == CONFIG_SESSION)
        result |= SESSION_LOCKED;
    return result;
}

/* Commits a file that this process has closed but still maps before it is opened again, so that the
 * new descriptor sees the mapping's writes. */
static int sync_if_only_mapped(struct session *session, void *context)
{
    const struct stat *inode = context;
    ino_t buffer_number = SESSION_GET(session->buffer_number);

    if (SESSION_GET(session->closed_here) && (SESSION_GET(session->flags) & SESSION_WRITABLE) &&
        SESSION_GET(session->device) == inode->st_dev && SESSION_GET(session->number) == inode->st_ino &&
        descriptor_for_each(session_has_descriptor, session) == 0 && session_is_mapped(session))
        (void)session_sync(session, buffer_number);
    return 0;
}

static unsigned opens_made; /* atomic */

/* Fills a claimed slot, or a stray session. The private descriptors are not open yet. */
static void fill_slot(struct session *session, int inode, const struct stat *status, unsigned session_flags)
{
    SESSION_SET(session->buffer_number, 0);
    session_set_inode(session, status->st_dev, status->st_ino);
    SESSION_SET(session->buffer, -1);
    SESSION_SET(session->inode, inode);
    SESSION_SET(session->flags, session_flags);
    session_reset(session);
    SESSION_SET(session->writer_thread, session->flags & SESSION_WRITABLE ? session_this_thread() : 0);
    SESSION_SET(session->order, __atomic_add_fetch(&opens_made, 1, __ATOMIC_RELAXED));
    if (session_flags & SESSION_STRAY) {
        session->committer = 0;
        session->commit_again = 0;
    }
}

/* Keeps other processes out as long as this session lasts, if ATOMSHIM_ISOLATION says so; else
 * waits for a process that has claimed the file. */
static int exclude_others(const struct session *session, int flags)
{
    if (session->flags & SESSION_LOCKED)
        return filelock_keep(session->inode, session_config->lock_timeout);
    if ((session->flags & (SESSION_WRITABLE | SESSION_APPEND | SESSION_CREATED)) == SESSION_WRITABLE &&
        (flags & O_TRUNC) == 0)
        return session_wait_for_claim(session);
    return 0;
}

/*
 * Makes the private descriptors of a slot that fill_slot() has filled. `flags` are those of
 * open(2), `status` is the real inode's. `stays`: the inode's descriptor keeps its number. Else the
 * close of the first number, which drops POSIX locks that another thread may be taking meanwhile,
 * is not put off behind a load.
 */
static int open_session(struct session *session, int flags, const struct stat *status, bool stays)
{
    int spare = stays ? -1 : session->inode;
    int inode = exclude_others(session, flags);

    if (inode == 0) {
        descriptor_mark_inode(session->inode);
        inode = stays ? session->inode : descriptor_copy_private(session->inode);
    }
    if (inode < 0)
        return inode;
    SESSION_SET(session->inode, inode);
    if ((flags & O_TRUNC) == 0) {
        descriptor_close_if_open(spare);
        spare = -1;
    }
    if (session->flags & SESSION_WRITABLE)
        descriptor_set_opener(inode, session_process(session));
    if (session_take_snapshot(session, status))
        return 0;
    return make_buffer(session, flags, status, session_config->lock_timeout, spare);
}

int session_begin(int inode, const struct stat *known, int flags, enum session_origin origin,
                  struct session_found *found)
{
    struct session *session = &found->stray;
    struct stat status;
    bool stays;
    int error = 0;

    if (known != NULL)
        status = *known;
    else
        error = sys_fstat(inode, &status);

    stays =
        origin == SESSION_COPIED || (error == 0 && session_must_stay(inode, status.st_dev, status.st_ino));
    if (error == 0 && session_table_is_ours()) {
        if (session_on(status.st_dev, status.st_ino) != NULL)
            (void)session_for_each(sync_if_only_mapped, &status);
        session = session_take_slot();
        error = session == NULL ? -ENFILE : 0;
    }
    if (error != 0) {
        (void)sys_close(inode);
        return error;
    }
    if (origin != SESSION_NEW) /* a new file has no guardian */
        (void)rendezvous_wait(inode, status.st_dev, status.st_ino, session_config->lock_timeout);
    fill_slot(session, inode, &status, initial_flags(session == &found->stray, flags, origin == SESSION_NEW));
    error = open_session(session, flags, &status, stays);
    if (error == 0) {
        found->session = session;
        found->buffer_number = session->buffer_number;
    } else
        session_drop(session);
    return error;
}

/* Gives the program's description, which is open already, the lowest free number. */
static int take_early(struct session *session, bool close_on_exec)
{
    int early = __atomic_exchange_n(&session->early, -1, __ATOMIC_ACQ_REL);
    int fd = (int)sys_fcntl(early, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);

    if (fd >= 0 && fd < early) {
        (void)sys_close(early);
        return fd;
    }
    descriptor_close_if_open(fd);
    (void)sys_fcntl(early, F_SETFD, close_on_exec ? FD_CLOEXEC : 0);
    return early;
}

int session_open_descriptor(struct session *session, int flags)
{
    char path[PROC_PATH_SIZE];
    int fd = -ENOENT;

    if (session->early < 0)
        fd = sys_openat(AT_FDCWD, descriptor_path(path, session->buffer),
                        flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_NOCTTY | O_DIRECT), 0);
    /* the process may have changed its rights, or its root, since it kept the snapshot */
    if (session->is_snapshot && (fd == -EACCES || buffer_is_proc_missing(fd)) &&
        session_refresh_reader(session) == 0)
        return session_open_descriptor(session, flags);
    return session->early >= 0 ? take_early(session, (flags & O_CLOEXEC) != 0) : fd;
}

int session_hand_out(struct session *session, int flags)
{
    int fd = session_open_descriptor(session, flags);

    if (fd < 0)
        session_drop(session);
    else
        session_publish(session);
    return fd;
}
