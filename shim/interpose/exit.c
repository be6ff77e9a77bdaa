/* Wraps the exits that run no handler. As without the shim, they flush no streams. */
#include "interpose/interpose.h"

#include "guardian/guardian.h"
#include "store/journal.h"

static _Noreturn void leave_process(int status, void (*real)(int))
{
    if (shim_has_sessions())
        session_finish();
    if (!shim_is_quiet()) {
        journal_end();
        guardian_wait();
    }
    real(status);
    sys_exit_group(status);
}

EXPORT _Noreturn void _exit(int status)
{
    leave_process(status, REAL(_exit));
}

EXPORT _Noreturn void _Exit(int status)
{
    leave_process(status, REAL(_Exit));
}
