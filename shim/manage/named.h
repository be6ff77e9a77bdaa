/*
 * A file as the program names it: compares its canonical path with the patterns, and opens further
 * descriptions of it. Neither needs /proc.
 *
 * Functions that answer a question return 1 for yes, 0 for no, or a negative errno that
 * named_is_transient(); -EPERM: a file that may be managed must not be opened.
 */
#ifndef ATOMSHIM_NAMED_H
#define ATOMSHIM_NAMED_H

#include "os/sys.h"

/* The directory and the path of an openat(2) or fstatat(2). The strings stay the caller's. */
struct named {
    int directory;
    const char *path;
    bool is_entry; /* `directory` has a file, no link, under the path; it was opened to be read */
};

/*
 * True for an errno (negative) that may be gone at the next call. Such an error leaves open whether
 * a file is managed: were the file taken for another's, the program would get the raw bytes and
 * write over them. After any other error the program's own call fails as well, or nothing will
 * change the answer.
 */
bool named_is_transient(int error);

/*
 * A call that tells which file it is failed with `error`, a negative errno. Returns `error` if it
 * is transient; -EPERM, and a line in the log, if a pattern matches the path as the program gives
 * it, without a look at symbolic links; else 0: the file is not managed.
 */
int named_cannot_tell(const struct named *named, int error);

/* Tells whether a file with the last component of this path could match, whatever its directory.
 * Makes no system call. */
bool named_may_match(const char *path);

/*
 * Tells whether a pattern matches the canonical path of `fd`, or, with a `name`, of the file `name`
 * in the directory `fd`. `named` is how the program named `fd`, or that file. No file whose path
 * needs PATH_MAX bytes or more matches. Costs one system call (readlink), or none if
 * the path of the folder is remembered (folders.h).
 */
int named_matches(const struct named *named, int fd, const char *name);

/*
 * Tells whether a pattern matches a file that is no symbolic link, or does not exist yet. Its path
 * is the folder's path and its own name. Costs one system call (getcwd, readlink); for a path of
 * several components none if it is absolute and its folder's path is remembered (folders.h), one
 * (getcwd) if it is relative, else three more (open, readlink, close).
 */
int named_matches_in_folder(const struct named *named);

/*
 * True if it is known without a look at the folder that no pattern matches such a file. At most one
 * system call (getcwd).
 */
bool named_is_elsewhere(const struct named *named);

/*
 * Opens the directory that the file lies in, for O_PATH. Returns a descriptor, close-on-exec, or a
 * negative errno.
 */
int named_open_folder(const struct named *named);

/*
 * Opens the file of `fd`, which may be an O_PATH descriptor, with a description of its own. Returns
 * a descriptor, close-on-exec, or a negative errno of open(2); -EAGAIN without /proc, if another
 * file has taken the name.
 */
int named_open_again(const struct named *named, int fd, int flags);

/* Does the same for bytes that the program does not read: leaves the time of access alone where
 * this user may ask for that (O_NOATIME). */
int named_open_unseen(const struct named *named, int fd, int flags);

/* True if both descriptors are of one file. */
bool named_is_same_file(int fd, int other);

#endif
