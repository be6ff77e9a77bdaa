#include "manage/folders.h"

#include "os/descriptor.h"

#include <string.h>

enum { SLOTS = 8, ROOM = 256 };

/* Which folder it is, and through which mount: a bind mount shows one inode by two paths. */
struct identity {
    uint64_t device;
    uint64_t number;
    uint64_t mount;
    struct timespec tick; /* the time when /proc was asked for the path */
    unsigned renames;     /* renames by this process so far */
};

static struct slot {
    int taken; /* atomic: a thread, perhaps interrupted by a handler, uses it; others do without */
    struct identity identity;
    size_t length;
    char path[ROOM];
} slots[SLOTS];

static unsigned renames; /* atomic */
static bool stopped;     /* atomic */

static bool identify(int fd, struct identity *identity)
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
        .renames = __atomic_load_n(&renames, __ATOMIC_ACQUIRE),
    };
    return SYS_CALL(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &identity->tick, 0, 0, 0, 0) == 0;
}

static bool is_same(const struct identity *one, const struct identity *other)
{
    return one->number == other->number && one->device == other->device && one->mount == other->mount &&
           one->renames == other->renames && one->tick.tv_nsec == other->tick.tv_nsec &&
           one->tick.tv_sec == other->tick.tv_sec;
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

ssize_t folders_path(int fd, char *path, size_t size)
{
    struct identity identity;
    struct slot *slot;
    ssize_t length;

    if (!identify(fd, &identity))
        return -1;
    slot = &slots[identity.number % SLOTS];
    if (__atomic_exchange_n(&slot->taken, 1, __ATOMIC_ACQUIRE))
        return -1;
    if (is_same(&slot->identity, &identity) && slot->length < size) {
        length = (ssize_t)slot->length;
        memcpy(path, slot->path, slot->length + 1);
    } else {
        length = read_path(fd, path, size);
        if (length >= 0 && length < ROOM) {
            slot->identity = identity;
            slot->length = (size_t)length;
            memcpy(slot->path, path, (size_t)length + 1);
        }
    }
    __atomic_store_n(&slot->taken, 0, __ATOMIC_RELEASE);
    return length;
}

void folders_forget(void)
{
    __atomic_add_fetch(&renames, 1, __ATOMIC_ACQ_REL);
}

void folders_stop(void)
{
    __atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
}
