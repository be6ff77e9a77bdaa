/*
 * Journal files: what the record of a plain file (format/record.h) says where it does not fit into
 * the attribute. A journal lies in the folder that ATOMSHIM_JOURNAL_DIR names, or beside its file,
 * if that is on the same file system. Its name, .atomshim-journal-IDENTITY, is the same for every
 * process; it belongs to the file's owner if we may give it to him, and nobody else may read it. It
 * holds one record, REDO, or DONE in the place of that word when the commit is over. It is kept for
 * the next commit, and removed at the end of the process; what a kill leaves the attribute leads to
 * (FILE, KEPT).
 */
#ifndef ATOMSHIM_JOURNAL_H
#define ATOMSHIM_JOURNAL_H

#include "format/record.h"
#include "os/scratch.h"

#include <limits.h>

/* The folder for journals, absolute, or NULL: beside each file. Stays the caller's. */
extern const char *store_journal_folder;

struct journal {
    int fd;                /* locked; -1: there is none */
    char folder[PATH_MAX]; /* where it lies */
    bool fresh;            /* this process has not used it before: its name may not be on disk */
};

enum { JOURNAL_PLACES = 2 };

/* A larger content gets no journal: the record is held in memory while it is written. */
#define JOURNAL_CONTENT_MAX ((uint64_t)1 << 30)

/*
 * Opens the folder that is the choice number `place` for journals of `inode`: 0 is
 * store_journal_folder, 1 the folder that the file lies in. Writes its path to `folder`, "" if
 * there is none. Returns a descriptor, or a negative errno; -EXDEV: with `sync` a power cut would
 * take what lies there, but not the file.
 */
int journal_open_place(int inode, int place, bool sync, char folder[PATH_MAX]);

/*
 * Opens the journal of `inode`, or makes one, and locks it; it stays open until journal_close().
 * With `sync` no folder is taken that a power cut empties. Returns 0, or a negative errno: then
 * there is no place for one.
 */
int journal_open(struct journal *journal, int inode, uint32_t identity, bool sync);

/* Writes a record to the journal, on disk with `sync`, its name too. Returns 0 or a negative
 * errno. */
int journal_write(struct journal *journal, const void *record, size_t size, bool sync);

/* Says that the commit is over, and closes the journal. It stays for the next commit, if this
 * process can remember it. */
void journal_close(struct journal *journal, uint32_t identity, bool is_over);

/*
 * Reads the journal that a FILE record of `inode` leads to: the bytes and the record decoded from
 * them, if it is the one that `attribute` means. The path may be another one for this process: the
 * file's own folder and store_journal_folder are looked at, too. Returns true, and *scratch is to
 * be given back; or false.
 */
bool journal_read(int inode, const struct record *attribute, struct scratch *scratch, struct record *record);

/*
 * Removes the journals of `inode`, whose content depends on none, and whose exclusive lock the
 * caller holds; but not one that a process has locked.
 */
void journal_remove(int inode, const struct record *attribute, uint32_t identity);

/*
 * Removes the journal at `path` if it says that its commit is over and no process has it locked:
 * what a kill left of a file that is gone. Does nothing to any other file.
 */
void journal_tidy(const char *path);

/* The process ends: removes what it has kept. */
void journal_end(void);

#endif
