/* Reads the attribute of a file, its record, and the content of a file that has one. */
#include "store/internal.h"

#include "format/crc32c.h"
#include "store/calls.h"
#include "store/filelock.h"
#include "store/journal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* The scratch buffer of a held record has three parts: the attribute, a second copy to compare it
 * with, and pieces of the file. */
enum { AGAIN_AT = RECORD_SIZE_MAX, PIECES_AT = 2 * RECORD_SIZE_MAX, PIECE = 1 << 17 };
_Static_assert(PIECES_AT + PIECE <= SCRATCH_CHUNK, "all fits into one buffer");

/* Reads the facts that identities are made of. Returns false if the kernel does not tell the time
 * of the inode's creation. */
static bool get_birth(int inode, struct statx *status)
{
    struct stat plain = {0};

    *status = (struct statx){.stx_blksize = REDO_BLOCK_MIN};
    if (STORE_RETRY(store_calls.statx(inode, status)) == 0)
        return (status->stx_mask & STATX_BTIME) != 0;
    (void)STORE_RETRY(store_calls.fstat(inode, &plain));
    status->stx_ino = plain.st_ino;
    return false;
}

uint32_t store_identity(int inode, uint64_t *block)
{
    struct statx status;
    bool has_birth = get_birth(inode, &status);

    *block = status.stx_blksize;
    return has_birth ? record_identity(status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec)
                     : record_identity(status.stx_ino, 0, 0);
}

/* Tells whether the record belongs to this inode. Returns true also where the kernel does not tell
 * the time of its creation (an old kernel, a seccomp filter, a file system without such times). */
