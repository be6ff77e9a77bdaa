/* Canonical paths where /proc cannot tell them. Others may rename meanwhile: to be checked against what is open. */
#ifndef ATOMSHIM_PATH_WITHOUT_PROC_H
#define ATOMSHIM_PATH_WITHOUT_PROC_H

#include <limits.h>
#include <stddef.h>

/*
 * Writes the path of `path`, relative to `directory` (a descriptor or AT_FDCWD), without symbolic links, "." and "..".
 * The last component need not exist. Returns its length, or a negative errno.
 */
int path_without_proc(int directory, const char *path, char canonical[PATH_MAX]);

#endif
