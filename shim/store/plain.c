/*
 * Commits to the plain format: for files that programs without the shim must read. The record
 * (record.h) of the file tells of the commit; tests/model/plain_model.py shows why no kill and no
 * power cut leaves a mixture:
 *
 *   set REDO; fsync; cut, and one pwrite over the old bytes; fdatasync; set IDLE
 */
#include "store/internal.h"

#include "format/crc32c.h"
#include "store/calls.h"
#include "store/journal.h"

#include <errno.h>
#include <string.h>

/* A commit, or the recovery of one. */
struct plain_commit {
    int inode;
    bool sync;
    uint64_t generation; /* the existing record's, then ours */
    uint32_t identity;
    uint64_t block;
    uint64_t file_size;
    struct scratch record; /* our record, encoded */
    struct journal journal;
    size_t record_size;
    struct scratch pieces; /* the old content, if it is kept, then pieces of the file */
    struct store_payload old;
    bool tidy;      /* there are journals to remove that no process needs any more */
    bool announced; /* there is a record of the write that is under way */
    bool has_redo;  /* and it protects the write */
};

/* An old content of at most so many bytes is kept, to be written back if the disk fails. ATTEMPTS:
 * at a commit during which a program without the lock cuts the file off. */
enum { KEPT_MAX = RECORD_SIZE_MAX, PIECE_SIZE = 1 << 17, ATTEMPTS = 4 };

/* A larger old content is not worth its sums, unless the new one is large, too. */
#define SUMMED_MAX ((uint64_t)64 << 20)

static int flush_data(const struct plain_commit *commit)
{
    return commit->sync ? (int)STORE_RETRY(store_calls.fdatasync(commit->inode)) : 0;
}

/* Flushes the attribute, too. */
static int flush_all(const struct plain_commit *commit)
{
    return commit->sync ? (int)STORE_RETRY(store_calls.fsync(commit->inode)) : 0;
}

static int set_attribute(const struct plain_commit *commit, const void *value, size_t size)
{
    return (int)STORE_RETRY(store_calls.fsetxattr(commit->inode, RECORD_NAME, value, size, 0));
}

/* Sets a record that is one line, or a line and the journal's folder. `other`: the size of the file
 * before. Returns 0 or a negative errno. */
static int set_line(const struct plain_commit *commit, enum record_word word,
                    const struct store_payload *content, uint64_t other)
{
    char bytes[RECORD_LINE_MAX + PATH_MAX];
    struct record record = {.word = word,
                            .generation = commit->generation,
                            .size = content->size,
                            .other = other,
                            .crc = content->crc,
                            .identity = commit->identity};
    size_t line = record_line_size(word);

    record.body = bytes + line;
    if (word == RECORD_FILE || word == RECORD_KEPT) {
        record.body_size = strlen(commit->journal.folder);
        memcpy(bytes + line, commit->journal.folder, record.body_size);
    } else if (word == RECORD_IDLE && commit->has_redo) { /* it overwrites REDO or BACK */
        size_t size = commit->record_size < RECORD_IDLE_MAX ? commit->record_size : RECORD_IDLE_MAX;

        record.body_size = size - line;
        memset(bytes + line, ' ', record.body_size);
    }
    return record_encode(bytes, &record) != 0 ? set_attribute(commit, bytes, line + record.body_size)
                                              : -EFBIG;
}

/* Notes that the file's bytes are the content: no commit is under way any more. */
static int set_idle(const struct plain_commit *commit, const struct store_payload *content)
{
    return set_line(commit, commit->journal.fd >= 0 ? RECORD_KEPT : RECORD_IDLE, content, 0);
}

/* Makes `payload` the file's bytes, on disk with sync. */
static int apply_payload(const struct plain_commit *commit, const struct store_payload *payload)
{
    int error = store_overwrite(commit->inode, payload, commit->file_size);

    return error == 0 ? flush_data(commit) : error;
}

static int look_at_size(struct plain_commit *commit)
{
    struct stat status;
    int error = (int)STORE_RETRY(store_calls.fstat(commit->inode, &status));

    commit->file_size = error == 0 ? (uint64_t)status.st_size : 0;
    return error;
}

/* ---- the record of a commit ---- */

/* Keeps the old content, if it is small. Returns 0, or a negative errno. */
static int keep_old(struct plain_commit *commit)
{
    ssize_t n;

    commit->old = (struct store_payload){.bytes = NULL};
    if (commit->file_size > KEPT_MAX)
        return 0;
    n = store_read_at(commit->inode, commit->pieces.bytes, (size_t)commit->file_size, 0);
    if (n != (ssize_t)commit->file_size)
        return n < 0 ? (int)n : -EAGAIN;
    commit->old = (struct store_payload){.bytes = commit->pieces.bytes, .size = commit->file_size};
    return 0;
}

