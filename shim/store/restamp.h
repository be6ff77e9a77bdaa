/* Handles the image before the live one, and the rest of a damaged file. For all functions the
 * caller holds the exclusive lock of `inode`. */
#ifndef ATOMSHIM_RESTAMP_H
#define ATOMSHIM_RESTAMP_H

#include "store/store.h"

/*
 * Loads the image before the live one, as store_load() loads the live one; a lock for reading is
 * enough. Returns -ENODATA if the file is plain, or has no complete image but the live one; else as
 * store_load().
 */
int store_load_previous(int inode, int target, struct store_image *previous);

/*
 * Makes the image before the live one the content, by a header of a new generation. It is a commit
 * like any other, and atomic; a second call leads back. Returns 0 and fills *image, or a negative
 * errno: -ENODATA as above, else as store_commit().
 */
int store_undo(int inode, bool sync, struct store_image *image);

enum store_repair_kind {
    STORE_REPAIR_NOTHING,  /* the file is good */
    STORE_REPAIR_PLAIN,    /* plain: the bytes as they are become the content */
    STORE_REPAIR_COMPLETE, /* a complete image is left */
    STORE_REPAIR_AS_IT_IS, /* an image is left whose checksum is wrong, or whose end is missing */
};

/* Describes the result of a repair. */
struct store_repair {
    enum store_repair_kind kind;
    uint64_t place;            /* the place of the image that becomes the content */
    uint64_t twin;             /* the twin place, as far as it is known */
    uint64_t found_generation; /* the generation that it has now */
    uint64_t generation;       /* the generation that it gets */
    uint64_t size;             /* payload bytes that are left */
    uint64_t wanted_size;      /* payload bytes by its header */
    uint32_t crc;              /* the sum of the bytes that are left */
    bool has_head, has_twin;   /* there are headers in both places to go by */
};

/*
 * Finds the best image in a damaged file: the complete one of the highest generation, else the most
 * recent one by its header. Searches the whole file if the header at 0 is gone. Changes nothing.
 * Returns 0 and fills *plan, -ENODATA if no image is left, or the negative errno of a system call.
 */
int store_plan_repair(int inode, struct store_repair *plan);

/*
 * Does what store_plan_repair() planned for a sized file, under the same lock: writes headers, and
 * no byte of an image. Returns 0 or a negative errno.
 */
int store_repair(int inode, bool sync, const struct store_repair *plan);

#endif
