/*
 * The last link(2) of this process, which may prepare a rename(2) that is to be what it is without the shim:
 *   - `perl -i.bak` and dpkg give the old file a further name, when the new one is written already and just before they
 *     rename it onto the old: were the old inode kept, the backup would have the new content;
 *   - `ln -f` and `cp -a` make a hard link by a temporary name and rename that: it is to be a hard link.
 */
#ifndef ATOMSHIM_RENAME_HINTS_H
#define ATOMSHIM_RENAME_HINTS_H

#include <stdbool.h>

/* link(2) gave the first name's file the second one. Both are as the program wrote them. */
void rename_hints_note(int directory, const char *path, int new_directory, const char *new_path);

/* This process begins to write a file: what it renames next is not what was ready when it called link(2). */
void rename_hints_forget(void);

/* Was this very name the first, or the second, of the last link(2), and nothing forgot that since? */
bool rename_hints_is_old(int directory, const char *path);
bool rename_hints_is_new(int directory, const char *path);

#endif
