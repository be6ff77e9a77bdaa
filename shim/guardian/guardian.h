/*
 * Guardians: processes that commit what programs without the shim wrote.
 *
 * A static or set-id program, one with a cleared environment, one of another user, and a stranger
 * that got a descriptor over a socket write to the buffer as everybody does, but none of our code
 * runs when they close it. Before such a program gets a session's descriptor, a guardian is
 * started: a process of its own, with the session's private descriptors and nothing else. The
 * guardian stays until the last close, so a session needs one in each pid namespace, whatever
 * programs come later. A lock tells that a session has one (session_has_guardian()).
 *
 * PROTOCOL of a guardian for one session. The opener decides (session.h). Where a program without
 * the shim runs in the opener's process, no code of ours tells how that program ends: then the
 * starter gives the guardian the pid to watch.
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
 *   how the opener ended  Before Linux 6.15, or without pidfds: for a process that was waited for
 *                         at once, for a set-id program that nobody waits for within half a second,
 *                         and, without /proc, for every process; the child of pidfd_spawn() has not
 *                         even a number there before Linux 6.13. Such an end counts as a proper
 *                         one: to drop what every program wrote would be the larger harm.
 *   whether it has ended  Without pidfds and without /proc. The last close counts as the opener's.
 *   who closes last       F_SETLEASE (fcntl(2)) refuses users other than the opener's. The end of
 *                         the program that the guardian was started for counts as the last close.
 *
 * A guardian is no child of the program: it is orphaned at once, is in a session (setsid(2)) of its
 * own, and its parent hears of it neither by a signal nor by wait(2), unless that adopts orphans
 * (PR_SET_CHILD_SUBREAPER). The guardian keeps descriptor 2, for its reports; a pipe or a socket
 * only as long as the program that it was started for keeps it. It has a copy-on-write copy of the
 * program's memory, without shared mappings and without large pieces.
 */
#ifndef ATOMSHIM_GUARDIAN_H
#define ATOMSHIM_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

/* Called once, at set-up. `timeout`, in nanoseconds, bounds guardian_wait(). */
void guardian_configure(int64_t timeout);

/*
 * Starts a guardian for the sessions that want one (session_want_guardian()), also in a vfork()
 * child. Returns when the guardian is at its post: it sees every close from now on. `opener` is the
 * process in which a program without the shim runs or is about to run, or 0. The guardian watches
 * its end, for the sessions that this process opened. A failed exec does no harm: an opener that
 * has the shim does itself what the guardian would. Returns false after a failure, which the log
 * tells: EAGAIN, EMFILE, ENFILE, ENOMEM; EPERM in a process whose children begin a pid namespace.
 */
bool guardian_start(int opener);

/* Called before fork(2): from then on this process knows of its child's guardians, and that its
 * sessions may be shared. */
void guardian_before_fork(void);

/*
 * Called at the end of a process. If this process or a forked child of it has started a guardian,
 * waits until every session that was closed up to now is committed, but at most the timeout. So the
 * parent that waits for this process finds everything done, and a container whose first process is
 * this one, or its parent, ends only then. Does not wait for guardians in another pid namespace:
 * their pids mean nothing here.
 */
void guardian_wait(void);

#endif
