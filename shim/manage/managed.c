#include "manage/managed.h"

#include "config/pattern.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/path.h"
#include "os/path_without_proc.h"
#include "os/scratch.h"
#include "session/buffer.h"
#include "session/session.h"
#include "store/store.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

/*
 * Errors that may be gone at the next call. They leave open whether the file is ours; were it taken for another's, the
 * program would get the raw file and write over it. All others the program's own call meets as well, or they are lasting.
 */
static bool is_transient(int error)
{
    static const int errors[] = {EIO, ENOMEM, EINTR, EAGAIN, EMFILE, ENFILE, ESTALE, ETIMEDOUT};

    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (error == -errors[i])
            return true;
    return false;
}

/* The following say 1 for yes and 0 for no, or return a negative errno that is_transient(). */

/* The kernel's own file systems: their regular files are none. */
static int is_no_kernel_file(int fd)
{
    static const unsigned magics[] = {
        PROC_SUPER_MAGIC, SYSFS_MAGIC,      CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
        DEBUGFS_MAGIC,    SECURITYFS_MAGIC, TRACEFS_MAGIC,      BPF_FS_MAGIC,
        PSTOREFS_MAGIC,   EFIVARFS_MAGIC,   SELINUX_MAGIC,      SMACK_MAGIC,
    };
    struct statfs status;

    int error = sys_fstatfs(fd, &status);

    if (error != 0)
        return is_transient(error) ? error : 0;
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if ((unsigned)status.f_type == magics[i])
            return 0;
    return 1;
}

/* What a program named, and what for; /proc need not be mounted to find it again. */
struct named {
    int directory;
    const char *path;
    bool writing;
};

/* path_matches() without /proc: what is at that path now may be another file than `fd`. */
static int named_matches(const struct config *config, const struct named *named, int fd, bool is_parent,
                         char *path)
{
    struct stat status;
    struct stat found;
    int n = path_without_proc(named->directory, named->path, path);

    if (n < 0)
        return is_transient(n) ? n : 0;
    if (!is_parent &&
        (sys_fstat(fd, &status) != 0 || sys_fstatat(AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) != 0 ||
         status.st_dev != found.st_dev || status.st_ino != found.st_ino))
        return -EAGAIN;
    return pattern_match(config->paths, path);
}

/* Does the path that lies in `path`, `length` bytes of twice PATH_MAX, match, or that of the file `name` in it, if there is
 * one? */
static int entry_matches(const struct config *config, char *path, size_t length, const char *name)
{
    if (name != NULL && strlen(name) < PATH_MAX) {
        if (length > 1)
            path[length++] = '/';
        length = (size_t)(stpcpy(path + length, name) - path);
    }
    path[length] = '\0';
    return pattern_match(config->paths, path);
}

/* Does the canonical path of `fd`, or that of the file `name` in the directory `fd`, match? */
static int path_matches(const struct config *config, const struct named *named, int fd, const char *name)
{
    char link[PROC_PATH_SIZE];
    struct scratch scratch;
    char *path;
    ssize_t n;
    int match = 0;

    if (scratch_take(&scratch, (size_t)2 * PATH_MAX) != 0)
        return -ENOMEM;
    path = scratch.bytes;
    n = sys_readlinkat(AT_FDCWD, descriptor_path(link, fd), path, PATH_MAX);
    if (buffer_is_proc_missing((int)n))
        match = named_matches(config, named, fd, name != NULL, path);
    else if (n < 0 && is_transient((int)n))
        match = (int)n;
    else if (n < 0)
        log_line(LOG_ERROR, "cannot tell which file this is: %s: %s; it is not managed", link,
                 log_errno((int)n));
    if (n > 0 && n < PATH_MAX && path[0] == '/')
        match = entry_matches(config, path, (size_t)n, name);
    scratch_give(&scratch);
    return match;
}

