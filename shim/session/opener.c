/* Tells who looks after a session: the process that opened the file, and the guardian that commits
 * in place of other processes. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "os/process.h"

/*
 * A guardian holds a POSIX lock on the buffer. No other locks lie there: the programs' go to the
 * real inode. The kernel takes it away when the guardian ends. Its offset is made of the guardian's
 * pid namespace, with which it ends as well.
 */
static const int64_t guardians_start = (int64_t)1 << 62;
static const int64_t guardians_length = (int64_t)1 << 33; /* numbers of namespaces have 32 bits */

static bool is_locked(const struct session *session, int64_t start, int64_t length)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = start, .l_len = length};

    return sys_fcntl(SESSION_GET(session->buffer), F_GETLK, (long)&lock) == 0 && lock.l_type != F_UNLCK;
}

bool session_is_opener(const struct session *session)
{
    return descriptor_opener(SESSION_GET(session->inode)) == sys_getpid();
}

bool session_is_released(const struct session *session)
{
    return descriptor_is_released(SESSION_GET(session->inode));
}

void session_release(const struct session *session)
{
    descriptor_release(SESSION_GET(session->inode));
}

bool session_has_guardian(const struct session *session)
{
    return is_locked(session, guardians_start, guardians_length);
}

bool session_has_guardian_here(const struct session *session)
{
    return is_locked(session, guardians_start + (int64_t)process_namespace(), 1);
}

void session_become_guardian(const struct session *session)
{
    struct flock lock = {
        .l_type = F_RDLCK, .l_start = guardians_start + (int64_t)process_namespace(), .l_len = 1};

    (void)sys_fcntl(session->buffer, F_SETLK, (long)&lock);
}

void (*session_start_guardian)(void);

void session_watch_kernel(struct session *session)
{
    if (SESSION_GET(session->is_shared) || __atomic_load_n(&session->wants_guardian, __ATOMIC_ACQUIRE) ||
        session_start_guardian == NULL || !session_knows_mappings() || !session_want_guardian(session))
        return;
    session_start_guardian();
}

static int share_one(struct session *session, void *context)
{
    (void)context;
    SESSION_SET(session->is_shared, true);
    return 0;
}

void session_share(void)
{
    (void)session_for_each(share_one, NULL);
}
