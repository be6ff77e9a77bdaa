#include "manage/rename_hints.h"

#include <fcntl.h>
#include <stdint.h>

/* Sums of the two names, or 0. A sum is enough: who could deceive it may link and rename himself. */
static uint64_t last_old;
static uint64_t last_new;

/* FNV-1a */
static uint64_t sum(int directory, const char *path)
{
    uint64_t result = UINT64_C(0xcbf29ce484222325) ^ (unsigned)(*path == '/' ? AT_FDCWD : directory);

    for (; *path != '\0'; path++)
        result = (result ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
    return result | 1;
}

static void set(uint64_t *last, uint64_t value)
{
    __atomic_store_n(last, value, __ATOMIC_RELAXED);
}

static bool is(const uint64_t *last, int directory, const char *path)
{
    uint64_t known = __atomic_load_n(last, __ATOMIC_RELAXED);

    return known != 0 && known == sum(directory, path);
}

void rename_hints_note(int directory, const char *path, int new_directory, const char *new_path)
{
    set(&last_old, sum(directory, path));
    set(&last_new, sum(new_directory, new_path));
}

void rename_hints_forget(void)
{
    set(&last_old, 0);
    set(&last_new, 0);
}

bool rename_hints_is_old(int directory, const char *path)
{
    return is(&last_old, directory, path);
}

bool rename_hints_is_new(int directory, const char *path)
{
    return is(&last_new, directory, path);
}
