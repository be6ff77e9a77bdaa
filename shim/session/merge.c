/*
 * Merges the writes of two programs at the same time. If the program appends, its bytes go behind
 * the live content. If it locks ranges of the file (interpose/lock.c), the session keeps its first
 * content: a byte of the buffer that differs from it is the program's, every other byte comes from
 * the live content.
 */
#include "session/internal.h"

#include "format/crc32c.h"
#include "os/descriptor.h"
#include "session/buffer.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

enum { CHUNK = 1 << 16 };

/* Commits the first `size` bytes of `file`, and closes it. */
static int commit_file(const struct session *session, int file, uint64_t size)
{
    struct store_payload payload;
    struct stat inode;
    struct view view;
    int error = sys_fstat(session->inode, &inode);

    if (error == 0)
        error = view_open(&view, file, size, true);
    (void)sys_close(file);
    if (error != 0)
        return error;
    payload = (struct store_payload){view.bytes, view.size, crc32c_mixed(0, view.bytes, view.size)};
    error = session_store(session, &inode, &payload, NULL);
    view_close(&view);
    return error;
}

int session_commit_appended(const struct session *session, const struct view *view, struct session_base base)
{
    const struct store_wait wait = {.locked = true};
    uint64_t tail = view->size - base.size;
    struct store_image live;
    int file = DESCRIPTOR_INSIST(buffer_scratch(session_config->rescue_dir));
    int error;

    if (file < 0)
        return file;
    error = store_load(session->inode, file, wait, &live);
    if (error == 0)
        error = store_write_target(file, (char *)view->bytes + base.size, tail, live.size);
    if (error == 0)
        return commit_file(session, file, live.size + tail);
    (void)sys_close(file);
    return error;
}

/* ---- the session's first content ---- */

static bool is_kept(const struct session *session)
{
    int kept = SESSION_GET(session->kept);
    struct stat status;

    /* the program may have closed the number, and opened something there */
    return kept >= 0 && sys_fstat(kept, &status) == 0 && status.st_ino == session->kept_number &&
           status.st_nlink == 0 && descriptor_is_private(kept);
}

void session_forget_kept(struct session *session)
{
    if (is_kept(session))
        (void)sys_close(session->kept);
    SESSION_SET(session->kept, -1);
}

bool session_has_kept(const struct session *session, struct session_base base)
{
    return !base.force && is_kept(session) && session->kept_size == base.size &&
           session->kept_crc == base.crc;
}

void session_set_kept(struct session *session, int file, struct session_base base)
{
    struct stat status;
    int kept;

    session_forget_kept(session);
    descriptor_mark_inode(file); /* its number is private, but it is no buffer of a session */
    kept = sys_fstat(file, &status) == 0 ? descriptor_make_private(file) : -1;
    if (kept < 0) {
        (void)sys_close(file);
        return;
    }
    (void)sys_fcntl(kept, F_SETFD, FD_CLOEXEC);
    session->kept_number = status.st_ino;
    session->kept_size = base.size;
    session->kept_crc = base.crc;
    SESSION_SET(session->kept, kept);
}

static int write_view(int file, const struct view *view)
{
    int error = sys_ftruncate(file, view->size);

    return error == 0 ? store_write_target(file, view->bytes, view->size, 0) : error;
}

void session_keep_view(struct session *session, const struct view *view, uint32_t crc)
{
    if (!is_kept(session))
        return;
    session->kept_size = view->size;
    session->kept_crc = crc;
    if (write_view(session->kept, view) != 0)
        session_forget_kept(session);
}

/* Fills `file` with the session's first content: the live content, if that has not changed, or the
 * buffer's. Returns 1, 0 if neither is the first content any more, or a negative errno. */
static int find_base(const struct session *session, struct session_base base, int file)
{
    const struct store_wait wait = {.timeout = 0};
    struct store_image live;
    struct view view;
    int error = store_load(session->inode, file, wait, &live);

    if (error == 0 && live.size == base.size && live.payload_crc == base.crc)
        return 1;
    error = view_open(&view, session->buffer, base.size, false);
    if (error != 0)
        return error;
    if (view.size == base.size && crc32c_mixed(0, view.bytes, view.size) == base.crc)
        error = write_view(file, &view);
    else
        error = -ENODATA;
    view_close(&view);
    return error == -ENODATA ? 0 : error == 0 ? 1 : error;
}

