/* The file actions of posix_spawn(3), whose object is opaque: spawn_actions.c records them as the
 * program adds them, and spawn.c makes the child's from the record. */
#ifndef ATOMSHIM_SPAWN_H
#define ATOMSHIM_SPAWN_H

#include "interpose/interpose.h"

enum spawn_kind {
    SPAWN_OPEN,
    SPAWN_CLOSE,
    SPAWN_DUP2,
    SPAWN_CHDIR,
    SPAWN_FCHDIR,
    SPAWN_CLOSEFROM,
    SPAWN_TCSETPGRP
};

struct spawn_action {
    enum spawn_kind kind;
    int fd;    /* the number that the action is about */
    int from;  /* SPAWN_DUP2: the number that is copied */
    int flags; /* SPAWN_OPEN */
    mode_t mode;
    char *path; /* SPAWN_OPEN, SPAWN_CHDIR; the record's own copy */
};

/* The actions of one of the program's objects, which alone uses its slot: there is no lock. */
struct spawn_record {
    const posix_spawn_file_actions_t *object; /* atomic; NULL: the slot is free */
    struct spawn_action *list;
    size_t count;
};

/* Returns the record of an object, which lasts until the object is destroyed; or NULL if the object
 * is NULL, or if too many are in use at once. Then the libc performs its actions as they are. */
struct spawn_record *spawn_find_record(const posix_spawn_file_actions_t *object);

#endif
