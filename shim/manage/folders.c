#include "manage/folders.h"

#include "os/clock.h"
#include "os/descriptor.h"

#include <string.h>

enum { SLOTS = 8, ROOM = 256 };

/* Identifies a folder and the mount that leads to it: a bind mount shows one inode by two paths. */
struct identity {
    uint64_t device;
    uint64_t number;
    uint64_t mount;
    struct folders_moment moment; /* from before /proc was asked for the path */
};

struct slot {
    int taken; /* atomic: a thread, perhaps interrupted by a handler, uses it; others do without */
    struct identity identity;
    size_t length;
    char path[ROOM];
};

static SYS_LARGE struct slot by_inode[SLOTS];
static SYS_LARGE struct slot by_path[SLOTS]; /* only the moment of the identity counts */

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

static bool identify_folder(int fd, struct identity *identity)
{
    struct statx status;

    if (__atomic_load_n(&stopped, __ATOMIC_RELAXED) ||
        SYS_CALL(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &status, 0) != 0 ||
        (status.stx_mask & STATX_MNT_ID) == 0) /* since Linux 5.8 */
        return false;
    *identity = (struct identity){
        .device = (uint64_t)status.stx_dev_major << 32 | status.stx_dev_minor,
        .number = status.stx_ino,
        .mount = status.stx_mnt_id,
        .moment = folders_now(),
    };
    return true;
}

static bool is_same_folder(const struct identity *one, const struct identity *other)
{
    return one->number == other->number && one->device == other->device && one->mount == other->mount &&
           is_same_moment(one->moment, other->moment);
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

/* The slot is taken. A path that does not fit is not kept. */
static void fill_slot(struct slot *slot, const struct identity *identity, const char *path, size_t length)
{
    if (length >= ROOM)
        return;
    slot->identity = *identity;
    slot->length = length;
    memcpy(slot->path, path, length);
}

ssize_t folders_path(int fd, char *path, size_t size)
{
    struct identity identity;
    struct slot *slot;
    ssize_t length;

    if (!identify_folder(fd, &identity))
        return -1;
    slot = &by_inode[identity.number % SLOTS];
    if (!take_slot(slot))
        return -1;
    if (is_same_folder(&slot->identity, &identity) && slot->length < size) {
        length = (ssize_t)slot->length;
        memcpy(path, slot->path, slot->length);
        path[length] = '\0';
    } else {
        length = read_path(fd, path, size);
        if (length >= 0)
            fill_slot(slot, &identity, path, (size_t)length);
    }
    give_slot(slot);
    return length;
}

static struct slot *slot_of(const char *path, size_t length)
{
    size_t sum = length;

    for (size_t i = length < 8 ? 0 : length - 8; i < length; i++)
        sum += (unsigned char)path[i];
    return &by_path[sum % SLOTS];
}

void folders_remember(const char *path, size_t length, struct folders_moment moment)
{
    static const char removed[] = " (deleted)"; /* proc(5) */
    const size_t tail = sizeof removed - 1;
    struct slot *slot = slot_of(path, length);

    if (length == 0 || path[0] != '/' ||
        (length >= tail && memcmp(path + length - tail, removed, tail) == 0) || !take_slot(slot))
        return;
    fill_slot(slot, &(struct identity){.moment = moment}, path, length);
    give_slot(slot);
}

bool folders_know(const char *path, size_t length)
{
    struct slot *slot = slot_of(path, length);
    bool known;

    if (!take_slot(slot))
        return false;
    known = slot->length == length && length != 0 && memcmp(slot->path, path, length) == 0 &&
            is_same_moment(slot->identity.moment, folders_now());
    give_slot(slot);
    return known;
}

void folders_forget(void)
{
    __atomic_add_fetch(&changes, 1, __ATOMIC_ACQ_REL);
}

void folders_stop(void)
{
    __atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
}