/* Sums the file's bytes into the record; `known`, if they are known already. Returns 0, or a
 * negative errno: -EAGAIN if another program cuts the file off just now. */
static int sum_file(const struct plain_commit *commit, const struct record *record, const char *known)
{
    char *piece = (char *)commit->pieces.bytes + KEPT_MAX;
    struct redo_sums sums;
    ssize_t n = 1;

    redo_sums_begin(&sums, (char *)commit->record.bytes + record_line_size(record->word), record->size,
                    commit->file_size, record->body_size);
    if (known != NULL)
        redo_sums_feed(&sums, known, commit->file_size);
    for (uint64_t done = 0; known == NULL && done < commit->file_size; done += (uint64_t)n) {
        uint64_t rest = commit->file_size - done;

        n = store_read_at(commit->inode, piece, rest < PIECE_SIZE ? (size_t)rest : PIECE_SIZE, done);
        if (n <= 0)
            return n < 0 ? (int)n : -EAGAIN;
        redo_sums_feed(&sums, piece, (size_t)n);
    }
    redo_sums_end(&sums);
    return 0;
}

/*
 * Encodes a REDO or BACK record over the bytes that the file has now, with the next generation,
 * which tells the record from the one before: after the largest the first follows. Returns 0, or a
 * negative errno: -EFBIG if the bytes are too many for one.
 */
static int make_record(struct plain_commit *commit, enum record_word word,
                       const struct store_payload *payload)
{
    size_t line = record_line_size(word);
    struct record record = {.word = word,
                            .size = payload->size,
                            .other = commit->file_size,
                            .crc = payload->crc,
                            .identity = commit->identity};
    char *bytes;
    int error;

    commit->generation = commit->generation % RECORD_GENERATION_MAX + 1;
    record.generation = commit->generation;
    if (commit->file_size > SUMMED_MAX && commit->file_size / 4 > payload->size)
        return -EFBIG;
    record.body_size = redo_body_size(payload->size, commit->file_size,
                                      word == RECORD_BACK ? (uint64_t)REDO_BLOCK_ALL : commit->block);
    commit->record_size = line + record.body_size;
    if (payload->size > JOURNAL_CONTENT_MAX)
        return -EFBIG;
    if (commit->record_size > commit->record.size) {
        scratch_give(&commit->record);
        error = scratch_take(&commit->record, commit->record_size);
        if (error != 0)
            return error;
    }
    bytes = commit->record.bytes;
    record.body = bytes + line;
    memcpy(bytes + line, payload->bytes, payload->size);
    error = sum_file(commit, &record, word == RECORD_REDO ? commit->old.bytes : NULL);
    (void)record_encode(bytes, &record); /* the numbers fit: both contents were read */
    return error;
}

/* True for the errors of setxattr that will not be gone at the next call: there is no room for
 * it, or no such attributes. */
static bool has_no_room(int error)
{
    return error == -EFBIG || error == -ENOSPC || error == -E2BIG || error == -ERANGE || error == -EDQUOT ||
           error == -EOPNOTSUPP || error == -ENOSYS || error == -EPERM || error == -EACCES;
}

/* Puts the record, which does not fit into an attribute, into a journal. Returns 0 or a negative
 * errno. */
static int announce_by_journal(struct plain_commit *commit, const struct store_payload *payload)
{
    int error;

    if (journal_open(&commit->journal, commit->inode, commit->identity, commit->sync) != 0)
        return -E2BIG; /* no place for a journal */
    error = journal_write(&commit->journal, commit->inode,
                          &(struct journal_record){commit->record.bytes, commit->record_size}, commit->sync);
    if (error == 0)
        error = set_line(commit, RECORD_FILE, payload, commit->file_size);
    if (error != 0)
        journal_close(&commit->journal, commit->identity, true);
    return error;
}

/* Sets a REDO record, in the attribute or in a journal. Returns 0, or a negative errno; with
 * has_no_room() there is no room for a record. */
static int set_redo(struct plain_commit *commit, const struct store_payload *payload)
{
    int error = make_record(commit, RECORD_REDO, payload);

    if (error != 0)
        return error;
    error = commit->record_size <= RECORD_SIZE_MAX
                ? set_attribute(commit, commit->record.bytes, commit->record_size)
                : -E2BIG;
    /* ext4 returns ENOSPC for any value that is larger than a block */
    if (error == -E2BIG || error == -ENOSPC || error == -ERANGE)
        error = announce_by_journal(commit, payload);
    return error;
}

