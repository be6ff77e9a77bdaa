/* Tells how much memory a process may take before the kernel kills a process for want of it. */
#ifndef ATOMSHIM_MEMORY_H
#define ATOMSHIM_MEMORY_H

#include <stdint.h>

/*
 * Returns how many bytes the kernel could give to this process without swapping: what is available
 * in the system (proc(5), MemAvailable), or less if the limit of the process's own memory cgroup
 * leaves less (memory.max of version 2, memory.limit_in_bytes of version 1, cgroups(7)); pages of
 * files count as free there. UINT64_MAX where the kernel does not say.
 */
uint64_t memory_available(void);

#endif
