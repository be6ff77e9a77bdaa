/*
 * posix_spawn(3): the libc performs the file actions in the child, by calls of its own. So they are
 * written down here as they are added, and where it matters the child gets other ones: a managed
 * file is opened by us, before, and the action puts its descriptor in place; what closes all
 * descriptors leaves our private ones alone; a program without the shim gets none of these.
 */
#include "interpose/interpose.h"

#include "guardian/guardian.h"
#include "os/descriptor.h"
#include "os/scratch.h"
#include "program/target.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum kind { OPEN, CLOSE, DUP2, CHANGE_DIRECTORY, CHANGE_DIRECTORY_FD, CLOSE_FROM, SET_GROUP };

struct action {
    enum kind kind;
    int fd;
    int from;
    int flags;
    mode_t mode;
    char *path;
};

/* The actions of one object of the program's, which alone uses its slot: there is no lock. */
struct record {
    const posix_spawn_file_actions_t *object; /* atomic; NULL: the slot is free */
    struct action *list;
    size_t count;
};

/* Objects in use at once; the actions of more are performed as they are. */
enum { RECORDS_MAX = 256 };

static struct record records[RECORDS_MAX];

static struct record *find(const posix_spawn_file_actions_t *object)
{
    for (size_t i = 0; object != NULL && i < RECORDS_MAX; i++)
        if (__atomic_load_n(&records[i].object, __ATOMIC_ACQUIRE) == object)
            return &records[i];
    return NULL;
}

static struct record *find_or_claim(const posix_spawn_file_actions_t *object)
{
    struct record *record = find(object);

    for (size_t i = 0; record == NULL && i < RECORDS_MAX; i++) {
        const posix_spawn_file_actions_t *expected = NULL;

        if (__atomic_compare_exchange_n(&records[i].object, &expected, object, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            record = &records[i];
    }
    return record;
}

static void forget(const posix_spawn_file_actions_t *object)
{
    struct record *record = find(object);

    if (record == NULL)
        return;
    for (size_t i = 0; i < record->count; i++)
        free(record->list[i].path);
    free(record->list);
    record->list = NULL;
    record->count = 0;
    __atomic_store_n(&record->object, NULL, __ATOMIC_RELEASE);
}

/* Behind a successful action of the libc's. Returns 0 or ENOMEM. */
static int add(const posix_spawn_file_actions_t *object, struct action action, const char *path)
{
    struct record *record = shim_enabled() || shim_has_sessions() ? find_or_claim(object) : NULL;
    struct action *list;

    if (record == NULL)
        return 0;
    list = realloc(record->list, (record->count + 1) * sizeof *list);
    if (list == NULL)
        return ENOMEM;
    record->list = list;
    action.path = path != NULL ? strdup(path) : NULL;
    if (path != NULL && action.path == NULL)
        return ENOMEM;
    list[record->count++] = action;
    return 0;
}

EXPORT int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions)
{
    (void)shim_enabled(); /* finds the real one */
    forget(actions);
    return real_posix_spawn_file_actions_init(actions);
}

EXPORT int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
{
    (void)shim_enabled();
    forget(actions);
    return real_posix_spawn_file_actions_destroy(actions);
}

EXPORT int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path,
                                            int flags, mode_t mode)
{
    int error = real_posix_spawn_file_actions_addopen(actions, fd, path, flags, mode);
    struct action action = {.kind = OPEN, .fd = fd, .flags = flags, .mode = mode};
    return error != 0 ? error : add(actions, action, path);
}

