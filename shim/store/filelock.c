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
 * The last byte that can be locked: whose turn it is. Nobody gets the whole file while another has this byte, and who
 * has got the whole file gives this byte back at once. So a process that has waited for long can take its turn, and
 * the one that locks again and again, with next to no time in between, cannot get past it.
 */
static const int64_t turn = INT64_MAX;

/* The thread of this process that has a whole-file POSIX lock, which does not exclude the other threads: process and
 * thread in one word, so that a forked child does not wait for a thread that it has not. */
static uint64_t posix_thread;

static int set_lock(int fd, int set, int type, int64_t start, int64_t end)
{
    struct flock lock = {.l_type = (short)type,
                         .l_whence = SEEK_SET,
                         .l_start = start,
                         .l_len = end == INT64_MAX ? 0 : end - start + 1};

    return (int)STORE_RETRY(store_calls.fcntl(fd, set, (long)&lock));
}

/* What stands in the way of a lock of `type` from `start` on; l_type F_UNLCK: nothing. */
static int get_lock(int fd, int get, int type, int64_t start, struct flock *lock)
{
    *lock = (struct flock){.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start};
    return (int)STORE_RETRY(store_calls.fcntl(fd, get, (long)lock));
}

static int keep(struct filelock *lock, int64_t start, int64_t end, short type)
{
    if (lock->kept_count == FILELOCK_RANGES)
        return -ENOLCK;
    lock->kept[lock->kept_count++] = (struct filelock_range){start, end, type};
    return 0;
}

/* Notes the POSIX locks of this process that a lock of `type` conflicts with. -EAGAIN: others hold one, too. */
static int find_posix(struct filelock *lock, int type)
{
    int self = sys_getpid();
    int64_t start = 0;
    int error = 0;

    lock->kept_count = 0;
    while (error == 0) {
        struct flock found;

        error = get_lock(lock->fd, F_OFD_GETLK, type, start, &found);
        if (error != 0 || found.l_type == F_UNLCK)
            break;
        if (found.l_pid != self)
            return -EAGAIN;
        start = found.l_len == 0 ? INT64_MAX : found.l_start + found.l_len;
        error = keep(lock, found.l_start, found.l_len == 0 ? INT64_MAX : start - 1, found.l_type);
        if (start == INT64_MAX)
            break;
    }
    return error;
}

/* "lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:1234 0 EOF", proc(5): kept if it is an OFD lock */
static int note_lock(char *line, void *context)
{
    uint64_t start;
    uint64_t end;
    const char *at = strstr(line, " OFDLCK ");
    short type;

    if (at == NULL)
        return 0;
    type = strstr(at, " WRITE ") != NULL ? F_WRLCK : F_RDLCK;
    at = strrchr(line, ' ');
    if (proc_parse_number(at + 1, 10, &end) == at + 1)
        end = INT64_MAX;
    for (at--; at > line && *at != ' '; at--)
        continue;
    (void)proc_parse_number(at + 1, 10, &start);
    if ((int64_t)start == turn) /* no lock of the program's */
        return 0;
    return keep(context, (int64_t)start, (int64_t)end, type);
}

/* Calls `visit` with each line of what the kernel tells of a descriptor. Returns as proc_for_each_line(). */
static int for_each_info_line(int fd, int (*visit)(char *line, void *context), void *context)
{
    char text[TEXT_SIZE];
    char path[PROC_PATH_SIZE];
    int info = sys_openat(AT_FDCWD, descriptor_info_path(path, fd), O_RDONLY | O_CLOEXEC, 0);
    int result = info < 0 ? info : proc_for_each_line(info, text, sizeof text, visit, context);

    descriptor_close_if_open(info);
    return result;
}

/* Notes the OFD locks that the program took through this very description. Without /proc none can be told.
 * Returns 0, or -ENOLCK for too many. */
static int find_ofd(struct filelock *lock)
{
    int error = for_each_info_line(lock->fd, note_lock, lock);

    return error == -ENOLCK ? error : 0;
}

