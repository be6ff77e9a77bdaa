/* Declarations for the files of store/: one attempt at reading a file, and its parts. */
#ifndef ATOMSHIM_STORE_INTERNAL_H
#define ATOMSHIM_STORE_INTERNAL_H

#include "format/record.h"
#include "format/redo.h"
#include "os/scratch.h"
#include "store/store.h"

/* An attempt to read returns one of these, 0, or a negative errno. */
enum {
    CHANGED = 1, /* the file changed while it was read */
    DAMAGED = 2, /* no valid image, or a header that is being written */
    /* an image was found; but another one looks damaged, unless a writer is at it just now */
    SUSPECT = 3,
};

/* How much of a payload an attempt reads. */
enum depth {
    SIZE,   /* a bounded number of bytes, whatever the file says: enough for its size */
    LOOK,   /* only payloads that a header alone cannot vouch for */
    VERIFY, /* all of it */
    COPY,   /* all of it, and copies it to the target */
};

struct attempt {
    int inode;
    int target;
    enum depth depth;
    bool locked;                        /* the caller holds the lock: damage is real */
    const struct store_image *expected; /* any other image makes it CHANGED; or NULL */
    bool settle_for_plain;              /* accept a plain file that keeps changing */
    struct stat status;
    struct store_image *image;
};

#define WORD_MASK UINT64_C(7) /* the words that crc32c_mixed() sums have 8 bytes */

/* An attempt of depth SIZE trusts the header of a payload that is longer. */
#define SIZE_CHECKED ((uint64_t)1 << 20)

/* The record of a file, as it was found. */
struct held_record {
    struct record record; /* RECORD_NONE if there is none, or if it belongs to another inode */
    size_t size;          /* the attribute's, valid or not; 0: there is none */
    bool possible;        /* the file system has such attributes */
    bool has_journal;     /* the record came from a journal file */
    struct record named;  /* the record in the attribute itself */
    struct scratch scratch;
    struct scratch journal;
};

/*
 * Reads the record of `inode`, and the journal that it names, but with `bounded` no journal with a
 * content of more than SIZE_CHECKED bytes. Returns 0, or a negative errno; after 0 the caller gives
 * it back.
 */
int store_record_take(int inode, bool bounded, struct held_record *held);
void store_record_give(struct held_record *held);

/* Returns 0 if the attribute is still the one that was found, CHANGED if not, or a negative
 * errno. */
int store_record_confirm(int inode, const struct held_record *held);

/* Returns the identity by which records name `inode`. Sets *block to the size of the file system's
 * blocks. */
uint32_t store_identity(int inode, uint64_t *block);

/*
 * Fills attempt->image for a file whose record is a REDO or BACK, and the target. Sets *state to
 * the state of the file's bytes, unless the depth SIZE does not read that many. Returns 0, CHANGED,
 * or a negative errno.
 */
int store_try_redo(const struct attempt *attempt, const struct held_record *held, enum redo_state *state);

/* Returns CHANGED while a commit that no record protects may be under way, else 0. */
int store_try_unprotected(const struct attempt *attempt, const struct held_record *held);

/* True if all `size` bytes, at least one, are zero. */
bool store_is_zero(const char *bytes, size_t size);

/*
 * Reads `size` bytes at `offset`, copies them to the target if the depth is COPY, and computes
 * their CRC. Holes cost neither time nor memory but for a LOOK. Returns 0, CHANGED if the file ends
 * early, or a negative errno.
 */
int store_read_bytes(const struct attempt *attempt, uint64_t offset, uint64_t size, uint32_t *crc);

/* If the file with this status is as this process's last commit has left it, fills *image with its
 * live image: store_note_left(). */
bool store_recall(const struct stat *status, struct store_image *image);

/* Reads the header at `offset`. Sets *error to 0 or a negative errno; after an error the result is
 * IMAGE_ABSENT. */
enum image_kind store_read_header(int inode, uint64_t offset, struct image_header *header, int *error);

/*
 * Fills attempt->image if the payload at `place` is what `header` says; `twin` is the file's twin
 * place. Returns 0, DAMAGED, or a negative errno.
 */
int store_try_image(const struct attempt *attempt, const struct image_header *header, uint64_t place,
                    uint64_t twin);

/*
 * Writes `length` bytes of the file at `offset` over themselves, so that the next flush covers
 * them, even if an earlier one failed. Returns 0, CHANGED if another program cuts the file off
 * meanwhile, or a negative errno.
 */
int store_rewrite(int inode, uint64_t offset, uint64_t length);

/*
 * Makes `payload` the bytes of a file of `file_size` bytes, not on disk yet. No kill of this
 * process or its group comes between. Returns 0 or a negative errno: of ftruncate(2), pwritev(2),
 * or -ENOSPC.
 */
int store_overwrite(int inode, const struct store_payload *payload, uint64_t file_size);

/* Writes all of the bytes at `offset`. Returns 0 or a negative errno: of pwrite(2), or -ENOSPC. */
int store_write_bytes(int fd, const char *bytes, size_t size, uint64_t offset);

/*
 * Finds the live image under the caller's exclusive lock, ends a first commit that died, and sees
 * to it that the live image is on disk, with `sync`. Returns 0 and fills *live, or a negative errno
 * as store_commit() does.
 */
int store_settle(int inode, bool sync, struct store_image *live);

/* Makes one attempt at a file that has no header at 0. Returns 0, CHANGED, DAMAGED, or a negative
 * errno. */
int store_try_plain(const struct attempt *attempt);

#endif
