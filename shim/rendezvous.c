#include "rendezvous.h"

#include "descriptor.h"
#include "filelock.h"
#include "log.h"

#include <errno.h>

/* An inode's offsets begin at a multiple of INODE_ROOM, a guardian's at a multiple of GUARDIAN_ROOM within. */
#define GUARDIAN_ROOM ((int64_t)1 << 16)
#define INODE_ROOM ((int64_t)64 * GUARDIAN_ROOM)

enum {
    FIRST_PAUSE = 50 * 1000, /* nanoseconds */
    LAST_PAUSE = 2 * 1000 * 1000,
};

static bool is_guardian;
static bool has_given_up;

int rendezvous_open(void)
{
    int fd = DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));

    return fd >= 0 ? fd : DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
}

/* Two inodes that meet here cost a short wait. */
static int64_t room_of(dev_t device, ino_t number)
{
    uint64_t hash = ((uint64_t)number + (uint64_t)device * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd;

    return (int64_t)(hash >> 24) * INODE_ROOM & INT64_MAX;
}

/* The first lock of another process in start..end: false if there is none. */
static bool look(int proc, int64_t start, int64_t end, struct flock *lock)
{
    *lock = (struct flock){.l_type = F_WRLCK, .l_start = start, .l_len = end - start};
    return sys_fcntl(proc, F_GETLK, (long)lock) == 0 && lock->l_type != F_UNLCK;
}

static void put(const struct rendezvous *place, int proc, short type, int64_t from, int64_t length)
{
    struct flock lock = {.l_type = type, .l_start = place->start + from, .l_len = length};

    (void)sys_fcntl(proc, F_SETLK, (long)&lock);
}

void rendezvous_begin(struct rendezvous *place, int proc, dev_t device, ino_t number)
{
    int64_t room = room_of(device, number);
    struct flock lock;

    is_guardian = true;
    *place = (struct rendezvous){.start = room};
    while (place->start + GUARDIAN_ROOM < room + INODE_ROOM &&
           look(proc, place->start, place->start + GUARDIAN_ROOM, &lock))
        place->start += GUARDIAN_ROOM;
    put(place, proc, F_RDLCK, 0, 1);
}

void rendezvous_looked(struct rendezvous *place, int proc)
{
    place->looks++;
    put(place, proc, F_RDLCK, 0, place->looks + 1);
    if (place->looks + 2 < GUARDIAN_ROOM)
        return;
    put(place, proc, F_UNLCK, 1, GUARDIAN_ROOM - 1);
    place->looks = 0;
}

/* Where /proc is not mounted nobody can be told from others. */
static bool is_trusted(const struct flock *lock, const struct stat *file)
{
    char path[PROC_PATH_SIZE];
    struct stat process;

    if (sys_fstatat(AT_FDCWD, descriptor_process_path(path, lock->l_pid), &process, 0) != 0)
        return sys_fstatat(AT_FDCWD, "/proc/self", &process, 0) != 0;
    return (process.st_uid == 0 || process.st_uid == file->st_uid ||
            process.st_uid == (uid_t)SYS_CALL(SYS_geteuid, 0, 0, 0, 0, 0, 0));
}

/*
 * Of this user's guardians a signal wakes each, which is harmless to everybody else. They all watch their inode: a read
 * wakes them, too. An empty file has nothing to read; to open it does, but its close would drop the program's POSIX locks.
 */
static void wake(int process, int inode)
{
    char path[PROC_PATH_SIZE];
    char byte;
    int fd;

    if (SYS_CALL(SYS_kill, process, RENDEZVOUS_SIGNAL, 0, 0, 0, 0) == 0 || inode < 0)
        return;
    if (sys_pread(inode, &byte, 1, 0) > 0 || filelock_is_posix_holder(inode))
        return;
    fd = sys_openat(AT_FDCWD, descriptor_path(path, inode), O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0)
        (void)sys_close(fd);
}

/* The look that is under way may have begun before the caller came: the one after it has not. */
static bool wait_for_looks(int proc, int inode, struct flock *lock, int64_t deadline)
{
    int64_t start = lock->l_start;
    int64_t pause = FIRST_PAUSE;
    int looks = 0;

    do {
        int64_t length = lock->l_len;

        wake(lock->l_pid, inode);
        sys_sleep(pause);
        pause = pause * 2 < LAST_PAUSE ? pause * 2 : LAST_PAUSE;
        if (!look(proc, start, start + GUARDIAN_ROOM, lock))
            return true;
        looks += lock->l_len != length;
    } while (looks < 2 && sys_now() < deadline);
    return looks == 2;
}

/* For the guardians at from..to, of `inode` or, with -1, of anything. */
static bool wait_between(int64_t from, int64_t to, int inode, const struct stat *file, int64_t timeout)
{
    int64_t deadline = 0;
    bool waited = false;
    struct flock lock;
    int proc = rendezvous_open();

    if (proc < 0)
        return false;
    while (from < to && look(proc, from, to, &lock)) {
        /* what is no guardian's place anybody may have made, to keep us here */
        bool is_place = lock.l_pid > 0 && lock.l_start >= from && lock.l_start % GUARDIAN_ROOM == 0 &&
                        lock.l_len > 0 && lock.l_len <= GUARDIAN_ROOM;

        if (!is_place && (lock.l_start < from || lock.l_len == 0 || lock.l_len > GUARDIAN_ROOM))
            break;
        from = lock.l_start / GUARDIAN_ROOM * GUARDIAN_ROOM + GUARDIAN_ROOM;
        if (!is_place || !is_trusted(&lock, file))
            continue;
        if (deadline == 0)
            deadline = sys_now() + timeout;
        waited = true;
        if (!wait_for_looks(proc, inode, &lock, deadline)) {
            __atomic_store_n(&has_given_up, true, __ATOMIC_RELAXED);
            log_line(LOG_WARN, "the guardian %d does not answer: what it looks after may be seen late",
                     lock.l_pid);
            break;
        }
    }
    (void)sys_close(proc);
    return waited;
}

static bool may_wait(void)
{
    return !is_guardian && !__atomic_load_n(&has_given_up, __ATOMIC_RELAXED);
}

bool rendezvous_wait(int inode, int64_t timeout)
{
    struct stat file;
    int64_t room;

    /* the commit waits for a lock of this process's */
    if (!may_wait() || sys_fstat(inode, &file) != 0 || filelock_is_posix_obstacle(inode))
        return false;
    room = room_of(file.st_dev, file.st_ino);
    return wait_between(room, room + INODE_ROOM, inode, &file, timeout);
}

void rendezvous_wait_for_all(int64_t timeout)
{
    const struct stat none = {.st_uid = 0};

    if (may_wait())
        (void)wait_between(0, INT64_MAX - GUARDIAN_ROOM, -1, &none, timeout);
}
