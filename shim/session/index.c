/*
 * Where the sessions are, by the numbers of their inode and of their buffer: one look tells that
 * there is none, the next one finds the last that came. With thousands of open files nobody walks
 * the table.
 *
 * A count may be too high, never too low: it is raised before a session shows, lowered after it has
 * gone, and a forked child, whose parent's other threads were in the middle of that, lowers none.
 * Where it is not 0 and the slot is another session's, the table is walked.
 */
#include "session/internal.h"

enum { BUCKET_BITS = 14 };

static struct bucket {
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