EXPORT int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t *actions, int fd)
{
    int error = real_posix_spawn_file_actions_addclose(actions, fd);
    return error != 0 ? error : add(actions, (struct action){.kind = CLOSE, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int from, int to)
{
    int error = real_posix_spawn_file_actions_adddup2(actions, from, to);
    return error != 0 ? error : add(actions, (struct action){.kind = DUP2, .fd = to, .from = from}, NULL);
}

EXPORT int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path)
{
    int error = real_posix_spawn_file_actions_addchdir_np(actions, path);
    return error != 0 ? error : add(actions, (struct action){.kind = CHANGE_DIRECTORY}, path);
}

EXPORT int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd)
{
    int error = real_posix_spawn_file_actions_addfchdir_np(actions, fd);
    return error != 0 ? error : add(actions, (struct action){.kind = CHANGE_DIRECTORY_FD, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int fd)
{
    int error = real_posix_spawn_file_actions_addclosefrom_np(actions, fd);
    return error != 0 ? error : add(actions, (struct action){.kind = CLOSE_FROM, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_addtcsetpgrp_np(posix_spawn_file_actions_t *actions, int fd)
{
    int error = real_posix_spawn_file_actions_addtcsetpgrp_np(actions, fd);
    return error != 0 ? error : add(actions, (struct action){.kind = SET_GROUP, .fd = fd}, NULL);
}

/* The actions that the child gets in place of the recorded ones. */
struct plan {
    posix_spawn_file_actions_t actions;
    const struct record *record;
    int directory;         /* where the child is by then */
    int above;             /* all numbers that the actions name are lower */
    struct opened *opened; /* for each action */
    bool covered;          /* the program loads the shim */
    bool inherits;         /* a session is handed over: */
    int buffer;            /* the private descriptor of its buffer */
    bool needs_guardian;
};

/* A descriptor that an OPEN action puts in place; the child is the session's opener. */
struct opened {
    int fd;            /* or -1 */
    bool is_inherited; /* the program has it */
};

static int close_in_child(int fd, void *context)
{
    struct plan *plan = ((void **)context)[0];

    if (fd >= *(int *)((void **)context)[1] && !descriptor_is_private(fd))
        (void)real_posix_spawn_file_actions_addclose(&plan->actions, fd);
    return 0;
}

/* What the parent has open, and what the actions before this one have made. */
static void plan_close_from(struct plan *plan, int lowest, size_t done)
{
    void *context[] = {plan, &lowest};

    (void)descriptor_for_each(close_in_child, context);
    for (size_t i = 0; i < done; i++)
        if ((plan->record->list[i].kind == OPEN || plan->record->list[i].kind == DUP2) &&
            plan->record->list[i].fd >= lowest)
            (void)real_posix_spawn_file_actions_addclose(&plan->actions, plan->record->list[i].fd);
}

static void set_opener(int fd, int process)
{
    struct session_found found;

    if (session_identify(fd, &found) == SESSION_PROGRAM && (found.session->flags & SESSION_WRITABLE))
        descriptor_set_opener(found.session->inode, process);
}

static int plan_open(struct plan *plan, size_t index)
{
    const struct action *action = &plan->record->list[index];
    const struct managed_request request = {plan->directory, action->path, action->flags | O_CLOEXEC,
                                            action->mode, false};
    int fd = shim_openat(&request);
    int moved;

    if (fd == SHIM_PASS)
        return real_posix_spawn_file_actions_addopen(&plan->actions, action->fd, action->path, action->flags,
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
    return real_posix_spawn_file_actions_adddup2(&plan->actions, fd, action->fd);
}

static void plan_directory(struct plan *plan, int directory)
{
    if (plan->directory >= 0)
        (void)sys_close(plan->directory);
    plan->directory = directory;
}

static int plan_action(struct plan *plan, size_t index)
{
    const struct action *action = &plan->record->list[index];

    switch (action->kind) {
    case OPEN:
        return plan_open(plan, index);
    case CLOSE: /* of ours it is if there is no number beyond */
        return descriptor_is_private(action->fd)
                   ? 0
                   : real_posix_spawn_file_actions_addclose(&plan->actions, action->fd);
    case DUP2:
        return real_posix_spawn_file_actions_adddup2(&plan->actions, action->from, action->fd);
    case CHANGE_DIRECTORY:
        plan_directory(plan, sys_openat(plan->directory, action->path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
        return real_posix_spawn_file_actions_addchdir_np(&plan->actions, action->path);
    case CHANGE_DIRECTORY_FD:
        plan_directory(plan, (int)sys_fcntl(action->fd, F_DUPFD_CLOEXEC, plan->above));
        return real_posix_spawn_file_actions_addfchdir_np(&plan->actions, action->fd);
    case CLOSE_FROM:
        if (shim_has_sessions())
            plan_close_from(plan, action->fd, index);
        else
            return real_posix_spawn_file_actions_addclosefrom_np(&plan->actions, action->fd);
        return 0;
    case SET_GROUP:
        return real_posix_spawn_file_actions_addtcsetpgrp_np(&plan->actions, action->fd);
    }
    return 0;
}

/* No action is to close or replace what is ours. */
static int move_private(struct session *session, void *context)
{
    const struct plan *plan = context;
    const int numbers[] = {SESSION_GET(session->inode), SESSION_GET(session->buffer)};

    for (int i = 0; i < 2 && session_table_is_ours(); i++)
        if (numbers[i] < plan->above && session_move_private(session, numbers[i], plan->above) == 1)
            (void)sys_close(numbers[i]);
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
        const struct action *action = &plan->record->list[count];

        if ((action->kind == CLOSE && action->fd == number) ||
            (action->kind == CLOSE_FROM && action->fd <= number))
            return -1;
        if (action->fd != number || (action->kind != OPEN && action->kind != DUP2))
            continue;
        if (action->kind == OPEN)
            return plan->opened[count].fd;
        number = action->from;
        is_copied = true;
    }
    flags = sys_fcntl(number, F_GETFD, 0);
    return flags >= 0 && (is_copied || !(flags & FD_CLOEXEC)) ? number : -1;
}

/* Hands the session that the child has at `number` over, or wants a guardian for it. */
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
    /* onto itself: that makes it outlive the exec */
    (void)real_posix_spawn_file_actions_adddup2(&plan->actions, found.session->inode, found.session->inode);
    (void)real_posix_spawn_file_actions_adddup2(&plan->actions, found.session->buffer, found.session->buffer);
    plan->buffer = found.session->buffer;
    return 0;
}

static bool is_made(const struct record *record, int number)
{
    for (size_t i = 0; record != NULL && i < record->count; i++)
        if ((record->list[i].kind == OPEN || record->list[i].kind == DUP2) && record->list[i].fd == number)
            return true;
    return false;
}

/* Lights the child's beacon, at a number that no action has made. Returns false if there is no room for one. */
static bool plan_beacon(struct plan *plan)
{
    int first = descriptor_beacon();

    for (int number = first; number < first + DESCRIPTOR_BEACONS; number++)
        if (find_origin(plan, plan->record != NULL ? plan->record->count : 0, number) >= 0)
            return true; /* whatever it is, it is open there */
        else if (sys_fcntl(number, F_GETFD, 0) < 0 && !is_made(plan->record, number))
            return real_posix_spawn_file_actions_adddup2(&plan->actions, plan->buffer, number) == 0;
    return false;
}

static void inherit_each(struct plan *plan)
{
    (void)descriptor_for_each(inherit_one, plan);
    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        if (sys_fcntl(plan->record->list[i].fd, F_GETFD, 0) < 0)
            (void)inherit_one(plan->record->list[i].fd, plan);
}

/* Plans what the child inherits, after all actions. Without a beacon it would not find the sessions. */
static void plan_inheritance(struct plan *plan)
{
    inherit_each(plan);
    if (!plan->inherits || plan_beacon(plan))
        return;
    plan->covered = false;
    inherit_each(plan);
}

static bool needs_plan(const struct record *record)
{
    for (size_t i = 0; record != NULL && i < record->count; i++)
        if (record->list[i].kind == OPEN || record->list[i].kind == CLOSE_FROM)
            return true;
    return false;
}

static int make_plan(struct plan *plan, const struct record *record)
{
    size_t count = record != NULL ? record->count : 0;
    int error;

    plan->record = record;
    plan->directory = AT_FDCWD;
    plan->opened = calloc(count + 1, sizeof *plan->opened);
    if (plan->opened == NULL)
        return ENOMEM;
    error = real_posix_spawn_file_actions_init(&plan->actions);
    plan->above = 3;
    for (size_t i = 0; i < count; i++) {
        plan->opened[i].fd = -1;
        if (record->list[i].fd >= plan->above)
            plan->above = record->list[i].fd + 1;
        if (record->list[i].from >= plan->above)
            plan->above = record->list[i].from + 1;
    }
    /* once for what is there, once for what the actions open */
    (void)session_for_each(move_private, plan);
    for (size_t i = 0; error == 0 && i < count; i++)
        error = plan_action(plan, i);
    (void)session_for_each(move_private, plan);
    if (error == 0)
        plan_inheritance(plan);
    return error;
}

/*
 * The child decides what becomes of a file that was opened for it: this process lets go of it,
 * whatever the kernel says of the last close. `is_looked_after`: the child has the shim, or a
 * guardian.
 */
static void let_go(const struct opened *opened, bool is_looked_after)
{
    struct session_found found;

    if (!is_looked_after || !opened->is_inherited ||
        session_identify(opened->fd, &found) != SESSION_PROGRAM ||
        !(found.session->flags & SESSION_WRITABLE)) {
        (void)close(opened->fd);
        return;
    }
    (void)sys_close(opened->fd);
    session_drop(found.session);
}

static void end_plan(struct plan *plan, bool is_looked_after)
{
    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        if (plan->opened[i].fd >= 0)
            let_go(&plan->opened[i], is_looked_after);
    free(plan->opened);
    plan_directory(plan, AT_FDCWD);
    (void)real_posix_spawn_file_actions_destroy(&plan->actions);
}

typedef int spawn_function(pid_t *process, const char *path, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[],
                           char *const environment[]);

/* What posix_spawn() is told, and `file`, where the program is found. */
struct spawn {
    spawn_function *real;
    const char *file;
    pid_t *process;
    const char *path;
    const posix_spawn_file_actions_t *actions;
    const posix_spawnattr_t *attributes;
    char *const *arguments;
    char *const *environment;
};

static int run(const struct spawn *spawn, const posix_spawn_file_actions_t *actions)
{
    return spawn->real(spawn->process, spawn->path, actions, spawn->attributes, spawn->arguments,
                       spawn->environment);
}

/* Starts a guardian that knows the child, in whose place this process has opened files. */
static bool start_guardian(const struct plan *plan, int child)
{
    for (size_t i = 0; plan->record != NULL && i < plan->record->count; i++)
        if (plan->opened[i].fd >= 0 && plan->opened[i].is_inherited)
            set_opener(plan->opened[i].fd, child);
    return guardian_start(child);
}

static int spawn_planned(const struct spawn *spawn, const struct record *record)
{
    struct plan plan = {.covered = target_loads_shim(AT_FDCWD, spawn->file, 0, spawn->environment)};
    bool is_looked_after;
    int error = make_plan(&plan, record);

    if (error == 0)
        error = run(spawn, &plan.actions);
    is_looked_after = error == 0;
    if (error == 0 && plan.needs_guardian)
        is_looked_after = start_guardian(&plan, *spawn->process);
    if (plan.opened != NULL)
        end_plan(&plan, is_looked_after);
    return error;
}

static int shim_spawn(struct spawn spawn)
{
    const struct record *record = find(spawn.actions);
    struct shim_child child;
    pid_t own = 0;
    int saved = errno;
    int error;

    if (spawn.process == NULL)
        spawn.process = &own;
    if (spawn.actions == NULL || record != NULL) {
        session_share();
        error = spawn_planned(&spawn, record);
        (void)session_settle_closed(false); /* other threads may have closed one meanwhile */
    } else {                                /* too many objects to write them down */
        child = shim_before_child(spawn.file, spawn.environment);
        error = run(&spawn, spawn.actions);
        shim_after_child(child);
    }
    errno = saved;
    return error;
}

static bool is_concerned(const posix_spawn_file_actions_t *actions)
{
    return shim_has_sessions() || (shim_enabled() && needs_plan(find(actions)));
}

EXPORT int posix_spawn(pid_t *process, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const arguments[],
                       char *const environment[])
{
    if (!is_concerned(actions))
        return real_posix_spawn(process, path, actions, attributes, arguments, environment);
    return shim_spawn(
        (struct spawn){real_posix_spawn, path, process, path, actions, attributes, arguments, environment});
}

EXPORT int posix_spawnp(pid_t *process, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const arguments[],
                        char *const environment[])
{
    struct scratch scratch;
    const char *found = "";
    int error;

    if (!is_concerned(actions))
        return real_posix_spawnp(process, file, actions, attributes, arguments, environment);
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return ENOMEM;
    if (target_find(file, scratch.bytes, PATH_MAX))
        found = scratch.bytes;
    error = shim_spawn(
        (struct spawn){real_posix_spawnp, found, process, file, actions, attributes, arguments, environment});
    scratch_give(&scratch);
    return error;
}
