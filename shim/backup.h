/*
 * Backups by link(2): `perl -i.bak`, dpkg and others give the old file a further name just before they rename the new
 * one, which is written already, onto it. Were its inode kept, the backup would have the new content.
 */
#ifndef ATOMSHIM_BACKUP_H
#define ATOMSHIM_BACKUP_H

#include <stdbool.h>

/* This process gave the file a further name, by link(2). `path` is as the program wrote it. */
void backup_linked(int directory, const char *path);

/* This process begins to write a file: what it renames next is not what was ready when it called link(2). */
void backup_forget(void);

/* Was the last backup_linked() of a file of that very name, and nothing forgot it since? Says so once. */
bool backup_take(int directory, const char *path);

#endif
