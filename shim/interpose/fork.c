/* Wraps fork(2). A forked child has a table of sessions of its own, a vfork() child has not; only
 * here can the shim tell them apart in time. calls.def says why vfork(2) is not wrapped. */
#include "interpose/interpose.h"

#include "guardian/guardian.h"
#include "manage/folders.h"

/* Called after a fork in both processes. In the parent, another thread may have opened a file since
 * guardian_before_fork(). */
static pid_t after_fork(pid_t child)
{
    folders_forget();
    if (child == 0 && !shim_is_quiet())
        session_after_fork();
    if (child > 0)
        session_share();
    return child;
}

EXPORT pid_t fork(void)
{
    if (shim_enabled())
        guardian_before_fork();
    return after_fork(REAL(fork)());
}

EXPORT pid_t __fork(void)
{
    return fork();
}

/* Runs no handlers of pthread_atfork(3). */
EXPORT pid_t _Fork(void)
{
    if (shim_enabled())
        guardian_before_fork();
    return after_fork(REAL(_Fork)());
}