/*
 * Announces the commit as well as it can: by REDO, in a journal if need be, or else by BUSY, which
 * protects nothing but tells of the commit. An old record must not stay: by it a reader would take
 * the file for idle. Returns 0 or a negative errno; sets commit->announced if the record has
 * changed, though perhaps not on disk.
 */
static int announce_commit(struct plain_commit *commit, const struct store_payload *payload)
{
    int error = set_redo(commit, payload);

    commit->has_redo = error == 0;
    if (has_no_room(error))
        error = set_line(commit, RECORD_BUSY, payload, 0);
    commit->announced = error == 0;
    if (has_no_room(error)) {
        (void)STORE_RETRY(store_calls.fremovexattr(commit->inode, RECORD_NAME));
        return 0;
    }
    return error == 0 ? flush_all(commit) : error;
}

/*
 * Called if the disk has failed in the middle: writes the old content back, as a commit of its own
 * over the bytes that are there now. If the disk fails again, the existing record leads to one
 * content or the other, complete; without a record there is nothing to lose. Returns true if the
 * old content is back.
 */
static bool go_back(struct plain_commit *commit)
{
    struct store_payload *old = &commit->old;
    bool is_safe;

    if (old->bytes == NULL)
        return false;
    old->crc = crc32c_mixed(0, old->bytes, old->size);
    is_safe = look_at_size(commit) == 0 && make_record(commit, RECORD_BACK, old) == 0 &&
              set_attribute(commit, commit->record.bytes, commit->record_size) == 0 && flush_all(commit) == 0;
    return (is_safe || !commit->has_redo) && apply_payload(commit, old) == 0 && set_idle(commit, old) == 0;
}

/* ---- recovery ---- */

/* Finds out the file's content, and completes or undoes an interrupted commit. */
static int settle_content(struct plain_commit *commit, const struct held_record *held)
{
    const struct record *record = &held->record;
    struct store_image image = {.kind = STORE_PLAIN};
    struct attempt attempt = {
        .inode = commit->inode, .target = -1, .depth = VERIFY, .locked = true, .image = &image};
    struct store_payload content = {record->body, record->size, record->crc};
    enum redo_state state = REDO_FOREIGN;
    int error = (int)STORE_RETRY(store_calls.fstat(commit->inode, &attempt.status));

    image.size = (uint64_t)attempt.status.st_size;
    if (error == 0 && (record->word == RECORD_BUSY || record->word == RECORD_FILE)) {
        error = store_sum(commit->inode, image.size, &image.payload_crc);
        if (error == 0 && (image.size != record->size || image.payload_crc != record->crc))
            return 0; /* torn, or edited by others: the record must stay */
    } else if (error == 0)
        error = store_try_redo(&attempt, held, &state);
    if (error != 0)
        return error > 0 ? -EAGAIN : error;
    /* Bytes that look right may be right in the page cache alone: after a failed flush the next one
     * proves nothing. */
    if (state == REDO_NEW || state == REDO_PARTLY)
        error = apply_payload(commit, &content);
    else
        error = flush_data(commit);
    content = (struct store_payload){.size = image.size, .crc = image.payload_crc};
    return error == 0 ? set_idle(commit, &content) : error;
}

static bool is_unsettled(enum record_word word)
{
    return word == RECORD_REDO || word == RECORD_BACK || word == RECORD_BUSY || word == RECORD_FILE;
}

/* Ends a commit that died. */
static int recover_content(struct plain_commit *commit, const struct held_record *held)
{
    int error = is_unsettled(held->record.word) ? settle_content(commit, held) : 0;

    /* no reader depends on a journal now, unless the journal could not be read before */
    if (error == 0 && (held->has_journal || (commit->tidy && !is_unsettled(held->named.word))))
        journal_remove(commit->inode, &held->named, commit->identity);
    if (error == 0 && commit->tidy && held->named.word == RECORD_KEPT)
        (void)set_idle(commit, &(struct store_payload){.size = held->named.size, .crc = held->named.crc});
    return error == 0 ? look_at_size(commit) : error;
}

/* Looks at the file and its record, which the caller gives back after 0. Fills *commit. */
static int look_at_file(struct plain_commit *commit, struct held_record *held)
{
    int error = look_at_size(commit);

    commit->identity = store_identity(commit->inode, &commit->block);
    if (error == 0)
        error = store_record_take(commit->inode, false, held);
    if (error == 0)
        commit->generation = held->record.generation;
    return error;
}

