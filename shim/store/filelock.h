/*
 * The lock of a commit: an advisory lock on a whole file with a deadline, an open file
 * description lock (fcntl(2), F_OFD_SETLK). It conflicts with every other description's OFD lock
 * and with every POSIX lock, on this host, and on others where the file system's fcntl locks are
 * cluster-wide.
 *
 * The program may hold locks of its own on the same file. interpose/lock.c puts them on the real
 * inode, and none beyond FILELOCK_PROGRAM_END. A program that holds one shares the file by ranges:
 * its commit must not wait for the ranges of others, which may wait for the same. So its commit
 * locks one byte behind the end, which every commit's lock covers: commits exclude each other, and
 * a program without a lock commits only while no program holds one.
 */
#ifndef ATOMSHIM_FILELOCK_H
#define ATOMSHIM_FILELOCK_H

#include <stdbool.h>
#include <stdint.h>

/* The last byte that a program's lock may cover. The three behind it are ours. */
#define FILELOCK_PROGRAM_END (INT64_MAX - 3)

/* A lock that is held. */
struct filelock {
    int fd;
    bool is_ranged;   /* before filelock_try(): another description of the program has a lock */
    bool is_unlocked; /* before filelock_try(): the program has no lock through this description */
    bool is_masked;   /* before filelock_try(): the caller has blocked all signals */
    int64_t start;    /* where the locked range begins */
    uint64_t mask;
};

/* The state of a caller that waits, between its attempts. The caller sets the timeout, in
 * nanoseconds, and the rest to 0. */
struct filelock_patience {
    int64_t timeout;
    int64_t deadline; /* 0: no attempt has failed yet */
    int64_t pause;
    bool long_already;
    uint64_t mask; /* set by the caller: the signals that were blocked before it blocked all */
};

/*
 * Locks the file of `fd` for a commit, or for a reader that has to keep commits out. `type` is
 * F_WRLCK (fd must be writable) or F_RDLCK (fd must be readable). While the lock is held all
 * signals are blocked in this thread: a handler that wanted the same lock would wait for the thread
 * that it interrupts, and one that jumps out would leave the lock behind. Returns 0 and fills
 * *lock; -EAGAIN if another description has it, with nothing changed; or the kernel's errno
 * (-ENOLCK, -EBADF, -EINVAL where it has no OFD locks). If *patience has lasted for long already,
 * the attempt takes its turn: then no process that locks the file again and again gets in between.
 */
int filelock_try(struct filelock *lock, int fd, int type, const struct filelock_patience *patience);

/* Pauses before the next attempt, ever longer. Signal handlers run meanwhile, and may jump out:
 * nothing is held. Returns 0, or -ETIMEDOUT at once when the time is over. */
int filelock_wait(struct filelock_patience *patience);

/* True if the time is over, or there is none. */
bool filelock_is_patience_over(const struct filelock_patience *patience);

/* Calls filelock_try() and filelock_wait() until there is an answer. Returns -ETIMEDOUT after
 * `timeout` nanoseconds, else the same as they do. */
int filelock_acquire(struct filelock *lock, int fd, int type, int64_t timeout);

/* Gives the lock back, and the signals. */
void filelock_release(const struct filelock *lock);

/* Locks the description of `fd` exclusively, by flock(2), until it is closed. Returns 0, -EAGAIN if
 * another description has the lock, or the negative errno of flock(2). */
int filelock_commit_lock(int fd);

/* Excludes processes only, by a POSIX lock: until filelock_commit_unlock_process(), or until this
 * process closes any descriptor of the file. */
int filelock_commit_lock_process(int fd);
void filelock_commit_unlock_process(int fd);

/* Locks the whole file of `fd` exclusively until its description is closed. Returns as
 * filelock_acquire() does. */
int filelock_keep(int fd, int64_t timeout);

/* Ends what filelock_keep() began, though the description stays open in other processes. */
void filelock_give_up(int fd);

/* Gives back what the program has locked through this description: OFD locks and flock(). */
void filelock_end_program(int fd);

/* True if this process may hold a POSIX lock on the file of `fd`: closing any descriptor of it
 * would drop that. */
bool filelock_is_posix_holder(int fd);

/* True if a POSIX lock of this process keeps others from locking the file of `fd`. */
bool filelock_is_posix_obstacle(int fd);

/* True if another description than that of `fd`, which must be readable, holds a lock that excludes
 * readers. Takes no lock. */
bool filelock_is_write_locked(int fd);

/* True if a program, this one or another, has a lock on the file of `fd`, by another description,
 * that a commit has to wait for. Takes no lock. */
bool filelock_is_held_by_program(int fd);

/* True if the program has taken a lock through the description of `fd` by fcntl(2); false where
 * /proc cannot tell. */
bool filelock_is_locked_through(int fd);

/* True if another process has a lock on the file of `fd`, and none was taken through the
 * description of `fd`. */
bool filelock_is_held_by_other(int fd);

/*
 * The claim says that the program behind the description of `fd`, which must be writable, has the
 * file for itself: see session_claim_file(). It conflicts with no lock of a commit, and lasts until
 * filelock_disclaim() or the close of the description. Returns 0, -EAGAIN if another description
 * has it, or the negative errno of fcntl(2).
 */
int filelock_claim(int fd);
void filelock_disclaim(int fd);

/* True if another description than that of `fd`, which must be readable, has the claim. Takes no
 * lock. */
bool filelock_is_claimed(int fd);

#endif
