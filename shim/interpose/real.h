/* real_NAME: the libc's (or the next preload's) definition of every interposed NAME. */
#ifndef ATOMSHIM_REAL_H
#define ATOMSHIM_REAL_H

#include "os/sys.h"

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

/* Declares the export, the libc's definition that it stands in front of, and the fallback where
 * there is none. */
#define CALL(result, name, parameters, fallback)                                                             \
    result name parameters;                                                                                  \
    extern result(*real_##name) parameters;                                                                  \
    result fallback parameters;
#include "interpose/calls.def"
#undef CALL

/* The libc's pthread_testcancel(), which some libcs have in a library of its own. Not exported. */
extern void (*real_pthread_testcancel)(void);

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

/* Not exported, and NULL where the libc has none: glibc has the first, musl the second. */
extern void (*real_cxa_at_quick_exit)(void (*function)(void *), void *library);
extern void (*real_at_quick_exit)(void (*function)(void));

/* A name, the function pointer that gets the next definition of it, and whether there is one. */
struct real_name {
    const char *name;
    void *pointer;
    bool *found;
};

/*
 * Looks names up in the objects behind this one, in the loader's order. Allocates nothing. A
 * pointer whose name is not found stays as it is.
 */
void real_lookup(const struct real_name *names, size_t count);

/* Looks every name of calls.def up. */
void real_resolve(void);

#endif
