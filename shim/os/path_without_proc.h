/* Canonical paths where /proc/self/fd cannot tell them. Another process may rename a folder
 * meanwhile: the caller compares the file at the path with the one that it has open. */
#ifndef ATOMSHIM_PATH_WITHOUT_PROC_H
#define ATOMSHIM_PATH_WITHOUT_PROC_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Writes the path of `path`, relative to `directory` (a descriptor or AT_FDCWD), without symbolic
 * links, "." and "..". The last component need not exist. Returns its length, or a negative errno:
 * those of readlink(2), and -ELOOP beyond 40 links, as path_resolution(7) has it.
 */
int path_without_proc(int directory, const char *path, char canonical[PATH_MAX]);

/*
 * Appends the components of `name` to the absolute path in `path`, without "." and "..": links are
 * not followed. No system call. Returns false if that is too long, or nothing.
 */
bool path_append(char path[PATH_MAX], const char *name);

/*
 * path_without_proc() without a look at symbolic links. Returns 0, -ENAMETOOLONG, or a negative
 * errno of getcwd(2), or, where `directory` is a descriptor, of open(2).
 */
int path_as_given(int directory, const char *path, char absolute[PATH_MAX]);

#endif
