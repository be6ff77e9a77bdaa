#include "manage/named.h"

#include "config/pattern_index.h"
#include "manage/folders.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/path.h"
#include "os/path_without_proc.h"
#include "os/scratch.h"
#include "session/buffer.h"
#include "session/session.h"

#include <limits.h>
#include <string.h>

bool named_is_transient(int error)
{
    static const int errors[] = {EIO, ENOMEM, EINTR, EAGAIN, EMFILE, ENFILE, ESTALE, ETIMEDOUT};

    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (error == -errors[i])
            return true;
    return false;
}

int named_cannot_tell(const struct named *named, int error)
{
    struct scratch scratch;
    bool matches;

    if (named_is_transient(error))
        return error;
    /* there is no such file, any more */
    if (error == -ENOENT || error == -ENOTDIR || error == -ELOOP || error == -ENAMETOOLONG ||
        !named_may_match(named->path))
        return 0;
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return -ENOMEM;
    matches = path_as_given(named->directory, named->path, scratch.bytes) == 0 &&
              pattern_index_match(&session_config->index, session_config->paths, scratch.bytes);
    scratch_give(&scratch);
    if (!matches)
        return 0;
    log_line(LOG_ERROR,
             "%s: cannot be opened or replaced: the kernel does not tell which file it is, perhaps by a "
             "seccomp filter: %s",
             named->path, log_errno(error));
    return -EPERM;
}

bool named_may_match(const char *path)
{
    return pattern_index_may_name(&session_config->index, session_config->paths, path);
}

static bool is_same_inode(const struct stat *status, const struct stat *other)
{
    return status->st_dev == other->st_dev && status->st_ino == other->st_ino;
}

bool named_is_same_file(int fd, int other)
{
    struct stat status;
    struct stat found;

    return sys_fstat(fd, &status) == 0 && sys_fstat(other, &found) == 0 && is_same_inode(&status, &found);
}

/* Appends "/NAME" to the `length` bytes in `path`, if there is a name, and compares the result with
 * the patterns. */
static int entry_matches(char *path, size_t length, const char *name)
{
    if (length + (name != NULL ? 1 + strlen(name) : 0) >= PATH_MAX)
        return 0;
    if (name != NULL) {
        if (length > 1)
            path[length++] = '/';
        length = (size_t)(stpcpy(path + length, name) - path);
    }
    path[length] = '\0';
    return pattern_index_match(&session_config->index, session_config->paths, path);
}

/* Without /proc this follows the path step by step; it may lead to another file than `fd` by
 * now. */
static int matches_without_proc(const struct named *named, int fd, bool is_folder, char path[PATH_MAX])
{
    struct stat status;
    struct stat found;
    int n = path_without_proc(named->directory, named->path, path);

    if (n < 0)
        return named_cannot_tell(named, n);
    if (!is_folder &&
        (sys_fstat(fd, &status) != 0 || sys_fstatat(AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) != 0 ||
         !is_same_inode(&status, &found)))
        return -EAGAIN;
    return pattern_index_match(&session_config->index, session_config->paths, path);
}

/*
 * Remembers what the kernel said of a name in the tree that the process sees: `path` is the
 * folder's, or with `is_folder` false a file's in it.
 */
static void remember_folder(const struct named *named, const char *path, size_t length, bool is_folder,
                            struct folders_moment moment)
{
    if (named->directory != AT_FDCWD && named->path[0] != '/')
        return;
    while (!is_folder && length > 0 && path[--length] != '/')
        continue;
    folders_remember(path, length, moment);
}

int named_matches(const struct named *named, int fd, const char *name)
{
    struct folders_moment moment;
    char link[PROC_PATH_SIZE];
    struct scratch scratch;
    char *path;
    int match = 0;
    ssize_t n;

    if (scratch_take(&scratch, PATH_MAX) != 0)
        return -ENOMEM;
    path = scratch.bytes;
    n = name == NULL && named->is_entry ? folders_path(named->directory, path, PATH_MAX) : -1;
    if (n > 0) {
        match = entry_matches(path, (size_t)n, named->path);
        scratch_give(&scratch);
        return match;
    }
    moment = folders_now();
    n = sys_readlinkat(AT_FDCWD, descriptor_path(link, fd), path, PATH_MAX);
    if (buffer_is_proc_missing((int)n))
        match = matches_without_proc(named, fd, name != NULL, path);
    else if (n < 0)
        match = named_cannot_tell(named, (int)n);
    else if (n > 0 && path[0] == '/') {
        remember_folder(named, path, (size_t)n, name != NULL, moment);
        match = entry_matches(path, (size_t)n, name);
    }
    scratch_give(&scratch);
    return match;
}