int store_recover(int inode, bool sync)
{
    struct plain_commit commit = {.inode = inode, .sync = sync, .tidy = true, .journal.fd = -1};
    struct held_record held;
    int error = look_at_file(&commit, &held);

    if (error == 0) {
        error = recover_content(&commit, &held);
        store_record_give(&held);
    }
    return error;
}

/* ---- commit ---- */

/*
 * Reserves the blocks by which the file grows, but not the block in which it ends, and no more,
 * since xfs reserves the whole range. btrfs zeroes the rest of that last block, writes it out and
 * waits (btrfs_fallocate() in Linux, fs/btrfs/file.c); if that failed, the next commit would fail,
 * too, since no fsync has reported it.
 */
static int reserve_growth(const struct plain_commit *commit, uint64_t size)
{
    uint64_t block = commit->block != 0 && commit->block < IMAGE_PAGE ? commit->block : IMAGE_PAGE;
    uint64_t start = (commit->file_size + block - 1) / block * block;
    int error = 0;

    if (size > start)
        error =
            (int)STORE_RETRY(store_calls.fallocate(commit->inode, FALLOC_FL_KEEP_SIZE, start, size - start));
    if (error == 0 || error == -EOPNOTSUPP || error == -ENOSYS)
        return 0;
    /* ext4 keeps the blocks that it got */
    (void)STORE_RETRY(store_calls.ftruncate(commit->inode, commit->file_size));
    return error;
}

/* Removes the footer or the zeros that a first commit to the sized format left behind the content;
 * no record tells of them. */
static int drop_remains(struct plain_commit *commit)
{
    struct store_image image;
    int error = store_look(commit->inode, (struct store_wait){.locked = true}, &image);

    if (error == 0 && image.kind != STORE_PLAIN)
        return STORE_NOT_PLAIN;
    if (error != 0 || (image.twin == 0 && !image.blank))
        return error;
    error = (int)STORE_RETRY(store_calls.ftruncate(commit->inode, image.size));
    commit->file_size = image.size;
    return error == 0 ? flush_data(commit) : error;
}

/* Called before anything was written: restores the record of the old content, which is still
 * there. */
static void withdraw_announcement(const struct plain_commit *commit)
{
    struct store_payload old = {.size = commit->file_size};

    if (store_sum(commit->inode, old.size, &old.crc) == 0)
        (void)set_idle(commit, &old);
}

static int commit_with_record(struct plain_commit *commit, const struct store_payload *payload)
{
    int error = keep_old(commit);
    bool is_over = true; /* the journal is not the only copy of a content */

    if (error != 0)
        return error;
    error = announce_commit(commit, payload);
    if (error == 0) {
        error = apply_payload(commit, payload);
        if (error == 0)
            is_over = set_idle(commit, payload) == 0;
        else
            is_over = go_back(commit);
    } else if (commit->announced)
        withdraw_announcement(commit);
    journal_close(&commit->journal, commit->identity, is_over);
    return error;
}

/* True if the last commit was one to the plain format, and is over: there are no remains of a first
 * commit. */
static bool is_after_plain_commit(const struct plain_commit *commit, const struct held_record *held)
{
    enum record_word word = held->record.word;
    struct image_header header;
    int error;

    return (word == RECORD_IDLE || word == RECORD_KEPT) && commit->file_size == held->record.size &&
           store_read_header(commit->inode, 0, &header, &error) == IMAGE_ABSENT && error == 0;
}

/* Makes one attempt. Returns 0 or a negative errno: -EAGAIN if another program cut the file off
 * before the attempt changed it. */
static int attempt_plain(struct plain_commit *commit, const struct store_payload *payload)
{
    struct held_record held;
    int error = look_at_file(commit, &held);

    if (error != 0)
        return error;
    if (!is_after_plain_commit(commit, &held)) {
        error = drop_remains(commit);
        if (error == 0)
            error = recover_content(commit, &held);
    }
    store_record_give(&held);
    if (error == 0)
        error = reserve_growth(commit, payload->size);
    return error == 0 ? commit_with_record(commit, payload) : error;
}

int store_commit_plain(int inode, const struct store_payload *payload, bool sync)
{
    struct plain_commit commit = {.inode = inode, .sync = sync, .journal.fd = -1};
    int error = scratch_take(&commit.record, SCRATCH_CHUNK);

    if (error != 0)
        return error;
    error = scratch_take(&commit.pieces, KEPT_MAX + PIECE_SIZE);
    for (int i = 0; error == 0 && i < ATTEMPTS; i++) {
        error = attempt_plain(&commit, payload);
        if (error != -EAGAIN)
            break;
        error = i == ATTEMPTS - 1 ? -EIO : 0;
    }
    scratch_give(&commit.pieces);
    scratch_give(&commit.record);
    return error;
}
