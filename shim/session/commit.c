/* What a commit of a session is: decide whether anything changed, merge appends. */
#include "session/internal.h"

#include "format/crc32c.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/scratch.h"
#include "os/signals.h"
#include "session/buffer.h"
#include "store/filelock.h"
#include "store/store.h"

#include <errno.h>
#include <limits.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/file.h>

/* The bytes of a buffer, either mapped or copied. */
struct view {
    void *bytes;
    uint64_t size;
    bool mapped;
    struct scratch scratch;
};

/* Small images are copied: into a warm buffer that is cheaper than a mapping. So are those that somebody may
 * change while they are read: their CRC must hold for what is written. */
static int view_open(struct view *view, int buffer, uint64_t size, bool exclusive)
{
    int error;

    *view = (struct view){.size = size, .mapped = exclusive && size > SCRATCH_CHUNK};
    if (view->mapped) {
        view->bytes = sys_mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, buffer, 0);
        return sys_is_error(view->bytes) ? -ENOMEM : 0;
    }
    error = scratch_take(&view->scratch, size);
    if (error != 0)
        return error;
    view->bytes = view->scratch.bytes;

    ssize_t n = store_read_at(buffer, view->bytes, size, 0);
    if (n < 0) {
        scratch_give(&view->scratch);
        return (int)n;
    }
    view->size = (uint64_t)n; /* cut by another thread meanwhile: a commit of what there is now */
    return 0;
}

static void view_close(struct view *view)
{
    if (view->mapped)
        (void)sys_munmap(view->bytes, view->size);
    else
        scratch_give(&view->scratch);
}

/* Is the live payload still the one that this session began with? */
static int live_is_base(const struct session *session, struct session_base base, struct store_wait wait,
                        bool *same)
{
    struct store_image live;
    int error = store_look(session->inode, wait, &live);

    if (error == 0 && live.kind == STORE_PLAIN && live.size == base.size)
        error = store_load(session->inode, -1, wait, &live);
    if (error == 0)
        session_tell_edits(session, &live);
    *same = error == 0 && live.size == base.size && live.payload_crc == base.crc;
    return error;
}

/* Somebody committed since: what was appended goes to the end of what is live now. */
static int commit_merged(const struct session *session, const struct view *view, struct session_base base)
{
    uint64_t tail = view->size - base.size;
    struct store_image live;
    struct store_payload payload;
    struct view merged;
    ssize_t n;
    int buffer = DESCRIPTOR_INSIST(buffer_scratch(session_config->rescue_dir));
    int error;

    if (buffer < 0)
        return buffer;
    error = store_load(session->inode, buffer, (struct store_wait){.locked = true}, &live);
    for (uint64_t done = 0; error == 0 && done < tail; done += (uint64_t)n) {
        n = sys_pwrite(buffer, (char *)view->bytes + base.size + done, tail - done, live.size + done);
        if (n <= 0)
            error = n < 0 ? (int)n : -ENOSPC;
    }
    if (error == 0)
        error = view_open(&merged, buffer, live.size + tail, true);
    (void)sys_close(buffer);
    if (error != 0)
        return error;
    payload = (struct store_payload){merged.bytes, merged.size, crc32c_mixed(0, merged.bytes, merged.size)};
    error = session_store(session, &payload);
    view_close(&merged);
    return error;
}

/* A checksum tells that two contents differ, and not that they are one: does the live payload begin with these bytes? */
static int live_begins_with(const struct session *session, struct store_wait wait, const char *bytes,
                            uint64_t size, bool *same)
{
    struct store_image live;
    struct scratch scratch;
    int error = store_look(session->inode, wait, &live);

    *same = error == 0 && live.size >= size;
    if (!*same)
        return error;
    error = scratch_take(&scratch, SCRATCH_CHUNK);
    for (uint64_t done = 0; error == 0 && *same && done < size;) {
        size_t chunk = size - done < SCRATCH_CHUNK ? (size_t)(size - done) : SCRATCH_CHUNK;
        ssize_t n = store_read_at(session->inode, scratch.bytes, chunk,
                                  (live.kind == STORE_PLAIN ? 0 : live.place + IMAGE_HEADER_SIZE) + done);

        error = n < 0 ? (int)n : 0;
        *same = n == (ssize_t)chunk && memcmp(scratch.bytes, bytes + done, chunk) == 0;
        done += chunk;
    }
    scratch_give(&scratch);
    return error;
}

