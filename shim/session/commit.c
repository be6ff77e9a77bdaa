/* Commits a session: decides whether anything changed, merges appends, stores the image. */
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
#include <string.h>

/* Tells whether the live payload is still the one that this session began with. */
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

/* Tells whether the live payload begins with these bytes: equal checksums do not prove equal
 * contents. */
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
 * Called if the header of the live image is the same as at the open, where these bytes were read.
 * Sets *same to false if the live bytes differ in spite of an equal checksum; a damaged image
 * counts as the same.
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

/* The state of one attempt at a commit. */
struct commit {
    struct session *session;
    const struct filelock_patience *patience;
    bool exclusive; /* no program can change the buffer meanwhile */
    bool locked;    /* `lock` is held */
    struct filelock lock;
    struct session_base base;
    struct stat buffer;
    struct stat inode; /* before a read, which moves the access time */
    struct view view;
    uint32_t crc;           /* the checksum of the view */
    struct store_left left; /* the file as the commit has left it */
};

/* Called under the lock if others have committed since. Merges their bytes with ours if the session
 * keeps its first content; else ours replace them, which the log tells. */
static int store_over_others(struct commit *commit, const struct store_payload *payload)
{
    const struct session *session = commit->session;
    bool overwritten = true;
    bool is_merged = session_has_kept(session, commit->base);
    int error = is_merged ? session_commit_merged(session, &overwritten) : 0;

    if (error == 0 && overwritten)
        session_tell(
            session, LOG_WARN,
            "it was changed by another program since it was opened here: that change is overwritten");
    return is_merged ? error : session_store(session, &commit->inode, payload, &commit->left);
}

/* Called under the lock: merges another process's commit with the bytes that were appended. */
static int store_view(struct commit *commit)
{
    const struct session *session = commit->session;
    const struct view *view = &commit->view;
    const struct session_base base = commit->base;
    const struct store_wait wait = {.locked = true};
    const struct store_payload payload = {view->bytes, view->size, commit->crc};
    bool same = true;
    int error = 0;
    /* O_APPEND is a promise about the end of the file, as long as the bytes before are the same */
    bool appended = base.append && !base.force && view->size > base.size &&
                    crc32c_mixed(0, view->bytes, base.size) == base.crc;

    if (!base.force)
        error = live_is_base(session, base, wait, &same);
    if (error == 0 && same && appended)
        error = check_same(session, wait, view->bytes, base, &same);
    if (error != 0)
        return error;
    if (!same && appended)
        return session_commit_appended(session, view, base);
    if (!base.force && !session_may_commit(session, same)) {
        session_tell(
            session, LOG_ERROR,
            same ? "another program has claimed it by fsync(), until it closes it"
                 : "it was changed by another program since it was opened here, and is not overwritten: "
                   "programs that share a file must lock it");
        return -EBUSY;
    }
    return same ? session_store(session, &commit->inode, &payload, &commit->left)
                : store_over_others(commit, &payload);
}

/* Syncs the folder: a file that the session created must keep its name after a power cut. */
static void sync_folder(const struct session *session)
{
    struct scratch scratch;
    char *slash;
    int folder;

    if (scratch_take(&scratch, PATH_MAX) != 0)
        return;
    (void)session_path(session, scratch.bytes, PATH_MAX);
    slash = strrchr(scratch.bytes, '/');
    if (slash != NULL) {
        slash[slash == (char *)scratch.bytes] = '\0';
        folder =
            DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, scratch.bytes, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
        if ((folder < 0 || sys_fsync(folder) != 0) && sys_fsync(session->inode) != 0)
            log_line(LOG_WARN,
                     "%s: fsync of this folder failed: a power cut may lose the name of the new file",
                     (char *)scratch.bytes);
        descriptor_close_if_open(folder);
    } else
        (void)sys_fsync(session->inode); /* known file systems sync a new name with its file */
    scratch_give(&scratch);
}

/* Looks at no more bytes than exist: the program may have a file of holes open, and not have
 * touched it. */
static bool is_unchanged(const struct session *session, struct session_base base, uint64_t size)
{
    uint32_t crc;

    return !base.force && size == base.size && store_sum(session->buffer, size, &crc) == 0 && crc == base.crc;
}

bool session_is_changed(const struct session *session)
{
    struct stat buffer;

    return sys_fstat(session->buffer, &buffer) != 0 ||
           !is_unchanged(session, session_get_base(session), (uint64_t)buffer.st_size);
}

/* Does the same for bytes that were read, whose checksum is known. Where another program has
 * committed since, there is no telling. */
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

/*
 * True if file and buffer are both empty: the commit changes nothing, and need not wait for a lock.
 */
static bool is_empty_already(const struct session *session, const struct view *view)
{
    struct store_image live;

    return view->size == 0 && !(session->flags & SESSION_CREATED) &&
           store_look(session->inode, (struct store_wait){.timeout = 0}, &live) == 0 && live.size == 0 &&
           !live.edited && !live.resized;
}

