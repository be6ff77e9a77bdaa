/*
 * An advisory lock on a whole file with a deadline: an open file description lock (fcntl(2), F_OFD_SETLK). It
 * conflicts with every other description's OFD lock and with every POSIX lock, on this host, and on others
 * where the file system's fcntl locks are cluster-wide.
 */
#ifndef ATOMSHIM_FILELOCK_H
#define ATOMSHIM_FILELOCK_H

#include <stdint.h>

/*
 * Locks the whole file of `fd`. `type` is F_WRLCK (fd must be writable) or F_RDLCK (fd must be readable).
 * Waits up to `timeout` nanoseconds, with growing pauses: a signal handler may run in between, and no signal
 * is used. Returns 0, -ETIMEDOUT, or what the kernel says (-ENOLCK, -EBADF, -EINVAL where it has no OFD
 * locks). A second lock on the same description replaces the first.
 * With mask != NULL all signals are blocked in this thread while it has the lock, and *mask is what was
 * blocked before: a handler that wanted the same lock would wait for the thread that it interrupts.
 */
int filelock_acquire(int fd, int type, int64_t timeout, uint64_t *mask);

/* Gives the lock back, and the signals if `mask` is not NULL. Returns 0 or a negative errno. */
int filelock_release(int fd, const uint64_t *mask);

#endif
