/*
 * Makes openers wait for the guardians (guardian.h) of a file. A wrapped program must see the bytes
 * that a child without the shim wrote and closed before, though the kernel may not have scheduled
 * the guardian yet to commit them.
 *
 * Opener and guardian share no descriptor and need no file of their own: a guardian holds a POSIX
 * read lock on the folder /proc, which every process of a pid namespace can open (on the root
 * folder, where there is no /proc), at an offset made of the inode's identity. The lock's length
 * counts how often the guardian has looked whether its file was closed; the lock's holder is its
 * pid, fcntl(2).
 *
 * Every user can take such locks. An opener waits for processes of root and of its own user alone,
 * so no other user can delay it. But another user who takes the place before the guardian does can
 * hide it: then the opener may see the old content.
 */
#ifndef ATOMSHIM_RENDEZVOUS_H
#define ATOMSHIM_RENDEZVOUS_H

#include "os/sys.h"

#include <signal.h>

/* This signal wakes a guardian; every other process ignores it. */
enum { RENDEZVOUS_SIGNAL = SIGURG };

/* Sleeps for `*pause` nanoseconds, and makes the pause longer for the next time; the first is
 * RENDEZVOUS_PAUSE. */
#define RENDEZVOUS_PAUSE ((int64_t)50 * 1000)
void rendezvous_pause(int64_t *pause);

/* A guardian's place for one inode. */
struct rendezvous {
    int64_t start;
    unsigned looks;
};

/* Opens the folder for the calls below. Returns a descriptor, or a negative errno. */
int rendezvous_open(void);

/* Called in the guardian: takes a place for the inode. From then on openers wait. */
void rendezvous_begin(struct rendezvous *place, int proc, dev_t device, ino_t number);

/* Called in the guardian after each look. Openers that asked before the look go on. */
void rendezvous_looked(struct rendezvous *place, int proc);

/*
 * Waits until every guardian of the inode that `inode` is open on, which has this st_dev and
 * st_ino, has looked, and committed every session that was closed before this call; at most
 * `timeout` nanoseconds, and one second for root without /proc, who cannot tell which user a
 * process belongs to. After that this process waits for no guardian any more, and the log says so.
 * Waits only for guardians of this user and of root, and for none while a program has a lock on the
 * file, for which they wait: that program may be waiting for this one. Returns true if there was
 * one.
 */
bool rendezvous_wait(int inode, dev_t device, ino_t number, int64_t timeout);

#endif
