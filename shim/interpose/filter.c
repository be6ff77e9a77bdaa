/*
 * A program that gives itself a seccomp filter: buffers that may be made by memfd_create() now need not be so later. The
 * C library has no function for seccomp(2): that comes by syscall(2), which has a look, too.
 */
#include "interpose/interpose.h"

#include "session/buffer.h"

#include <sys/prctl.h>

EXPORT int prctl(int option, ...)
{
    PRCTL_WORDS(words, option);
    if (option == PR_SET_SECCOMP)
        buffer_expect_filters();
    return real_prctl(option, words[0], words[1], words[2], words[3]);
}
