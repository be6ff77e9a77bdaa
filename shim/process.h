/* Other processes: whose child one is, and how it ended, as /proc and pidfds tell. */
#ifndef ATOMSHIM_PROCESS_H
#define ATOMSHIM_PROCESS_H

#include "sys.h"

/* Opens /proc/PROCESS/NAME, a name of at most 8 bytes, with these flags, close-on-exec. Returns a descriptor or a negative
 * errno. */
int process_open_file(int process, const char *name, int flags);

/* What /proc/PID/stat says, proc(5). */
struct process_stat {
    int parent;
    bool exiting;   /* is about to end, or has ended and was not waited for yet */
    int exit_code;  /* a wait status; 0, too, where we may not know */
    uint64_t start; /* in clock ticks after boot */
};

/* Returns 0, or a negative errno (-ENOENT, -ESRCH): it is gone, or there is no /proc. */
int process_stat(int process, struct process_stat *stat);

/* fstat(2) of a descriptor of the process. Returns 0, or a negative errno if it has none, is gone, or may not be looked at. */
int process_descriptor_stat(int process, int fd, struct stat *status);

/* Is the folder /proc of this process's pid namespace, so that the numbers there are those that calls take? */
bool process_proc_is_ours(void);

/* Do this process's children get into another pid namespace than it is in itself (unshare(2))? */
bool process_children_are_elsewhere(void);

/* A pidfd, close-on-exec, or a negative errno. */
int process_open(int process);

/* Has the process of the pidfd ended? At once. */
bool process_has_ended(int pidfd);

enum process_end { PROCESS_LIVES, PROCESS_EXITED, PROCESS_KILLED, PROCESS_UNKNOWN };

/* How `process`, of which `pidfd` was opened while it lived, has ended. Unknown is what nobody tells any more, before Linux 6.15 of
 * a process that was waited for, or not yet, of another user's until then: waits up to 10 ms for an answer. */
enum process_end process_how_ended(int process, int pidfd);

#endif
