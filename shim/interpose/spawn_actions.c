/* Wraps posix_spawn_file_actions_*(3): each makes the libc's call, and records it. */
#include "interpose/spawn.h"

#include <stdlib.h>
#include <string.h>

/* Objects in use at once. */
enum { RECORDS_MAX = 256 };

static SYS_LARGE struct spawn_record records[RECORDS_MAX];

struct spawn_record *spawn_find_record(const posix_spawn_file_actions_t *object)
{
    for (size_t i = 0; object != NULL && i < RECORDS_MAX; i++)
        if (__atomic_load_n(&records[i].object, __ATOMIC_ACQUIRE) == object)
            return &records[i];
    return NULL;
}

static struct spawn_record *find_or_claim(const posix_spawn_file_actions_t *object)
{
    struct spawn_record *record = spawn_find_record(object);

    for (size_t i = 0; record == NULL && i < RECORDS_MAX; i++) {
        const posix_spawn_file_actions_t *expected = NULL;

        if (__atomic_compare_exchange_n(&records[i].object, &expected, object, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            record = &records[i];
    }
    return record;
}

static void forget_record(const posix_spawn_file_actions_t *object)
{
    struct spawn_record *record = spawn_find_record(object);

    if (record == NULL)
        return;
    for (size_t i = 0; i < record->count; i++)
        free(record->list[i].path);
    free(record->list);
    record->list = NULL;
    record->count = 0;
    __atomic_store_n(&record->object, NULL, __ATOMIC_RELEASE);
}

/* Records an action that the libc has added. Returns 0 or ENOMEM. */
static int add_action(const posix_spawn_file_actions_t *object, struct spawn_action action, const char *path)
{
    struct spawn_record *record = shim_enabled() || shim_has_sessions() ? find_or_claim(object) : NULL;
    struct spawn_action *list;

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
    forget_record(actions);
    return REAL(posix_spawn_file_actions_init)(actions);
}

EXPORT int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
{
    (void)shim_enabled();
    forget_record(actions);
    return REAL(posix_spawn_file_actions_destroy)(actions);
}

EXPORT int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path,
                                            int flags, mode_t mode)
{
    int error = REAL(posix_spawn_file_actions_addopen)(actions, fd, path, flags, mode);
    struct spawn_action action = {.kind = SPAWN_OPEN, .fd = fd, .flags = flags, .mode = mode};
    return error != 0 ? error : add_action(actions, action, path);
}

EXPORT int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t *actions, int fd)
{
    int error = REAL(posix_spawn_file_actions_addclose)(actions, fd);
    return error != 0 ? error
                      : add_action(actions, (struct spawn_action){.kind = SPAWN_CLOSE, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int from, int to)
{
    int error = REAL(posix_spawn_file_actions_adddup2)(actions, from, to);
    return error != 0
               ? error
               : add_action(actions, (struct spawn_action){.kind = SPAWN_DUP2, .fd = to, .from = from}, NULL);
}

EXPORT int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path)
{
    int error = REAL(posix_spawn_file_actions_addchdir_np)(actions, path);
    return error != 0 ? error : add_action(actions, (struct spawn_action){.kind = SPAWN_CHDIR}, path);
}

EXPORT int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd)
{
    int error = REAL(posix_spawn_file_actions_addfchdir_np)(actions, fd);
    return error != 0 ? error
                      : add_action(actions, (struct spawn_action){.kind = SPAWN_FCHDIR, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int fd)
{
    int error = REAL(posix_spawn_file_actions_addclosefrom_np)(actions, fd);
    return error != 0 ? error
                      : add_action(actions, (struct spawn_action){.kind = SPAWN_CLOSEFROM, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_addtcsetpgrp_np(posix_spawn_file_actions_t *actions, int fd)
{
    int error = REAL(posix_spawn_file_actions_addtcsetpgrp_np)(actions, fd);
    return error != 0 ? error
                      : add_action(actions, (struct spawn_action){.kind = SPAWN_TCSETPGRP, .fd = fd}, NULL);
}
