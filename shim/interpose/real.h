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

/* the export, what it stands in front of, and what takes the place of that where there is none (raw.c) */
#define CALL(result, name, parameters, fallback)                                                             \
    result name parameters;                                                                                  \
    extern result(*real_##name) parameters;                                                                  \
    result fallback parameters;
#include "interpose/calls.def"
#undef CALL

/* The libc's pthread_testcancel(), which in some is in a library of its own. Not exported. */
extern void (*real_pthread_testcancel)(void);

/* syscall(2) is not told how many words it was given: those that were not are what happens to lie there. */
#define SYSCALL_WORDS(words, number)                                                                         \
    long words[6];                                                                                           \
    va_list arguments;                                                                                       \
    va_start(arguments, number);                                                                             \
    for (int i = 0; i < 6; i++)                                                                              \
        (words)[i] = va_arg(arguments, long);                                                                \
    va_end(arguments)

/* prctl(2) likewise; its five arguments are all in registers. */
#define PRCTL_WORDS(words, option)                                                                           \
    unsigned long words[4];                                                                                  \
    va_list arguments;                                                                                       \
    va_start(arguments, option);                                                                             \
    for (int i = 0; i < 4; i++)                                                                              \
        (words)[i] = va_arg(arguments, unsigned long);                                                       \
    va_end(arguments)

/* Not ours, and NULL where the libc has none: glibc has the one, musl the other. */
extern void (*real_cxa_at_quick_exit)(void (*function)(void *), void *library);
extern void (*real_at_quick_exit)(void (*function)(void));

/* A name, the function pointer that gets its definition behind ours, and whether one was found; false before. */
struct real_name {
    const char *name;
    void *pointer;
    bool *found;
};

/* Looks names up behind us, in the order of the objects. No allocation. What is not found stays as it is. */
void real_lookup(const struct real_name *names, size_t count);

/* Looks every name up. Until then, and for a name that no library has, real_NAME is its
 * fallback of calls.def. */
void real_resolve(void);

#endif
