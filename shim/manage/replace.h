/* Replacement by rename(2): what comes is committed into the inode that is there. */
#ifndef ATOMSHIM_REPLACE_H
#define ATOMSHIM_REPLACE_H

#include "os/sys.h"

/* A file as the caller of rename(2) names it, and its lstat. */
struct replace_name {
    int directory;
    const char *path;
    struct stat status;
};

enum { REPLACE_AGAIN = 1 };

/*
 * Makes the payload of `from`, a regular file, the content of `to`, a managed file that `target` is open on for O_PATH, by
 * one commit; carries its times over, and its mode if the program meant it (see replace_carries_mode()); and unlinks
 * it. Where this process can write to `from`, its descriptors lead to the target from then on. Returns 0; or
 * REPLACE_AGAIN, if one of the names leads to another file meanwhile; or a negative errno, of the kernel where it would
 * refuse the rename on the side of `from`, or of the commit. Then both files are as before.
 */
int replace_commit(const struct replace_name *from, const struct replace_name *to, int target);

/*
 * Does a new file's mode say that the program wants it? Not the one that the target has, and none that files get as
 * they are made: 0600, as of mkstemp(3), and 0666 less the umask.
 */
bool replace_carries_mode(mode_t from, mode_t target, mode_t umask);

#endif
