/*
 * Signals that the shim's own writes may raise: SIGPIPE from the log, SIGXFSZ from a commit. The
 * program did not make these calls, so it must not get the signals; an errno or the log tells it of
 * the failure. A signal comes with an error that sys_raised counts, so where no call has failed so
 * the kernel need not be asked whether one is pending.
 */
#ifndef ATOMSHIM_SIGNALS_H
#define ATOMSHIM_SIGNALS_H

#include "os/sys.h"

#include <signal.h>

struct signals_held {
    uint64_t signal; /* as a bit of a mask */
    uint64_t before; /* the mask that is to be restored */
    bool pending;    /* the program's own signal was pending already */
    unsigned raised; /* sys_raised before the shim's calls; other threads may add to it */
};

/* Blocks `signal` in this thread. Release it soon with signals_release(). Only a signal that was
 * blocked before can be pending: any other is delivered before this returns (signal(7)). */
static inline struct signals_held signals_hold(int signal)
{
    struct signals_held held = {.signal = (uint64_t)1 << (signal - 1),
                                .raised = __atomic_load_n(&sys_raised, __ATOMIC_RELAXED)};

    (void)SYS_CALL(SYS_rt_sigprocmask, SIG_BLOCK, &held.signal, &held.before, sizeof held.before, 0, 0);
    held.pending = (held.before & held.signal) != 0 && sys_is_signal_pending(held.signal);
    return held;
}

/* Drops the signal if the kernel raised it meanwhile. */
static inline void signals_drop(const struct signals_held *held)
{
    if (!held->pending && held->raised != __atomic_load_n(&sys_raised, __ATOMIC_RELAXED) &&
        sys_is_signal_pending(held->signal))
        (void)sys_take_signal(held->signal);
}

/* Does the same, and restores the mask. */
static inline void signals_release(const struct signals_held *held)
{
    signals_drop(held);
    (void)sys_sigprocmask(&held->before, NULL);
}

/* signals_hold() for a caller that has blocked all signals itself, when the mask was `before`. It
 * ends with signals_drop(). */
static inline struct signals_held signals_look(int signal, uint64_t before)
{
    struct signals_held held = {.signal = (uint64_t)1 << (signal - 1),
                                .before = before,
                                .raised = __atomic_load_n(&sys_raised, __ATOMIC_RELAXED)};

    held.pending = (before & held.signal) != 0 && sys_is_signal_pending(held.signal);
    return held;
}

#endif