static int lock_inode(struct commit *commit)
{
    int error = 0;

    if (!commit->locked && !(commit->session->flags & SESSION_LOCKED)) {
        commit->lock.is_ranged = session_holds_other_lock(commit->session);
        commit->lock.is_masked = true;
        commit->lock.is_unlocked = !commit->session->locks && !session_may_be_shared(commit->session);
        error = filelock_try(&commit->lock, commit->session->inode, F_WRLCK, commit->patience);
        commit->locked = error == 0;
    }
    return error;
}

/* Completes the first commit of a new file: its name is on disk now, too. */
static void after_commit(struct session *session, const struct stat *inode)
{
    if ((session->flags & SESSION_CREATED) && !session->linked && session_config->sync)
        sync_folder(session);
    session->linked = true;
    session_tell_nameless(session, inode);
}

/* Calls store_view(), and logs a line where one is wanted. */
static int store_and_tell(struct commit *commit)
{
    const struct filelock_patience *patience = commit->patience;
    const bool tells = log_wants(LOG_INFO);
    const int64_t began = tells ? sys_now() : 0;
    int error = store_view(commit);

    if (error == 0 && tells)
        session_tell_commit(commit->session,
                            patience->deadline == 0 ? 0 : began - (patience->deadline - patience->timeout),
                            sys_now() - began);
    return error;
}

/* Behind a commit. Sets the inode's times, and commit->left.status to its status then. */
static void settle_times(struct commit *commit)
{
    const struct session *session = commit->session;
    struct stat *after = &commit->left.status;
    bool is_told = commit->left.image.generation != 0 && after->st_ino != 0;
    int error = is_told ? 0 : sys_fstat(session->inode, after);

    if (error != 0 || !commit->exclusive ||
        !session_has_right_times(session, &commit->buffer, &commit->inode, after)) {
        session_carry_times(session, &commit->buffer, &commit->inode);
        error = sys_fstat(session->inode, after);
    }
    if (error == 0)
        store_note_left(session->inode, &commit->left);
    else
        *after = commit->inode;
}

/* Commits the bytes in the view. */
static int commit_view(struct commit *commit)
{
    struct session *session = commit->session;
    struct session_privileges privileges;
    int error;

    if (is_view_unchanged(session, commit->base, &commit->view, commit->crc)) {
        /* a write of the same bytes takes them, too */
        if (SESSION_GET(session->has_privilege) || (commit->inode.st_mode & (S_ISUID | S_ISGID)) != 0)
            session_note_privileges(session, NULL, &commit->inode, &privileges);
        session_carry_newer_time(session, &commit->buffer);
        return 0;
    }
    if (is_empty_already(session, &commit->view) &&
        (!commit->base.force || sys_fstat(session->inode, &commit->inode) == 0)) {
        session_carry_times(session, &commit->buffer, &commit->inode);
        session_set_base(session, (struct session_base){.size = 0, .crc = commit->crc});
        return 0;
    }
    error = lock_inode(commit);
    if (error == 0 && commit->base.force) {
        error = sys_fstat(session->inode, &commit->inode);
        commit->left.status = commit->inode;
    }
    if (error != 0)
        return error;
    session_note_privileges(session, commit->exclusive ? &commit->buffer : NULL, &commit->inode, &privileges);
    error = store_and_tell(commit);
    session_restore_privileges(session->inode, &privileges);
    if (privileges.set_id != 0 || privileges.size > 0)
        commit->left.status.st_ino = 0;
    if (error != 0)
        return error;
    settle_times(commit);
    session_set_base(session, (struct session_base){.size = commit->view.size, .crc = commit->crc});
    session_keep_view(session, &commit->view, commit->crc);
    session_note_committed(session);
    after_commit(session, &commit->left.status);
    return 0;
}

/* Commits while the other committers of this session are kept out. */
static int commit_alone(struct commit *commit)
{
    struct session *session = commit->session;
    struct timespec written;
    int error = sys_fstat(session->buffer, &commit->buffer);

    commit->base = session_get_base(session);
    if (error == 0 && !commit->base.force)
        error = sys_fstat(session->inode, &commit->inode);
    if (error == 0 && commit->buffer.st_size > (off_t)SCRATCH_CHUNK &&
        !session_was_written(session, &commit->buffer, &written) &&
        is_unchanged(session, commit->base, (uint64_t)commit->buffer.st_size))
        return 0;
    /* a caller that has waited once does not read it all again for each attempt */
    if (error == 0 && commit->patience->deadline != 0)
        error = lock_inode(commit);
    if (error == 0 && buffer_is_beyond_memory(session->buffer, (uint64_t)commit->buffer.st_size))
        error = -ENOMEM;
    if (error == 0)
        error =
            view_open(&commit->view, session->buffer, (uint64_t)commit->buffer.st_size, commit->exclusive);
    if (error != 0)
        return error;
    commit->crc = crc32c_mixed(0, commit->view.bytes, commit->view.size);
    error = commit_view(commit);
    view_close(&commit->view);
    return error;
}

