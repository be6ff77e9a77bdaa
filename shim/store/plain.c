/*
 * The plain format: for files that programs without the shim must read. One write of the whole payload over
 * the old one. A kill cannot cut it, since a process of its own makes it; a power cut can.
 */
#include "store/store.h"

#include "store/calls.h"

#include <errno.h>
#include <linux/sched.h>
#include <linux/wait.h>

/* A kernel signal set: all signals blocked. */
static const uint64_t all_signals = ~(uint64_t)0;

/* What a kill must not part: the write over the old bytes, and the cut that takes away what is left of them. */
static int overwrite(int inode, const struct store_payload *payload, uint64_t file_size)
{
    uint64_t done = 0;

    while (done < payload->size) { /* once, but where the kernel stops short: 2 GiB, a full disk */
        struct iovec piece = {(char *)payload->bytes + done, payload->size - done};
        ssize_t n = STORE_RETRY(store_calls.pwritev(inode, &piece, 1, done));

        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        done += (uint64_t)n;
    }
    return payload->size < file_size ? (int)STORE_RETRY(store_calls.ftruncate(inode, payload->size)) : 0;
}

/*
 * A SIGKILL stops a large write between two pages, and a program between two calls. These are made by a vfork child
 * in a session of its own, out of reach of a kill of our process or its group; we, if killed, only stop waiting. The
 * lock stays until the child ends: it has our descriptors. No exit signal: the program never hears of the child. Not
 * inlined: the child runs on our stack and must find this frame whole.
 */
static __attribute__((noinline)) int overwrite_shielded(int inode, const struct store_payload *payload,
                                                        uint64_t file_size)
{
    volatile int error = -EINTR;
    uint64_t mask;
    long child;

    (void)sys_sigprocmask(&all_signals, &mask);
    child = SYS_CALL(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, 0);
    if (child == 0) {
        (void)SYS_CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
        error = overwrite(inode, payload, file_size);
        for (;;)
            (void)SYS_CALL(SYS_exit, 0, 0, 0, 0, 0, 0);
    }
    if (child > 0)
        while (SYS_CALL(SYS_wait4, child, 0, __WALL, 0, 0, 0) == -EINTR)
            continue;
    else
        error = overwrite(inode, payload, file_size);
    (void)sys_sigprocmask(&mask, NULL);
    return error;
}

/* One call that a kill does not cut: a write inside one page, or nothing but the cut. */
static bool is_one_call(const struct store_payload *payload, uint64_t file_size)
{
    return payload->size == 0 || (payload->size <= IMAGE_PAGE && payload->size >= file_size);
}

int store_commit_plain(int inode, const struct store_payload *payload, bool sync)
{
    struct stat status;
    uint64_t file_size;
    int error = (int)STORE_RETRY(store_calls.fstat(inode, &status));

    if (error != 0)
        return error;
    file_size = (uint64_t)status.st_size;
    if (payload->size > file_size) {
        /* only what is new: xfs reserves the whole range that it is given */
        error = (int)STORE_RETRY(
            store_calls.fallocate(inode, FALLOC_FL_KEEP_SIZE, file_size, payload->size - file_size));
        if (error != 0 && error != -EOPNOTSUPP && error != -ENOSYS) {
            (void)STORE_RETRY(store_calls.ftruncate(inode, file_size)); /* ext4 keeps what it got */
            return error;
        }
    }
    if (!is_one_call(payload, file_size))
        error = overwrite_shielded(inode, payload, file_size);
    if (is_one_call(payload, file_size) ||
        error == -EINTR) /* somebody killed the child alone, a filter perhaps */
        error = overwrite(inode, payload, file_size);
    /* that of a first commit that died could cut off zeros that are content now */
    if (image_size_possible(payload->size))
        (void)STORE_RETRY(store_calls.fremovexattr(inode, IMAGE_NOTE_NAME));
    if (error == 0 && sync)
        error = (int)STORE_RETRY(store_calls.fdatasync(inode));
    return error;
}
