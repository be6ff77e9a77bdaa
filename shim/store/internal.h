/* What the files of store/ share: one attempt at reading a file, and its parts. */
#ifndef ATOMSHIM_STORE_INTERNAL_H
#define ATOMSHIM_STORE_INTERNAL_H

#include "store/store.h"

/* What one attempt to read may come to, besides 0 and a negative errno. */
enum {
    CHANGED = 1, /* the file changed while it was read */
    DAMAGED = 2, /* no valid image, or a header that is being written */
    SUSPECT = 3, /* an image was found; but another one looks damaged, unless a writer is at it just now */
};

/* How much of a payload an attempt reads. */
enum depth {
    SIZE,   /* a bounded number of bytes, whatever the file says: enough for its size */
    LOOK,   /* only what a header alone cannot vouch for */
    VERIFY, /* all of it */
    COPY,   /* all of it, and copies it to the target */
};

struct attempt {
    int inode;
    int target;
    enum depth depth;
    bool locked;           /* the caller holds the lock: whatever looks damaged is */
    bool settle_for_plain; /* accept a plain file that keeps changing */
    struct stat status;
    struct store_image *image;
};

#define WORD_MASK UINT64_C(7) /* of the words that crc32c_mixed() sums */

/* An attempt of depth SIZE takes a payload that is longer for what its header says. */
#define SIZE_CHECKED ((uint64_t)1 << 20)

/* True if all `size` bytes, at least one, are zero. */
bool store_is_zero(const char *bytes, size_t size);

/*
 * Reads `size` bytes at `offset`, copies them to the target if the depth is COPY, and computes their CRC. Holes cost neither
 * time nor memory but for a LOOK. Returns 0, CHANGED if the file ends early, or a negative errno.
 */
int store_read_bytes(const struct attempt *attempt, uint64_t offset, uint64_t size, uint32_t *crc);

/* Reads the header at `offset`. Sets *error to 0 or a negative errno; with that the result is IMAGE_ABSENT. */
enum image_kind store_read_header(int inode, uint64_t offset, struct image_header *header, int *error);

/*
 * Fills attempt->image if the payload at `place` is what `header` says; `twin` is the file's twin place. Returns 0, DAMAGED,
 * or a negative errno.
 */
int store_try_image(const struct attempt *attempt, const struct image_header *header, uint64_t place,
                    uint64_t twin);

/* One attempt at a file that has no header at 0. Returns 0, CHANGED, DAMAGED, or a negative errno. */
int store_try_plain(const struct attempt *attempt);

#endif