/*
 * The header of the live image says what it said at the open, and these bytes were read then. *same is false if the live bytes are
 * others all the same, with an equal checksum; those of a damaged image are not, and do not count.
 */
static int check_same(const struct session *session, struct store_wait wait, const char *bytes,
                      struct session_base base, bool *same)
{
    struct store_image live;
    int error = live_begins_with(session, wait, bytes, base.size, same);

    if (error != 0 || *same)
        return error;
    error = store_load(session->inode, -1, wait, &live);
    *same = error == 0 && (live.size != base.size || live.payload_crc != base.crc);
    return error;
}

/* Under the lock. Somebody else's commit is merged with what was appended, or else overwritten, which the log tells. */
static int store(const struct session *session, const struct view *view, uint32_t crc,
                 struct session_base base)
{
    const struct store_wait wait = {.locked = true};
    struct store_payload payload = {view->bytes, view->size, crc};
    bool same = true;
    int error = 0;
    /* O_APPEND is a promise about the end of the file, as long as the bytes before are as they were */
    bool appended = base.append && !base.force && view->size > base.size &&
                    crc32c_mixed(0, view->bytes, base.size) == base.crc;

    if (!base.force)
        error = live_is_base(session, base, wait, &same);
    if (error == 0 && same && appended)
        error = check_same(session, wait, view->bytes, base, &same);
    if (error != 0)
        return error;
    if (!same && appended)
        return commit_merged(session, view, base);
    if (!same)
        session_tell(
            session, LOG_WARN,
            "it was changed by another program since it was opened here: that change is overwritten");
    return session_store(session, &payload);
}

/*
 * The time of the last write is the file's, as without the shim, and not that of the commit; a time that the program set itself
 * (cp -p, touch) is one as well: the interposed calls set it on both inodes. What the commit reads is no access.
 */
static void carry_times(const struct session *session, const struct stat *buffer, const struct stat *inode)
{
    struct timespec times[2] = {inode->st_atim};

    if (!session_was_written(session, buffer, &times[1]))
        times[1].tv_nsec = UTIME_OMIT;
    (void)sys_utimensat(session->inode, NULL, times, 0);
}

/* Nothing changed but the time: what was written is what was there. */
static void carry_newer_time(const struct session *session, const struct stat *buffer)
{
    struct timespec written;
    struct stat inode;

    if (session_was_written(session, buffer, &written) && sys_fstat(session->inode, &inode) == 0 &&
        (written.tv_sec > inode.st_mtim.tv_sec ||
         (written.tv_sec == inode.st_mtim.tv_sec && written.tv_nsec > inode.st_mtim.tv_nsec)))
        carry_times(session, buffer, &inode);
}

/* What a write takes from a file: set-id bits and capabilities. */
struct privileges {
    mode_t set_id;
    ssize_t size;          /* of the capabilities; there are none unless it is positive */
    char capabilities[64]; /* struct vfs_ns_cap_data, and more */
};

/* Those that the program set after its last write outlive the commit, like times. To be called when the bytes that are
 * committed were read: a write since then takes them from the buffer. */
static void privileges_look(const struct session *session, struct privileges *set)
{
    struct stat buffer;
    struct stat inode;

    set->set_id = 0;
    if (sys_fstat(session->buffer, &buffer) == 0 && (buffer.st_mode & S_ISUID) &&
        sys_fstat(session->inode, &inode) == 0)
        set->set_id = inode.st_mode & (S_ISUID | S_ISGID);
    set->size = sys_fgetxattr(session->buffer, XATTR_NAME_CAPS, NULL, 0);
    if (set->size > 0)
        set->size =
            sys_fgetxattr(session->inode, XATTR_NAME_CAPS, set->capabilities, sizeof set->capabilities);
}

static void privileges_restore(const struct session *session, const struct privileges *set)
{
    struct stat inode;

    if (set->set_id != 0 && sys_fstat(session->inode, &inode) == 0 && (set->set_id & ~inode.st_mode) != 0)
        (void)sys_fchmod(session->inode, (inode.st_mode & 07777) | set->set_id);
    if (set->size > 0)
        (void)sys_fsetxattr(session->inode, XATTR_NAME_CAPS, set->capabilities, (size_t)set->size,
                            XATTR_CREATE);
}

