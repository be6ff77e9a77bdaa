/* Handles programs that share a file, and agree on its bytes by other means than locks on it:
 * session_claim_file(). */
#include "session/internal.h"

#include "store/filelock.h"

#include <errno.h>

enum { CLAIM_TIMEOUT = 1000 * 1000 * 1000 }; /* nanoseconds: a program may just be ending */

/* Values of session->syncs. ALONE: the session's first content was committed under the claim, so
 * only an open that truncates, appends or locks can have changed it since. */
enum { NEVER_SYNCED, SYNCED_ONCE, CLAIMED, ALONE };

static int64_t claim_timeout(void)
{
    return session_config->lock_timeout < CLAIM_TIMEOUT ? session_config->lock_timeout : CLAIM_TIMEOUT;
}

static int try_claim(struct session *session, const struct filelock_patience *patience)
{
    int error = filelock_claim(session->inode);

    if (error == 0)
        SESSION_SET(session->syncs, CLAIMED);
    if (error == -EAGAIN)
        return filelock_is_patience_over(patience) ? -EBUSY : -EAGAIN;
    return 0; /* where there are no such locks the commit fails, and reports it */
}

int session_claim_file(struct session *session)
{
    int error;

    if (session_is_stray(session) || !session_table_is_ours() || SESSION_GET(session->takes_turns) ||
        (SESSION_GET(session->flags) & (SESSION_APPEND | SESSION_LOCKED)))
        return 0;
    if (SESSION_GET(session->syncs) == NEVER_SYNCED)
        SESSION_SET(session->syncs, SYNCED_ONCE);
    else if (SESSION_GET(session->syncs) == SYNCED_ONCE) {
        error = session_insist(session, claim_timeout(), try_claim);
        if (error == -EBUSY)
            session_tell(session, LOG_ERROR,
                         "not synced: another program has claimed it by fsync(), until it closes it");
        return error;
    }
    return 0;
}

static int try_disclaim(struct session *session, const struct filelock_patience *unused)
{
    (void)unused;
    if (SESSION_GET(session->syncs) >= CLAIMED)
        filelock_disclaim(session->inode);
    SESSION_SET(session->syncs, NEVER_SYNCED);
    return 0;
}

static int try_begin_anew(struct session *session, const struct filelock_patience *unused)
{
    struct session_base base = session_get_base(session);

    base.force = true;
    session_set_base(session, base);
    return try_disclaim(session, unused);
}

static void give_back(struct session *session,
                      int (*try)(struct session *session, const struct filelock_patience *unused))
{
    if (SESSION_GET(session->syncs) != NEVER_SYNCED && !session_is_stray(session) && session_table_is_ours())
        (void)session_insist(session, 0, try);
}

void session_note_emptied(struct session *session)
{
    SESSION_SET(session->emptied, true);
    give_back(session, try_begin_anew);
}

void session_note_lock(struct session *session)
{
    if (SESSION_GET(session->takes_turns))
        return;
    SESSION_SET(session->takes_turns, true);
    give_back(session, try_disclaim);
}

void session_note_committed(struct session *session)
{
    SESSION_SET(session->emptied, false);
    if (SESSION_GET(session->syncs) == CLAIMED)
        SESSION_SET(session->syncs, ALONE);
}

int session_wait_for_claim(const struct session *session)
{
    struct filelock_patience patience = {.timeout = claim_timeout()};

    while (filelock_is_claimed(session->inode))
        if (filelock_wait(&patience) != 0) {
            session_tell(session, LOG_ERROR,
                         "not opened: another program has claimed it by fsync(), until it closes it; "
                         "programs that share a file must lock it");
            return -EBUSY;
        }
    return 0;
}

bool session_may_commit(const struct session *session, bool same)
{
    int syncs = SESSION_GET(session->syncs);

    if (SESSION_GET(session->takes_turns) ||
        (SESSION_GET(session->flags) & (SESSION_APPEND | SESSION_LOCKED)))
        return true;
    return same || syncs == NEVER_SYNCED || syncs == ALONE || SESSION_GET(session->emptied)
               ? !filelock_is_claimed(session->inode)
               : false;
}
