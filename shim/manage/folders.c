#include "manage/folders.h"

#include "os/clock.h"
#include "os/descriptor.h"
#include "session/session.h"

#include <string.h>

enum { SLOTS = FOLDERS_NUMBERS, ROOM = 256 };

struct slot {
    int taken; /* atomic: a thread, perhaps interrupted by a handler, uses it; others do without */
    unsigned thread;
    struct folders_moment moment; /* from before the kernel was asked */
    bool may_match;
    size_t length;
    char path[ROOM];
};

/* Each has the folder of the descriptor that stands in the same place of folders_numbers. */
static SYS_LARGE struct slot by_number[SLOTS];
static SYS_LARGE struct slot by_path[SLOTS];

int folders_numbers[FOLDERS_NUMBERS];

static unsigned changes; /* atomic */
static bool stopped;     /* atomic */

struct folders_moment folders_now(void)
{
    bool is_stopped = __atomic_load_n(&stopped, __ATOMIC_RELAXED);

    return (struct folders_moment){.tick = is_stopped ? -1 : clock_tick(),
                                   .changes = __atomic_load_n(&changes, __ATOMIC_ACQUIRE)};
}

static bool is_same_moment(struct folders_moment one, struct folders_moment other)
{
    return one.tick >= 0 && one.tick == other.tick && one.changes == other.changes;
}

/* A path without a '/' at its start lies beyond the root: no pattern matches it, and it is not
 * kept. */
static ssize_t read_path(int fd, char *path, size_t size)
{
    char link[PROC_PATH_SIZE];
    ssize_t n = sys_readlinkat(AT_FDCWD, descriptor_path(link, fd), path, size);

    if (n <= 0 || (size_t)n >= size || path[0] != '/')
        return -1;
    path[n] = '\0';
    return n;
}

static bool take_slot(struct slot *slot)
{
    return __atomic_exchange_n(&slot->taken, 1, __ATOMIC_ACQUIRE) == 0;
}

static void give_slot(struct slot *slot)
{
    __atomic_store_n(&slot->taken, 0, __ATOMIC_RELEASE);
}

static bool may_hold(const char *folder)
{
    return pattern_index_may_hold(&session_config->index, session_config->paths, folder);
}

/*
 * Returns the slot of the folder that `fd` is open on, taken, or NULL. The number counts in this
 * thread alone, since unshare(2) gives a thread its own descriptors. A vfork() child has its own,
 * too, and leaves its parent's slots as they are.
 */
static struct slot *take_folder(int fd)
{
    const struct folders_moment moment = folders_now();
    const unsigned thread = session_this_thread();
    int *number = &folders_numbers[(unsigned)fd % SLOTS];
    struct slot *slot = &by_number[(unsigned)fd % SLOTS];
    ssize_t length;

    if (moment.tick < 0 || !take_slot(slot))
        return NULL;
    if (__atomic_load_n(number, __ATOMIC_RELAXED) == fd + 1 && slot->thread == thread &&
        is_same_moment(slot->moment, moment))
        return slot;
    __atomic_store_n(number, 0, __ATOMIC_RELAXED);
    length = session_table_is_ours() ? read_path(fd, slot->path, ROOM) : -1;
    if (length < 0) {
        give_slot(slot);
        return NULL;
    }
    slot->thread = thread;
    slot->moment = moment;
    slot->length = (size_t)length;
    slot->may_match = may_hold(slot->path);
    __atomic_store_n(number, fd + 1, __ATOMIC_RELAXED);
    return slot;
}

ssize_t folders_path(int fd, char *path, size_t size)
{
    struct slot *slot = take_folder(fd);
    ssize_t length = -1;

    if (slot == NULL)
        return -1;
    if (slot->length < size) {
        length = (ssize_t)slot->length;
        memcpy(path, slot->path, slot->length + 1);
    }
    give_slot(slot);
    return length;
}

bool folders_may_match(int fd)
{
    struct slot *slot = take_folder(fd);
    bool may_match = slot == NULL || slot->may_match;

    if (slot != NULL)
        give_slot(slot);
    return may_match;
}

static struct slot *slot_of(const char *path, size_t length)
{
    size_t sum = length;

    for (size_t i = length < 3 ? 0 : length - 3; i < length; i++)
        sum = 3 * sum + (unsigned char)path[i];
    return &by_path[sum % SLOTS];
}

void folders_remember(const char *path, size_t length, struct folders_moment moment)
{
    static const char removed[] = " (deleted)"; /* proc(5) */
    const size_t tail = sizeof removed - 1;
    struct slot *slot = slot_of(path, length);

    if (length == 0 || path[0] != '/' ||
        (length >= tail && memcmp(path + length - tail, removed, tail) == 0) || length >= ROOM ||
        !take_slot(slot))
        return;
    slot->moment = moment;
    slot->length = length;
    memcpy(slot->path, path, length);
    slot->path[length] = '\0';
    slot->may_match = may_hold(slot->path);
    give_slot(slot);
}

enum folders_answer folders_know(const char *path, size_t length)
{
    struct slot *slot = slot_of(path, length);
    bool may_match;
    bool known;

    if (!take_slot(slot))
        return FOLDERS_UNKNOWN;
    may_match = slot->may_match;
    known = slot->length == length && length != 0 && memcmp(slot->path, path, length) == 0 &&
            is_same_moment(slot->moment, folders_now());
    give_slot(slot);
    return !known ? FOLDERS_UNKNOWN : may_match ? FOLDERS_MAY_MATCH : FOLDERS_ELSEWHERE;
}

void folders_forget(void)
{
    __atomic_add_fetch(&changes, 1, __ATOMIC_ACQ_REL);
}

void folders_stop(void)
{
    __atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
}