static bool enter_posix(void)
{
    uint64_t process = (uint64_t)sys_getpid() << 32;
    uint64_t self = process | (uint32_t)sys_gettid();
    uint64_t holder = __atomic_load_n(&posix_thread, __ATOMIC_ACQUIRE);

    if (holder != 0 && (holder & ~UINT64_C(0xffffffff)) == process)
        return false;
    return __atomic_compare_exchange_n(&posix_thread, &holder, self, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static void leave_posix(void)
{
    __atomic_store_n(&posix_thread, 0, __ATOMIC_RELEASE);
}

static bool holds_write_lock(const struct filelock *lock)
{
    for (int i = 0; i < lock->kept_count; i++)
        if (lock->kept[i].type == F_WRLCK)
            return true;
    return false;
}

/* What the program holds keeps every commit of others out: a reader needs no more, and must not weaken it. */
static int do_without(struct filelock *lock)
{
    lock->set = 0;
    lock->kept_count = 0;
    return 0;
}

/* This process holds POSIX locks in the way: they become one over the whole file. */
static int try_posix(struct filelock *lock, int type)
{
    int error = find_posix(lock, type);

    if (error != 0 || lock->kept_count == 0)
        return error != 0 ? error : -EAGAIN;
    if (type == F_RDLCK)
        return do_without(lock);
    if (!enter_posix())
        return -EAGAIN;
    error = find_posix(lock, type);
    lock->set = F_SETLK;
    if (error == 0)
        error = set_lock(lock->fd, F_SETLK, type, 0, INT64_MAX);
    if (error != 0)
        leave_posix();
    return error;
}

static int try(struct filelock *lock, int type)
{
    struct flock other;
    int error;

    lock->kept_count = 0;
    /* an OFD lock of our own description looks like anybody's to a POSIX lock */
    error = get_lock(lock->fd, F_GETLK, F_WRLCK, 0, &other);
    if (error == 0 && other.l_type != F_UNLCK)
        error = find_ofd(lock);
    if (error != 0)
        return error;
    if (type == F_RDLCK && holds_write_lock(lock))
        return do_without(lock);
    lock->set = F_OFD_SETLK;
    error = set_lock(lock->fd, F_OFD_SETLK, type, 0, INT64_MAX);
    if (error == 0 && lock->kept_count == 0)
        (void)set_lock(lock->fd, F_OFD_SETLK, F_UNLCK, turn, INT64_MAX);
    return error == -EAGAIN || error == -EACCES ? try_posix(lock, type) : error;
}

static uint64_t set_signal_mask(uint64_t mask)
{
    uint64_t old = 0;

    (void)sys_sigprocmask(&mask, &old);
    return old;
}

/* Between two attempts. */
struct patience {
    int64_t timeout;
    int64_t deadline; /* 0: no attempt has failed yet */
    int64_t pause;
    bool long_already;
};

/* Pauses, ever longer; -ETIMEDOUT when the time is over. */
static int wait_a_little(struct patience *patience)
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

/* try() for one who has waited for long. Signals are blocked here: the turn is not kept for more than a few pauses. */
static int try_in_turn(struct filelock *lock, int type, struct patience *patience)
{
    int error = set_lock(lock->fd, F_OFD_SETLK, type, turn, INT64_MAX);

    if (error != 0)
        return -EAGAIN;
    patience->pause = FIRST_PAUSE;
    for (int i = 0; i < TURN_PAUSES && (i == 0 || error == -EAGAIN); i++) {
        sys_sleep(TURN_PAUSE);
        error = try(lock, type);
    }
    if (error != 0 || lock->set != F_OFD_SETLK)
        (void)set_lock(lock->fd, F_OFD_SETLK, F_UNLCK, turn, INT64_MAX);
    return error;
}

int filelock_acquire(struct filelock *lock, int fd, int type, int64_t timeout)
{
    struct patience patience = {.timeout = timeout};
    int error;

    lock->fd = fd;
    do {
        lock->mask = set_signal_mask(~UINT64_C(0));
        error = try(lock, type);
        if (error == -EAGAIN && patience.long_already)
            error = try_in_turn(lock, type, &patience);
        if (error == 0)
            return 0;
        (void)set_signal_mask(lock->mask);
        if (error == -EAGAIN)
            error = wait_a_little(&patience);
    } while (error == 0);
    return error;
}

static int lock_description(int fd)
{
    return sys_flock(fd, LOCK_EX | LOCK_NB);
}

static int lock_process(int fd)
{
    int error =
        set_lock(fd, F_SETLK, F_WRLCK, 0, 0); /* one byte: others mean something else (session/opener.c) */

    return error == -EACCES ? -EAGAIN : error;
}

static int guard(int fd, int (*attempt)(int fd), int64_t timeout)
{
    struct patience patience = {.timeout = timeout};
    int error;

    do {
        error = (int)STORE_RETRY(attempt(fd));
        if (error != -EAGAIN)
            return error;
        error = wait_a_little(&patience);
    } while (error == 0);
    return error;
}

int filelock_commit_lock(int fd, int64_t timeout)
{
    return guard(fd, lock_description, timeout);
}

int filelock_commit_lock_process(int fd, int64_t timeout)
{
    return guard(fd, lock_process, timeout);
}

void filelock_commit_unlock_process(int fd)
{
    (void)set_lock(fd, F_SETLK, F_UNLCK, 0, 0);
}

void filelock_release(const struct filelock *lock)
{
    int64_t start = 0;

    for (int i = 0; lock->set != 0 && i < lock->kept_count; i++) {
        const struct filelock_range *range = &lock->kept[i];

        if (range->start > start)
            (void)set_lock(lock->fd, lock->set, F_UNLCK, start, range->start - 1);
        if (range->type == F_RDLCK)
            (void)set_lock(lock->fd, lock->set, F_RDLCK, range->start, range->end);
        start = range->end == INT64_MAX ? -1 : range->end + 1;
    }
    if (lock->set != 0 && start >= 0)
        (void)set_lock(lock->fd, lock->set, F_UNLCK, start, INT64_MAX);
    if (lock->set == F_SETLK)
        leave_posix();
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
    (void)set_lock(fd, F_OFD_SETLK, F_UNLCK, 0, INT64_MAX);
}

bool filelock_is_posix_holder(int fd)
{
    struct filelock lock = {.fd = fd};

    return find_posix(&lock, F_WRLCK) != 0 || lock.kept_count != 0;
}

bool filelock_is_posix_obstacle(int fd)
{
    struct filelock lock = {.fd = fd};

    (void)find_posix(&lock, F_WRLCK);
    return lock.kept_count != 0;
}

static int is_lock(char *line, void *unused)
{
    (void)unused;
    return strncmp(line, "lock:", strlen("lock:")) == 0;
}

/* Tells whether a lock was taken through this description. Where /proc cannot tell the answer is yes. */
static bool is_locked_through(int fd)
{
    return for_each_info_line(fd, is_lock, NULL) != 0;
}

bool filelock_is_anothers(int fd)
{
    struct flock found;

    return get_lock(fd, F_OFD_GETLK, F_WRLCK, 0, &found) == 0 && found.l_type != F_UNLCK &&
           found.l_pid != sys_getpid() && !is_locked_through(fd);
}
