/*
 * posix_spawn(3), and pidfd_spawn() of glibc 2.39, which gives a pidfd in place of the process's
 * number. The libc performs the file actions in the child, by calls of its own. So where it
 * matters the child gets other actions than the program gave: the shim opens a managed file before,
 * and the action puts that descriptor in place; private descriptors are handed over with the
 * program's (session_may_hand_over()), and left alone by actions that close all.
 */
#include "interpose/spawn.h"

#include "guardian/guardian.h"
#include "manage/folders.h"
#include "os/descriptor.h"
#include "os/process.h"
#include "os/scratch.h"
#include "program/target.h"

#include <limits.h>
#include <stdlib.h>

/* The actions that the child gets in place of the recorded ones. */
struct plan {
    posix_spawn_file_actions_t actions;
    const struct spawn_record *record;
    int directory;         /* where the child is by then */
    int above;             /* all numbers that the actions name are lower */
    bool lacks_room;       /* a private descriptor had to stay below: the limit is too low */
    struct opened *opened; /* for each action */
    bool covered;          /* the program loads the shim */
    bool inherits;         /* a session is handed over: */
    int buffer;            /* the private descriptor of its buffer */
    bool needs_guardian;
    int error; /* the first that an action could not be planned for, or 0 */
};

/* The descriptor that a SPAWN_OPEN action puts in place; the child is the session's opener. */
struct opened {
    int fd;            /* or -1 */
    bool is_inherited; /* the program has it */
};

static void plan_close(struct plan *plan, int fd)
{
    int error = REAL(posix_spawn_file_actions_addclose)(&plan->actions, fd);

    plan->error = plan->error != 0 ? plan->error : error;
}

static void plan_copy(struct plan *plan, int from, int to)
{
    int error = REAL(posix_spawn_file_actions_adddup2)(&plan->actions, from, to);

    plan->error = plan->error != 0 ? plan->error : error;
}

static int close_in_child(int fd, void *context)
{
    struct plan *plan = ((void **)context)[0];

    if (fd >= *(int *)((void **)context)[1] && !descriptor_is_private(fd))
        plan_close(plan, fd);
    return 0;
}

/* Closes what the parent has open from `lowest` on, and what the first `done` actions have made. */
static void plan_close_from(struct plan *plan, int lowest, size_t done)
{
    void *context[] = {plan, &lowest};

    (void)descriptor_for_each(close_in_child, context);
    for (size_t i = 0; i < done; i++)
        if ((plan->record->list[i].kind == SPAWN_OPEN || plan->record->list[i].kind == SPAWN_DUP2) &&
            plan->record->list[i].fd >= lowest)
            plan_close(plan, plan->record->list[i].fd);
}

static void set_opener(int fd, int process)
{
    struct session_found found;

    if (session_identify(fd, &found) == SESSION_PROGRAM && (found.session->flags & SESSION_WRITABLE))
        descriptor_set_opener(found.session->inode, process);
}

static int plan_open(struct plan *plan, size_t index)
{
    const struct spawn_action *action = &plan->record->list[index];
    const struct managed_request request = {plan->directory, action->path, action->flags | O_CLOEXEC,
                                            action->mode, false};
    int fd = shim_openat(&request);
    int moved;

    if (fd == SHIM_PASS)
        return REAL(posix_spawn_file_actions_addopen)(&plan->actions, action->fd, action->path, action->flags,
                                                      action->mode);
    if (fd < 0)
        return -fd;
    if (fd < plan->above) { /* an action may close or replace it too soon */
        moved = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, plan->above);
        (void)sys_close(fd);
        if (moved < 0)
            return -moved;
        fd = moved;
    }
    set_opener(fd, DESCRIPTOR_NO_OPENER);
    plan->opened[index].fd = fd;
    return REAL(posix_spawn_file_actions_adddup2)(&plan->actions, fd, action->fd);
}

static void plan_directory(struct plan *plan, int directory)
{
    descriptor_close_if_open(plan->directory);
    plan->directory = directory;
}

