/* Directs paths that lead to a managed descriptor, by /proc/self/fd/N and the like, to the real
 * inode. */
#include "interpose/interpose.h"

#include "os/buffer_name.h"
#include "os/path.h"

#include "manage/rename_hints.h"

#include <stdlib.h>
#include <string.h>

/* Returns the session whose buffer this leads to, or NULL. The kernel follows the path; this
 * function does not read it. */
static struct session *session_at(int directory, const char *path, int flags, struct session_found *found)
{
    struct stat status;

    if (!shim_has_sessions())
        return NULL;
    if (path == NULL)
        return session_identify(directory, found) == SESSION_PROGRAM ? found->session : NULL;
    if (sys_fstatat(directory, path, &status, flags | AT_NO_AUTOMOUNT) != 0)
        return NULL;
    return session_of(&status, found);
}

void shim_aim(struct aim *aim, int directory, const char *path, int flags)
{
    aim->directory = directory;
    aim->path = path;
    aim->found.session =
        session_at(directory, path, flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), &aim->found);
    if (aim->found.session == NULL)
        return;
    if (path == NULL || *path == '\0')
        aim->directory = aim->found.session->inode;
    else
        aim->path = descriptor_path(aim->buffer, aim->found.session->inode);
}

const char *shim_path(char buffer[PROC_PATH_SIZE], const char *path)
{
    struct session_found found;
    struct session *session = session_at(AT_FDCWD, path, AIM_FOLLOW, &found);

    return session != NULL ? descriptor_path(buffer, session->inode) : path;
}

/* linkat(2) and name_to_handle_at(2) follow a link only if they are told to. */
static int stat_flags(int flags)
{
    return (flags & AT_EMPTY_PATH) | (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
}

/* ---- readlink, realpath ---- */

/* Called after a readlink gave `size` of at most `room` bytes. If they name the buffer of a managed
 * descriptor, puts the real inode's path there. */
static ssize_t fix_link(ssize_t size, int directory, const char *path, char *link, size_t room)
{
    struct aim aim;
    ssize_t length;

    if (size <= 0 || !buffer_name_is_in(link, (size_t)size, (size_t)size == room))
        return size;
    shim_aim(&aim, directory, path, AIM_FOLLOW);
    if (aim.found.session == NULL)
        return size;
    length = sys_readlinkat(aim.directory, aim.path, link, room);
    return length < 0 ? size : length;
}

EXPORT ssize_t readlink(const char *path, char *link, size_t size)
{
    return fix_link(REAL(readlink)(path, link, size), AT_FDCWD, path, link, size);
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *link, size_t size)
{
    return fix_link(REAL(readlinkat)(directory, path, link, size), directory, path, link, size);
}

/* The fortified headers call the _chk forms. */
EXPORT ssize_t __readlink_chk(const char *path, char *link, size_t size, size_t room)
{
    return fix_link(REAL(__readlink_chk)(path, link, size, room), AT_FDCWD, path, link, size);
}

EXPORT ssize_t __readlinkat_chk(int directory, const char *path, char *link, size_t size, size_t room)
{
    return fix_link(REAL(__readlinkat_chk)(directory, path, link, size, room), directory, path, link, size);
}

/* The libc itself follows the links: so the shim gives it a path that ends at the real inode. */
EXPORT char *realpath(const char *path, char *resolved)
{
    return REAL(realpath)(SHIM_PATH(path), resolved);
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room)
{
    return REAL(__realpath_chk)(SHIM_PATH(path), resolved, room);
}

EXPORT char *canonicalize_file_name(const char *path)
{
    /* cppcheck-suppress CastIntegerToAddressAtReturn ; it does not know this name's prototype */
    return REAL(canonicalize_file_name)(SHIM_PATH(path));
}

/* ---- access, link, name_to_handle_at ---- */

EXPORT int access(const char *path, int mode)
{
    return REAL(access)(SHIM_PATH(path), mode);
}

EXPORT int euidaccess(const char *path, int mode)
{
    return REAL(euidaccess)(SHIM_PATH(path), mode);
}

EXPORT int eaccess(const char *path, int mode)
{
    return REAL(eaccess)(SHIM_PATH(path), mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
    struct aim aim;

    shim_aim(&aim, directory, path, flags);
    return REAL(faccessat)(aim.directory, aim.path, mode, flags);
}

/* This link(2) may be the first half of a replacement that a rename completes: see
 * rename_hints.h. */
static int note_link(int result, const char *path, int new_directory, const char *new_path)
{
    if (result == 0 && shim_enabled())
        rename_hints_note(path, new_directory, new_path);
    return result;
}

/* Tells whether two paths lie in one folder, as they are written. */
static bool is_one_folder(int directory, const char *path, int other, const char *other_path)
{
    size_t length = (size_t)(path_last_component(path) - path);

    return (directory == other || *path == '/') &&
           length == (size_t)(path_last_component(other_path) - other_path) &&
           memcmp(path, other_path, length) == 0;
}

int shim_before_name(int directory, const char *path, int new_directory, const char *new_path)
{
    struct session *session;
    struct stat status;

    if (!shim_has_sessions() || !session_any_writable() || !sys_is_readable(path) ||
        !sys_is_readable(new_path) || is_one_folder(directory, path, new_directory, new_path) ||
        sys_fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    session = session_writer(status.st_dev, status.st_ino);
    return session != NULL ? session_settle_rights(session) : 0;
}

EXPORT int link(const char *path, const char *new_path)
{
    int error = shim_before_name(AT_FDCWD, path, AT_FDCWD, new_path);

    if (error != 0)
        return shim_result(error);
    return note_link(REAL(link)(path, new_path), path, AT_FDCWD, new_path);
}

EXPORT int linkat(int directory, const char *path, int new_directory, const char *new_path, int flags)
{
    struct aim aim;
    int error = shim_before_name(directory, path, new_directory, new_path);

    if (error != 0)
        return shim_result(error);
    shim_aim(&aim, directory, path, stat_flags(flags));
    return note_link(REAL(linkat)(aim.directory, aim.path, new_directory, new_path, flags), aim.path,
                     new_directory, new_path);
}

EXPORT int name_to_handle_at(int directory, const char *path, struct file_handle *handle, int *mount,
                             int flags)
{
    struct aim aim;

    shim_aim(&aim, directory, path, stat_flags(flags));
    return REAL(name_to_handle_at)(aim.directory, aim.path, handle, mount, flags);
}
