/* Scratch memory without malloc: anonymous mappings, four of which are kept for the next caller. */
#ifndef ATOMSHIM_SCRATCH_H
#define ATOMSHIM_SCRATCH_H

#include <stddef.h>

/* A copy loop asks for this many bytes; a kept buffer has as many. */
#define SCRATCH_CHUNK ((size_t)1 << 20)

struct scratch {
    void *bytes;
    size_t size;
};

/*
 * Takes a buffer of at least `size` bytes. It is page-aligned, and its content is undefined. Every
 * taker has a buffer of its own. Returns 0, or -ENOMEM. Async-signal-safe.
 */
int scratch_take(struct scratch *scratch, size_t size);

/* Gives a buffer back; scratch->bytes is NULL then. */
void scratch_give(struct scratch *scratch);

#endif
