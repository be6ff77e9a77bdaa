/* Decides whether a file is managed; managed.c opens it then. */
#ifndef ATOMSHIM_DECIDE_H
#define ATOMSHIM_DECIDE_H

#include "manage/named.h"

/*
 * Returns 1 unless `fd`, which is on `device`, is of one of the kernel's own file systems, whose
 * regular files are not files on a disk. Such file systems have no block device: their numbers have
 * the major number 0 (get_anon_bdev() in Linux, fs/super.c).
 */
int managed_is_on_disk(int fd, dev_t device);

/* Tells whether this file may be managed because of its content: only root and this user may choose
 * that. */
bool managed_may_trust_content(const struct stat *status);

/* Tells at the level debug why a file is managed, or is not. Returns `result`. */
int managed_explain(const struct named *named, const char *why, int result);

/* Tells whether the file of `fd`, which the program wants to open with `flags`, is managed. -EPERM:
 * it must not be opened. Sets *status to that of the file. */
int managed_decide(const struct named *named, int fd, int flags, struct stat *status);

#endif
