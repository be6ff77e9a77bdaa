/*
 * Guardians: processes that commit what children without the shim leave.
 *
 * A static or set-id program, one with a cleared environment, and a stranger that got a descriptor over a socket write to
 * the substitute descriptor as everybody does, but none of our code runs when they close it. Before such a program
 * gets a session's descriptor, a guardian is started: a process of its own, with the session's private descriptors and
 * nothing else. It watches whoever without the shim holds the session, and does one of three things:
 *
 *   commit   the last of all descriptors is gone, closed by one of those
 *   drop     the last is gone, because those that held it were killed: that commits nothing, as with the shim
 *   release  only processes with the shim hold it: they commit, if they live to close it
 *
 * guardian.c starts it, guardian_post.c is what it does, guardian_watch.c what it decides, holders.h how it knows who holds a
 * session. Who opens the file
 * next waits for it (rendezvous.h).
 *
 * It is no child of the program: it is orphaned at once, is in a session (setsid(2)) of its own, and its parent hears
 * of it neither by a signal nor by wait(2), unless that adopts orphans (PR_SET_CHILD_SUBREAPER). It keeps descriptor 2, for
 * what must be reported; a pipe or a socket only as long as the program that it was started for does. Of the program's
 * memory it has a copy-on-write copy, without what is shared and without large pieces.
 */
#ifndef ATOMSHIM_GUARDIAN_H
#define ATOMSHIM_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

#define GUARDIAN_NAME "atomshim-guard"

/* Once, at set-up: `timeout` is that of guardian_wait(). */
void guardian_configure(int64_t timeout);

/*
 * Starts a guardian for all sessions of this process that can be written to; also in a vfork() child. Returns when it is at
 * its post: what others close from now on it will see. A failure is told in the log.
 *
 * guardian_expect()  before a program without the shim is run by this process (`process` is its own pid), or by
 *                    the libc in a child of which we are not told (0). Returns a descriptor, close-on-exec, or -1: until
 *                    that is closed, by the exec or by guardian_done(), the program is waited for. After an exec that
 *                    failed guardian_not_needed() sends the guardian away.
 * guardian_watch()   for the child `process`, which has begun to run such a program.
 * guardian_stay()    for whoever gets a descriptor by a message, now or later, as long as this process has the session; with
 *                    `to_the_last` as long as anybody has. Does nothing if all sessions have one already.
 */
int guardian_expect(int process);
void guardian_done(int expect);
void guardian_not_needed(int expect);
void guardian_watch(int process);
void guardian_stay(bool to_the_last);

/* Before fork(2): from then on this process knows of its child's guardians. */
void guardian_before_fork(void);

/*
 * At the end of a process: waits until what was closed up to now is committed, if this process or a forked child of it has
 * started a guardian; at most the timeout. Who waits for this process then finds it all done; and a container whose
 * first process this was, or was a child of, ends only then.
 */
void guardian_wait(void);

/* ---- between guardian.c and guardian_post.c ---- */

/* What the processes of one tree, who share it, know of a guardian. */
struct guardian_entry {
    int process; /* its pid; 0: the entry is free; -1: it is about to be started */
    unsigned looks;
};

/* What a guardian is told. */
struct guardian_order {
    int starter;  /* the process that started it, */
    int parent;   /* and whose child that is */
    int process;  /* whom to look at first, or 0 if that is not known */
    bool is_exec; /* `process` will have what is not close-on-exec now, and no more */
    bool stays;   /* as long as there is anybody */
    int expect; /* the end of a pipe, or -1: nothing is decided before its end while `process` lives; a byte sends it away */
    int told;                     /* the other end, which is the starter's alone, or -1 */
    struct guardian_entry *entry; /* its own, or NULL: it is not waited for at an exit */
};

/* All that a guardian is, in a process made for it. One byte goes to `ready` once it is at its post. */
_Noreturn void guardian_main(const struct guardian_order *order, int ready);

#endif
