/* Makes openers wait for guardians; rendezvous.h has the protocol. */
#include "store/rendezvous.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/proc.h"
#include "store/filelock.h"

#include <errno.h>

/*
 * An inode's offsets begin at a multiple of INODE_ROOM, a guardian's at a multiple of GUARDIAN_ROOM
 * within.
 */
enum { PLACES = 64 };
#define GUARDIAN_ROOM ((int64_t)1 << 16)
#define INODE_ROOM (PLACES * GUARDIAN_ROOM)

enum {
    LAST_PAUSE = 2 * 1000 * 1000,         /* nanoseconds */
    UNKNOWN_TIMEOUT = 1000 * 1000 * 1000, /* the wait where any process may hold the lock */
    STATUS_SIZE = 1024,                   /* the fields of /proc/PID/status up to "Uid", and more */
};

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

/* Two inodes may share a room: then openers of one wait for a guardian of the other to look. */
static int64_t room_of(dev_t device, ino_t number)
{
    uint64_t hash = ((uint64_t)number + (uint64_t)device * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd;

    return (int64_t)(hash >> 24) * INODE_ROOM & INT64_MAX;
}

/* Finds a lock of another process in start..end: false if there is none. */
static bool find_lock(int proc, int64_t start, int64_t end, struct flock *lock)
{
    *lock = (struct flock){.l_type = F_WRLCK, .l_start = start, .l_len = end - start};
    return sys_fcntl(proc, F_GETLK, (long)lock) == 0 && lock->l_type != F_UNLCK;
}

static void set_lock(const struct rendezvous *place, int proc, short type, int64_t from, int64_t length)
{
    struct flock lock = {.l_type = type, .l_start = place->start + from, .l_len = length};

    (void)sys_fcntl(proc, F_SETLK, (long)&lock);
}

/*
 * Two guardians that race for a place both see the conflict, and each goes on through the places in
 * an order of its own.
 */
void rendezvous_begin(struct rendezvous *place, int proc, dev_t device, ino_t number)
{
    int64_t room = room_of(device, number);
    unsigned first = (unsigned)sys_getpid();
    struct flock lock;

    is_guardian = true;
    for (unsigned i = 0; i < PLACES; i++) {
        *place = (struct rendezvous){.start = room + (first + i) % PLACES * GUARDIAN_ROOM};
        if (find_lock(proc, place->start, place->start + GUARDIAN_ROOM, &lock))
            continue;
        set_lock(place, proc, F_RDLCK, 0, 1);
        if (!find_lock(proc, place->start, place->start + GUARDIAN_ROOM, &lock))
            return;
        set_lock(place, proc, F_UNLCK, 0, 1);
    }
    /* shares a place with another guardian: openers may not wait for this one */
    set_lock(place, proc, F_RDLCK, 0, 1);
}

void rendezvous_looked(struct rendezvous *place, int proc)
{
    place->looks++;
    set_lock(place, proc, F_RDLCK, 0, place->looks + 1);
    if (place->looks + 2 < GUARDIAN_ROOM)
        return;
    set_lock(place, proc, F_UNLCK, 1, GUARDIAN_ROOM - 1);
    place->looks = 0;
}

enum trust { TRUST_NONE, TRUST_UNKNOWN, TRUST_OWN };

/*
 * Tells whether the process belongs to root or to this user: any other could take locks only to
 * make us wait. The real user id counts, which no set-id program changes. Without /proc a signal,
 * which is not sent, tells a user that is not root of its own processes (kill(2)).
 */
static enum trust get_trust(int process)
{
    uint64_t self = sys_geteuid();
    uint64_t user = 0;
    char text[STATUS_SIZE];
    struct stat status;

    if (proc_read(process, "status", text, sizeof text) > 0 && proc_find_field(text, "Uid", 10, &user))
        return user == 0 || user == self ? TRUST_OWN : TRUST_NONE;
    if (sys_fstatat(AT_FDCWD, "/proc/self", &status, 0) == 0)
        return TRUST_NONE;
    if (self == 0)
        return TRUST_UNKNOWN;
    return SYS_CALL(SYS_kill, process, 0, 0, 0, 0, 0) == 0 ? TRUST_OWN : TRUST_NONE;
}

/*
 * Wakes a guardian by a signal, which is harmless to every other process. All guardians watch their
 * inode: where this user may not send one, a read wakes them. An empty file has nothing to read;
 * opening it wakes them, too, but the close would drop the program's POSIX locks.
 */
static void wake_guardian(int process, int inode)
{
    char path[PROC_PATH_SIZE];
    char byte;
    int fd;

    if (SYS_CALL(SYS_kill, process, RENDEZVOUS_SIGNAL, 0, 0, 0, 0) == 0 || inode < 0)
        return;
    if (sys_pread(inode, &byte, 1, 0) > 0 || filelock_is_posix_holder(inode))
        return;
    fd = sys_openat(AT_FDCWD, descriptor_path(path, inode), O_RDONLY | O_CLOEXEC, 0);
    descriptor_close_if_open(fd);
}

/* A guardian that the caller waits for. Its present look may have begun before the caller came; the
 * next one begins later. */
struct awaited {
    int64_t start;
    int64_t length;
    int process;
    int looks; /* 2: done */
};

/* The guardians in the room of an inode. */
struct guardians {
    struct awaited list[PLACES];
    size_t count;
    bool is_unknown; /* one of them may be any process */
};

/* Asks for each place, since the kernel names any one of several locks. A lock that is no
 * guardian's may be any process's. */
static void find_guardians(int proc, int64_t room, struct guardians *guardians)
{
    struct flock lock;

    if (!find_lock(proc, room, room + INODE_ROOM, &lock))
        return;
    for (int64_t start = room; start < room + INODE_ROOM; start += GUARDIAN_ROOM) {
        enum trust trust = TRUST_NONE;

        if (find_lock(proc, start, start + GUARDIAN_ROOM, &lock) && lock.l_pid > 0 && lock.l_start == start &&
            lock.l_len > 0 && lock.l_len <= GUARDIAN_ROOM)
            trust = get_trust(lock.l_pid);
        if (trust == TRUST_NONE)
            continue;
        guardians->is_unknown |= trust == TRUST_UNKNOWN;
        guardians->list[guardians->count++] = (struct awaited){lock.l_start, lock.l_len, lock.l_pid, 0};
    }
}

/* Returns the number of guardians that the caller still has to wait for. */
static size_t look_at_each(int proc, struct guardians *guardians)
{
    struct flock lock;
    size_t left = 0;

    for (size_t i = 0; i < guardians->count; i++) {
        struct awaited *awaited = &guardians->list[i];

        if (awaited->looks == 2)
            continue;
        if (!find_lock(proc, awaited->start, awaited->start + GUARDIAN_ROOM, &lock))
            awaited->looks = 2;
        else if (lock.l_len != awaited->length) {
            awaited->length = lock.l_len;
            awaited->looks++;
        }
        left += awaited->looks < 2;
    }
    return left;
}

static void wait_for_each(int proc, int inode, struct guardians *guardians, int64_t timeout)
{
    int64_t pause = RENDEZVOUS_PAUSE;
    int64_t deadline =
        sys_now() + (guardians->is_unknown && timeout > UNKNOWN_TIMEOUT ? UNKNOWN_TIMEOUT : timeout);

    /* the holder of a lock may wait for this process, and the guardian's commit for the lock */
    while (look_at_each(proc, guardians) != 0 && !filelock_is_held_by_program(inode)) {
        if (sys_now() > deadline) {
            __atomic_store_n(&has_given_up, true, __ATOMIC_RELAXED);
            log_line(LOG_WARN,
                     "a guardian does not answer: this process may see a file before the guardian's commit");
            return;
        }
        for (size_t i = 0; i < guardians->count; i++)
            if (guardians->list[i].looks < 2)
                wake_guardian(guardians->list[i].process, inode);
        rendezvous_pause(&pause);
    }
}

static bool may_wait(void)
{
    return !is_guardian && !__atomic_load_n(&has_given_up, __ATOMIC_RELAXED);
}

bool rendezvous_wait(int inode, dev_t device, ino_t number, int64_t timeout)
{
    struct guardians guardians = {.count = 0};
    int proc;

    if (!may_wait())
        return false;
    proc = rendezvous_open();
    if (proc < 0)
        return false;
    find_guardians(proc, room_of(device, number), &guardians);
    if (guardians.count != 0)
        wait_for_each(proc, inode, &guardians, timeout);
    (void)sys_close(proc);
    return guardians.count != 0;
}