/* The same for the file `name` in the current directory: 1, too, if that has been removed or lies beyond the root. */
static int current_matches(const struct config *config, const char *name)
{
    struct scratch scratch;
    int match = 1;
    long n;

    if (scratch_take(&scratch, (size_t)2 * PATH_MAX) != 0)
        return -ENOMEM;
    n = SYS_CALL(SYS_getcwd, scratch.bytes, PATH_MAX, 0, 0, 0, 0); /* with the NUL */
    if (n > 1 && *(const char *)scratch.bytes == '/')
        match = entry_matches(config, scratch.bytes, (size_t)n - 1, name);
    scratch_give(&scratch);
    return match;
}

/* Opens the file of `fd`, which may be an O_PATH descriptor, with a description of its own. */
static int open_again(const struct named *named, int fd, int flags)
{
    char link[PROC_PATH_SIZE];
    struct stat status;
    struct stat found;
    int again = sys_openat(AT_FDCWD, descriptor_path(link, fd), flags | O_CLOEXEC | O_NOCTTY, 0);

    if (!buffer_is_proc_missing(again))
        return again;
    again = sys_openat(named->directory, named->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (again >= 0 && (sys_fstat(fd, &status) != 0 || sys_fstat(again, &found) != 0 ||
                       status.st_dev != found.st_dev || status.st_ino != found.st_ino)) {
        (void)sys_close(again);
        again = -EAGAIN; /* replaced meanwhile */
    }
    return again;
}

/* For what the program does not read: the time of access stays, where we may ask for that. */
static int open_unseen(const struct named *named, int fd, int flags)
{
    int again = open_again(named, fd, flags | O_NOATIME);

    return again == -EPERM ? open_again(named, fd, flags) : again;
}

/* Does the file carry a whole image, or a first commit that has begun? */
static int carries_image(const struct named *named, int fd)
{
    int readable = DESCRIPTOR_INSIST(open_unseen(named, fd, O_RDONLY));
    int result;

    if (readable < 0)
        return is_transient(readable) ? readable : 0;
    result = store_is_whole(readable);
    (void)sys_close(readable);
    return result < 0 && !is_transient(result) ? 0 : result;
}

/* The memory of a session for reading: what is written to it nobody commits. A memfd refuses that by itself. */
static bool is_sealed(const struct stat *status)
{
    struct session_found found;
    const struct session *session = session_any() ? session_of(status, &found) : NULL;

    return session != NULL && (session->flags & SESSION_WRITABLE) == 0;
}

static int is_managed(const struct config *config, const struct named *named, int fd)
{
    struct stat status;
    int result = sys_fstat(fd, &status);

    if (result != 0)
        return is_transient(result) ? result : 0;
    /* a file without a name has none that could match: O_TMPFILE, deleted, a memfd of our own by /dev/stdout */
    if (!S_ISREG(status.st_mode) || status.st_nlink == 0)
        return named->writing && is_sealed(&status) ? -EPERM : 0;
    if (session_on(status.st_dev, status.st_ino) != NULL)
        return 1;
    result = path_matches(config, named, fd, NULL);
    if (result == 0 && store_may_be_sized(&status))
        result = carries_image(named, fd);
    return result <= 0 ? result : is_no_kernel_file(fd);
}

static bool may_name(const struct config *config, const char *path)
{
    return pattern_may_name_last(config->paths, &config->names, path);
}

int managed_open_parent(int directory, const char *path)
{
    size_t length = (size_t)(path_last_component(path) - path);
    struct scratch scratch;
    int fd;

    if (length >= PATH_MAX)
        return -ENAMETOOLONG;
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return -ENOMEM;
    memcpy(scratch.bytes, length != 0 ? path : "./", length != 0 ? length : 2);
    ((char *)scratch.bytes)[length != 0 ? length : 2] = '\0';
    fd = sys_openat(directory, scratch.bytes, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    scratch_give(&scratch);
    return fd;
}

/* What may be managed, and why: a CANDIDATE_HERE only for the path of the folder that it was named in. */
enum { CANDIDATE_NO, CANDIDATE_HERE, CANDIDATE_ANYWHERE };

/* One lstat, which also tells that `path` is a string at all. Returns a CANDIDATE or a negative errno that is_transient(). */
static int is_candidate(const struct config *config, int directory, const char *path, int flags)
{
    struct stat status;
    int error = sys_fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW);

    if (error == -ENOENT)
        return (flags & O_CREAT) && may_name(config, path) ? CANDIDATE_HERE : CANDIDATE_NO;
    if (error == -EACCES) /* a security module may forbid to look and let it be opened */
        return CANDIDATE_ANYWHERE;
    if (error != 0)
        return is_transient(error) ? error : CANDIDATE_NO;
    if ((flags & O_CREAT) && (flags & O_EXCL)) /* it fails */
        return CANDIDATE_NO;
    if (S_ISLNK(status.st_mode))
        return flags & O_NOFOLLOW ? CANDIDATE_NO : CANDIDATE_ANYWHERE;
    if (!S_ISREG(status.st_mode))
        return CANDIDATE_NO;
    if (store_may_be_sized(&status) || session_on(status.st_dev, status.st_ino) != NULL)
        return CANDIDATE_ANYWHERE;
    return may_name(config, path) ? CANDIDATE_HERE : CANDIDATE_NO;
}

/*
 * Could a CANDIDATE_HERE match? It was no symbolic link and carries no header, so its path is that of its folder and its own
 * name. The kernel tells where the folder is now, whoever moved it or mounted over it, and however it was named. As after any
 * look before the open, the answer is about another file only if somebody replaces this one in between.
 */
static int folder_matches(const struct config *config, const struct named *named)
{
    const char *name = path_last_component(named->path);
    int parent;
    int match;

    if (name == named->path)
        return named->directory == AT_FDCWD ? current_matches(config, name)
                                            : path_matches(config, named, named->directory, name);
    parent = managed_open_parent(named->directory, named->path);
    if (parent < 0)
        return parent == -EACCES ? 1 : is_transient(parent) ? parent : 0;
    match = path_matches(config, named, parent, name);
    (void)sys_close(parent);
    return match;
}

/* Is this worth a look at the path, though the name in it could not match? A link may have led to one that could. */
static int is_suspect(const struct config *config, int directory, const char *path, int flags, int fd)
{
    struct stat status;

    if (!(flags & O_NOFOLLOW))
        return is_candidate(config, directory, path, 0);
    return sys_fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && store_may_be_sized(&status);
}

int managed_opened(const struct config *config, int directory, const char *path, int flags, int fd)
{
    const struct named named = {directory, path, false};
    int result = 1;

    if (!may_name(config, path))
        result = is_suspect(config, directory, path, flags, fd);
    return result <= 0 ? result : is_managed(config, &named, fd);
}

/* The creating open decides the access mode for good: the file's own mode may forget reading and writing. */
static int create(const struct config *config, int directory, const char *path, int flags, mode_t mode,
                  int *inode, bool *created)
{
    const struct named named = {directory, path, false};
    int parent = managed_open_parent(directory, path);
    int match;

    if (parent < 0)
        return is_transient(parent) ? parent : MANAGED_NO;
    match = path_matches(config, &named, parent, path_last_component(path));
    if (match > 0)
        match = is_no_kernel_file(parent);
    (void)sys_close(parent);
    if (match <= 0)
        return match < 0 ? match : MANAGED_NO;
    *inode = sys_openat(directory, path,
                        O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | (flags & (O_EXCL | O_NOFOLLOW)), mode);
    if (*inode < 0)
        return *inode;
    match = path_matches(config, &named, *inode, NULL);
    if (match <= 0) { /* 0: a dangling symbolic link led elsewhere */
        (void)sys_close(*inode);
        return match < 0 ? match : MANAGED_NO;
    }
    *created = true;
    return MANAGED_YES;
}

/* To be opened before it is known whether it is managed: that leaves no trace, and the descriptor is good for a session. */
static bool is_only_read(int flags)
{
    return (flags & ~(O_CLOEXEC | O_LARGEFILE | O_NOCTTY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK)) == O_RDONLY;
}

/* By /proc/self/fd/N: the real inode behind memory that was opened for reading, and is to be written. */
static int open_behind(int probe, int flags)
{
    struct session_found found;
    struct stat status;
    char link[PROC_PATH_SIZE];

    if (!descriptor_wants_writing(flags) || !session_any() || sys_fstat(probe, &status) != 0)
        return -1;
    if (session_of(&status, &found) == NULL || (found.session->flags & SESSION_WRITABLE))
        return -1;
    return sys_openat(AT_FDCWD, descriptor_path(link, found.session->inode), O_PATH | O_CLOEXEC, 0);
}

int managed_open(const struct config *config, int directory, const char *path, int flags, mode_t mode,
                 bool may_ask, int *inode, bool *created)
{
    const struct named named = {directory, path, descriptor_wants_writing(flags)};
    int behind;
    int probe;
    int result;

    *created = false;
    /* its close may drop POSIX locks that the program holds through a session */
    if (may_ask && is_only_read(flags) && !session_any())
        return MANAGED_ASK;
    result = flags & (O_PATH | O_DIRECTORY) ? CANDIDATE_NO : is_candidate(config, directory, path, flags);
    if (result == CANDIDATE_HERE)
        result = folder_matches(config, &named);
    if (result <= 0)
        return result < 0 ? result : MANAGED_NO;
    probe = sys_openat(directory, path, O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW), 0);
    if (probe == -ENOENT && (flags & O_CREAT))
        return create(config, directory, path, flags, mode, inode, created);
    if (probe < 0)
        return is_transient(probe) || probe == -EACCES ? probe : MANAGED_NO;
    behind = flags & O_EXCL ? -1 : open_behind(probe, flags);
    if (behind >= 0) {
        (void)sys_close(probe);
        probe = behind;
        result = 1;
    } else
        result = (flags & O_CREAT) && (flags & O_EXCL) ? 0 : is_managed(config, &named, probe);
    if (result <= 0) {
        (void)sys_close(probe);
        return result < 0 ? result : MANAGED_NO;
    }
    if ((flags & (O_ACCMODE | O_NOATIME)) == O_WRONLY)
        *inode = open_unseen(&named, probe, O_RDWR);
    else
        *inode = open_again(&named, probe,
                            (descriptor_wants_writing(flags) ? O_RDWR : O_RDONLY) | (flags & O_NOATIME));
    (void)sys_close(probe);
    return *inode < 0 ? *inode : MANAGED_YES;
}

