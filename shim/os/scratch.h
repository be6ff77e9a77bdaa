/* Buffers for moving payloads, without malloc: anonymous mappings, two of which are kept for the next caller.
 */
#ifndef ATOMSHIM_SCRATCH_H
#define ATOMSHIM_SCRATCH_H

#include <stddef.h>

/* The size that a copy loop asks for; a kept buffer is this large. */
#define SCRATCH_CHUNK ((size_t)1 << 20)

struct scratch {
    void *bytes;
    size_t size;
};

/*
 * Takes a buffer of at least `size` bytes, page-aligned, its contents undefined. Async-signal-safe; every
 * taker has a buffer of its own. Returns 0, or -ENOMEM. Give it back with scratch_give().
 */
int scratch_take(struct scratch *scratch, size_t size);
void scratch_give(struct scratch *scratch);

#endif
