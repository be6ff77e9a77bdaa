/*
 * An advisory lock on a whole file with a deadline: an open file description lock (fcntl(2), F_OFD_SETLK). It
 * conflicts with every other description's OFD lock and with every POSIX lock, on this host, and on others
 * where the file system's fcntl locks are cluster-wide.
 *
 * The program may hold locks of its own on the same file (interpose/lock.c puts them on the real inode). They
 * are no obstacle, they stay as they are, and no other process gets in between:
 *   - OFD locks lie on the session's private description: the whole-file lock takes them in, and the release
 *     leaves their ranges locked.
 *   - POSIX locks of this process would conflict with an OFD lock even here. They already keep every other
 *     process's whole-file lock out; the whole-file lock is a POSIX lock then, and threads exclude each other.
 */
#ifndef ATOMSHIM_FILELOCK_H
#define ATOMSHIM_FILELOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { FILELOCK_RANGES = 16 };

/* A range that the program has locked. Bytes from `start` to `end`, inclusive as in /proc/locks; INT64_MAX: no end */
struct filelock_range {
    int64_t start;
    int64_t end;
    short type; /* F_RDLCK or F_WRLCK */
};

/* A lock that is held. */
struct filelock {
    int fd;
    int set; /* F_OFD_SETLK, F_SETLK, or 0: this process's own POSIX lock does */
    uint64_t mask;
    int kept_count; /* what the program holds, in ascending order */
    struct filelock_range kept[FILELOCK_RANGES];
};

/*
 * Locks the whole file of `fd`. `type` is F_WRLCK (fd must be writable) or F_RDLCK (fd must be readable).
 * Waits up to `timeout` nanoseconds, with growing pauses: a signal handler may run in between, and no signal
 * is used. Who has waited for long gets its turn, though others lock the file again and again. While the lock is
 * held all signals are blocked in this thread: a handler that wanted the same lock would wait for the thread that
 * it interrupts. Returns 0 and fills *lock, or -ETIMEDOUT, or what the kernel
 * says (-ENOLCK, -EBADF, -EINVAL where it has no OFD locks); also -ENOLCK if the program holds more than
 * FILELOCK_RANGES ranges.
 */
int filelock_acquire(struct filelock *lock, int fd, int type, int64_t timeout);

/* Gives the lock back, but for what the program holds, and the signals. */
void filelock_release(const struct filelock *lock);

/* flock() on the description of `fd`, exclusively, until it is closed. Returns 0, -ETIMEDOUT, or a negative errno. */
int filelock_commit_lock(int fd, int64_t timeout);

/* The same between processes only, by their POSIX locks: until filelock_commit_unlock_process(), or until this process closes
 * any descriptor of the file. */
int filelock_commit_lock_process(int fd, int64_t timeout);
void filelock_commit_unlock_process(int fd);

/* Locks the whole file of `fd` exclusively until its description is closed. Errors as of filelock_acquire(). */
int filelock_keep(int fd, int64_t timeout);

/* Ends what filelock_keep() began, though the description stays open in other processes. */
void filelock_give_up(int fd);

/* True if this process may hold a POSIX lock on the file of `fd`: closing any descriptor of it would drop that. */
bool filelock_is_posix_holder(int fd);

/* True if others cannot lock the file of `fd` for a POSIX lock of this process's. */
bool filelock_is_posix_obstacle(int fd);

/* True if another process has a lock on the file of `fd`, and nobody took one through the description of `fd`. */
bool filelock_is_anothers(int fd);

#endif
