#include "store/filelock.h"

#include "os/descriptor.h"
#include "os/proc.h"
#include "os/sys.h"
#include "store/calls.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>

enum {
    FIRST_PAUSE = 50 * 1000, /* nanoseconds */
    LONGEST_PAUSE = 20 * 1000 * 1000,
    TURN_PAUSE = 1000 * 1000,
    TURN_PAUSES = 20,
    TEXT_SIZE = 256, /* two lines of /proc/self/fdinfo */
};

/*
 * The last byte of a commit's lock says whose turn it is. No process gets the whole file while
 * another has this byte, and one that has got the whole file gives this byte back at once. So a
 * process that has waited for long can take its turn, and another that locks again and again, with
 * almost no pause, cannot get past it.
 */
static const int64_t turn_byte = INT64_MAX - 1;

/* The byte before it is in every commit's lock, and in no lock of a program: if two programs hold a
 * range each, it lets one of their commits in at a time. */
static const int64_t commit_byte = INT64_MAX - 2;

/* The last byte that can be locked, and in no commit's lock: filelock_claim(). */
static const int64_t claim_byte = INT64_MAX;

static int set_lock(int fd, int set, int type, int64_t start, int64_t end)
{
    struct flock lock = {.l_type = (short)type,
                         .l_whence = SEEK_SET,
                         .l_start = start,
                         .l_len = end == INT64_MAX ? 0 : end - start + 1};

    return (int)STORE_RETRY(store_calls.fcntl(fd, set, (long)&lock));
}

/* Finds a lock that conflicts with one of `type` from `start` to FILELOCK_PROGRAM_END, where
 * programs have theirs. Sets l_type to F_UNLCK if there is none. */
static int get_lock(int fd, int get, int type, int64_t start, struct flock *lock)
{
    *lock = (struct flock){.l_type = (short)type,
                           .l_whence = SEEK_SET,
                           .l_start = start,
                           .l_len = FILELOCK_PROGRAM_END - start + 1};
    return (int)STORE_RETRY(store_calls.fcntl(fd, get, (long)lock));
}

/*
 * Tells whether this process has a POSIX lock that excludes a description's lock, but not the
 * process's own POSIX locks. The kernel names one conflicting lock at a time, in no order: the
 * locks of others that lie before ours may hide it.
 */
static bool has_posix_lock(int fd)
{
    struct flock found = {.l_type = F_UNLCK};
    int64_t start = 0;

    while (start <= FILELOCK_PROGRAM_END && get_lock(fd, F_OFD_GETLK, F_WRLCK, start, &found) == 0 &&
           found.l_type != F_UNLCK && found.l_pid != sys_getpid() && found.l_len != 0)
        start = found.l_start + found.l_len;
    return found.l_type != F_UNLCK && found.l_pid == sys_getpid();
}

/* Tells whether a line "lock:\t1: OFDLCK ADVISORY WRITE -1 fe:00:1234 0 99", proc(5), describes a
 * lock of the program. The locks of commits end behind FILELOCK_PROGRAM_END. */
static int is_program_line(char *line, void *unused)
{
    const char *end = strrchr(line, ' ');
    uint64_t last;

    (void)unused;
    if (strncmp(line, "lock:", strlen("lock:")) != 0 || strstr(line, " FLOCK ") != NULL || end == NULL)
        return false;
    return proc_parse_number(end + 1, 10, &last) != end + 1 && last <= FILELOCK_PROGRAM_END;
}

static int is_lock_line(char *line, void *unused)
{
    (void)unused;
    return strncmp(line, "lock:", strlen("lock:")) == 0;
}

/* Calls `visit` with each line that /proc has about a descriptor. Returns as
 * proc_for_each_line(). */
static int for_each_info_line(int fd, int (*visit)(char *line, void *context), void *context)
{
    char text[TEXT_SIZE];
    char path[PROC_PATH_SIZE];
    int info = sys_openat(AT_FDCWD, descriptor_info_path(path, fd), O_RDONLY | O_CLOEXEC, 0);
    int result = info < 0 ? info : proc_for_each_line(info, text, sizeof text, visit, context);

    descriptor_close_if_open(info);
    return result;
}

bool filelock_is_locked_through(int fd)
{
    return for_each_info_line(fd, is_program_line, NULL) > 0;
}

/* A POSIX lock conflicts with a lock of our own description as with any other. */
static bool has_own_ofd_lock(int fd)
{
    struct flock other;

    return get_lock(fd, F_GETLK, F_WRLCK, 0, &other) == 0 && other.l_type != F_UNLCK &&
           filelock_is_locked_through(fd);
}

static int try_from(struct filelock *lock, int type, int64_t start)
{
    int error = set_lock(lock->fd, F_OFD_SETLK, type, start, start == 0 ? turn_byte : commit_byte);

    lock->start = start;
    if (error == 0 && start == 0)
        (void)set_lock(lock->fd, F_OFD_SETLK, F_UNLCK, turn_byte, turn_byte);
    return error == -EACCES ? -EAGAIN : error;
}

static int try_lock(struct filelock *lock, int type)
{
    bool is_ranged = lock->is_ranged || (!lock->is_unlocked && has_own_ofd_lock(lock->fd));
    int error = try_from(lock, type, is_ranged ? commit_byte : 0);

    /* a description's lock conflicts with this process's POSIX locks as with any other */
    return error == -EAGAIN && lock->start == 0 && has_posix_lock(lock->fd)
               ? try_from(lock, type, commit_byte)
               : error;
}

static uint64_t set_signal_mask(uint64_t mask)
{
    uint64_t old = 0;

    (void)sys_sigprocmask(&mask, &old);
    return old;
}

