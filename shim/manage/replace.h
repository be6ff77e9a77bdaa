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
 * one commit; carries its times over, and its mode and its access control list if the program meant them (rights.h); and unlinks
 * it. Where this process can write to `from`, its descriptors lead to the target from then on. Returns 0; or
 * REPLACE_AGAIN, if one of the names leads to another file meanwhile; or a negative errno, of the kernel where it would
 * refuse the rename on the side of `from`, or of the commit. Then both files are as before.
 */
int replace_commit(const struct replace_name *from, const struct replace_name *to, int target);

#endif
