/*
 * Journal files: each holds the record of a plain file (format/record.h) that does not fit into the
 * attribute. A journal lies in the folder that ATOMSHIM_JOURNAL_DIR names, or beside its file, if
 * that is on the same file system. Its name, .atomshim-journal-IDENTITY, is the same for every
 * process; it belongs to the file's owner, if this process may give it away, and no other user may
 * read it. It holds one record, REDO, or DONE in the place of that word when the commit is over.
 * The process keeps it for the next commit, and removes it at its end; the attribute (FILE, KEPT)
 * leads to one that a kill leaves.
 */
#ifndef ATOMSHIM_JOURNAL_H
#define ATOMSHIM_JOURNAL_H

#include "format/record.h"
#include "os/scratch.h"

#include <limits.h>

/* The folder for journals, absolute, or NULL: beside each file. The string stays the caller's. */
extern const char *store_journal_folder;

struct journal {
    int fd;                /* locked; -1: there is none */
    char folder[PATH_MAX]; /* the folder that the journal lies in */
    bool fresh;            /* this process has not used it before: its name may not be on disk */
};

enum { JOURNAL_PLACES = 2 };

struct journal_record {
    const char *bytes;
    size_t size;
};

/* A larger content gets no journal: the record is held in memory while it is written. */
#define JOURNAL_CONTENT_MAX ((uint64_t)1 << 30)

/*
 * Opens the folder that is the choice number `place` for journals of `inode`: 0 is
 * store_journal_folder, 1 the folder that the file lies in. Writes its path to `folder`, "" if
 * there is none. Returns a descriptor, or a negative errno; -EXDEV: with `sync`, a power cut would
 * empty the folder, but not the file.
 */
int journal_open_place(int inode, int place, bool sync, char folder[PATH_MAX]);

/*
 * Opens the journal of `inode`, or makes one, and locks it; it stays open until journal_close().
 * With `sync` it uses no folder that a power cut empties. Returns 0, or a negative errno: then
 * there is no place for one.
 */
int journal_open(struct journal *journal, int inode, uint32_t identity, bool sync);

/*
 * Writes a record to the journal of `inode`. With `sync` the record is on disk when the next
 * fsync(inode) has succeeded, the journal's name too. Returns 0 or a negative errno.
 */
int journal_write(struct journal *journal, int inode, const struct journal_record *record, bool sync);

/* Notes in the journal that the commit is over, and closes it. It stays for the next commit, if
 * this process can remember it. */
void journal_close(struct journal *journal, uint32_t identity, bool is_over);

/*
 * Reads the journal that a FILE record of `inode` leads to: the bytes and the record decoded from
 * them, if it is the one that `attribute` means. The path may differ in this process: this looks
 * into the file's own folder and store_journal_folder, too. Returns true, and the caller gives
 * *scratch back; or false.
 */
bool journal_read(int inode, const struct record *attribute, struct scratch *scratch, struct record *record);

/* Removes the journals of `inode`, but none that a process has locked. The caller holds the
 * exclusive lock of `inode`, whose content depends on no journal. */
void journal_remove(int inode, const struct record *attribute, uint32_t identity);

/* Removes the journal at `path` if its commit is over and no process has it locked: a kill left it,
 * and its file is gone. Does nothing to any other file. */
void journal_tidy(const char *path);

/* Called at the end of the process: removes the journals that it has kept. */
void journal_end(void);

#endif
