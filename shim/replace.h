/* Replacement by rename(2): what comes is committed into the inode that is there. */
#ifndef ATOMSHIM_REPLACE_H
#define ATOMSHIM_REPLACE_H

#include "config.h"
#include "sys.h"

/* A file as the caller of rename(2) names it, and its lstat. */
struct replace_name {
    int directory;
    const char *path;
    struct stat status;
};

/*
 * Makes the payload of `from`, a regular file, the content of `to`, a managed file that `target` is open on for O_PATH, by one commit; carries its times over, and its mode if the program meant it (see replace_carries_mode()); and unlinks
 * it. Descriptors of this process that can write to `from` write to the target from then on. Where the kernel would
 * refuse the rename on the side of `from`, its errno is returned, and nothing was done; what the commit returns else:
 * then both files are as before.
 */
int replace_commit(const struct config *config, const struct replace_name *from,
                   const struct replace_name *to, int target);

/*
 * Does a new file's mode say that the program wants it? Not the one that the target has, and none that files get as
 * they are made: 0600, as of mkstemp(3), and 0666 less the umask.
 */
bool replace_carries_mode(mode_t from, mode_t target, mode_t umask);

#endif