/* A file that the session created must still have its name after a power cut. */
static void sync_directory(const struct session *session)
{
    struct scratch scratch;
    char *slash;
    int directory;

    if (scratch_take(&scratch, PATH_MAX) != 0)
        return;
    (void)session_path(session, scratch.bytes, PATH_MAX);
    slash = strrchr(scratch.bytes, '/');
    if (slash != NULL) {
        slash[slash == (char *)scratch.bytes] = '\0';
        directory =
            DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, scratch.bytes, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
        if ((directory < 0 || sys_fsync(directory) != 0) && sys_fsync(session->inode) != 0)
            log_line(LOG_WARN,
                     "%s: this directory could not be synced: a power cut may take the new file's name",
                     (char *)scratch.bytes);
        if (directory >= 0)
            (void)sys_close(directory);
    } else
        (void)sys_fsync(
            session->inode); /* the name of a new file goes with it on the file systems that we know */
    scratch_give(&scratch);
}

/* Without a look at more than there is: the program may have a file of holes open, and not have touched it. */
static bool is_unchanged(const struct session *session, struct session_base base, uint64_t size)
{
    uint32_t crc;

    return !base.force && size == base.size && store_sum(session->buffer, size, &crc) == 0 && crc == base.crc;
}

/* The same of bytes that were read, whose checksum is known. Where another program has committed since, nobody can tell. */
static bool is_view_unchanged(const struct session *session, struct session_base base,
                              const struct view *view, uint32_t crc)
{
    const struct store_wait wait = {.timeout = 0};
    bool same;

    if (base.force || view->size != base.size || crc != base.crc)
        return false;
    if (live_begins_with(session, wait, view->bytes, view->size, &same) != 0 || same)
        return true;
    return live_is_base(session, base, wait, &same) != 0 || !same;
}

/* An empty file that was truncated: whoever holds a lock on it need not be waited for. */
static bool is_empty_already(const struct session *session, const struct view *view)
{
    struct store_image live;

    return view->size == 0 && !(session->flags & SESSION_CREATED) &&
           store_look(session->inode, (struct store_wait){.timeout = 0}, &live) == 0 && live.size == 0 &&
           !live.edited && !live.resized;
}

/* With the other committers of this session kept out. */
static int commit_alone(struct session *session, bool exclusive)
{
    struct session_base base = session_get_base(session);
    struct privileges privileges;
    struct timespec written;
    struct stat buffer;
    struct stat inode;
    struct view view;
    uint32_t crc;
    struct filelock lock;
    int error = sys_fstat(session->buffer, &buffer);

    if (error == 0)
        error = sys_fstat(session->inode, &inode); /* before anything is read, which moves a time */
    if (error == 0 && buffer.st_size > (off_t)SCRATCH_CHUNK &&
        !session_was_written(session, &buffer, &written) &&
        is_unchanged(session, base, (uint64_t)buffer.st_size))
        return 0;
    if (error == 0)
        error = view_open(&view, session->buffer, (uint64_t)buffer.st_size, exclusive);
    if (error != 0) {
        session_report(session, NULL, 0, error);
        return error;
    }
    crc = crc32c_mixed(0, view.bytes, view.size);
    if (is_view_unchanged(session, base, &view, crc)) {
        carry_newer_time(session, &buffer);
        goto out;
    }
    if (is_empty_already(session, &view)) {
        carry_times(session, &buffer, &inode);
        session_set_base(session, (struct session_base){.size = 0, .crc = crc});
        goto out;
    }

    if (!(session->flags & SESSION_LOCKED))
        error = filelock_acquire(&lock, session->inode, F_WRLCK, session_config->lock_timeout);
    if (error == 0) {
        privileges_look(session, &privileges);
        error = store(session, &view, crc, base);
        privileges_restore(session, &privileges);
        if (error == 0)
            carry_times(session, &buffer, &inode);
        if (!(session->flags & SESSION_LOCKED))
            filelock_release(&lock);
    }
    /* a failure at the end was reported: no other process that has the session is to try again */
    if (error == 0 || exclusive)
        session_set_base(session, (struct session_base){.size = view.size, .crc = crc});
    if (error == 0) {
        if ((session->flags & SESSION_CREATED) && !session->linked && session_config->sync)
            sync_directory(session);
        session->linked = true;
        session_tell_nameless(session);
    } else
        session_report(session, view.bytes, view.size, error);
out:
    view_close(&view);
    return error;
}

