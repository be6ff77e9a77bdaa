/* The text of paths. */
#ifndef ATOMSHIM_PATH_H
#define ATOMSHIM_PATH_H

#include <string.h>

#define SHIM_NAME "libatomshim.so" /* the name of the library's file */

/*
 * Returns what follows the last '/' of `path`, a part of it: all of `path` if it has none, "" if it
 * ends in one.
 */
static inline const char *path_last_component(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

#endif
