#include "manage/rights.h"

#include "os/proc.h"

#include <errno.h>
#include <linux/xattr.h>
#include <string.h>

enum { PERMISSIONS = 07777, SET_ID = S_ISUID | S_ISGID, ACL_MAX = 4096 };

bool rights_carries_mode(mode_t from, mode_t target, mode_t umask)
{
    from &= PERMISSIONS;
    return from != (target & PERMISSIONS) && from != 0600 && from != (0666 & ~umask);
}

/* umask(2) tells the mask only by changing it, for all threads. */
static mode_t current_umask(void)
{
    char text[256];
    uint64_t umask = 022;

    if (proc_read(PROC_SELF, "status", text, sizeof text) > 0)
        (void)proc_find_field(text, "Umask", 8, &umask); /* since Linux 4.7 */
    return (mode_t)umask;
}

static char *list_before(const struct rights *rights)
{
    return rights->acls.bytes;
}

static char *list_after(const struct rights *rights)
{
    return (char *)rights->acls.bytes + ACL_MAX;
}

/*
 * Reads the list of a file. Returns its size in bytes, 0 if the file has none, or a negative errno.
 */
static ssize_t acl_get(int fd, char list[ACL_MAX])
{
    ssize_t size = sys_fgetxattr(fd, XATTR_NAME_POSIX_ACL_ACCESS, list, ACL_MAX);

    return size == -ENODATA || size == -EOPNOTSUPP || size == -ENOSYS ? 0 : size;
}

static int acl_set(int fd, const char *list, ssize_t size)
{
    int error;

    if (size > 0)
        return sys_fsetxattr(fd, XATTR_NAME_POSIX_ACL_ACCESS, list, (size_t)size, 0);
    error = sys_fremovexattr(fd, XATTR_NAME_POSIX_ACL_ACCESS);
    return error == -ENODATA ? 0 : error;
}

int rights_look(struct rights *rights, int target, int source, const struct stat *from)
{
    struct stat before;
    bool same_owner;
    mode_t mode;
    int error = sys_fstat(target, &before);

    if (error == 0)
        error = scratch_take(&rights->acls, (size_t)2 * ACL_MAX);
    if (error != 0)
        return error;
    same_owner = from->st_uid == before.st_uid && from->st_gid == before.st_gid;
    mode = from->st_mode & (same_owner ? PERMISSIONS : 0777);
    rights->before = before.st_mode & PERMISSIONS;
    rights->after = rights->before & ~(mode_t)(SET_ID & ~from->st_mode);
    rights->changes_acl = false;
    if (!rights_carries_mode(mode, before.st_mode, current_umask()))
        return 0;
    rights->after = mode;
    rights->acl_before = acl_get(target, list_before(rights));
    rights->acl_after = acl_get(source, list_after(rights));
    if (rights->acl_before < 0 || rights->acl_after < 0) {
        error = (int)(rights->acl_before < 0 ? rights->acl_before : rights->acl_after);
        rights_release(rights);
        return error;
    }
    rights->changes_acl = rights->acl_before != rights->acl_after ||
                          memcmp(list_before(rights), list_after(rights), (size_t)rights->acl_before) != 0;
    return 0;
}

void rights_release(struct rights *rights)
{
    scratch_give(&rights->acls);
}

/* With a list the group bits are its mask, acl(5): without them the list grants nothing. */
int rights_narrow(const struct rights *rights, int target)
{
    mode_t narrow = rights->before & rights->after & (rights->changes_acl ? ~(mode_t)S_IRWXG : ~(mode_t)0);
    struct stat status;
    int error = sys_fstat(target, &status);

    if (error != 0 || (status.st_mode & PERMISSIONS & ~narrow) == 0)
        return error;
    return sys_fchmod(target, status.st_mode & narrow);
}

/* The list comes first: setting it sets the mode's group bits, too, and they may be too wide. */
static int grant_mode(const struct rights *rights, int target, mode_t mode, const char *list, ssize_t size)
{
    struct stat status;
    int error = rights->changes_acl ? acl_set(target, list, size) : 0;

    if (error == 0)
        error = sys_fstat(target, &status);
    return error == 0 && (status.st_mode & PERMISSIONS) != mode ? sys_fchmod(target, mode) : error;
}

int rights_grant_after(const struct rights *rights, int target)
{
    return grant_mode(rights, target, rights->after, list_after(rights), rights->acl_after);
}

int rights_grant_before(const struct rights *rights, int target)
{
    return grant_mode(rights, target, rights->before, list_before(rights), rights->acl_before);
}
