/* A rename onto a managed file: its inode stays, and gets the new content by a commit. */
#ifndef ATOMSHIM_REPLACE_H
#define ATOMSHIM_REPLACE_H

#include "os/sys.h"

/* One side of a rename(2), as the program names it, and its lstat. The path stays the caller's. */
struct replace_name {
    int directory;
    const char *path;
    struct stat status;
};

enum { REPLACE_AGAIN = 1 };

/*
 * Makes the payload of the regular file `from` the content of the managed file `to`, by one commit,
 * carries over its times, and the mode and the access control list as rights.h says, and unlinks
 * it. `target` is an O_PATH descriptor of `to`. Descriptors of this process that can write to
 * `from` lead to the target from then on.
 *
 * Returns 0; REPLACE_AGAIN if one of the names leads to another file meanwhile; or a negative
 * errno: that of rename(2) where the kernel would refuse to take the name of `from` away, -EPERM if
 * the target's mode had to be narrowed and belongs to another user, -EIO if `from` holds no valid
 * image, or one of session_commit(). Then both files are as before; but if the removal of `from`
 * failed, and then the commit of the old content, too, which the log tells, the target has the new
 * content.
 */
int replace_commit(const struct replace_name *from, const struct replace_name *to, int target);

#endif
