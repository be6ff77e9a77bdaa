/* The entries of an environment, environ(7). */
#ifndef ATOMSHIM_ENVIRONMENT_H
#define ATOMSHIM_ENVIRONMENT_H

#include <string.h>

/* Returns the value in an entry "NAME=value", a part of it; NULL if the entry has another name. */
static inline const char *environment_value(const char *entry, const char *name)
{
    size_t length = strlen(name);

    return strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}

#endif
