/* Wraps walks through folders: the shim cannot see the libc's own stat of the entries, and corrects
 * their sizes here. */
#include "interpose/interpose.h"

#include <fts.h>
#include <ftw.h>

/* ---- ftw, nftw ---- */

/* The program's function, which one of ours calls. The program's function may walk in turn. */
static __thread union {
    __ftw_func_t plain;
    __ftw64_func_t plain64;
    __nftw_func_t physical;
    __nftw64_func_t physical64;
} visitor;
static __thread int walk_flags;

static bool has_status(int type)
{
    return type == FTW_F;
}

static uint64_t size_at(const char *path, const struct stat *status)
{
    return managed_payload_size(AT_FDCWD, path, walk_flags & FTW_PHYS ? AT_SYMLINK_NOFOLLOW : 0, status);
}

static int visit_plain(const char *path, const struct stat *status, int type)
{
    struct stat fixed;

    if (!has_status(type))
        return visitor.plain(path, status, type);
    fixed = *status;
    fixed.st_size = (off_t)size_at(path, status);
    return visitor.plain(path, &fixed, type);
}

static int visit_plain64(const char *path, const struct stat64 *status, int type)
{
    struct stat64 fixed;

    if (!has_status(type))
        return visitor.plain64(path, status, type);
    fixed = *status;
    fixed.st_size = (off64_t)size_at(path, (const struct stat *)status);
    return visitor.plain64(path, &fixed, type);
}

/* With FTW_CHDIR the working directory is the file's. */
static const char *name_for_stat(const char *path, const struct FTW *place)
{
    return walk_flags & FTW_CHDIR ? path + place->base : path;
}

static int visit_physical(const char *path, const struct stat *status, int type, struct FTW *place)
{
    struct stat fixed;

    if (!has_status(type))
        return visitor.physical(path, status, type, place);
    fixed = *status;
    fixed.st_size = (off_t)size_at(name_for_stat(path, place), status);
    return visitor.physical(path, &fixed, type, place);
}

static int visit_physical64(const char *path, const struct stat64 *status, int type, struct FTW *place)
{
    struct stat64 fixed;

    if (!has_status(type))
        return visitor.physical64(path, status, type, place);
    fixed = *status;
    fixed.st_size = (off64_t)size_at(name_for_stat(path, place), (const struct stat *)status);
    return visitor.physical64(path, &fixed, type, place);
}

/* Calls `walk` with the program's function in `member`. */
#define WALK(member, function, flags, walk)                                                                  \
    __typeof__(visitor) outer_visitor = visitor;                                                             \
    int outer_flags = walk_flags;                                                                            \
    int result;                                                                                              \
    visitor.member = (function);                                                                             \
    walk_flags = (flags);                                                                                    \
    result = (walk);                                                                                         \
    visitor = outer_visitor;                                                                                 \
    walk_flags = outer_flags;                                                                                \
    return result

EXPORT int ftw(const char *path, __ftw_func_t function, int descriptors)
{
    if (!shim_enabled())
        return REAL(ftw)(path, function, descriptors);
    WALK(plain, function, 0, REAL(ftw)(path, visit_plain, descriptors));
}

EXPORT int ftw64(const char *path, __ftw64_func_t function, int descriptors)
{
    if (!shim_enabled())
        return REAL(ftw64)(path, function, descriptors);
    WALK(plain64, function, 0, REAL(ftw64)(path, visit_plain64, descriptors));
}

EXPORT int nftw(const char *path, __nftw_func_t function, int descriptors, int flags)
{
    if (!shim_enabled())
        return REAL(nftw)(path, function, descriptors, flags);
    WALK(physical, function, flags, REAL(nftw)(path, visit_physical, descriptors, flags));
}

EXPORT int nftw64(const char *path, __nftw64_func_t function, int descriptors, int flags)
{
    if (!shim_enabled())
        return REAL(nftw64)(path, function, descriptors, flags);
    WALK(physical64, function, flags, REAL(nftw64)(path, visit_physical64, descriptors, flags));
}

/* ---- fts ---- */

_Static_assert(sizeof(FTSENT) == sizeof(FTSENT64), "one FTSENT");

/* Corrects the size of an entry, whose file is `name` in `directory`. */
static void fix_entry(FTSENT *entry, int directory, const char *name)
{
    if (entry->fts_info == FTS_F && entry->fts_statp != NULL)
        entry->fts_statp->st_size = (off_t)managed_payload_size(directory, name, 0, entry->fts_statp);
}

static FTSENT *fix_read(FTSENT *entry)
{
    if (entry != NULL && shim_enabled())
        fix_entry(entry, AT_FDCWD, entry->fts_accpath);
    return entry;
}

/* The entries of the list have no path of their own yet: they are names in their parent, or
 * arguments of fts_open(). */
static FTSENT *fix_children(FTSENT *first)
{
    int directory = AT_FDCWD;

    if (first == NULL || !shim_enabled())
        return first;
    if (first->fts_level > FTS_ROOTLEVEL)
        directory = sys_openat(AT_FDCWD, first->fts_parent->fts_accpath, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0 && directory != AT_FDCWD)
        return first;
    for (FTSENT *entry = first; entry != NULL; entry = entry->fts_link)
        fix_entry(entry, directory, first->fts_level > FTS_ROOTLEVEL ? entry->fts_name : entry->fts_accpath);
    descriptor_close_if_open(directory);
    return first;
}

EXPORT FTSENT *fts_read(FTS *tree)
{
    return fix_read(REAL(fts_read)(tree));
}

EXPORT FTSENT64 *fts64_read(FTS64 *tree)
{
    return (FTSENT64 *)fix_read((FTSENT *)REAL(fts64_read)(tree));
}

EXPORT FTSENT *fts_children(FTS *tree, int options)
{
    return fix_children(REAL(fts_children)(tree, options));
}

EXPORT FTSENT64 *fts64_children(FTS64 *tree, int options)
{
    return (FTSENT64 *)fix_children((FTSENT *)REAL(fts64_children)(tree, options));
}
