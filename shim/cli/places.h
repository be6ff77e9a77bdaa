/* Finds faults in the settings by a look at this machine's file systems. */
#ifndef ATOMSHIM_PLACES_H
#define ATOMSHIM_PLACES_H

#include <limits.h>
#include <stdbool.h>

enum { PLACES_TEXT_SIZE = 2 * PATH_MAX + 256 };

/*
 * Looks at the folders and the file that ATOMSHIM_RESCUE_DIR, _JOURNAL_DIR and _LOG_FILE name.
 * Calls `tell` with a sentence for each that cannot be used.
 */
void places_check(void (*tell)(const char *text));

/*
 * Looks at the patterns of `paths`, as they were given. Calls `tell` for one that names a folder
 * without the slash that takes its files in, and for one whose folder does not exist.
 */
void places_check_patterns(const char *paths, void (*tell)(const char *text));

#endif
