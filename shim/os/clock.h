/* The kernel's coarse clock, which stands still for a tick of 1 to 10 ms. */
#ifndef ATOMSHIM_CLOCK_H
#define ATOMSHIM_CLOCK_H

#include <stdint.h>

/*
 * Returns CLOCK_MONOTONIC_COARSE, clock_gettime(2), in nanoseconds, or -1. The kernel's object in
 * this process (vdso(7)) tells it without a system call, where there is one. The libc's function is
 * not asked: another preloaded library may stand in front of it and let the time stand still.
 */
int64_t clock_tick(void);

#endif
