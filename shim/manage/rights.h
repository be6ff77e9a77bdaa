/* The mode and the access control list of a file that a rename replaces, while its content changes.
 * At no moment can a user read the new content, or the old one, unless the old file or the new one
 * let that user read it. */
#ifndef ATOMSHIM_RIGHTS_H
#define ATOMSHIM_RIGHTS_H

#include "os/scratch.h"
#include "os/sys.h"

struct rights {
    mode_t before; /* permission bits that the target had */
    mode_t after;  /* permission bits that it is to get */
    bool changes_acl;
    ssize_t acl_before; /* bytes of the list, acl(5), in `acls`; 0: none */
    ssize_t acl_after;
    struct scratch acls;
};

/*
 * Finds out which rights the file `target` is to have with the content of `source`, whose status is
 * `from`. A mode that the program chose (rights_carries_mode()) is taken over from the source, with
 * its list; else the target keeps both, but for set-id bits that the source does not have. Returns
 * 0 and *rights, to be released, or a negative errno.
 */
int rights_look(struct rights *rights, int target, int source, const struct stat *from);
void rights_release(struct rights *rights);

/*
 * Takes away the rights that the target grants now and is not to grant later. Call it before the
 * content changes. Returns 0, or a negative errno, as EPERM for a file of another user: nothing
 * changed.
 */
int rights_narrow(const struct rights *rights, int target);

/* Gives the target the rights that it is to have after the rename, or, after a failed one, had
 * before it. Returns 0, or the negative errno of a system call: the target then grants less. */
int rights_grant_after(const struct rights *rights, int target);
int rights_grant_before(const struct rights *rights, int target);

/* Tells whether the program chose a new file's mode: it is neither the target's, nor one that new
 * files get by themselves: 0600, as from mkstemp(3), and 0666 less the umask. */
bool rights_carries_mode(mode_t from, mode_t target, mode_t umask);

#endif
