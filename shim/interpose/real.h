/* real_NAME: the libc's (or the next preload's) definition of every interposed NAME. */
#ifndef ATOMSHIM_REAL_H
#define ATOMSHIM_REAL_H

#include "sys.h"

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

/* The oldest version: every glibc since has it, in whichever library; musl ignores it. */
#if defined(__x86_64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
#endif

/* the export, and what it stands in front of */
#define CALL(result, name, parameters, fallback)                                                             \
    result name parameters;                                                                                  \
    extern result(*real_##name) parameters;
#include "calls.def"
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

/* The definition of a function behind ours, as dlsym(RTLD_NEXT) finds it, or NULL. */
void *real_lookup(const char *name);

/* Looks every name up. Until then, and for a name that no library has, real_NAME is its
 * fallback of calls.def. */
void real_resolve(void);

#endif
