/*
 * Guardians: processes that commit what others without the shim leave.
 *
 * A static or set-id program, one with a cleared environment, one of another user, and a stranger
 * that got a descriptor over a socket write to the substitute descriptor as everybody does, but
 * none of our code runs when they close it. Before such a program gets a session's descriptor, a
 * guardian is started: a process of its own, with the session's private descriptors and nothing
 * else. It stays until the last close, so a session needs one in each pid namespace, whoever comes
 * later. That there is one the kernel tells by a lock (session_has_guardian()).
 *
 * PROTOCOL of a guardian for one session. The opener decides (session.h). Where a program without
 * the shim runs in the opener's process no code of ours tells how it ends: then the guardian is
 * told the pid, and watches it.
 *
 *   WATCHING  the opener lives, or this guardian does not watch it
 *   RELEASED  the opener has closed the session or ended properly
 *   KILLED    the opener was killed with the session open
 *
 *   WATCHING --the opener ended properly: follow_opener()--> RELEASED   commits: session_sync()
 *   WATCHING --the opener was killed: follow_opener()------> KILLED     commits nothing
 *   WATCHING --the last close: guardian_look_after()-------> RELEASED   if it watches the opener,
 *                                                            which lives, and so has closed it
 *   RELEASED --the last close: guardian_look_after()-------> gone       commits: session_settle()
 *   WATCHING, KILLED --the last close----------------------> gone       session_drop(): the opener
 *                                                            was killed, or it has the shim and
 *                                                            commits itself, or another guardian
 *                                                            watches it
 *
 * A program with the shim that shares the session and lives on commits by itself
 * (session_settle()), however the opener ended.
 *
 * WHAT GIVES WAY where the kernel does not tell
 *
 *   how the opener ended  Before Linux 6.15, or without pidfds, of a process that was waited for at
 *                         once, and of a set-id program that nobody waits for within half a second.
 *                         It counts as a proper end: to drop what every program wrote would be the
 *                         larger harm.
 *   whether it has ended  Without pidfds and without /proc. The last close counts as the opener's.
 *   who closes last       F_SETLEASE (fcntl(2)) refuses users other than the opener's. The end of
 *                         the program that the guardian was started for counts as the last close.
 *
 * A guardian is no child of the program: it is orphaned at once, is in a session (setsid(2)) of its
 * own, and its parent hears of it neither by a signal nor by wait(2), unless that adopts orphans
 * (PR_SET_CHILD_SUBREAPER). It keeps descriptor 2, for what must be reported; a pipe or a socket
 * only as long as the program that it was started for does. Of the program's memory it has a
 * copy-on-write copy, without what is shared and without large pieces.
 */
#ifndef ATOMSHIM_GUARDIAN_H
#define ATOMSHIM_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

/* Once, at set-up. `timeout`, in nanoseconds, is how long guardian_wait() waits. */
void guardian_configure(int64_t timeout);

/*
 * Starts a guardian for the sessions that want one (session_want_guardian()), also in a vfork()
 * child. Returns when it is at its post: it will see what others close from now on. `opener` is the
 * process in which a program without the shim runs or is about to run, or 0: its end is watched for
 * the sessions of which it is the opener. A failed exec does no harm: as long as the opener has the
 * shim, it does itself what the guardian would. Returns false after a failure, which the log tells:
 * EAGAIN, EMFILE, ENFILE, ENOMEM; EPERM in a process whose children begin a pid namespace.
 */
bool guardian_start(int opener);

/*
 * Before fork(2): from then on this process knows of its child's guardians, and that its sessions
 * may be shared.
 */
void guardian_before_fork(void);

/*
 * At the end of a process: waits until what was closed up to now is committed, if this process or a
 * forked child of it has started a guardian; at most the timeout. The parent that waits for this
 * process then finds everything done; and a container whose first process this was, or was a child
 * of, ends only then.
 */
void guardian_wait(void);

#endif
