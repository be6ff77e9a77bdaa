/* Wraps fork(2). A forked child has a table of sessions of its own, a vfork() child has not; only
 * here can the shim tell them apart in time. calls.def says why vfork(2) is not wrapped. */
#include "interpose/interpose.h"

#include "guardian/guardian.h"
#include "manage/folders.h"

/* In the parent, another thread may have opened a file since guardian_before_fork(). */
static pid_t fork_by(pid_t (*real)(void))
{
    const unsigned commit_locks = session_commit_locks();
    pid_t child;

    if (shim_enabled())
        guardian_before_fork();
    child = real();
    folders_forget();
    if (child == 0 && !shim_is_quiet())
        session_after_fork(commit_locks);
    if (child > 0)
        session_share();
    return child;
}

EXPORT pid_t fork(void)
{
    return fork_by(REAL(fork));
}

EXPORT pid_t __fork(void)
{
    return fork();
}

/* Runs no handlers of pthread_atfork(3). */
EXPORT pid_t _Fork(void)
{
    return fork_by(REAL(_Fork));
}