static bool is_record_of_inode(const struct record *record, int inode)
{
    struct statx status;

    return !record->has_identity || !get_birth(inode, &status) ||
           record->identity == record_identity(status.stx_ino, 0, 0) ||
           record->identity ==
               record_identity(status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
}

/* True for the errors of getxattr that mean: there is no record. */
static bool means_no_record(ssize_t error)
{
    return error == -ENODATA || error == -EOPNOTSUPP || error == -ENOSYS || error == -EPERM ||
           error == -EACCES || error == -ERANGE || error == -E2BIG;
}

/* The kernel clears as much memory as it is asked for (fs/xattr.c, do_getxattr()): 64 KiB take 2
 * us. Unless a commit is under way or died, the record is small. */
enum { SMALL_RECORD = RECORD_IDLE_MAX };

/* Reads the attribute to bytes[0]. Returns its size, 0 if there is none, or a negative errno. */
static ssize_t get_attribute(int inode, char *bytes, bool *possible)
{
    ssize_t n = STORE_RETRY(store_calls.fgetxattr(inode, RECORD_NAME, bytes, SMALL_RECORD));

    if (n == -ERANGE)
        n = STORE_RETRY(store_calls.fgetxattr(inode, RECORD_NAME, bytes, RECORD_SIZE_MAX));
    *possible = n != -EOPNOTSUPP && n != -ENOSYS;
    return n < 0 && means_no_record(n) ? 0 : n;
}

int store_record_take(int inode, bool bounded, struct held_record *held)
{
    ssize_t n;
    int error = scratch_take(&held->scratch, SCRATCH_CHUNK);

    held->record = (struct record){.word = RECORD_NONE};
    if (error != 0)
        return error;
    n = get_attribute(inode, held->scratch.bytes, &held->possible);
    if (n < 0) {
        scratch_give(&held->scratch);
        return (int)n;
    }
    held->size = (size_t)n;
    if (n == 0 || record_decode(held->scratch.bytes, (size_t)n, &held->record) != IMAGE_VALID ||
        !is_record_of_inode(&held->record, inode))
        held->record = (struct record){.word = RECORD_NONE};
    held->named = held->record;
    held->has_journal = held->record.word == RECORD_FILE && !(bounded && held->record.size > SIZE_CHECKED) &&
                        journal_read(inode, &held->named, &held->journal, &held->record);
    return 0;
}

void store_record_give(struct held_record *held)
{
    if (held->has_journal)
        scratch_give(&held->journal);
    scratch_give(&held->scratch);
}

int store_record_confirm(int inode, const struct held_record *held)
{
    char *again = (char *)held->scratch.bytes + AGAIN_AT;
    bool possible;
    ssize_t n = get_attribute(inode, again, &possible);

    if (n < 0)
        return (int)n;
    return (size_t)n == held->size && memcmp(again, held->scratch.bytes, held->size) == 0 ? 0 : CHANGED;
}

bool store_record_is_open(const char *path)
{
    char bytes[SMALL_RECORD];
    ssize_t n = STORE_RETRY(sys_getxattr(path, RECORD_NAME, bytes, sizeof bytes));

    return n == -ERANGE ||
           (n > LINE_WORD && memcmp(bytes, "IDLE", LINE_WORD) != 0 && memcmp(bytes, "KEPT", LINE_WORD) != 0);
}

/* True while another description holds a lock that excludes writers: a commit may be under way. */
static bool is_being_written(const struct attempt *attempt)
{
    return !attempt->locked && filelock_is_write_locked(attempt->inode);
}

/*
 * Reads the file once: compares it with the record, sums it, and copies it to the target if the
 * depth is COPY. Returns 0, CHANGED if it ends early, or a negative errno.
 */
static int compare_file(const struct attempt *attempt, const struct held_record *held, enum redo_state *state,
                        uint32_t *crc)
{
    uint64_t size = (uint64_t)attempt->status.st_size;
    char *piece = (char *)held->scratch.bytes + PIECES_AT;
    struct redo_look look;
    int error = attempt->depth == COPY ? sys_ftruncate(attempt->target, 0) : 0;

    *crc = 0;
    redo_look_begin(&look, &held->record, size);
    for (uint64_t done = 0; error == 0 && done < size;) {
        size_t chunk = size - done < PIECE ? (size_t)(size - done) : PIECE;
        ssize_t n = store_read_at(attempt->inode, piece, chunk, done);

        if (n != (ssize_t)chunk)
            return n < 0 ? (int)n : CHANGED;
        redo_look_feed(&look, piece, chunk);
        *crc = crc32c_mixed(*crc, piece, chunk);
        if (attempt->depth == COPY)
            error = store_write_target(attempt->target, piece, chunk, done);
        done += chunk;
    }
    *state = redo_look_end(&look);
    return error;
}

/* Copies the new content to the target, in place of the file's bytes. */
static int copy_new(const struct attempt *attempt, const struct record *record)
{
    int error = attempt->depth == COPY ? sys_ftruncate(attempt->target, record->size) : 0;

    return error == 0 && attempt->depth == COPY
               ? store_write_target(attempt->target, record->body, record->size, 0)
               : error;
}

int store_try_redo(const struct attempt *attempt, const struct held_record *held, enum redo_state *state)
{
    const struct record *record = &held->record;
    struct store_image *image = attempt->image;
    uint64_t size = (uint64_t)attempt->status.st_size;
    int error;

    image->unsettled = true;
    image->generation = record->generation;
    /* The bytes, which alone tell the contents apart, are too many to be read here. They are not
     * yet the new content, as that is shorter (store_record_take()), and a commit cuts the file
     * first. */
    if (attempt->depth == SIZE && size > SIZE_CHECKED)
        return 0;
    error = compare_file(attempt, held, state, &image->payload_crc);
    if (error != 0)
        return error;
    image->bytes = *state == REDO_PARTLY    ? STORE_CUT_SHORT
                   : *state == REDO_FOREIGN ? STORE_EDITED
                                            : STORE_CONTENT;
    if (*state == REDO_NEW || *state == REDO_PARTLY) {
        image->size = record->size;
        image->payload_crc = record->crc;
        return *state == REDO_PARTLY ? copy_new(attempt, record) : 0;
    }
    /* a sector that is just being written looks foreign, too */
    return *state == REDO_FOREIGN && is_being_written(attempt) ? CHANGED : 0;
}

int store_try_unprotected(const struct attempt *attempt, const struct held_record *held)
{
    bool unprotected =
        held->record.word == RECORD_BUSY || held->record.word == RECORD_FILE || !held->possible;

    return unprotected && is_being_written(attempt) ? CHANGED : 0;
}
