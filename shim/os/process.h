/* Other processes: whether one lives, and how it ended, as /proc and pidfds tell. */
#ifndef ATOMSHIM_PROCESS_H
#define ATOMSHIM_PROCESS_H

#include "os/sys.h"

/* The parts of /proc/PID/stat that count here, proc(5). */
struct process_stat {
    bool exiting;   /* the process is about to end, or has ended */
    bool ended;     /* it has ended, and its parent has not waited for it yet */
    int exit_code;  /* a wait status; 0 as well where this user may not know it */
    uint64_t start; /* in clock ticks after boot */
};

/* Reads the text of such a file. Returns false if the text is no such line. */
bool process_parse_stat(const char *text, struct process_stat *stat);

/*
 * Fills *stat. Returns 0, or a negative errno (-ENOENT, -ESRCH) if the process is gone or /proc is
 * not mounted.
 */
int process_stat(int process, struct process_stat *stat);

/*
 * Does what fstat(2) does with a descriptor of the process. Returns 0, or a negative errno: the
 * process has no such descriptor, is gone, or this user may not look at it.
 */
int process_descriptor_stat(int process, int fd, struct stat *status);

/*
 * Tells whether /proc belongs to this process's pid namespace, so that the numbers there are those
 * that system calls take.
 */
bool process_proc_is_ours(void);

/* Returns the number of this process's pid namespace, which no other namespace has; 0 where /proc
 * does not tell. */
uint64_t process_namespace(void);

/* Returns how many threads the process has, PROC_SELF for this one; 0 if /proc does not tell. */
int process_threads(int process);

/*
 * Tells whether the children of this process get into another pid namespace than its own
 * (unshare(2)).
 */
bool process_children_are_elsewhere(void);

/*
 * Returns the number of a pidfd's process (pidfd_open(2)), or PROCESS_NOBODY if the process is gone
 * or of another pid namespace, or if neither the kernel (Linux 6.13) nor /proc tells.
 */
enum { PROCESS_NOBODY = 0x7fffffff /* no process has it: the kernel's PID_MAX_LIMIT is 1 << 22 */ };
int process_of_pidfd(int pidfd);

/* A process that another one watches. */
struct process {
    int number;
    int pidfd;      /* close-on-exec; -1 where the kernel or a seccomp filter refuses one */
    uint64_t start; /* tells it from a later one of that number; 0: not known */
};

/*
 * Begins to watch the process of this number. Returns false if there is none, or no means to watch
 * it. The pidfd is the caller's to close.
 */
bool process_open(struct process *process, int number);

/* Tells, without waiting, whether the process has ended. */
bool process_has_ended(const struct process *process);

enum process_end { PROCESS_LIVES, PROCESS_EXITED, PROCESS_KILLED, PROCESS_UNKNOWN };

/*
 * Tells how the process has ended. The answer is PROCESS_UNKNOWN if this user may not look into the
 * process and its parent has not waited for it yet, and, before Linux 6.15, if its parent has
 * waited for it. Waits up to 10 ms for an answer that is under way.
 */
enum process_end process_how_ended(const struct process *process);

#endif
