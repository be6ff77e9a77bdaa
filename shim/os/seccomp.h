/* Seccomp filters that the program is about to give itself: seccomp(2), bpf in kernel/seccomp.c. */
#ifndef ATOMSHIM_SECCOMP_H
#define ATOMSHIM_SECCOMP_H

#include <linux/filter.h>
#include <stdbool.h>

/*
 * Tells whether this filter would kill the process, or send it SIGSYS, for the system call `number`
 * with arguments that are all 0. Runs the program as the kernel would. A malformed program kills
 * nobody: the kernel refuses it.
 */
bool seccomp_kills(const struct sock_fprog *filter, int number);

/* As seccomp_kills(), but true if the call would fail, with an error that the filter chooses. */
bool seccomp_lets_fail(const struct sock_fprog *filter, int number);

/* True if all of the filter can be read: its address comes from the program, and may be wrong. */
bool seccomp_is_readable(const struct sock_fprog *filter);

#endif
