#include "cli/paths.h"

#include "cli/cli.h"
#include "config/pattern.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool paths_add(const char *command, const char *pattern, bool *any)
{
    const char *where;
    size_t length;
    const char *fault = pattern_check(pattern, &where, &length);
    char *list = NULL;
    bool done;

    /* each is checked alone: a '\\' at its end would swallow the ':' behind it */
    if (fault != NULL) {
        cli_complain("%s: --path '%.*s': %s", command, (int)length, where, fault);
        return false;
    }
    if (*any && asprintf(&list, "%s:%s", getenv("ATOMSHIM_PATHS"), pattern) < 0) {
        cli_complain("%s: %s", command, strerror(ENOMEM));
        return false;
    }
    done = setenv("ATOMSHIM_PATHS", list != NULL ? list : pattern, 1) == 0;
    if (!done)
        cli_complain("%s: %s", command, strerror(errno));
    free(list);
    *any = true;
    return done;
}

bool paths_take_in(const char *paths)
{
    bool start = true;

    for (; *paths != '\0'; paths++) {
        if (start && *paths != ':' && *paths != '!')
            return true;
        start = *paths == ':';
        if (*paths == '\\' && paths[1] != '\0')
            paths++;
    }
    return false;
}

size_t paths_plain_part(const char *pattern, size_t length)
{
    size_t plain = strcspn(pattern, "*?[\\");

    if (*pattern != '/')
        return 0;
    if (plain < length)
        while (pattern[plain - 1] != '/')
            plain--;
    else
        plain = length;
    while (plain > 1 && pattern[plain - 1] == '/')
        plain--;
    return plain;
}

void paths_warn_of_links(const char *paths)
{
    char plain[PATH_MAX];
    char canonical[PATH_MAX];
    size_t length;

    for (; *paths != '\0'; paths += length + (paths[length] == ':')) {
        size_t size;

        for (length = 0; paths[length] != '\0' && paths[length] != ':'; length++)
            length += paths[length] == '\\' && paths[length + 1] != '\0';
        size = paths_plain_part(paths, length);
        if (size == 0 || size >= sizeof plain)
            continue;
        memcpy(plain, paths, size);
        plain[size] = '\0';
        if (access(plain, F_OK) != 0 && strrchr(plain, '/') != plain)
            *strrchr(plain, '/') = '\0'; /* a file that is still to be made */
        if (realpath(plain, canonical) != NULL && strcmp(plain, canonical) != 0)
            cli_complain(
                "warning: %.*s matches nothing: %s is %s, and files are matched by their canonical path",
                (int)length, paths, plain, canonical);
    }
}
