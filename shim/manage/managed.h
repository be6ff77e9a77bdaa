/*
 * Which files are managed:
 *
 *   - a regular file whose canonical path a pattern of ATOMSHIM_PATHS matches;
 *   - one under another name that holds a whole image in the sized format and belongs to root or to
 *     the effective user of this process: nobody else makes a file managed by what is written into
 *     it;
 *   - one that this process has a session on.
 *
 * A file without a name, one of the kernel's own file systems, and one whose canonical path needs
 * PATH_MAX bytes or more is not.
 */
#ifndef ATOMSHIM_MANAGED_H
#define ATOMSHIM_MANAGED_H

#include "os/sys.h"

/* managed_open() returns one of these, or a negative errno. */
enum managed {
    MANAGED_NO,  /* not managed: make the program's own call, which gives the errno, too */
    MANAGED_YES, /* a descriptor of the real inode was opened */
    MANAGED_ASK, /* nothing was opened: make the program's own call, and ask managed_opened() */
};

/* An openat(2). The path stays the caller's. */
struct managed_request {
    int directory;
    const char *path;
    int flags;
    mode_t mode;
    bool may_ask; /* the caller can open the file first and ask managed_opened() then */
};

/* managed_open() describes here the file that it opened. */
struct managed_file {
    int inode;    /* the caller's to close */
    bool created; /* the file was not there before */
    struct stat status;
};

/*
 * Opens the real inode if the request is for a managed file: close-on-exec, for reading or, if the
 * flags ask for writing or O_TRUNC, for both. Nothing is truncated. A file that is not there is
 * created if the flags say so, with the mode less the umask. Returns enum managed, or the negative
 * errno with which open(2) fails; then nothing was created.
 *
 * A file that is to be written and is as this process's last commit has left it costs three system
 * calls: lstat, open, fstat.
 *
 * Cost, in system calls, of a file that is not managed: none with `may_ask` if it is only to be
 * read, or for one that can only be created (O_EXCL) where there is no pattern. Else one (lstat) if
 * its last component could match nothing, or it is no regular file; two if it is named by that
 * alone (getcwd or readlink); four by a longer path, whose folder is opened, but one while the path
 * of that folder is remembered (folders.h); five by a symbolic link.
 */
int managed_open(const struct managed_request *request, struct managed_file *file);

/* Tells whether managed_open() would return MANAGED_ASK. */
bool managed_asks_later(const struct managed_request *request);

/* Removes a file that an open created before it failed, if the file is empty and still has the
 * name. */
void managed_remove_created(const struct managed_request *request, const struct managed_file *file);

/*
 * To be called when a file has got an x bit: makes it plain if it is managed and sized, so that the
 * kernel can run it; a line in the log says where that is not possible. No system call for a name
 * that no pattern could match, one for a file that is not sized.
 */
void managed_make_plain(int directory, const char *path);

/*
 * Tells whether the file that `fd` was opened on by this request is managed. Returns 1 with its
 * status, 0, or a negative errno. Cost of one that is not: one system call (lstat or fstat), or two
 * (fstat, readlink) if its last component could match and its folder's path is not remembered
 * (folders.h).
 */
int managed_opened(const struct managed_request *request, int fd, struct stat *status);

/*
 * Opens the regular file `path`, whose lstat is `status`, for O_PATH, if it is managed. Returns a
 * descriptor, -ENOENT if it is not, or a negative errno. One that no pattern could match costs
 * nothing.
 */
int managed_find(int directory, const char *path, const struct stat *status);

/*
 * Opens `fd`, an O_PATH descriptor of `path`, with `flags`, close-on-exec. Returns a descriptor or
 * a negative errno.
 */
int managed_reopen(int directory, const char *path, int fd, int flags);

/*
 * Returns the size in bytes that stat(2) is to show for `path`, whose status is `status`: of the
 * payload if the file is managed, sized and readable, else st_size. `flags` may hold
 * AT_SYMLINK_NOFOLLOW. No system call unless st_size is one that a sized file can have.
 */
uint64_t managed_payload_size(int directory, const char *path, int flags, const struct stat *status);

#endif
