/* The program that is about to be run: will the shim be in it? */
#ifndef ATOMSHIM_TARGET_H
#define ATOMSHIM_TARGET_H

#include "os/sys.h"

/* Keeps what the environment of this process says of the preload. Once, at set-up. */
void target_remember(char *const environment[]);

/*
 * Will the shim be loaded into the file at `path` (of `directory`; with AT_EMPTY_PATH in `flags` `directory` itself), run
 * with `environment`, and see its exit? True only for what is known to: a dynamic program of this machine that is no Go
 * program (which leaves by the bare system call), runs with no more rights than this process, with the preload in its
 * environment; or a script for one. What cannot be read is taken for no.
 */
bool target_loads_shim(int directory, const char *path, int flags, char *const environment[]);

/* Is there a file at all? */
bool target_is_there(int directory, const char *path, int flags);

/* Where execvp(3) finds `file`: writes at most `size` bytes to `path`. Returns false if nowhere. */
bool target_find(const char *file, char *path, size_t size);

#endif
