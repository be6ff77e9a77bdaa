/*
 * The body of a REDO or BACK record: the new content, and sums of the old content that it is
 * written over. By the body a reader tells whether the file's bytes are the old content, the new
 * one, or a mixture that a commit was killed in, whichever of its steps a kill or a power cut let
 * through: tests/model/plain_model.py. Pure functions over bytes.
 *
 *   the new content      record->size bytes
 *   sums, 8 bytes each   of each sector of 512 bytes (the last one filled up with zeros) of the old
 *                        content, up to the end of the block that the new content ends in (a cut
 *                        zeroes a block to its end), or of the old content;
 *                        of the sector that the new content ends in, as a cut leaves it;
 *                        of all old bytes that lie behind the sectors
 *
 * A sum is the CRC-32C of the bytes and their crc32c_mixed(), each 4 bytes, little-endian.
 */
#ifndef ATOMSHIM_REDO_H
#define ATOMSHIM_REDO_H

#include "format/record.h"

enum {
    REDO_SECTOR = 512, /* never torn */
    REDO_SUM = 8,
    /* blocks of the file system count as at least so large, which does no harm */
    REDO_BLOCK_MIN = 4096,
    REDO_BLOCK_MAX = 1 << 16,
    REDO_BLOCK_ALL = 0, /* every sector of the old content gets a sum of its own */
};

/* Returns the size of the body for a new content of `size` bytes over an old one of `old_size`,
 * with blocks of `block` bytes. */
size_t redo_body_size(uint64_t size, uint64_t old_size, uint64_t block);

/* True if a record with these sizes can have a body of record->body_size bytes. */
bool redo_is_body(const struct record *record);

/* Computes the sums of an old content. The caller feeds it in order; each piece but the last one is
 * a multiple of REDO_SECTOR long. */
struct redo_sums {
    char *sums; /* in the body, behind the new content */
    uint64_t size, old_size, near_size;
    uint64_t offset;
    uint32_t far[2];
};

/* Begins the sums of an old content of `old_size` bytes in `body`, a record's body of `body_size`
 * bytes whose new content has `size` bytes. The body stays the caller's. */
void redo_sums_begin(struct redo_sums *sums, char *body, uint64_t size, uint64_t old_size, size_t body_size);

/* Adds the next `size` bytes of the old content. */
void redo_sums_feed(struct redo_sums *sums, const char *bytes, size_t size);

/* Writes the common sum of the sectors that have none of their own. Call it after the last feed. */
void redo_sums_end(struct redo_sums *sums);

/* The state of the file's bytes. */
enum redo_state {
    REDO_NEW, /* the new content */
    /* a mixture that an interrupted commit leaves; or, with BACK, the untouched old bytes */
    REDO_PARTLY,
    REDO_OLD, /* the old content, untouched */
    /* no commit leaves such bytes: another program wrote them, or a commit is writing just now */
    REDO_FOREIGN,
};

struct redo_look {
    const struct record *record;
    uint64_t file_size;
    uint64_t near_size; /* old bytes that have sums of their own */
    uint64_t offset;
    uint32_t far[2];
    bool possible, is_new, untouched;
};

/* Compares a file of `file_size` bytes with a REDO or BACK record. The caller feeds it in order, as
 * above. */
void redo_look_begin(struct redo_look *look, const struct record *record, uint64_t file_size);
void redo_look_feed(struct redo_look *look, const char *bytes, size_t size);
enum redo_state redo_look_end(const struct redo_look *look);

#endif