int session_try_keep(struct session *session, const struct filelock_patience *patience)
{
    struct session_base base = session_get_base(session);
    int file;
    int found;

    (void)patience;
    if (base.force || session_has_kept(session, base))
        return 0;
    file = DESCRIPTOR_INSIST(buffer_scratch(session_config->rescue_dir));
    if (file < 0)
        return file;
    found = find_base(session, base, file);
    if (found == 1)
        session_set_kept(session, file, base);
    else
        (void)sys_close(file);
    return found < 0 ? found : 0; /* 0: the commit will say that it overwrites the live content */
}

/* ---- byte by byte ---- */

/* Writes the bytes that differ from `other`. */
static int write_changes(int file, const char *bytes, const char *other, size_t size, uint64_t offset)
{
    int error = 0;

    for (size_t start = 0, end; error == 0 && start < size; start = end) {
        for (end = start; end < size && bytes[end] == other[end];)
            end++;
        start = end;
        while (end < size && bytes[end] != other[end])
            end++;
        if (start < end)
            error = store_write_target(file, bytes + start, end - start, offset + start);
    }
    return error;
}

/* Reads the bytes of a file at an offset; behind its end they are zeros. */
static int read_chunk(int file, char *bytes, uint64_t offset)
{
    ssize_t n = store_read_at(file, bytes, CHUNK, offset);

    if (n < 0)
        return (int)n;
    memset(bytes + n, 0, CHUNK - (size_t)n);
    return 0;
}

struct chunks {
    char ours[CHUNK];
    char base[CHUNK];
    char live[CHUNK];
    char merged[CHUNK];
};

/* Returns true if both sides changed a byte, and not to the same: ours is taken. */
static bool merge_chunk(struct chunks *chunks)
{
    bool conflict = false;

    for (size_t i = 0; i < CHUNK; i++) {
        bool mine = chunks->ours[i] != chunks->base[i];

        conflict |= mine && chunks->live[i] != chunks->base[i] && chunks->live[i] != chunks->ours[i];
        chunks->merged[i] = mine ? chunks->ours[i] : chunks->live[i];
    }
    return conflict;
}

int session_merge(const struct session *session, struct session_merge *merge, int target)
{
    struct session_base base = session_get_base(session);
    uint64_t end = merge->ours_size > merge->live_size ? merge->ours_size : merge->live_size;
    struct scratch scratch;
    struct chunks *chunks;
    int error = scratch_take(&scratch, sizeof *chunks);

    chunks = scratch.bytes;
    merge->size = merge->ours_size == base.size   ? merge->live_size
                  : merge->live_size == base.size ? merge->ours_size
                                                  : end;
    merge->conflict = false;
    for (uint64_t offset = 0; error == 0 && offset < end; offset += CHUNK) {
        size_t size = end - offset < CHUNK ? (size_t)(end - offset) : CHUNK;

        error = read_chunk(session->buffer, chunks->ours, offset);
        if (error == 0)
            error = read_chunk(session->kept, chunks->base, offset);
        if (error == 0)
            error = read_chunk(merge->live, chunks->live, offset);
        if (error == 0) {
            merge->conflict |= merge_chunk(chunks);
            error = write_changes(target, chunks->merged, target == merge->live ? chunks->live : chunks->ours,
                                  size, offset);
        }
    }
    if (error == 0)
        error = sys_ftruncate(target, merge->size);
    scratch_give(&scratch);
    return error;
}

int session_commit_merged(const struct session *session, bool *conflict)
{
    const struct store_wait wait = {.locked = true};
    struct session_merge merge = {.live = DESCRIPTOR_INSIST(buffer_scratch(session_config->rescue_dir))};
    struct store_image live;
    struct stat status;
    int error;

    if (merge.live < 0)
        return merge.live;
    error = store_load(session->inode, merge.live, wait, &live);
    if (error == 0)
        error = sys_fstat(session->buffer, &status);
    if (error == 0) {
        merge.live_size = live.size;
        merge.ours_size = (uint64_t)status.st_size;
        error = session_merge(session, &merge, merge.live);
        *conflict = merge.conflict;
    }
    if (error == 0)
        return commit_file(session, merge.live, merge.size);
    (void)sys_close(merge.live);
    return error;
}
