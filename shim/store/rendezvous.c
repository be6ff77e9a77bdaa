#include "store/rendezvous.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "store/filelock.h"

#include <errno.h>

/* An inode's offsets begin at a multiple of INODE_ROOM, a guardian's at a multiple of GUARDIAN_ROOM within. */
enum { PLACES = 64 };
#define GUARDIAN_ROOM ((int64_t)1 << 16)
#define INODE_ROOM (PLACES * GUARDIAN_ROOM)

enum { LAST_PAUSE = 2 * 1000 * 1000 }; /* nanoseconds */

static bool is_guardian;
static bool has_given_up;

void rendezvous_pause(int64_t *pause)
{
    sys_sleep(*pause);
    *pause = *pause * 2 < LAST_PAUSE ? *pause * 2 : LAST_PAUSE;
}

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

/* Two that come to one place at once see each other there: both go on, in ways that are their own. */
void rendezvous_begin(struct rendezvous *place, int proc, dev_t device, ino_t number)
{
    int64_t room = room_of(device, number);
    unsigned first = (unsigned)sys_getpid();
    struct flock lock;

    is_guardian = true;
    for (unsigned i = 0; i < PLACES; i++) {
        *place = (struct rendezvous){.start = room + (first + i) % PLACES * GUARDIAN_ROOM};
        if (look(proc, place->start, place->start + GUARDIAN_ROOM, &lock))
            continue;
        put(place, proc, F_RDLCK, 0, 1);
        if (!look(proc, place->start, place->start + GUARDIAN_ROOM, &lock))
            return;
        put(place, proc, F_UNLCK, 0, 1);
    }
    put(place, proc, F_RDLCK, 0, 1); /* shared: who waits for the other one may not wait for us */
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

/* A guardian that is waited for. The look that is under way may have begun before the caller came: the one after it has not. */
struct awaited {
    int64_t start;
    int64_t length;
    int process;
    int looks; /* 2: done */
};

/* The guardians in the room of an inode. Each place is asked for: of several locks the kernel tells of any. */
static size_t find_guardians(int proc, int64_t room, const struct stat *file, struct awaited list[PLACES])
{
    struct flock lock;
    size_t count = 0;

    if (!look(proc, room, room + INODE_ROOM, &lock))
        return 0;
    for (int64_t start = room; start < room + INODE_ROOM; start += GUARDIAN_ROOM)
        /* what is no guardian's lock anybody may have made, to keep us here */
        if (look(proc, start, start + GUARDIAN_ROOM, &lock) && lock.l_pid > 0 && lock.l_start == start &&
            lock.l_len > 0 && lock.l_len <= GUARDIAN_ROOM && is_trusted(&lock, file))
            list[count++] = (struct awaited){lock.l_start, lock.l_len, lock.l_pid, 0};
    return count;
}

/* Returns how many are still to be waited for. */
static size_t look_at_each(int proc, struct awaited *list, size_t count)
{
    struct flock lock;
    size_t left = 0;

    for (size_t i = 0; i < count; i++) {
        if (list[i].looks == 2)
            continue;
        if (!look(proc, list[i].start, list[i].start + GUARDIAN_ROOM, &lock))
            list[i].looks = 2;
        else if (lock.l_len != list[i].length) {
            list[i].length = lock.l_len;
            list[i].looks++;
        }
        left += list[i].looks < 2;
    }
    return left;
}

static void wait_for_each(int proc, int inode, struct awaited *list, size_t count, int64_t deadline)
{
    int64_t pause = RENDEZVOUS_PAUSE;

    while (look_at_each(proc, list, count) != 0) {
        if (sys_now() > deadline) {
            __atomic_store_n(&has_given_up, true, __ATOMIC_RELAXED);
            log_line(LOG_WARN, "a guardian does not answer: what it looks after may be seen late");
            return;
        }
        for (size_t i = 0; i < count; i++)
            if (list[i].looks < 2)
                wake(list[i].process, inode);
        rendezvous_pause(&pause);
    }
}

static bool may_wait(void)
{
    return !is_guardian && !__atomic_load_n(&has_given_up, __ATOMIC_RELAXED);
}

bool rendezvous_wait(int inode, int64_t timeout)
{
    struct awaited list[PLACES];
    struct stat file;
    size_t count;
    int64_t room;
    int proc;

    /* the commit waits for a lock of this process's */
    if (!may_wait() || sys_fstat(inode, &file) != 0 || filelock_is_posix_obstacle(inode))
        return false;
    proc = rendezvous_open();
    if (proc < 0)
        return false;
    room = room_of(file.st_dev, file.st_ino);
    count = find_guardians(proc, room, &file, list);
    if (count != 0)
        wait_for_each(proc, inode, list, count, sys_now() + timeout);
    (void)sys_close(proc);
    return count != 0;
}
