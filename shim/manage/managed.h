/* Which files are managed: by their canonical path, or as another name of an inode that carries our header.
 */
#ifndef ATOMSHIM_MANAGED_H
#define ATOMSHIM_MANAGED_H

#include "config/config.h"
#include "os/sys.h"

/* What managed_open() found, besides a negative errno. */
enum managed {
    MANAGED_NO,  /* not ours: make the call as if we were not there. It also gives the errno of a failing open
                  */
    MANAGED_YES, /* a descriptor of the real inode was opened */
    MANAGED_ASK, /* nothing was opened: open it as if we were not there, and ask managed_opened() */
};

/*
 * Opens the real inode behind `path` if open(2) with these arguments would open a managed file:
 * close-on-exec, for reading or, if `flags` ask for writing or O_TRUNC, for both. Nothing is truncated. A
 * file that is not there is created if `flags` say so, with `mode` less the umask, and *created is set. With `may_ask` it
 * costs nothing where the file is only to be read. Else what is not managed costs one system call (lstat) where the last
 * component could match nothing, or is no regular file; two where it is named by that alone, in the current folder (getcwd)
 * or in `directory` (readlink); four by a longer path (the folder is opened for its readlink), and five by a symbolic
 * link. Returns enum managed, or the negative errno with which open(2) fails. *inode is the caller's to close.
 */
int managed_open(const struct config *config, int directory, const char *path, int flags, mode_t mode,
                 bool may_ask, int *inode, bool *created);

/* Is the file that `fd` was opened on as `path`, with `flags`, managed? If not, that costs one system call (lstat or
 * fstat), or two (fstat, readlink) where the last component could match. Returns 1, 0, or a negative errno. */
int managed_opened(const struct config *config, int directory, const char *path, int flags, int fd);

/*
 * Opens the regular file `path`, whose lstat is `status`, as it is, for O_PATH, if it is managed. Returns a descriptor,
 * -ENOENT if it is not, or a negative errno. One that no pattern could match costs nothing.
 */
int managed_find(const struct config *config, int directory, const char *path, const struct stat *status);

/* Opens `fd`, an O_PATH descriptor of `path`, with `flags`, close-on-exec. Returns a descriptor or a negative errno. */
int managed_reopen(int directory, const char *path, int fd, int flags);

/* The directory that `path` lies in, as an O_PATH descriptor, or a negative errno. */
int managed_open_parent(int directory, const char *path);

/*
 * The payload size of the managed file at `path`, whose status is `status`, for stat(2). `flags`:
 * AT_SYMLINK_NOFOLLOW as given there. Returns st_size unless the file is managed, in our format and readable.
 * No system call unless st_size is one that a file in our format can have.
 */
uint64_t managed_payload_size(const struct config *config, int directory, const char *path, int flags,
                              const struct stat *status);

#endif
