#include "cli/tree.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_entry(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Visits what lies at `path`, and all below, with the rest of its room for longer names. */
static int walk(char path[PATH_MAX], tree_visitor *visit) // NOLINT(misc-no-recursion)
{
    size_t length = strlen(path);
    const char *slash = path[length - 1] == '/' ? "" : "/";
    struct dirent **entries;
    struct stat status = {0};
    int result;
    int count;

    if (lstat(path, &status) != 0)
        return errno == ENOENT ? 0 : visit(path, &status, errno);
    result = visit(path, &status, 0);
    if (result != 0 || !S_ISDIR(status.st_mode))
        return result;
    count = scandir(path, &entries, is_entry, alphasort);
    if (count < 0)
        return errno == ENOENT ? 0 : visit(path, &status, errno);
    for (int i = 0; i < count; i++) {
        if (result == 0) {
            int name = snprintf(path + length, PATH_MAX - length, "%s%s", slash, entries[i]->d_name);

            result =
                (size_t)name < PATH_MAX - length ? walk(path, visit) : visit(path, &status, ENAMETOOLONG);
            path[length] = '\0';
        }
        free(entries[i]);
    }
    free(entries);
    return result;
}

int tree_walk(const char *path, tree_visitor *visit)
{
    char room[PATH_MAX];

    (void)snprintf(room, sizeof room, "%s", path);
    return *path == '\0' ? 0 : walk(room, visit);
}