/*
 * Writes the path of the folder that the file is named in, if that needs no look at the folder: it
 * is the current one, or is remembered. Returns its length, or -1.
 */
static ssize_t find_known_folder(const struct named *named, char path[PATH_MAX])
{
    const char *name = path_last_component(named->path);
    size_t given = (size_t)(name - named->path);
    bool is_absolute = *named->path == '/';
    long n = 0; /* with the NUL */
    size_t length;

    if (!is_absolute && named->directory != AT_FDCWD)
        return -1;
    if (!is_absolute)
        n = SYS_CALL(SYS_getcwd, path, PATH_MAX, 0, 0, 0, 0);
    if (!is_absolute && (n <= 1 || path[0] != '/')) /* it was removed, or lies beyond the root */
        return -1;
    if (given == 0)
        return n - 1;
    n -= n == 2; /* the root */
    if ((size_t)n + given > PATH_MAX)
        return -1;
    if (!is_absolute)
        path[n - 1] = '/';
    memcpy(path + n, named->path, given);
    length = (size_t)n + given;
    length -= length > 1; /* the '/' at the end */
    return length == 1 || folders_know(path, length) != FOLDERS_UNKNOWN ? (ssize_t)length : -1;
}

/* True if the folder is remembered as one in which no pattern matches. Reads the path in place. */
static bool is_known_elsewhere(const struct named *named)
{
    const size_t length = (size_t)(path_last_component(named->path) - named->path);

    return *named->path == '/' && length > 1 && folders_know(named->path, length - 1) == FOLDERS_ELSEWHERE;
}

bool named_is_elsewhere(const struct named *named)
{
    struct scratch scratch;
    bool result;
    ssize_t n;

    if (is_known_elsewhere(named))
        return true;
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return false;
    n = find_known_folder(named, scratch.bytes);
    result = n > 0 && entry_matches(scratch.bytes, (size_t)n, path_last_component(named->path)) == 0;
    scratch_give(&scratch);
    return result;
}

int named_matches_in_folder(const struct named *named)
{
    const char *name = path_last_component(named->path);
    struct scratch scratch;
    int folder;
    int match = 1; /* the current folder was removed, or lies beyond the root */
    ssize_t n;

    if (name == named->path && named->directory != AT_FDCWD)
        return named_matches(named, named->directory, name);
    if (is_known_elsewhere(named))
        return 0;
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return -ENOMEM;
    n = find_known_folder(named, scratch.bytes);
    if (n > 0)
        match = entry_matches(scratch.bytes, (size_t)n, name);
    scratch_give(&scratch);
    if (n > 0 || name == named->path)
        return match;
    folder = named_open_folder(named);
    if (folder < 0)
        return folder == -EACCES ? 1 : named_is_transient(folder) ? folder : 0;
    match = named_matches(named, folder, name);
    (void)sys_close(folder);
    return match;
}

int named_open_folder(const struct named *named)
{
    size_t length = (size_t)(path_last_component(named->path) - named->path);
    struct scratch scratch;
    int fd;

    if (scratch_take(&scratch, PATH_MAX) != 0)
        return -ENOMEM;
    /* the kernel has taken the path before: it is shorter than PATH_MAX */
    memcpy(scratch.bytes, length != 0 ? named->path : "./", length != 0 ? length : 2);
    ((char *)scratch.bytes)[length != 0 ? length : 2] = '\0';
    fd = sys_openat(named->directory, scratch.bytes, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    scratch_give(&scratch);
    return fd;
}

int named_open_again(const struct named *named, int fd, int flags)
{
    char link[PROC_PATH_SIZE];
    int again = sys_openat(AT_FDCWD, descriptor_path(link, fd), flags | O_CLOEXEC | O_NOCTTY, 0);

    if (!buffer_is_proc_missing(again))
        return again;
    again = sys_openat(named->directory, named->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (again >= 0 && !named_is_same_file(fd, again)) {
        (void)sys_close(again);
        again = -EAGAIN;
    }
    return again;
}

int named_open_unseen(const struct named *named, int fd, int flags)
{
    int again = named_open_again(named, fd, flags | O_NOATIME);

    return again == -EPERM ? named_open_again(named, fd, flags) : again;
}
