#include "os/path_without_proc.h"

#include "os/descriptor.h"
#include "os/scratch.h"
#include "os/sys.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

enum { LINKS_MAX = 40 }; /* as in the kernel */

/* Turns "/a/b" into "/a", and "/a" into "": in this file the root is "". */
static void cut_last(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash != NULL)
        *slash = '\0';
}

/* Appends '/' and the `length` bytes of `name`. */
static int append_name(char path[PATH_MAX], const char *name, size_t length)
{
    size_t end = strlen(path);

    if (end + 1 + length >= PATH_MAX)
        return -ENAMETOOLONG;
    path[end] = '/';
    memcpy(path + end + 1, name, length);
    path[end + 1 + length] = '\0';
    return 0;
}

/* Puts "/NAME" before `path`, where NAME is the entry of `parent` that is `child`. */
static int prepend_name(int parent, const struct stat *child, char path[PATH_MAX])
{
    _Alignas(struct dirent64) char entries[512];
    struct stat status;
    long size;
    int error = -ENOENT;
    int fd = sys_openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

    if (fd < 0)
        return fd;
    while (error == -ENOENT && (size = sys_getdents(fd, entries, sizeof entries)) > 0)
        for (long at = 0; error == -ENOENT && at < size;) {
            const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
            size_t length = strlen(entry->d_name);

            at += entry->d_reclen;
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                sys_fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
                status.st_dev != child->st_dev || status.st_ino != child->st_ino)
                continue;
            error = strlen(path) + 1 + length >= PATH_MAX ? -ENAMETOOLONG : 0;
            if (error == 0) {
                memmove(path + 1 + length, path, strlen(path) + 1);
                path[0] = '/';
                memcpy(path + 1, entry->d_name, length);
            }
        }
    (void)sys_close(fd);
    return error;
}

/*
 * Finds the path of an open directory: climbs to the root, and asks each parent for the name of the
 * child.
 */
static int path_of_directory(int directory, char path[PATH_MAX])
{
    struct stat status;
    struct stat parent_status;
    int fd = sys_openat(directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    int parent = -1;
    int error = fd < 0 ? fd : sys_fstat(fd, &status);

    path[0] = '\0';
    while (error == 0) {
        parent = sys_openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        error = parent < 0 ? parent : sys_fstat(parent, &parent_status);
        if (error != 0 || (parent_status.st_dev == status.st_dev && parent_status.st_ino == status.st_ino))
            break;
        error = prepend_name(parent, &status, path);
        (void)sys_close(fd);
        fd = parent;
        parent = -1;
        status = parent_status;
    }
    descriptor_close_if_open(fd);
    descriptor_close_if_open(parent);
    return error;
}

/* Writes the path of the directory that a relative path begins in. */
static int write_start(int directory, char path[PATH_MAX])
{
    long n;

    if (directory != AT_FDCWD)
        return path_of_directory(directory, path);
    n = SYS_CALL(SYS_getcwd, path, PATH_MAX, 0, 0, 0, 0);
    if (n < 0)
        return (int)n;
    if (path[0] != '/') /* "(unreachable)": getcwd(3) */
        return -ENOENT;
    if (path[1] == '\0')
        path[0] = '\0';
    return 0;
}

/* A path on its way to be canonical. */
struct walk {
    char *rest; /* the part that is left to walk */
    char *target;
    char *both;
    char *canonical;
    int links; /* how many were followed */
};

/*
 * Puts the target of a link, `size` bytes in walk->target, in front of what is left behind the
 * link's name.
 */
static int follow_link(struct walk *walk, size_t size, const char *behind)
{
    if (++walk->links > LINKS_MAX)
        return -ELOOP;
    if (size + 1 + strlen(behind) >= PATH_MAX)
        return -ENAMETOOLONG;
    walk->target[size] = '\0';
    cut_last(walk->canonical);
    if (walk->target[0] == '/')
        walk->canonical[0] = '\0';
    (void)stpcpy(stpcpy(walk->both, walk->target), behind);
    walk->rest = walk->target - PATH_MAX;
    memcpy(walk->rest, walk->both, strlen(walk->both) + 1);
    return 0;
}

/* Takes the first component of walk->rest, `length` bytes. */
static int walk_component(struct walk *walk, size_t length)
{
    const char *behind = walk->rest + length;
    ssize_t n = -EINVAL;
    int error;

    if (length == 2 && memcmp(walk->rest, "..", 2) == 0) {
        cut_last(walk->canonical);
    } else if (length != 1 || *walk->rest != '.') {
        error = append_name(walk->canonical, walk->rest, length);
        if (error != 0)
            return error;
        n = sys_readlinkat(AT_FDCWD, walk->canonical, walk->target, PATH_MAX - 1);
        if (n >= 0)
            return follow_link(walk, (size_t)n, behind);
    }
    walk->rest += length;
    /* EINVAL: it is no link. The last component need not exist. */
    return n == -EINVAL || (n == -ENOENT && *behind == '\0') ? 0 : (int)n;
}

int path_without_proc(int directory, const char *path, char canonical[PATH_MAX])
{
    struct scratch scratch;
    size_t length = strlen(path);
    struct walk walk;
    int error;

    if (length >= PATH_MAX)
        return -ENAMETOOLONG;
    if (scratch_take(&scratch, (size_t)3 * PATH_MAX) != 0)
        return -ENOMEM;
    memcpy(scratch.bytes, path, length + 1);
    walk = (struct walk){.rest = scratch.bytes,
                         .target = (char *)scratch.bytes + PATH_MAX,
                         .both = (char *)scratch.bytes + (size_t)2 * PATH_MAX,
                         .canonical = canonical};
    canonical[0] = '\0';
    error = *path == '/' ? 0 : write_start(directory, canonical);
    while (error == 0) {
        walk.rest += strspn(walk.rest, "/");
        if (*walk.rest == '\0')
            break;
        error = walk_component(&walk, strcspn(walk.rest, "/"));
    }
    scratch_give(&scratch);
    if (error != 0)
        return error;
    if (canonical[0] == '\0')
        (void)stpcpy(canonical, "/");
    return (int)strlen(canonical);
}

bool path_append(char path[PATH_MAX], const char *name)
{
    size_t length = strlen(path);

    while (*name != '\0') {
        size_t size = strcspn(name, "/");

        if (size == 2 && name[0] == '.' && name[1] == '.') {
            while (length > 0 && path[--length] != '/')
                continue;
        } else if (size > 0 && !(size == 1 && *name == '.')) {
            if (length + 1 + size >= PATH_MAX)
                return false;
            path[length++] = '/';
            memcpy(path + length, name, size);
            length += size;
        }
        path[length] = '\0';
        name += size + (name[size] == '/');
    }
    return length > 0;
}

int path_as_given(int directory, const char *path, char absolute[PATH_MAX])
{
    int error = 0;

    absolute[0] = '\0';
    if (*path != '/')
        error = write_start(directory, absolute);
    if (error == 0 && !path_append(absolute, path))
        error = -ENAMETOOLONG;
    return error;
}
