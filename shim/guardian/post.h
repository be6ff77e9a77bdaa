/*
 * Shared by the files of guardian/: guardian.c starts the process, post.c brings it to its post and
 * waits there, watch.c decides.
 */
#ifndef ATOMSHIM_GUARDIAN_POST_H
#define ATOMSHIM_GUARDIAN_POST_H

#include "guardian/guardian.h"
#include "os/process.h"
#include "session/session.h"
#include "store/rendezvous.h"

/* The guardian's own name (comm, proc(5)). */
#define GUARDIAN_NAME "atomshim-guard"

/* The entry of a guardian in the table that the processes of one tree share. */
struct guardian_entry {
    int process; /* its pid; 0: the entry is free; -1: it is about to be started */
    unsigned looks;
    uint64_t pid_namespace; /* process_namespace() of the guardian, in which `process` is its pid */
};

/* The starter hands this to the guardian. */
struct guardian_order {
    int starter;
    int opener;                   /* the argument of guardian_start() */
    struct guardian_entry *entry; /* its own, or NULL: an exit does not wait for it */
};

/* One session that the guardian looks after. */
struct duty {
    struct session *session;
    bool is_openers; /* its opener is order.opener */
    bool is_synced;  /* all writes up to the opener's end are committed */
    bool is_told;    /* the log says that its writes are not committed */
    struct rendezvous place;
};

struct post {
    struct guardian_order order;
    int events;             /* a descriptor of inotify, or -1 */
    int wakes;              /* a signalfd, or -1 */
    int proc;               /* for the rendezvous, or -1 */
    struct process program; /* order.opener, or else the starter */
    bool is_watching;       /* the kernel can tell of the program's end */
    enum process_end end;   /* the program's end; PROCESS_UNKNOWN: it will never be known */
    int64_t doubt_until;    /* it cannot be told yet how the program ended; 0: not so */
    size_t duties_count;
    struct duty duties[SESSIONS_MAX];
};

/* Runs the guardian, in a process made for it. Writes one byte to `ready` once it is at its
 * post. */
_Noreturn void guardian_main(const struct guardian_order *order, int ready);

/*
 * Looks whether the session is over, or its opener has ended, and does what guardian.h says; a
 * session that is over is not SESSION_LIVE any more. Returns false if the end cannot be told yet: a
 * process that waits for the guardian must wait on.
 */
bool guardian_look_after(struct post *post, struct duty *duty);

#endif
