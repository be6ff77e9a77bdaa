/*
 * Where openers find the guardians (guardian.h) of a file. What a child without the shim wrote and
 * closed is to be seen by the wrapped program that comes next, though the guardian may not have
 * been scheduled yet to commit it.
 *
 * They share no descriptor and need no file of their own: a guardian holds a POSIX read lock on the
 * folder /proc, which every process of a pid namespace can open (on the root folder, where there is
 * no /proc), at an offset made of the inode's identity. The lock's length counts how often the
 * guardian has looked whether its file was closed; the lock's holder is its pid, fcntl(2).
 *
 * Anybody can take such locks. An opener waits for processes of root and of its own user alone, so
 * nobody else can delay it; another user that takes the place before the guardian does can hide it:
 * then the opener may see the old content.
 */
#ifndef ATOMSHIM_RENDEZVOUS_H
#define ATOMSHIM_RENDEZVOUS_H

#include "os/sys.h"

#include <signal.h>

/* Wakes a guardian, and is ignored by everybody else. */
enum { RENDEZVOUS_SIGNAL = SIGURG };

/*
 * Sleeps for `*pause` nanoseconds, and makes it longer for the next time; it begins with
 * RENDEZVOUS_PAUSE.
 */
#define RENDEZVOUS_PAUSE ((int64_t)50 * 1000)
void rendezvous_pause(int64_t *pause);

/* A guardian's place for one inode. */
struct rendezvous {
    int64_t start;
    unsigned looks;
};

/* Opens the folder for the calls below. Returns a descriptor, or a negative errno. */
int rendezvous_open(void);

/* In the guardian: takes a place for the inode. From then on others wait. */
void rendezvous_begin(struct rendezvous *place, int proc, dev_t device, ino_t number);

/* In the guardian: it has looked once more. Openers that asked before it did so go on. */
void rendezvous_looked(struct rendezvous *place, int proc);

/*
 * Waits until every guardian of the inode that `inode` is open on, which has this st_dev and
 * st_ino, has looked, and committed what was closed before this call; at most `timeout`
 * nanoseconds, and one second where there is no /proc and this is root, who cannot tell whose a
 * process is. After that this process waits for no guardian any more, and the log says so. Waits
 * only for guardians of this user and of root, and for none while this process has a POSIX lock on
 * the file, for which they wait. Returns true if there was one.
 */
bool rendezvous_wait(int inode, dev_t device, ino_t number, int64_t timeout);

#endif
