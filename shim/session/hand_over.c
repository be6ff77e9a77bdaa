/*
 * Decides which sessions the next program gets. Private descriptors are close-on-exec. The shim
 * hands them over with the program's own descriptors, to a program that loads the shim and has the
 * rights of the session's opener; every other session ends with the exec, and a guardian commits
 * it.
 */
#include "session/internal.h"

#include "os/descriptor.h"
#include "os/process.h"

static int systems_running; /* atomic: the libc's children that may inherit from this table now */

/* The real, the effective and the saved ids of this process, getresuid(2). */
struct rights {
    unsigned user[3];
    unsigned group[3];
};

static struct rights get_rights(void)
{
    struct rights rights;

    (void)SYS_CALL(SYS_getresuid, &rights.user[0], &rights.user[1], &rights.user[2], 0, 0, 0);
    (void)SYS_CALL(SYS_getresgid, &rights.group[0], &rights.group[1], &rights.group[2], 0, 0, 0);
    return rights;
}

/* The buffer's owner is the user who opened the session: only the shim could change that, since the
 * buffer has no name. */
static bool are_openers(const struct rights *rights, const struct stat *buffer)
{
    bool same = true;

    for (int i = 0; i < 3; i++)
        same &= rights->user[i] == buffer->st_uid && rights->group[i] == buffer->st_gid;
    return same;
}

static void set_close_on_exec(const struct session *session, bool on)
{
    (void)sys_fcntl(SESSION_GET(session->inode), F_SETFD, on ? FD_CLOEXEC : 0);
    (void)sys_fcntl(SESSION_GET(session->buffer), F_SETFD, on ? FD_CLOEXEC : 0);
}

static bool is_writable(const struct session *session)
{
    return (SESSION_GET(session->flags) & SESSION_WRITABLE) != 0;
}

bool session_want_guardian(struct session *session)
{
    if (!is_writable(session))
        return false;
    __atomic_store_n(&session->wants_guardian, true, __ATOMIC_RELEASE);
    return session_is_opener(session) || !session_has_guardian_here(session);
}

bool session_may_hand_over(const struct session *session)
{
    struct rights rights = get_rights();
    struct stat status;

    return sys_fstat(SESSION_GET(session->buffer), &status) == 0 && are_openers(&rights, &status);
}

struct exec {
    struct session_heir heir;
    struct rights rights;
    bool needs_guardian;
    int buffer; /* a buffer's descriptor that is handed over, or -1 */
};

/* Hands over the session of an inheritable descriptor, or asks for a guardian for it. */
static int hand_over_one(int fd, void *context)
{
    struct exec *exec = context;
    struct session_found found;
    struct stat status;
    long flags = sys_fcntl(fd, F_GETFD, 0);

    if (flags < 0 || (flags & FD_CLOEXEC) || session_identify(fd, &found) != SESSION_PROGRAM ||
        sys_fstat(fd, &status) != 0)
        return 0;
    if (exec->heir.adopts && are_openers(&exec->rights, &status)) {
        set_close_on_exec(found.session, false);
        exec->buffer = SESSION_GET(found.session->buffer);
    } else {
        exec->needs_guardian |= session_want_guardian(found.session);
    }
    return 0;
}

/* Asks for a guardian for a session that the exec closes in this process: another process may make
 * its last close just before. */
static int leave_one(struct session *session, void *context)
{
    struct exec *exec = context;
    struct stat status;

    if ((sys_fcntl(SESSION_GET(session->inode), F_GETFD, 0) & FD_CLOEXEC) && is_writable(session) &&
        sys_fstat(SESSION_GET(session->buffer), &status) == 0 && are_openers(&exec->rights, &status))
        exec->needs_guardian |= session_want_guardian(session);
    return 0;
}

static int leave_stray(struct session *found, void *exec)
{
    return session_with_buffer(found->buffer_device, found->buffer_number) != NULL ? 0
                                                                                   : leave_one(found, exec);
}

/* True if no thread can close a session of the table while this process is on its way to the exec:
 * it is a vfork() child whose parent, which waits for it, has no other thread. */
static bool is_parent_waiting(void)
{
    return !session_table_is_ours() && process_threads((int)SYS_CALL(SYS_getppid, 0, 0, 0, 0, 0, 0)) == 1;
}

/* Returns the first beacon number that is free, or open in the next program, too; or -1. */
static int find_place(int first)
{
    for (int number = first; number < first + DESCRIPTOR_BEACONS; number++) {
        long flags = sys_fcntl(number, F_GETFD, 0);

        if (flags < 0 || !(flags & FD_CLOEXEC))
            return number;
    }
    return -1;
}

/* Returns a descriptor, -1 if there is a beacon already, or less than -1 if there cannot be one. */
static int light_beacon(int buffer)
{
    int place = find_place(descriptor_beacon());
    long beacon;

    if (place >= 0 && sys_fcntl(place, F_GETFD, 0) >= 0)
        return -1;
    beacon = place < 0 ? -EMFILE : sys_fcntl(buffer, F_DUPFD, place);
    if (beacon >= 0 && beacon != place) {
        (void)sys_close((int)beacon);
        beacon = -EMFILE;
    }
    return (int)(beacon == -1 ? -EMFILE : beacon);
}

static int keep_private(struct session *session, void *context)
{
    (void)context;
    set_close_on_exec(session, true);
    return 0;
}

/* Does so for the sessions that vfork() children began, too. */
static void keep_all_private(void)
{
    (void)session_for_each(keep_private, NULL);
    if (session_any_stray())
        (void)session_search(NULL, keep_private, NULL);
}

/* Sets the mode that waits for a commit: the next program would not know of it. */
static int set_pending_mode(struct session *session, void *unused)
{
    ino_t buffer_number = SESSION_GET(session->buffer_number);

    (void)unused;
    if (SESSION_GET(session->pending_mode) != 0)
        (void)session_sync(session, buffer_number);
    return 0;
}

struct session_hand_over session_hand_over(struct session_heir heir)
{
    struct exec exec = {.heir = heir, .rights = get_rights(), .buffer = -1};
    struct session_hand_over result = {.beacon = -1};

    if (!heir.is_libcs && session_table_is_ours())
        (void)session_for_each(set_pending_mode, NULL);
    if (heir.is_libcs)
        (void)__atomic_add_fetch(&systems_running, 1, __ATOMIC_ACQ_REL);
    else
        keep_all_private(); /* the parent may have forked while a thread of it was in system(3) */
    (void)descriptor_for_each(hand_over_one, &exec);
    if (exec.buffer >= 0)
        result.beacon = light_beacon(exec.buffer);
    if (result.beacon < -1) { /* the program would not find the sessions */
        result.beacon = -1;
        keep_all_private();
        exec.heir.adopts = false;
        (void)descriptor_for_each(hand_over_one, &exec);
    }
    if (!heir.is_libcs && session_any_stray())
        (void)session_search(NULL, leave_stray, &exec);
    if (!heir.is_libcs && !is_parent_waiting())
        (void)session_for_each(leave_one, &exec);
    result.needs_guardian = exec.needs_guardian;
    return result;
}

void session_forget_systems(void)
{
    __atomic_store_n(&systems_running, 0, __ATOMIC_RELEASE);
}

void session_take_back(struct session_heir heir, int beacon)
{
    descriptor_close_if_open(beacon);
    if (!heir.is_libcs || __atomic_sub_fetch(&systems_running, 1, __ATOMIC_ACQ_REL) == 0)
        keep_all_private();
}
