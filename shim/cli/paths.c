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

    /* checks each alone: a '\\' at its end would swallow the ':' behind it */
    if (fault != NULL) {
        cli_complain("%s: --path '%.*s': %s", command, (int)length, where, fault);
        return false;
    }
    cli_need_memory((!*any || asprintf(&list, "%s:%s", getenv("ATOMSHIM_PATHS"), pattern) >= 0) &&
                    setenv("ATOMSHIM_PATHS", *any ? list : pattern, 1) == 0);
    free(list);
    *any = true;
    return true;
}

bool paths_take_in(const char *paths)
{
    struct pattern_item item;

    while (pattern_next(&paths, &item))
        if (!item.takes_out)
            return true;
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
