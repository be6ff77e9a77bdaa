/* What the two halves of a guardian share: guardian_post.c, how it gets to its post and waits there, and guardian_watch.c, whom
 * it watches and what it decides. */
#ifndef ATOMSHIM_GUARDIAN_POST_H
#define ATOMSHIM_GUARDIAN_POST_H

#include "guardian/guardian.h"
#include "os/process.h"
#include "session/session.h"
#include "store/rendezvous.h"

#include <poll.h>

enum {
    GUARDIAN_WATCHED_MAX = 256,
    GUARDIAN_FIXED_POLLS = 3,
    GUARDIAN_ENDINGS_MAX = 200,         /* how often is asked whether somebody has ended who is about to, */
    GUARDIAN_ENDING_PAUSE = 500 * 1000, /* and after how many nanoseconds */
};

/* A process that holds a session. */
struct watched {
    struct duty *duty;
    struct process process;
    bool covered;
    bool ended;  /* seen before the question whether the last is gone was put */
    bool holds;  /* as far as this can be seen */
    bool closed; /* it lives, and holds it no more */
};

/* What a session asks of its guardian. */
struct duty {
    struct session *session;
    bool kept;           /* the program gets a descriptor of it */
    bool stays;          /* who holds it cannot be seen: only the last close tells */
    bool covered_alone;  /* when it was looked at last, nobody without the shim had it any more */
    int clear;           /* looks in a row: see SURE */
    int64_t doubt_until; /* it cannot be told yet how one has ended; 0: not so */
    struct rendezvous place;
};

struct post {
    struct guardian_order order;
    int ready;
    int events;             /* of inotify, or -1 */
    bool tells;             /* of every session's end */
    int wakes;              /* a signalfd, or -1 */
    int proc;               /* for the rendezvous, or -1 */
    struct process program; /* order.process */
    bool sees;              /* /proc shows the processes */
    bool knows_all;         /* children without the shim of one with it have guardians, or are the program */
    int pending;            /* sessions that are to be looked at again soon */
    size_t watched_count;
    struct watched watched[GUARDIAN_WATCHED_MAX];
    struct pollfd polls[GUARDIAN_FIXED_POLLS + GUARDIAN_WATCHED_MAX];
    size_t duties_count;
    struct duty duties[SESSIONS_MAX];
};

/* Begins to watch the program, and those with the shim that started it: if one of them is killed as the last, its content
 * is none. */
void guardian_watch_first(struct post *post, struct duty *duty);

/* Notes who of those that are watched has ended. To be called before each round of guardian_look_after(). */
void guardian_note_ends(struct post *post);

/*
 * Looks whether the session is over, commits it, drops it, or lets go of it; then it is not SESSION_LIVE any more.
 * `expected`: the program may still come. Returns true if the same is to be asked again, soon: somebody is giving up what it
 * has, which who waits for us has seen.
 */
bool guardian_look_after(struct post *post, struct duty *duty, bool expected);

#endif
