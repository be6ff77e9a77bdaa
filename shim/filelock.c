#include "filelock.h"

#include "store_calls.h"
#include "sys.h"

#include <errno.h>

enum { FIRST_PAUSE = 50 * 1000, LONGEST_PAUSE = 20 * 1000 * 1000 }; /* nanoseconds */

static int set_lock(int fd, int type)
{
    struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET};

    return (int)store_calls.fcntl(fd, F_OFD_SETLK, (long)&lock);
}

static uint64_t set_signal_mask(uint64_t mask)
{
    uint64_t old = 0;

    (void)sys_sigprocmask(&mask, &old);
    return old;
}

int filelock_acquire(int fd, int type, int64_t timeout, uint64_t *mask)
{
    int64_t deadline = 0;
    int64_t pause = FIRST_PAUSE;

    for (;;) {
        int error;

        if (mask != NULL)
            *mask = set_signal_mask(~UINT64_C(0));
        error = (int)STORE_RETRY(set_lock(fd, type));
        if (error == 0)
            return 0;
        if (mask != NULL)
            (void)set_signal_mask(*mask);
        if (error != -EAGAIN && error != -EACCES)
            return error;

        int64_t now = sys_now();
        if (deadline == 0)
            deadline = now + timeout;
        if (now >= deadline)
            return -ETIMEDOUT;
        sys_sleep(pause < deadline - now ? pause : deadline - now);
        if (pause < LONGEST_PAUSE)
            pause *= 2;
    }
}

int filelock_release(int fd, const uint64_t *mask)
{
    int error = set_lock(fd, F_UNLCK);

    if (mask != NULL)
        (void)set_signal_mask(*mask);
    return error;
}
