/*
 * A forked child has a table of its own, which a vfork child has not: only here can the two be told
 * apart in time.
 */
#include "interpose/interpose.h"

#include "guardian/guardian.h"

EXPORT pid_t fork(void)
{
    pid_t child;

    if (shim_enabled()) /* finds real_fork */
        guardian_before_fork();
    child = real_fork();

    if (child == 0 && !shim_is_quiet())
        session_after_fork();
    return child;
}

EXPORT pid_t __fork(void)
{
    return fork();
}

/* Without the handlers of pthread_atfork(3). */
EXPORT pid_t _Fork(void)
{
    pid_t child;

    if (shim_enabled())
        guardian_before_fork();
    child = real__Fork();

    if (child == 0 && !shim_is_quiet())
        session_after_fork();
    return child;
}