/* Writes the content of `from` over the session's buffer. */
static int replace_buffer(const struct session *session, int from, const struct store_image *image)
{
    struct view view;
    int error = view_open(&view, from, image->size, true);

    if (error != 0)
        return error;
    error = store_write_target(session->buffer, view.bytes, view.size, 0);
    if (error == 0)
        error = sys_ftruncate(session->buffer, view.size);
    session_set_unwritten(session->buffer);
    view_close(&view);
    if (error == 0)
        session_set_base(session, (struct session_base){.size = image->size, .crc = image->payload_crc});
    return error;
}

/* Called if another process has committed since, and the buffer has changes of its own: copies the
 * others' changes to it where it has none. */
static int merge_into_buffer(struct session *session, int file, const struct store_image *live, uint64_t size)
{
    struct session_merge merge = {.live = file, .live_size = live->size, .ours_size = size};
    int error = session_merge(session, &merge, session->buffer);

    if (error == 0)
        session_set_base(session, (struct session_base){.size = live->size, .crc = live->payload_crc});
    return error;
}

static int refresh_alone(struct session *session)
{
    const struct store_wait wait = {.timeout = 0};
    struct session_base base = session_get_base(session);
    struct store_image image;
    struct stat status;
    uint32_t crc;
    bool unchanged;
    bool same;
    int file;
    int error = live_is_base(session, base, wait, &same);

    if (error != 0 || same)
        return error;
    if ((sys_fcntl(session->buffer, F_GETFL, 0) & O_ACCMODE) == O_RDONLY)
        return session_refresh_reader(session);
    error = sys_fstat(session->buffer, &status);
    if (error != 0)
        return error;
    unchanged = !base.force && (uint64_t)status.st_size == base.size;
    if (unchanged) {
        error = store_sum(session->buffer, base.size, &crc);
        if (error != 0) /* the caller holds a lock, and counts on the content that is live now */
            return error;
        unchanged = crc == base.crc;
    }
    if (!unchanged && !session_has_kept(session, base))
        return 0;
    /* not into the session's buffer itself: a load that fails leaves nothing of use */
    file = DESCRIPTOR_INSIST(buffer_scratch(session_config->rescue_dir));
    if (file < 0)
        return file;
    error = store_load(session->inode, file, wait, &image);
    if (error == 0)
        error = unchanged ? replace_buffer(session, file, &image)
                          : merge_into_buffer(session, file, &image, (uint64_t)status.st_size);
    if (error == 0 && SESSION_GET(session->kept) >= 0)
        session_set_kept(session, file, session_get_base(session));
    else
        (void)sys_close(file);
    return error;
}

/* Called after a failure at the end was reported: no other process that has the session may try
 * again. */
static void give_up(struct session *session)
{
    struct stat buffer;
    uint32_t crc;

    if (sys_fstat(session->buffer, &buffer) == 0 &&
        store_sum(session->buffer, (uint64_t)buffer.st_size, &crc) == 0)
        session_set_base(session, (struct session_base){.size = (uint64_t)buffer.st_size, .crc = crc});
}

int session_try_commit(struct session *session, bool exclusive, const struct filelock_patience *patience)
{
    /* the program's writes into memory were within RLIMIT_FSIZE; our header makes the file
     * longer */
    struct signals_held held = signals_look(SIGXFSZ, patience->mask);
    struct commit commit = {.session = session, .patience = patience, .exclusive = exclusive};
    int error = session_keep_committers_out(session, exclusive);

    if (error == 0)
        error = commit_alone(&commit);
    if (error == 0)
        session_apply_mode(session);
    if (commit.locked)
        filelock_release(&commit.lock);
    if (error == -EAGAIN && filelock_is_patience_over(patience))
        error = -ETIMEDOUT;
    if (error != 0 && error != -EAGAIN) {
        session_report(session, error);
        if (exclusive)
            give_up(session);
    }
    session_let_committers_in(session, exclusive && error != -EAGAIN);
    signals_drop(&held);
    return error;
}

int session_commit(struct session *session, bool exclusive)
{
    struct filelock_patience patience = {.timeout = session_config->lock_timeout};
    const uint64_t all = ~UINT64_C(0);
    int error;

    do {
        (void)sys_sigprocmask(&all, &patience.mask);
        error = session_try_commit(session, exclusive, &patience);
        (void)sys_sigprocmask(&patience.mask, NULL);
    } while (error == -EAGAIN && (filelock_wait(&patience), true));
    return error;
}

int session_try_refresh(struct session *session, const struct filelock_patience *patience)
{
    int error = session_keep_committers_out(session, false);

    if (error == 0)
        error = refresh_alone(session);
    session_let_committers_in(session, false);
    if (error == -ETIMEDOUT) /* the store returned it: it was told not to wait */
        error = -EAGAIN;
    return error == -EAGAIN && filelock_is_patience_over(patience) ? -ETIMEDOUT : error;
}
