/*
 * A file as the program names it, and what the kernel says of that name: its canonical path,
 * compared with the patterns, and further descriptions of the same file. /proc need not be mounted
 * for either.
 *
 * Functions that answer a question return 1 for yes, 0 for no, or a negative errno that
 * named_is_transient().
 */
#ifndef ATOMSHIM_NAMED_H
#define ATOMSHIM_NAMED_H

#include "os/sys.h"

/* The directory and the path of an openat(2) or fstatat(2). The strings stay the caller's. */
struct named {
    int directory;
    const char *path;
    bool is_entry; /* the path is the name of a file, no link, in `directory`; it was opened to be read */
};

/*
 * True for an errno (negative) that may be gone at the next call. Such an error leaves open whether
 * a file is managed: were the file taken for another's, the program would get the raw bytes and
 * write over them. After any other error the program's own call fails as well, or nothing will
 * change the answer.
 */
bool named_is_transient(int error);

/*
 * Could a file with the last component of this path match, whatever its directory? No system call.
 */
bool named_may_match(const char *path);

/*
 * Does a pattern match the canonical path of `fd`, or with a `name` that of the file `name` in the
 * directory `fd`? `named` is how the program named `fd`, or that file. No file whose path needs
 * PATH_MAX bytes or more matches. One system call (readlink); of an entry the path of its folder
 * may be remembered (folders.h): then two that cost a third (statx, clock_gettime).
 */
int named_matches(const struct named *named, int fd, const char *name);

/*
 * Does a pattern match a file that is no symbolic link, or is not there yet? Its path is that of
 * its folder and its own name. The kernel tells where the folder is now, whoever moved it or
 * mounted over it. One system call (getcwd, readlink), or three (open, readlink, close) for a path
 * of several components.
 */
int named_matches_in_folder(const struct named *named);

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

/*
 * The same for what the program does not read: the time of access stays where we may ask for that
 * (O_NOATIME).
 */
int named_open_unseen(const struct named *named, int fd, int flags);

/* True if both descriptors are of one file. */
bool named_is_same_file(int fd, int other);

#endif
