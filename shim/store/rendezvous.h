/*
 * Where a guardian (guardian.h) is found by those who open the file that it looks after: what a child without the shim
 * wrote and closed is to be seen by the wrapped program that comes next, though the guardian may not have been
 * scheduled yet to commit it.
 *
 * They share no descriptor and need no file of their own: a guardian holds a POSIX read lock on the folder /proc, which
 * every process of a pid namespace can open (on the root folder, where there is no /proc), at an offset made of the inode's identity. The lock's length counts how
 * often the guardian has looked whether its file was closed; the lock's holder is its pid.
 */
#ifndef ATOMSHIM_RENDEZVOUS_H
#define ATOMSHIM_RENDEZVOUS_H

#include "os/sys.h"

#include <signal.h>

/* Wakes a guardian, and is ignored by everybody else. */
enum { RENDEZVOUS_SIGNAL = SIGURG };

/* Sleeps for `*pause` nanoseconds, and makes it longer for the next time; it begins with RENDEZVOUS_PAUSE. */
#define RENDEZVOUS_PAUSE ((int64_t)50 * 1000)
void rendezvous_pause(int64_t *pause);

/* A guardian's place for one inode. */
struct rendezvous {
    int64_t start;
    unsigned looks;
};

/* Opens the folder for the calls below. Returns a descriptor, or a negative errno. */
int rendezvous_open(void);

/* In the guardian: takes a place for the inode, from when on others wait. */
void rendezvous_begin(struct rendezvous *place, int proc, dev_t device, ino_t number);

/* The guardian has looked once more: who asked before it did so goes on. */
void rendezvous_looked(struct rendezvous *place, int proc);

/*
 * Waits until every guardian of the inode that `inode` is open on has looked, and committed what was closed before this
 * call; at most `timeout` nanoseconds, once in a process: then guardians are not waited for any more, and the log says
 * so. Only guardians of this user, of root and of the file's owner are waited for, and none while this process has a POSIX
 * lock on the file, for which they wait. Returns true if there was one.
 */
bool rendezvous_wait(int inode, int64_t timeout);

#endif
