/* Seccomp filters that the program is about to give itself: seccomp(2), bpf in kernel/seccomp.c. */
#ifndef ATOMSHIM_SECCOMP_H
#define ATOMSHIM_SECCOMP_H

#include <linux/filter.h>
#include <stdbool.h>

/*
 * Would this filter kill the process, or send it SIGSYS, for the system call `number` with
 * arguments that are all 0? Runs the program as the kernel would. One that is malformed, which the
 * kernel refuses, kills nobody.
 */
bool seccomp_kills(const struct sock_fprog *filter, int number);

/* Like seccomp_kills(): true if the call would fail, with an error that the filter chooses. */
bool seccomp_lets_fail(const struct sock_fprog *filter, int number);

/* True if all of the filter can be read. It may be anywhere: the address comes from the program. */
bool seccomp_is_readable(const struct sock_fprog *filter);

#endif
