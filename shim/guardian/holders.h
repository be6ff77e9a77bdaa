/*
 * Who holds a session's buffer: which processes have a descriptor or a mapping of it, and whether the shim is in them.
 * For guardians alone (guardian.h): it takes its time, and static buffers.
 */
#ifndef ATOMSHIM_HOLDERS_H
#define ATOMSHIM_HOLDERS_H

#include "session/session.h"

enum holder {
    HOLDER_NONE,
    HOLDER_KEEPER, /* has the shim and the session's private descriptors, and has closed its own: it looks again */
    HOLDER_COVERED,   /* has the shim and the session: it commits, or sees to it that somebody does */
    HOLDER_UNCOVERED, /* writes, and knows of nothing */
    HOLDER_HIDDEN,    /* its descriptors may not be looked at */
    HOLDER_DYING,     /* gives up what it has at this moment; of those that were started after this process */
};

/* What `process` is to the session, but for HOLDER_DYING. Guardians hold nothing. `by_mapping`: it may have no descriptor of
 * it any more. */
enum holder holders_look(int process, const struct session *session, bool by_mapping);

/* Which processes are looked at: those that were started after this one, or all, which takes longer. Of the older ones only
 * those count that have a descriptor, and may be looked at. */
enum holders_scope { HOLDERS_NEW, HOLDERS_ALL };

/* Calls `visit` for each process but this one that is not HOLDER_NONE. `proc` is an open descriptor of /proc; to close one
 * would drop the guardian's locks on it (rendezvous.h). */
void holders_for_each(int proc, const struct session *session, enum holders_scope scope,
                      void (*visit)(int process, enum holder holder, void *context), void *context);

#endif
