/*
 * The last calls of link(2) by this process. They may prepare a rename(2) that is to be what it is
 * without the shim:
 *
 *   - perl -i.bak, dpkg and hg give the old file a further name and rename the new one onto the
 *     first: if the shim kept the old inode, the backup would have the new content;
 *   - ln -f and cp -a make a hard link by a temporary name and rename that: it is to be one.
 *
 * In all other cases the names of a file stay together. A name is its last component: the program
 * may write the folder in another way the second time.
 */
#ifndef ATOMSHIM_RENAME_HINTS_H
#define ATOMSHIM_RENAME_HINTS_H

#include "os/sys.h"

/* Notes that link(2) gave the first name's file the second one. Costs one system call (lstat). */
void rename_hints_note(const char *path, int new_directory, const char *new_path);

/* Tells whether a link(2) of this process gave the file that has this name and this status a
 * further name that still exists: a backup. */
bool rename_hints_has_backup(const char *path, const struct stat *status);

/* Tells whether a link(2) of this process made this name, of the file with this status. */
bool rename_hints_is_link(const char *path, const struct stat *status);

#endif
