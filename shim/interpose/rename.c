/* Turns a rename(2) onto a managed file into an overwrite: the new content goes into the target's
 * inode. */
#include "interpose/interpose.h"

#include "manage/folders.h"
#include "manage/named.h"
#include "manage/rename_hints.h"
#include "manage/replace.h"
#include "os/descriptor.h"

static bool is_regular(struct replace_name *name)
{
    return sys_fstatat(name->directory, name->path, &name->status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(name->status.st_mode);
}

/* Tells whether this is the second half of a link(2) and rename(2): see rename_hints.h. */
static bool is_about_links(const struct replace_name *from, const struct replace_name *to)
{
    return rename_hints_is_link(from->path, &from->status) || rename_hints_has_backup(to->path, &to->status);
}

/*
 * In a sticky folder any user may leave a file at the target of another user's rename, and would
 * get to read the new content. The shim trusts the same users as fs.protected_regular,
 * proc_sys_fs(5), does for opens, the owner of the folder and this user; and also root, who reads
 * everything anyway, and the owner of the new file. Returns 0, SHIM_PASS if another user may have
 * left the file, or a negative errno.
 */
static int check_not_planted(const struct replace_name *from, const struct replace_name *to)
{
    const struct named named = {.directory = to->directory, .path = to->path};
    const uid_t owner = to->status.st_uid;
    struct stat status;
    int result;
    int folder;

    if (owner == 0 || owner == sys_geteuid() || owner == from->status.st_uid)
        return 0;
    folder = named_open_folder(&named);
    result = folder < 0 ? folder : sys_fstat(folder, &status);
    descriptor_close_if_open(folder);
    if (result != 0)
        return result;
    return (status.st_mode & S_ISVTX) != 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
                   owner != status.st_uid
               ? SHIM_PASS
               : 0;
}

/* Returns the result of replace_commit(), or SHIM_PASS: the kernel makes every rename that is not
 * of one regular file over another. */
static int replace_target(struct replace_name *from, struct replace_name *to)
{
    int target;
    int error;

    if (!is_regular(to))
        return SHIM_PASS;
    target = managed_find(to->directory, to->path, &to->status);
    if (target < 0)
        return target == -ENOENT || target == -EACCES ? SHIM_PASS : target;
    error = !is_regular(from) ||
                    (from->status.st_dev == to->status.st_dev && from->status.st_ino == to->status.st_ino) ||
                    is_about_links(from, to)
                ? SHIM_PASS
                : check_not_planted(from, to);
    if (error == 0) {
        (void)session_settle_closed(false);
        error = replace_commit(from, to, target);
    }
    (void)sys_close(target);
    return error;
}

static int shim_rename(int from_directory, const char *from_path, int to_directory, const char *to_path,
                       unsigned flags)
{
    struct replace_name from = {.directory = from_directory, .path = from_path};
    struct replace_name to = {.directory = to_directory, .path = to_path};
    int result;

    if (!shim_enabled())
        return shim_refuse(to_directory, to_path);
    result = shim_before_name(from_directory, from_path, to_directory, to_path);
    if (result == 0 && flags != 0) /* perhaps an exchange */
        result = shim_before_name(to_directory, to_path, from_directory, from_path);
    if (result != 0 || flags != 0)
        return result != 0 ? result : SHIM_PASS;
    do
        result = DESCRIPTOR_INSIST(replace_target(&from, &to));
    while (result == REPLACE_AGAIN);
    return result;
}

/* `result` is that of the libc's call. */
static int finish_rename(int result)
{
    folders_forget();
    return result;
}

EXPORT int rename(const char *from, const char *to)
{
    int result = shim_rename(AT_FDCWD, from, AT_FDCWD, to, 0);
    return result == SHIM_PASS ? finish_rename(REAL(rename)(from, to)) : shim_result(result);
}

EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    int result = shim_rename(from_directory, from, to_directory, to, 0);
    return result == SHIM_PASS ? finish_rename(REAL(renameat)(from_directory, from, to_directory, to))
                               : shim_result(result);
}

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags)
{
    int result = shim_rename(from_directory, from, to_directory, to, flags);
    return result == SHIM_PASS ? finish_rename(REAL(renameat2)(from_directory, from, to_directory, to, flags))
                               : shim_result(result);
}

/* ---- a symbolic link may take the place of a folder that was there a moment ago ---- */

EXPORT int symlink(const char *target, const char *path)
{
    return finish_rename(REAL(symlink)(target, path));
}

EXPORT int symlinkat(const char *target, int directory, const char *path)
{
    return finish_rename(REAL(symlinkat)(target, directory, path));
}
