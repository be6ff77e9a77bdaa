/* Tells whether the shim will be in the program that this process is about to run. */
#ifndef ATOMSHIM_TARGET_H
#define ATOMSHIM_TARGET_H

#include <stdbool.h>
#include <stddef.h>

/* Copies the preload settings from the environment of this process. Called once, at set-up. */
void target_remember(char *const environment[]);

/*
 * Tells whether the shim will be loaded into the file at `path` (of `directory`; with AT_EMPTY_PATH
 * in `flags` `directory` itself) when it is run with `environment`, and will see its exit:
 * program_loads_shim(), and `environment` names the preload. Returns false for a file that cannot
 * be read, and where memory is short.
 */
bool target_loads_shim(int directory, const char *path, int flags, char *const environment[]);

/* Tells whether there is a file at all. */
bool target_is_there(int directory, const char *path, int flags);

/*
 * Writes to `path`, of PATH_MAX bytes, the file that execvp(3) will run, by program_find() in this
 * process's PATH. That is "" if there is none, and "/", which loads no shim, if an error of this
 * look leaves it open: the C library may have more success.
 */
void target_find(const char *file, char *path);

#endif
