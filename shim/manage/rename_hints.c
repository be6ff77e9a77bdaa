#include "manage/rename_hints.h"

#include "os/path.h"

/*
 * The oldest hint makes room for a new one. Sums of the names are enough: a user who could forge
 * one may link and rename as well. Threads that overwrite each other's hint leave one that no file
 * fits.
 */
enum { HINTS_MAX = 64 };

struct hint {
    uint64_t old_name;
    uint64_t new_name;
    uint64_t device;
    uint64_t number;
    uint64_t links; /* st_nlink after the link(2) */
};

static SYS_LARGE struct hint hints[HINTS_MAX];
static unsigned hints_made;

/* FNV-1a, of the last component; never 0. */
static uint64_t sum_of_name(const char *path)
{
    uint64_t result = UINT64_C(0xcbf29ce484222325);

    for (const char *at = path_last_component(path); *at != '\0'; at++)
        result = (result ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    return result | 1;
}

static void set_field(uint64_t *field, uint64_t value)
{
    __atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static uint64_t get_field(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

void rename_hints_note(const char *path, int new_directory, const char *new_path)
{
    struct hint *hint = &hints[__atomic_fetch_add(&hints_made, 1, __ATOMIC_RELAXED) % HINTS_MAX];
    struct stat status;

    if (sys_fstatat(new_directory, new_path, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    set_field(&hint->old_name, sum_of_name(path));
    set_field(&hint->new_name, sum_of_name(new_path));
    set_field(&hint->device, status.st_dev);
    set_field(&hint->number, status.st_ino);
    set_field(&hint->links, status.st_nlink);
}

static bool is_about(const struct hint *hint, const struct stat *status)
{
    return get_field(&hint->number) == status->st_ino && get_field(&hint->device) == status->st_dev;
}

/* True if a hint has this name as its new one, or else its old one, and is about the file. */
static bool has_hint(const char *path, const struct stat *status, bool is_new)
{
    uint64_t name;

    if (status->st_nlink < 2 || __atomic_load_n(&hints_made, __ATOMIC_RELAXED) == 0)
        return false;
    name = sum_of_name(path);
    for (const struct hint *hint = hints; hint < hints + HINTS_MAX; hint++)
        if (get_field(is_new ? &hint->new_name : &hint->old_name) == name && is_about(hint, status) &&
            (is_new || get_field(&hint->links) <= status->st_nlink))
            return true;
    return false;
}

bool rename_hints_has_backup(const char *path, const struct stat *status)
{
    return has_hint(path, status, false);
}

bool rename_hints_is_link(const char *path, const struct stat *status)
{
    return has_hint(path, status, true);
}
