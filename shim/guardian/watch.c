/* Decides whether a guardian commits; guardian.h has the protocol. */
#include "guardian/post.h"

#include "os/descriptor.h"

#include <errno.h>

enum { DOUBT = 500 * 1000 * 1000 /* nanoseconds */ };

/*
 * Notes in post->end how the program has ended, once and for all. Returns false if the program has
 * ended, but nothing tells yet how. The kernel marks a killed process as ending before it closes
 * its descriptors: so an answer after the last close tells whether the program closed the file or
 * was killed.
 */
static bool note_end(struct post *post, bool is_last_gone)
{
    enum process_end end;

    if (post->end != PROCESS_LIVES || !post->is_watching)
        return true;
    if (!is_last_gone && !process_has_ended(&post->program))
        return true;
    end = process_how_ended(&post->program);
    if (end == PROCESS_UNKNOWN) {
        if (post->doubt_until == 0)
            post->doubt_until = sys_now() + DOUBT;
        if (sys_now() < post->doubt_until)
            return false;
    }
    post->end = end;
    return true;
}

/* Nothing that the others write from now on is committed. */
static void tell_killed(struct duty *duty)
{
    if (!duty->is_told)
        session_tell_killed(duty->session, false);
    duty->is_told = true;
}

/* An opener with the shim has released the session if it ended properly, or has committed it: so an
 * opener that is gone, with its exit code, was killed. */
static bool was_opener_killed(const struct post *post, const struct duty *duty)
{
    struct process opener = {.pidfd = -1};
    enum process_end end = PROCESS_UNKNOWN;
    int number = descriptor_opener(duty->session->inode);

    if (duty->is_openers)
        return post->end == PROCESS_KILLED;
    if (number > 0 && process_open(&opener, number))
        end = process_how_ended(&opener);
    descriptor_close_if_open(opener.pidfd);
    if (end != PROCESS_UNKNOWN || number < 0)
        return end == PROCESS_KILLED;
    return number == 0 || SYS_CALL(SYS_kill, number, 0, 0, 0, 0, 0) == -ESRCH;
}

/* The opener has ended, and others have the session open. */
static void follow_opener(const struct post *post, struct duty *duty)
{
    if (post->end == PROCESS_KILLED) {
        if (!session_is_released(duty->session))
            tell_killed(duty);
        return;
    }
    session_release(duty->session);
    if (!duty->is_synced)
        (void)session_sync(duty->session, duty->session->buffer_number);
    duty->is_synced = true;
}

bool guardian_look_after(struct post *post, struct duty *duty)
{
    int last = descriptor_is_last(duty->session->buffer);
    bool is_known = note_end(post, last == 1);

    if (last < 0)
        last = is_known && post->end != PROCESS_LIVES;
    if (duty->is_openers && !is_known)
        return false;
    if (last == 0) {
        if (duty->is_openers && post->end != PROCESS_LIVES)
            follow_opener(post, duty);
        return true;
    }
    if (duty->is_openers && post->end != PROCESS_KILLED)
        session_release(duty->session);
    if (session_is_released(duty->session))
        (void)session_settle(duty->session, duty->session->buffer_number);
    else if (!duty->is_told && was_opener_killed(post, duty))
        session_tell_killed(duty->session, true);
    /* without the right to ask who is last, session_settle() leaves the session */
    if (__atomic_load_n(&duty->session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE)
        session_drop(duty->session);
    return true;
}
