/* Writes bytes to a file; over the old ones of a plain file out of reach of a kill. */
#include "store/calls.h"
#include "store/internal.h"

#include <errno.h>
#include <linux/sched.h>
#include <linux/wait.h>

/* Cuts the file and writes over its old bytes. Nothing comes between the two calls: a kill there
 * would show a reader without the shim a file that is merely short. */
static int overwrite_bytes(int inode, const struct store_payload *payload, uint64_t file_size)
{
    uint64_t done = 0;
    int error = payload->size < file_size ? (int)STORE_RETRY(store_calls.ftruncate(inode, payload->size)) : 0;

    /* once, unless the kernel stops short: 2 GiB, a full disk */
    while (error == 0 && done < payload->size) {
        struct iovec piece = {(char *)payload->bytes + done, payload->size - done};
        ssize_t n = STORE_RETRY(store_calls.pwritev(inode, &piece, 1, done));

        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        done += (uint64_t)n;
    }
    return error;
}

/*
 * A SIGKILL stops a large write between two pages, and a program between two calls. So a vfork
 * child in a process group of its own makes them, out of reach of a kill of our process or its
 * group; a kill of our process only ends the wait. The lock stays until the child ends: it shares
 * our descriptors. With a copy of them it would keep a session open that another thread closes
 * meanwhile; then this close would not be the last one, and commit nothing. No exit signal: the
 * program never hears of the child. Not inlined: the child runs on our stack and must find this
 * frame whole.
 */
static __attribute__((noinline)) int overwrite_shielded(int inode, const struct store_payload *payload,
                                                        uint64_t file_size)
{
    volatile int error = -EINTR;
    const uint64_t all = ~(uint64_t)0; /* signals */
    uint64_t mask;
    long child;

    (void)sys_sigprocmask(&all, &mask);
    child = SYS_CALL(SYS_clone, CLONE_VM | CLONE_FILES | CLONE_VFORK, 0, 0, 0, 0, 0);
    if (child == 0) {
        (void)SYS_CALL(SYS_setpgid, 0, 0, 0, 0, 0, 0);
        error = overwrite_bytes(inode, payload, file_size);
        for (;;)
            (void)SYS_CALL(SYS_exit, 0, 0, 0, 0, 0, 0);
    }
    if (child > 0)
        (void)sys_wait((int)child, NULL);
    else
        error = overwrite_bytes(inode, payload, file_size);
    (void)sys_sigprocmask(&mask, NULL);
    return error;
}

/* True if one call that no kill interrupts is enough: a write inside one page, or only the cut. */
static bool is_one_call(const struct store_payload *payload, uint64_t file_size)
{
    return payload->size == 0 || (payload->size <= IMAGE_PAGE && payload->size >= file_size);
}

int store_overwrite(int inode, const struct store_payload *payload, uint64_t file_size)
{
    int error = -EINTR;

    if (!is_one_call(payload, file_size))
        error = overwrite_shielded(inode, payload, file_size);
    if (error == -EINTR) /* or something killed the child alone, as a seccomp filter may */
        error = overwrite_bytes(inode, payload, file_size);
    return error;
}

int store_write_bytes(int fd, const char *bytes, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = STORE_RETRY(store_calls.pwrite(fd, bytes + done, size - done, offset + done));

        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        done += (size_t)n;
    }
    return 0;
}
