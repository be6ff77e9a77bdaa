#include "os/path_without_proc.h"

#include "os/scratch.h"
#include "os/sys.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

enum { LINKS_MAX = 40 }; /* as the kernel */

/* "/a/b" to "/a"; the root is "" here. */
static void cut_last(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash != NULL)
        *slash = '\0';
}

/* Appends "/NAME" of `length` bytes. */
static int append(char path[PATH_MAX], const char *name, size_t length)
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

/* The path of an open directory: up to the root, asking each one how it calls the one before. The root is "". */
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
    if (fd >= 0)
        (void)sys_close(fd);
    if (parent >= 0)
        (void)sys_close(parent);
    return error;
}

/* Where a relative path begins. */
static int begin_at(int directory, char path[PATH_MAX])
{
    long n;

    if (directory != AT_FDCWD)
        return path_of_directory(directory, path);
    n = SYS_CALL(SYS_getcwd, path, PATH_MAX, 0, 0, 0, 0);
    if (n < 0)
        return (int)n;
    if (path[0] != '/') /* "(unreachable)" */
        return -ENOENT;
    if (path[1] == '\0')
        path[0] = '\0';
    return 0;
}

/* `rest` has room for three paths: what is left to walk, the target of a link, and the two as one. */
static int walk(int directory, char *rest, char canonical[PATH_MAX])
{
    char *target = rest + PATH_MAX;
    char *both = target + PATH_MAX;
    int links = 0;
    int error = 0;

    canonical[0] = '\0';
    if (*rest != '/')
        error = begin_at(directory, canonical);
    while (error == 0) {
        size_t length;
        ssize_t n;

        rest += strspn(rest, "/");
        length = strcspn(rest, "/");
        if (length == 0)
            break;
        if (length == 2 && memcmp(rest, "..", 2) == 0) {
            cut_last(canonical);
        } else if (length != 1 || *rest != '.') {
            error = append(canonical, rest, length);
            n = error == 0 ? sys_readlinkat(AT_FDCWD, canonical, target, PATH_MAX - 1) : -EINVAL;
            if (n >= 0) {
                target[n] = '\0';
                error = ++links > LINKS_MAX                                 ? -ELOOP
                        : (size_t)n + 1 + strlen(rest + length) >= PATH_MAX ? -ENAMETOOLONG
                                                                            : 0;
                if (error != 0)
                    break;
                cut_last(canonical);
                if (*target == '/')
                    canonical[0] = '\0';
                stpcpy(stpcpy(stpcpy(both, target), "/"), rest + length);
                rest = target - PATH_MAX;
                memcpy(rest, both, strlen(both) + 1);
                continue;
            }
            if (n != -EINVAL && (n != -ENOENT || rest[length] != '\0')) /* no link; not there */
                error = (int)n;
        }
        rest += length;
    }
    return error;
}

int path_without_proc(int directory, const char *path, char canonical[PATH_MAX])
{
    struct scratch scratch;
    size_t length = strlen(path);
    int error;

    if (length >= PATH_MAX)
        return -ENAMETOOLONG;
    if (scratch_take(&scratch, (size_t)3 * PATH_MAX) != 0)
        return -ENOMEM;
    memcpy(scratch.bytes, path, length + 1);
    error = walk(directory, scratch.bytes, canonical);
    scratch_give(&scratch);
    if (error != 0)
        return error;
    if (canonical[0] == '\0')
        (void)stpcpy(canonical, "/");
    return (int)strlen(canonical);
}
