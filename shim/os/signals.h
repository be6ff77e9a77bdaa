/*
 * Signals that our own writes may raise in the program's name: SIGPIPE from the log, SIGXFSZ from a commit. It has
 * not made these calls; what failed is told by an errno or by the log.
 */
#ifndef ATOMSHIM_SIGNALS_H
#define ATOMSHIM_SIGNALS_H

#include "os/sys.h"

#include <signal.h>

struct signals_held {
    uint64_t signal; /* as a bit of a mask */
    uint64_t before; /* what was blocked */
    bool pending;    /* it was there before us: the program's own */
};

/* Blocks `signal` in this thread. */
static inline struct signals_held signals_hold(int signal)
{
    struct signals_held held = {.signal = (uint64_t)1 << (signal - 1)};

    (void)SYS_CALL(SYS_rt_sigprocmask, SIG_BLOCK, &held.signal, &held.before, sizeof held.before, 0, 0);
    held.pending = sys_is_signal_pending(held.signal);
    return held;
}

/* Gives it back; one that was raised meanwhile is dropped. */
static inline void signals_release(const struct signals_held *held)
{
    if (!held->pending && sys_is_signal_pending(held->signal))
        (void)sys_take_signal(held->signal);
    (void)sys_sigprocmask(&held->before, NULL);
}

#endif
