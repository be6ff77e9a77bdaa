/*
 * Finds sessions by the number of their inode or their buffer. One look tells that there is none,
 * a second one finds the session that came last. So a process with thousands of open files does not
 * walk the table.
 *
 * A count may be too high, never too low: the shim raises it before a session shows, and lowers it
 * after the session has gone. A forked child lowers none: other threads of its parent may have been
 * in the middle of that. If a count is not 0 and the slot is another session's, the caller walks
 * the table.
 */
#include "session/internal.h"

enum { BUCKET_BITS = 14 };

static SYS_LARGE struct bucket {
    unsigned count;
    unsigned slot; /* the session that came last */
} buckets[SESSION_INDEXES][1 << BUCKET_BITS];

static struct bucket *find_bucket(enum session_index index, ino_t number)
{
    return &buckets[index][(uint64_t)number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BUCKET_BITS)];
}

void session_index_add(enum session_index index, ino_t number, unsigned slot)
{
    struct bucket *bucket = find_bucket(index, number);

    __atomic_add_fetch(&bucket->count, 1, __ATOMIC_ACQ_REL);
    __atomic_store_n(&bucket->slot, slot, __ATOMIC_RELEASE);
}

void session_index_remove(enum session_index index, ino_t number)
{
    __atomic_sub_fetch(&find_bucket(index, number)->count, 1, __ATOMIC_ACQ_REL);
}

bool session_index_find(enum session_index index, ino_t number, unsigned *slot)
{
    const struct bucket *bucket = find_bucket(index, number);

    *slot = __atomic_load_n(&bucket->slot, __ATOMIC_ACQUIRE);
    return __atomic_load_n(&bucket->count, __ATOMIC_ACQUIRE) != 0;
}