/* Writes what `from` holds over the session's buffer. */
static int replace_buffer(const struct session *session, int from, const struct store_image *image)
{
    struct view view;
    int error = view_open(&view, from, image->size, true);

    if (error != 0)
        return error;
    for (uint64_t done = 0; error == 0 && done < view.size;) {
        ssize_t n = sys_pwrite(session->buffer, (char *)view.bytes + done, view.size - done, done);

        if (n > 0)
            done += (uint64_t)n;
        else if (n != -EINTR)
            error = n < 0 ? (int)n : -ENOSPC;
    }
    if (error == 0)
        error = sys_ftruncate(session->buffer, view.size);
    session_set_unwritten(session->buffer);
    view_close(&view);
    if (error == 0)
        session_set_base(session, (struct session_base){.size = image->size, .crc = image->payload_crc});
    return error;
}

static int reload_alone(struct session *session)
{
    struct session_base base = session_get_base(session);
    struct store_wait wait = {.timeout = session_config->lock_timeout};
    struct store_image image;
    struct stat status;
    bool same;
    int buffer;
    int error = live_is_base(session, base, wait, &same);

    if (error != 0 || same)
        return error;
    if ((sys_fcntl(session->buffer, F_GETFL, 0) & O_ACCMODE) == O_RDONLY)
        return session_refresh_reader(session);
    error = sys_fstat(session->buffer, &status);
    if (error != 0 || !is_unchanged(session, base, (uint64_t)status.st_size))
        return error;
    /* not straight into the session's buffer: a load that fails leaves nothing of use */
    buffer = DESCRIPTOR_INSIST(buffer_scratch(session_config->rescue_dir));
    if (buffer < 0)
        return buffer;
    error = store_load(session->inode, buffer, wait, &image);
    if (error == 0)
        error = replace_buffer(session, buffer, &image);
    (void)sys_close(buffer);
    return error;
}

/*
 * Processes that share the session by fork share its descriptions, and its lock: only a flock() on a fresh description
 * of the buffer keeps their commits apart. With no number left for that only an `exclusive` commit goes on: the others
 * have the same to commit then. Where /proc is not mounted (any more), or this user is not the one who opened the file, a lock of
 * this process has to do, which is lost when another thread closes a descriptor of the buffer meanwhile.
 */
static bool is_refused(int commit_lock)
{
    return buffer_is_proc_missing(commit_lock) || commit_lock == -EACCES;
}

static int keep_others_out(struct session *session, bool exclusive)
{
    char path[PROC_PATH_SIZE];
    int commit_lock = DESCRIPTOR_INSIST(
        sys_openat(AT_FDCWD, descriptor_path(path, session->buffer), O_RDONLY | O_CLOEXEC, 0));

    SESSION_SET(session->commit_lock, commit_lock);
    if (is_refused(commit_lock))
        return session->flags & SESSION_WRITABLE
                   ? filelock_commit_lock_process(session->buffer, session_config->lock_timeout)
                   : 0;
    if (commit_lock < 0)
        return !exclusive && (commit_lock == -EMFILE || commit_lock == -ENFILE) ? commit_lock : 0;
    return filelock_commit_lock(commit_lock, session_config->lock_timeout);
}

static void let_others_in(struct session *session)
{
    int commit_lock = SESSION_GET(session->commit_lock);

    if (is_refused(commit_lock) && (session->flags & SESSION_WRITABLE))
        filelock_commit_unlock_process(session->buffer);
    SESSION_SET(session->commit_lock, -1);
    if (commit_lock < 0)
        return;
    (void)sys_flock(commit_lock, LOCK_UN); /* a child forked meanwhile has the description, too */
    (void)sys_close(commit_lock);
}

int session_commit(struct session *session, bool exclusive)
{
    /* the program's writes into memory were within RLIMIT_FSIZE; that the file is longer is our doing */
    struct signals_held held = signals_hold(SIGXFSZ);
    int error = keep_others_out(session, exclusive);

    if (error == 0)
        error = commit_alone(session, exclusive);
    else
        session_report(session, NULL, 0, error);
    let_others_in(session);
    signals_release(&held);
    return error;
}

int session_refresh_locked(struct session *session)
{
    int error = keep_others_out(session, false);

    if (error == 0)
        error = reload_alone(session);
    let_others_in(session);
    return error;
}
