/*
 * The plain format: for files that programs without the shim must read. One write of the whole payload over
 * the old one. A kill cannot cut it, since a process of its own makes it; a power cut can.
 */
#include "store.h"

#include "store_calls.h"

#include <errno.h>
#include <linux/sched.h>
#include <linux/wait.h>

/* A kernel signal set: all signals blocked. */
static const uint64_t all_signals = ~(uint64_t)0;

static ssize_t write_payload(int inode, const struct store_payload *payload, uint64_t done)
{
    struct iovec piece = {(char *)payload->bytes + done, payload->size - done};

    return store_calls.pwritev(inode, &piece, 1, done);
}

/*
 * A SIGKILL stops a large write between two pages. This one is made by a vfork child in a session of its own,
 * out of reach of a kill of our process or its group; we, if killed, only stop waiting. No exit signal: the
 * program never hears of the child. Not inlined: the child runs on our stack and must find this frame whole.
 */
static __attribute__((noinline)) ssize_t write_shielded(int inode, const struct store_payload *payload)
{
    volatile ssize_t written = -EINTR;
    uint64_t mask;
    long child;

    if (payload->size <= IMAGE_PAGE) /* inside one page a write is not cut */
        return write_payload(inode, payload, 0);
    (void)sys_sigprocmask(&all_signals, &mask);
    child = SYS_CALL(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, 0);
    if (child == 0) {
        (void)SYS_CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
        written = write_payload(inode, payload, 0);
        for (;;)
            (void)SYS_CALL(SYS_exit, 0, 0, 0, 0, 0, 0);
    }
    if (child > 0)
        while (SYS_CALL(SYS_wait4, child, 0, __WALL, 0, 0, 0) == -EINTR)
            continue;
    else
        written = write_payload(inode, payload, 0);
    (void)sys_sigprocmask(&mask, NULL);
    return written;
}

int store_commit_plain(int inode, const struct store_payload *payload, bool sync)
{
    struct stat status;
    uint64_t done = 0;
    int error = store_calls.fstat(inode, &status);

    if (error != 0)
        return error;
    if (payload->size > (uint64_t)status.st_size) {
        uint64_t size = (uint64_t)status.st_size;

        /* only what is new: xfs reserves the whole range that it is given */
        error = store_calls.fallocate(inode, FALLOC_FL_KEEP_SIZE, size, payload->size - size);
        if (error != 0 && error != -EOPNOTSUPP && error != -ENOSYS) {
            (void)store_calls.ftruncate(inode, size); /* ext4 keeps what it got */
            return error;
        }
    }
    while (done < payload->size) {
        ssize_t n = done == 0 ? write_shielded(inode, payload) : write_payload(inode, payload, done);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        done += (uint64_t)n;
    }
    if (payload->size < (uint64_t)status.st_size)
        error = store_calls.ftruncate(inode, payload->size);
    else
        error = 0;
    if (error == 0 && sync)
        error = store_calls.fdatasync(inode);
    return error;
}
