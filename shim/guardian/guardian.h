/*
 * Guardians: processes that commit what others without the shim leave.
 *
 * A static or set-id program, one with a cleared environment, one of another user, and a stranger that got a descriptor over a
 * socket write to the substitute descriptor as everybody does, but none of our code runs when they close it. Before such a
 * program gets a session's descriptor, a guardian is started: a process of its own, with the session's private descriptors and
 * nothing else. It stays until the last close, so a session needs one in each pid namespace, whoever comes later. That
 * there is one the kernel tells by a lock (session_is_guarded()).
 *
 * PROTOCOL of a guardian for one session. The opener decides (session.h); a program without the shim that runs in the opener's
 * process has no code of ours that could say how it ended: for that a guardian is told the pid and watches its end.
 *
 *   WATCHING --the opener ended properly (note_opener, look_after)--> RELEASED: commits what there is, session_sync()
 *   WATCHING --the opener was killed (note_opener)--> KILLED: commits nothing
 *   any      --the last close, as the kernel says (look_after)-->
 *                commits, session_settle(), if the session is RELEASED by whomever, or this guardian watches the opener, which
 *                  lives: then it has closed the session
 *                drops it, session_drop(), otherwise: the opener was killed; or it has the shim and commits itself; or another
 *                  guardian watches it and commits
 *
 * A program with the shim that shares the session and lives on commits by itself (session_settle()), whatever the opener's end.
 *
 * WHAT GIVES WAY where the kernel does not tell
 *
 *   how the opener ended     before Linux 6.15 of a process that was waited for at once, and of a set-id program that nobody waits
 *                            for within half a second: it is taken for a proper end. A killed program is the exception, and
 *                            to drop what every other one wrote the larger harm.
 *   whether it has ended     without pidfds and without /proc: the last close counts as the opener's.
 *   who closes last          to a user who is not the opener's (F_SETLEASE, fcntl(2)): the end of the program that the guardian
 *                            was started for counts as the last close.
 *
 * A guardian is no child of the program: it is orphaned at once, is in a session (setsid(2)) of its own, and its parent hears
 * of it neither by a signal nor by wait(2), unless that adopts orphans (PR_SET_CHILD_SUBREAPER). It keeps descriptor 2, for
 * what must be reported; a pipe or a socket only as long as the program that it was started for does. Of the program's
 * memory it has a copy-on-write copy, without what is shared and without large pieces.
 */
#ifndef ATOMSHIM_GUARDIAN_H
#define ATOMSHIM_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

/* Once, at set-up. `timeout`, in nanoseconds, is how long guardian_wait() waits. */
void guardian_configure(int64_t timeout);

/*
 * Starts a guardian for the sessions that want one (session_want_guardian()), also in a vfork() child. Returns when it is at its
 * post: it will see what others close from now on. `opener` is the process in which a program without the shim runs or
 * is about to run, or 0: its end is watched for the sessions of which it is the opener. A failed exec does no harm: as
 * long as the opener has the shim, it does itself what the guardian would.
 * Returns false after a failure, which the log tells: EAGAIN, EMFILE, ENFILE, ENOMEM; EPERM in a process whose children begin
 * a pid namespace.
 */
bool guardian_start(int opener);

/* Before fork(2): from then on this process knows of its child's guardians, and that its sessions may be shared. */
void guardian_before_fork(void);

/*
 * At the end of a process: waits until what was closed up to now is committed, if this process or a forked child of it has
 * started a guardian; at most the timeout. The parent that waits for this process then finds everything done; and a
 * container whose first process this was, or was a child of, ends only then.
 */
void guardian_wait(void);

#endif
