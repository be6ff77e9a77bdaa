/* REAL(NAME): the libc's (or the next preload's) definition of every interposed NAME. */
#ifndef ATOMSHIM_REAL_H
#define ATOMSHIM_REAL_H

#include "os/sys.h"

#include <dirent.h>
#include <fts.h>
#include <ftw.h>
#include <linux/openat2.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utime.h>
#include <utmp.h>
#include <utmpx.h>

/* Declares the export, and the fallback where there is no definition behind it. */
#define CALL(result, name, parameters, fallback)                                                             \
    result name parameters;                                                                                  \
    result fallback parameters;
#include "interpose/calls.def"
#undef CALL

/* Not exported. REAL() is NULL where one is missing: before glibc 2.34 the first lies in
 * libpthread, and of the other two glibc has the one, musl the other. */
void pthread_testcancel(void);
int __cxa_at_quick_exit(void (*function)(void *), void *library);
int at_quick_exit(void (*function)(void));

enum real_number {
#define CALL(result, name, parameters, fallback) REAL_##name,
#include "interpose/calls.def"
#undef CALL
    REAL_pthread_testcancel,
    REAL___cxa_at_quick_exit,
    REAL_at_quick_exit,
    REAL_COUNT,
};

typedef void (*real_function)(void);

extern real_function real_addresses[REAL_COUNT]; /* atomic; NULL: not called yet, or missing */

real_function real_look_up(enum real_number number);

/*
 * Returns the definition of the name in the objects behind this one, in the loader's order, or the
 * fallback. Allocates nothing, takes no lock, and makes no system call.
 */
static inline real_function real_find(enum real_number number)
{
    real_function found = __atomic_load_n(&real_addresses[number], __ATOMIC_RELAXED);

    return found != NULL ? found : real_look_up(number);
}

#define REAL(name) ((__typeof__(&(name)))real_find(REAL_##name))

/* Finds the objects behind this one. The set-up calls it, or else real_find() does. */
void real_prepare(void);

/* syscall(2) cannot know how many words its caller gave. The words behind them are arbitrary, and
 * the kernel does not look at them. */
#define SYSCALL_WORDS(words, number)                                                                         \
    long words[6];                                                                                           \
    va_list arguments;                                                                                       \
    va_start(arguments, number);                                                                             \
    for (int i = 0; i < 6; i++)                                                                              \
        (words)[i] = va_arg(arguments, long);                                                                \
    va_end(arguments)

/* Does the same for prctl(2), whose five arguments are all in registers. */
#define PRCTL_WORDS(words, option)                                                                           \
    unsigned long words[4];                                                                                  \
    va_list arguments;                                                                                       \
    va_start(arguments, option);                                                                             \
    for (int i = 0; i < 4; i++)                                                                              \
        (words)[i] = va_arg(arguments, unsigned long);                                                       \
    va_end(arguments)

#endif
