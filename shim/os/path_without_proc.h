/* Canonical paths where /proc/self/fd cannot tell them. Another process may rename a folder
 * meanwhile: the caller compares the file at the path with the one that it has open. */
#ifndef ATOMSHIM_PATH_WITHOUT_PROC_H
#define ATOMSHIM_PATH_WITHOUT_PROC_H

#include <limits.h>
#include <stddef.h>

/*
 * Writes the path of `path`, relative to `directory` (a descriptor or AT_FDCWD), without symbolic
 * links, "." and "..". The last component need not exist. Returns its length, or a negative errno:
 * those of readlink(2), and -ELOOP beyond 40 links, as path_resolution(7) has it.
 */
int path_without_proc(int directory, const char *path, char canonical[PATH_MAX]);

#endif
