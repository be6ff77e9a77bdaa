#include "os/buffer_name.h"

#include <string.h>

/* The link of a memfd is "/memfd:NAME (deleted)"; the link of a file begins with the file's
 * folder. */
static const char *const beginnings[] = {"memfd:" BUFFER_NAME_PREFIX, "." BUFFER_NAME_PREFIX};
enum { BEGINNINGS = sizeof beginnings / sizeof beginnings[0] };

const char *buffer_name_record(const char *link)
{
    const char *slash = strrchr(link, '/');

    for (int i = 0; slash != NULL && i < BEGINNINGS; i++)
        if (strncmp(slash + 1, beginnings[i], strlen(beginnings[i])) == 0)
            return slash + 1 + strlen(beginnings[i]);
    return NULL;
}

bool buffer_name_is_in(const char *link, size_t size, bool cut)
{
    const char *slash = memrchr(link, '/', size);
    const char *name = slash == NULL ? link : slash + 1;
    size_t length = size - (size_t)(name - link);

    for (int i = 0; slash != NULL && i < BEGINNINGS; i++) {
        size_t known = strlen(beginnings[i]);

        if (memcmp(name, beginnings[i], length < known ? length : known) == 0 && (length >= known || cut))
            return true;
    }
    return cut && slash == NULL;
}
