/* Finds the shim's own file, and puts it into LD_PRELOAD. */
#ifndef ATOMSHIM_CLI_PRELOAD_H
#define ATOMSHIM_CLI_PRELOAD_H

#include "program/program.h"

/* Writes the canonical path of the running command's own file. Returns false after a complaint. */
bool preload_find_command(char path[PATH_MAX]);

/*
 * Finds libatomshim.so beside the running command or in the place of installation, and makes sure
 * that a loader will take it: a shared object that can be mapped executable, under a name that
 * LD_PRELOAD can carry. Fills `path` and *kind. Returns false after a complaint.
 */
bool preload_find(char path[PATH_MAX], struct program_kind *kind);

/*
 * Puts `path` into LD_PRELOAD, behind what is there already. Another libatomshim.so in the list
 * gives way to it: two shims in one process would commit everything twice.
 */
void preload_set(const char *path);

#endif
