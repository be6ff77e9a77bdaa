/* Handles the patterns of the command line; config/pattern.h matches them. */
#ifndef ATOMSHIM_CLI_PATHS_H
#define ATOMSHIM_CLI_PATHS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Puts the value of a --path option into ATOMSHIM_PATHS: the first one (*any is false) replaces the
 * variable, each other one is appended. Returns false after a complaint in the name of `command`.
 */
bool paths_add(const char *command, const char *pattern, bool *any);

/* Tells whether any pattern takes files in; a pattern with a '!' only takes out. */
bool paths_take_in(const char *paths);

/*
 * Returns how many of the pattern's `length` bytes are a path as it stands: all, or the folder in
 * front of the first special character, or none.
 */
size_t paths_plain_part(const char *pattern, size_t length);

#endif
