/*
 * Guardians: processes that commit what children without the shim leave.
 *
 * A static or set-id program, one with a cleared environment, and a stranger that got a descriptor over a socket write to
 * the substitute descriptor as everybody does, but none of our code runs when they close it. Before such a program
 * gets a session's descriptor, a guardian is started: a process of its own, with the session's private descriptors and
 * nothing else, which sleeps until the kernel says that the last descriptor of the session is gone (inotify(7),
 * IN_CLOSE on the memory file), commits, and ends. Who opens the file next waits for it (rendezvous.h).
 *
 * It is no child of the program: it is orphaned at once, is in a session (setsid(2)) of its own, and its parent hears
 * of it neither by a signal nor by wait(2). It keeps descriptor 2, for what must be reported; pipes and sockets are let
 * go of. Of the program's memory it has a copy-on-write copy.
 */
#ifndef ATOMSHIM_GUARDIAN_H
#define ATOMSHIM_GUARDIAN_H

#include <stdint.h>

/*
 * Starts a guardian for all sessions of this process that can be written to and have none yet; also in a vfork() child.
 * `process` is the pid under which the program without the shim runs, or 0: if its death by a signal is what closed the
 * last descriptor, nothing is committed, as that of a program with the shim commits nothing. Returns when the guardian is
 * at its post: what others close from now on it will see. A failure is told in the log.
 */
void guardian_start(int process);

/* Once, at set-up. */
void guardian_configure(int64_t timeout);

/* Before fork(2): from then on this process knows of its child's guardians. */
void guardian_before_fork(void);

/*
 * At the end of a process: waits until what was closed up to now is committed, if this process or a forked child of it has
 * started a guardian; at most `timeout`. Who waits for this process then finds it all done; and a container whose
 * first process this was, or was a child of, ends only then.
 */
void guardian_wait(void);

#endif