int managed_find(const struct config *config, int directory, const char *path, const struct stat *status)
{
    const struct named named = {directory, path, false};
    int result;
    int fd;

    if (!may_name(config, path) && !store_may_be_sized(status))
        return -ENOENT;
    fd = sys_openat(directory, path, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    result = is_managed(config, &named, fd);
    if (result > 0)
        return fd;
    (void)sys_close(fd);
    return result < 0 ? result : -ENOENT;
}

int managed_reopen(int directory, const char *path, int fd, int flags)
{
    const struct named named = {directory, path, false};

    return DESCRIPTOR_INSIST(open_again(&named, fd, flags));
}

uint64_t managed_payload_size(const struct config *config, int directory, const char *path, int flags,
                              const struct stat *status)
{
    uint64_t size = (uint64_t)status->st_size;
    const struct named named = {directory, path, false};
    const struct session *session;
    int how;
    int fd;

    if (!S_ISREG(status->st_mode) || !store_may_be_sized(status))
        return size;
    session = session_on(status->st_dev, status->st_ino);
    if (session != NULL) /* closing another descriptor would drop the program's POSIX locks */
        return store_size(session->inode, &size) == 0 ? size : (uint64_t)status->st_size;
    how = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0);
    fd = DESCRIPTOR_INSIST(sys_openat(directory, path, how | O_NOATIME, 0));
    if (fd == -EPERM)
        fd = DESCRIPTOR_INSIST(sys_openat(directory, path, how, 0));
    if (fd < 0)
        return size;
    if (is_managed(config, &named, fd) > 0)
        (void)store_size(fd, &size);
    (void)sys_close(fd);
    return size;
}