static int plan_action(struct plan *plan, size_t index)
{
    const struct spawn_action *action = &plan->record->list[index];

    switch (action->kind) {
    case SPAWN_OPEN:
        return plan_open(plan, index);
    case SPAWN_CLOSE: /* it may be private, if no number beyond was free */
        return descriptor_is_private(action->fd)
                   ? 0
                   : REAL(posix_spawn_file_actions_addclose)(&plan->actions, action->fd);
    case SPAWN_DUP2:
        return REAL(posix_spawn_file_actions_adddup2)(&plan->actions, action->from, action->fd);
    case SPAWN_CHDIR:
        plan_directory(plan, sys_openat(plan->directory, action->path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
        return REAL(posix_spawn_file_actions_addchdir_np)(&plan->actions, action->path);
    case SPAWN_FCHDIR:
        plan_directory(plan, (int)sys_fcntl(action->fd, F_DUPFD_CLOEXEC, plan->above));
        return REAL(posix_spawn_file_actions_addfchdir_np)(&plan->actions, action->fd);
    case SPAWN_CLOSEFROM: /* by number: a descriptor that a later action needs must stay */
        plan_close_from(plan, action->fd, index);
        return 0;
    case SPAWN_TCSETPGRP:
        break;
    }
    return REAL(posix_spawn_file_actions_addtcsetpgrp_np)(&plan->actions, action->fd);
}

/* Moves private descriptors out of the way of the actions, which might close or replace them. */
static int move_private(struct session *session, void *context)
{
    struct plan *plan = context;
    const int numbers[] = {SESSION_GET(session->inode), SESSION_GET(session->buffer)};

    for (int i = 0; i < 2 && session_table_is_ours(); i++)
        if (numbers[i] < plan->above && session_move_private(session, numbers[i], plan->above) == 1)
            (void)sys_close(numbers[i]);
    plan->lacks_room |=
        SESSION_GET(session->inode) < plan->above || SESSION_GET(session->buffer) < plan->above;
    return 0;
}

/*
 * Finds the parent's descriptor that is `number` in the child after the first `count` actions, or
 * returns -1. One that is close-on-exec outlives the exec only if an action has copied it.
 */
static int find_origin(const struct plan *plan, size_t count, int number)
{
    long flags;
    bool is_copied = false;

    while (count-- != 0) {
        const struct spawn_action *action = &plan->record->list[count];

        if ((action->kind == SPAWN_CLOSE && action->fd == number) ||
            (action->kind == SPAWN_CLOSEFROM && action->fd <= number))
            return -1;
        if (action->fd != number || (action->kind != SPAWN_OPEN && action->kind != SPAWN_DUP2))
            continue;
        if (action->kind == SPAWN_OPEN)
            return plan->opened[count].fd;
        number = action->from;
        is_copied = true;
    }
    flags = sys_fcntl(number, F_GETFD, 0);
    return flags >= 0 && (is_copied || !(flags & FD_CLOEXEC)) ? number : -1;
}

/* Hands over the session that the child has at `number`, or asks for a guardian for it. */
static int inherit_one(int number, void *context)
{
    struct plan *plan = context;
    int origin = find_origin(plan, plan->record != NULL ? plan->record->count : 0, number);
    struct session_found found;

    if (origin < 0 || session_identify(origin, &found) != SESSION_PROGRAM)
        return 0;
    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        plan->opened[i].is_inherited |= plan->opened[i].fd == origin;
    if (!plan->covered || !session_may_hand_over(found.session)) {
        plan->needs_guardian |= session_want_guardian(found.session);
        return 0;
    }
    plan->inherits = true;
    /* a dup2 onto itself makes it outlive the exec */
    plan_copy(plan, found.session->inode, found.session->inode);
    plan_copy(plan, found.session->buffer, found.session->buffer);
    plan->buffer = found.session->buffer;
    return 0;
}

static bool is_made(const struct spawn_record *record, int number)
{
    for (size_t i = 0; record != NULL && i < record->count; i++)
        if ((record->list[i].kind == SPAWN_OPEN || record->list[i].kind == SPAWN_DUP2) &&
            record->list[i].fd == number)
            return true;
    return false;
}

/* Lights the child's beacon, at a number that no action has made. Returns false if there is no room
 * for one. */
static bool plan_beacon(struct plan *plan)
{
    int first = descriptor_beacon();

    for (int number = first; number < first + DESCRIPTOR_BEACONS; number++)
        if (find_origin(plan, plan->record != NULL ? plan->record->count : 0, number) >= 0)
            return true; /* the number is open, whatever file it is */
        else if (sys_fcntl(number, F_GETFD, 0) < 0 && !is_made(plan->record, number))
            return REAL(posix_spawn_file_actions_adddup2)(&plan->actions, plan->buffer, number) == 0;
    return false;
}

static void inherit_each(struct plan *plan)
{
    (void)descriptor_for_each(inherit_one, plan);
    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        if (sys_fcntl(plan->record->list[i].fd, F_GETFD, 0) < 0)
            (void)inherit_one(plan->record->list[i].fd, plan);
}

/* Plans what the child inherits, after all actions. Without a beacon it would not find the
 * sessions. */
static void plan_inheritance(struct plan *plan)
{
    inherit_each(plan);
    if (!plan->inherits || plan_beacon(plan))
        return;
    plan->covered = false;
    inherit_each(plan);
}

static bool needs_plan(const struct spawn_record *record)
{
    for (size_t i = 0; record != NULL && i < record->count; i++)
        if (record->list[i].kind == SPAWN_OPEN || record->list[i].kind == SPAWN_CLOSEFROM)
            return true;
    return false;
}

static int make_plan(struct plan *plan, const struct spawn_record *record)
{
    size_t count = record != NULL ? record->count : 0;
    int error;

    plan->record = record;
    plan->directory = AT_FDCWD;
    plan->opened = calloc(count + 1, sizeof *plan->opened);
    if (plan->opened == NULL)
        return ENOMEM;
    error = REAL(posix_spawn_file_actions_init)(&plan->actions);
    plan->above = 3;
    for (size_t i = 0; i < count; i++) {
        plan->opened[i].fd = -1;
        if (record->list[i].fd >= plan->above)
            plan->above = record->list[i].fd + 1;
        if (record->list[i].from >= plan->above)
            plan->above = record->list[i].from + 1;
    }
    /*
     * once for the open descriptors, once for those that the actions open; without room the planned
     * closes leave out the numbers of the first time, and an action that opens fails
     */
    (void)session_for_each(move_private, plan);
    for (size_t i = 0; error == 0 && i < count; i++)
        error = plan_action(plan, i);
    if (!plan->lacks_room)
        (void)session_for_each(move_private, plan);
    if (error == 0)
        plan_inheritance(plan);
    return error != 0 ? error : plan->error;
}

/* Closes a file that was opened for the child. `decides_here`: this process's close commits, as the
 * child's would; else the session is given up, whatever the kernel says of the last close. */
static void let_go(int fd, bool decides_here)
{
    struct session_found found;

    if (decides_here || session_identify(fd, &found) != SESSION_PROGRAM ||
        !(found.session->flags & SESSION_WRITABLE)) {
        (void)close(fd);
        return;
    }
    (void)sys_close(fd);
    session_drop(found.session);
}

/* `is_looked_after`: the child has the shim, or a guardian, which decide about what it inherits.
 * Where memory was short there was no child, and no file was opened. */
static void end_plan(struct plan *plan, bool is_looked_after, int error)
{
    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        if (plan->opened[i].fd >= 0)
            let_go(plan->opened[i].fd, error != ENOMEM && !(is_looked_after && plan->opened[i].is_inherited));
    free(plan->opened);
    plan_directory(plan, AT_FDCWD);
    (void)REAL(posix_spawn_file_actions_destroy)(&plan->actions);
}

typedef int spawn_function(int *process, const char *path, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[],
                           char *const environment[]);

/* The arguments of posix_spawn(); `file` is the path at which the program was found. */
struct spawn {
    spawn_function *real;
    const char *file;
    int *process; /* gets the child's number, or a pidfd */
    const char *path;
    const posix_spawn_file_actions_t *actions;
    const posix_spawnattr_t *attributes;
    char *const *arguments;
    char *const *environment;
};

static int spawn_program(const struct spawn *spawn, const posix_spawn_file_actions_t *actions)
{
    return spawn->real(spawn->process, spawn->path, actions, spawn->attributes, spawn->arguments,
                       spawn->environment);
}

/* Starts a guardian that knows the child, in whose place this process has opened files. */
static bool start_guardian(const struct plan *plan, const struct spawn *spawn)
{
    bool gives_pidfd = spawn->real == REAL(pidfd_spawn) || spawn->real == REAL(pidfd_spawnp);
    int child = gives_pidfd ? process_of_pidfd(*spawn->process) : *spawn->process;

    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        if (plan->opened[i].fd >= 0 && plan->opened[i].is_inherited)
            set_opener(plan->opened[i].fd, child);
    return guardian_start(child);
}

static int spawn_planned(const struct spawn *spawn, const struct spawn_record *record)
{
    struct plan plan = {.covered = target_loads_shim(AT_FDCWD, spawn->file, 0, spawn->environment)};
    bool is_looked_after;
    int error = make_plan(&plan, record);

    if (error == 0) /* without a session they do what the planned ones do */
        error = spawn_program(spawn, shim_has_sessions() ? &plan.actions : spawn->actions);
    is_looked_after = error == 0;
    if (error == 0 && plan.needs_guardian)
        is_looked_after = start_guardian(&plan, spawn);
    if (plan.opened != NULL)
        end_plan(&plan, is_looked_after, error);
    return error;
}

static int shim_spawn(struct spawn spawn)
{
    const struct spawn_record *record = spawn_find_record(spawn.actions);
    struct shim_child child;
    int own = 0;
    int saved = errno;
    int error;

    if (spawn.process == NULL)
        spawn.process = &own;
    if (spawn.actions == NULL || record != NULL) {
        session_share();
        error = spawn_planned(&spawn, record);
        (void)session_settle_closed(false); /* other threads may have closed one meanwhile */
    } else {
        /* there are too many objects to record them */
        child = shim_before_child(spawn.file, spawn.environment);
        error = spawn_program(&spawn, spawn.actions);
        shim_after_child(child);
    }
    errno = saved;
    return error;
}

static bool is_concerned(const posix_spawn_file_actions_t *actions)
{
    folders_forget(); /* the child may change names */
    return shim_has_sessions() || (shim_enabled() && needs_plan(spawn_find_record(actions)));
}

/* Spawns by the libc's function that takes a path. */
static int spawn_path(struct spawn spawn)
{
    if (!is_concerned(spawn.actions))
        return spawn_program(&spawn, spawn.actions);
    spawn.file = spawn.path;
    return shim_spawn(spawn);
}

/* Spawns by the libc's function that looks in PATH. */
static int spawn_name(struct spawn spawn)
{
    struct scratch scratch;
    int error;

    if (!is_concerned(spawn.actions))
        return spawn_program(&spawn, spawn.actions);
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return ENOMEM;
    target_find(spawn.path, scratch.bytes);
    spawn.file = scratch.bytes;
    error = shim_spawn(spawn);
    scratch_give(&scratch);
    return error;
}

#define SPAWN_PARAMETERS                                                                                     \
    (int *process, const char *path, const posix_spawn_file_actions_t *actions,                              \
     const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
#define SPAWN_ARGUMENTS(real)                                                                                \
    ((struct spawn){real, NULL, process, path, actions, attributes, arguments, environment})

EXPORT int posix_spawn SPAWN_PARAMETERS
{
    return spawn_path(SPAWN_ARGUMENTS(REAL(posix_spawn)));
}

EXPORT int posix_spawnp SPAWN_PARAMETERS
{
    return spawn_name(SPAWN_ARGUMENTS(REAL(posix_spawnp)));
}

EXPORT int pidfd_spawn SPAWN_PARAMETERS
{
    return spawn_path(SPAWN_ARGUMENTS(REAL(pidfd_spawn)));
}

EXPORT int pidfd_spawnp SPAWN_PARAMETERS
{
    return spawn_name(SPAWN_ARGUMENTS(REAL(pidfd_spawnp)));
}
