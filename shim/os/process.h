/* Other processes: whether one lives, and how it ended, as /proc and pidfds tell. */
#ifndef ATOMSHIM_PROCESS_H
#define ATOMSHIM_PROCESS_H

#include "os/sys.h"

/* What /proc/PID/stat says, proc(5). */
struct process_stat {
    bool exiting; /* is about to end, or has ended and was not waited for yet: */
    bool ended;
    int exit_code;  /* a wait status; 0, too, where we may not know */
    uint64_t start; /* in clock ticks after boot */
};

/* Returns 0, or a negative errno (-ENOENT, -ESRCH): it is gone, or there is no /proc. */
int process_stat(int process, struct process_stat *stat);

/* fstat(2) of a descriptor of the process. Returns 0, or a negative errno if it has none, is gone, or may not be looked at. */
int process_descriptor_stat(int process, int fd, struct stat *status);

/* Is the folder /proc of this process's pid namespace, so that the numbers there are those that calls take? */
bool process_proc_is_ours(void);

/* The number of this process's pid namespace, which no other has; 0 where /proc does not tell. */
uint64_t process_namespace(void);

/* How many threads the process has; 0 if that cannot be told. */
int process_threads(int process);

/* Do this process's children get into another pid namespace than it is in itself (unshare(2))? */
bool process_children_are_elsewhere(void);

/* A process that is watched. */
struct process {
    int number;
    int pidfd; /* close-on-exec; -1 where the kernel or a filter has none: then it is known by its start */
    uint64_t start; /* 0: not known */
};

/* Returns false if there is no such process, or no means to watch one. */
bool process_open(struct process *process, int number);
void process_close(const struct process *process);

/* Has it ended? At once. */
bool process_has_ended(const struct process *process);

enum process_end { PROCESS_LIVES, PROCESS_EXITED, PROCESS_KILLED, PROCESS_UNKNOWN };

/*
 * How it has ended. Unknown is what cannot be told: yet, of a process that this user may not look into, until it is waited
 * for; or any more, of one that was waited for, before Linux 6.15. An answer that is under way is waited for, up to 10 ms.
 */
enum process_end process_how_ended(const struct process *process);

#endif
