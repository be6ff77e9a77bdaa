/* What the commands make of patterns. pattern.h is about matching. */
#ifndef ATOMSHIM_CLI_PATHS_H
#define ATOMSHIM_CLI_PATHS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Takes --path PATTERN into ATOMSHIM_PATHS: in its place for the first one (*any is false), behind
 * it for the next. Returns false after a complaint of `command`.
 */
bool paths_add(const char *command, const char *pattern, bool *any);

/* Does any pattern take files in? Those with a '!' only take out. */
bool paths_take_in(const char *paths);

/*
 * How much of the pattern of `length` bytes is a path as it stands: all, or the folder in front of
 * the first special character, or nothing.
 */
size_t paths_plain_part(const char *pattern, size_t length);

#endif