int filelock_wait(struct filelock_patience *patience)
{
    int64_t now = sys_now();

    if (patience->deadline == 0) {
        patience->deadline = now + patience->timeout;
        patience->pause = FIRST_PAUSE;
    }
    if (now >= patience->deadline)
        return -ETIMEDOUT;
    sys_sleep(patience->pause < patience->deadline - now ? patience->pause : patience->deadline - now);
    if (patience->pause < LONGEST_PAUSE)
        patience->pause *= 2;
    else
        patience->long_already = true;
    return 0;
}

bool filelock_is_patience_over(const struct filelock_patience *patience)
{
    return patience->timeout <= 0 || (patience->deadline != 0 && sys_now() >= patience->deadline);
}

/* Does what try_lock() does, for a caller that has waited for long. Signals are blocked here, so it
 * keeps its turn for a few pauses only. */
static int try_in_turn(struct filelock *lock, int type)
{
    int error = set_lock(lock->fd, F_OFD_SETLK, type, turn_byte, turn_byte);

    if (error != 0)
        return -EAGAIN;
    for (int i = 0; i < TURN_PAUSES && (i == 0 || error == -EAGAIN); i++) {
        sys_sleep(TURN_PAUSE);
        error = try_lock(lock, type);
    }
    if (error != 0 || lock->start != 0)
        (void)set_lock(lock->fd, F_OFD_SETLK, F_UNLCK, turn_byte, turn_byte);
    return error;
}

int filelock_try(struct filelock *lock, int fd, int type, const struct filelock_patience *patience)
{
    int error;

    lock->fd = fd;
    if (!lock->is_masked)
        lock->mask = set_signal_mask(~UINT64_C(0));
    error = try_lock(lock, type);
    if (error == -EAGAIN && patience->long_already)
        error = try_in_turn(lock, type);
    if (error != 0 && !lock->is_masked)
        (void)set_signal_mask(lock->mask);
    return error;
}

int filelock_acquire(struct filelock *lock, int fd, int type, int64_t timeout)
{
    struct filelock_patience patience = {.timeout = timeout};
    int error;

    lock->is_ranged = false;
    lock->is_unlocked = false;
    lock->is_masked = false;
    do {
        error = filelock_try(lock, fd, type, &patience);
        if (error != -EAGAIN)
            return error;
        error = filelock_wait(&patience);
    } while (error == 0);
    return error;
}

int filelock_commit_lock(int fd)
{
    return (int)STORE_RETRY(sys_flock(fd, LOCK_EX | LOCK_NB));
}

int filelock_commit_lock_process(int fd)
{
    /* one byte: longer locks mean something else (session/opener.c) */
    int error = set_lock(fd, F_SETLK, F_WRLCK, 0, 0);

    return error == -EACCES ? -EAGAIN : error;
}

void filelock_commit_unlock_process(int fd)
{
    (void)set_lock(fd, F_SETLK, F_UNLCK, 0, 0);
}

void filelock_release(const struct filelock *lock)
{
    (void)set_lock(lock->fd, F_OFD_SETLK, F_UNLCK, lock->start, lock->start == 0 ? turn_byte : commit_byte);
    if (!lock->is_masked)
        (void)set_signal_mask(lock->mask);
}

int filelock_keep(int fd, int64_t timeout)
{
    struct filelock lock;
    int error = filelock_acquire(&lock, fd, F_WRLCK, timeout);

    if (error == 0)
        (void)set_signal_mask(lock.mask);
    return error;
}

void filelock_give_up(int fd)
{
    (void)set_lock(fd, F_OFD_SETLK, F_UNLCK, 0, turn_byte);
}

void filelock_end_program(int fd)
{
    (void)set_lock(fd, F_OFD_SETLK, F_UNLCK, 0, FILELOCK_PROGRAM_END);
    (void)sys_flock(fd, LOCK_UN);
}

bool filelock_is_posix_holder(int fd)
{
    struct flock found;

    return get_lock(fd, F_OFD_GETLK, F_WRLCK, 0, &found) != 0 || found.l_type != F_UNLCK;
}

bool filelock_is_posix_obstacle(int fd)
{
    return has_posix_lock(fd);
}

bool filelock_is_held_by_program(int fd)
{
    struct flock found;

    return get_lock(fd, F_OFD_GETLK, F_WRLCK, 0, &found) == 0 && found.l_type != F_UNLCK &&
           (found.l_len == 0 || found.l_start + found.l_len - 1 <= FILELOCK_PROGRAM_END);
}

bool filelock_is_held_by_other(int fd)
{
    struct flock found;

    return get_lock(fd, F_OFD_GETLK, F_WRLCK, 0, &found) == 0 && found.l_type != F_UNLCK &&
           found.l_pid != sys_getpid() && for_each_info_line(fd, is_lock_line, NULL) == 0;
}

bool filelock_is_write_locked(int fd)
{
    /* up to the byte that is in every commit's lock */
    struct flock found = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = commit_byte + 1};

    return (int)STORE_RETRY(store_calls.fcntl(fd, F_OFD_GETLK, (long)&found)) == 0 && found.l_type != F_UNLCK;
}

int filelock_claim(int fd)
{
    int error = set_lock(fd, F_OFD_SETLK, F_WRLCK, claim_byte, INT64_MAX);

    return error == -EACCES ? -EAGAIN : error;
}

void filelock_disclaim(int fd)
{
    (void)set_lock(fd, F_OFD_SETLK, F_UNLCK, claim_byte, INT64_MAX);
}

bool filelock_is_claimed(int fd)
{
    struct flock found = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = claim_byte};

    return (int)STORE_RETRY(store_calls.fcntl(fd, F_OFD_GETLK, (long)&found)) == 0 && found.l_type != F_UNLCK;
}
