#include "backup.h"

#include <fcntl.h>
#include <stdint.h>

/* The sum of the last name, or 0. A sum is enough: who is to be deceived wrote both names himself. */
static uint64_t last;

/* FNV-1a */
static uint64_t sum(int directory, const char *path)
{
    uint64_t result = UINT64_C(0xcbf29ce484222325) ^ (unsigned)(*path == '/' ? AT_FDCWD : directory);

    for (; *path != '\0'; path++)
        result = (result ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
    return result | 1;
}

void backup_linked(int directory, const char *path)
{
    __atomic_store_n(&last, sum(directory, path), __ATOMIC_RELAXED);
}

void backup_forget(void)
{
    __atomic_store_n(&last, 0, __ATOMIC_RELAXED);
}

bool backup_take(int directory, const char *path)
{
    uint64_t known = __atomic_load_n(&last, __ATOMIC_RELAXED);

    if (known == 0 || known != sum(directory, path))
        return false;
    backup_forget();
    return true;
}
