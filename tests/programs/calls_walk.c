/* The calls of interpose/walk.c: the sizes that walks report. */
#include "expect.h"

#include <dirent.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>

/* The walk looks for this name, and counts how often it was found with the right size. */
static struct {
    const char *name;
    int found;
    int nested;
} wanted;

static int note(const char *path, off_t size, int type)
{
    if (type == FTW_F && strstr(path, wanted.name) != NULL) {
        EXPECT(size == 7);
        wanted.found++;
    }
    return 0;
}

static int note_plain(const char *path, const struct stat *status, int type)
{
    return note(path, status->st_size, type);
}

static int note_plain64(const char *path, const struct stat64 *status, int type)
{
    return note(path, status->st_size, type);
}

static int note_physical(const char *path, const struct stat *status, int type, struct FTW *place)
{
    EXPECT(place->base > 0);
    return note(path, status->st_size, type);
}

static int note_physical64(const char *path, const struct stat64 *status, int type, struct FTW *place)
{
    EXPECT(place->base > 0);
    return note(path, status->st_size, type);
}

/* A walk within a walk, by another function. */
static int walk_again(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)place;
    if (type == FTW_D && wanted.nested++ == 0)
        EXPECT(ftw(path, note_plain, 5) == 0);
    return note(path, status->st_size, type) + (type == FTW_F ? 42 : 0);
}

/* Gives the file 7 bytes, in the sized format under the shim. Returns its folder, without a slash
 * at the end. */
static char *prepare(const char *file)
{
    char *folder = strdup(file);
    int fd = open(file, O_WRONLY | O_TRUNC);

    write_text(fd, "payload");
    EXPECT(close(fd) == 0);
    *strrchr(folder, '/') = '\0';
    wanted.name = strrchr(file, '/');
    wanted.found = wanted.nested = 0;
    return folder;
}

/* A walk finds both names. */
static void test_ftw(const char *file)
{
    const char *folder = prepare(file);

    EXPECT(ftw(folder, note_plain, 5) == 0 && wanted.found == 2);
    EXPECT_ERROR(ftw(sibling(file, ".none"), note_plain, 5), ENOENT);
}

static void test_ftw64(const char *file)
{
    const char *folder = prepare(file);

    EXPECT(ftw64(folder, note_plain64, 5) == 0 && wanted.found == 2);
}

static void test_nftw(const char *file)
{
    const char *folder = prepare(file);

    EXPECT(nftw(folder, note_physical, 5, FTW_PHYS) == 0 && wanted.found == 2);
    EXPECT(nftw(folder, note_physical, 5, FTW_CHDIR) == 0 && wanted.found == 4);
    EXPECT(nftw(folder, walk_again, 5, FTW_PHYS) == 42 && wanted.found == 7);
}

static void test_nftw64(const char *file)
{
    const char *folder = prepare(file);

    EXPECT(nftw64(folder, note_physical64, 5, FTW_PHYS) == 0 && wanted.found == 2);
    EXPECT(nftw64(folder, note_physical64, 5, FTW_CHDIR | FTW_DEPTH) == 0 && wanted.found == 4);
}

#define WALK(tree_type, entry_type, open_tree, read_tree, children, close_tree)                              \
    do {                                                                                                     \
        char *paths[] = {prepare(file), NULL};                                                               \
        for (int options = FTS_PHYSICAL; options != 0; options = options == FTS_PHYSICAL ? FTS_LOGICAL       \
                                                                 : options == FTS_LOGICAL                    \
                                                                     ? FTS_PHYSICAL | FTS_NOCHDIR            \
                                                                     : 0) {                                  \
            tree_type *tree = open_tree(paths, options, NULL);                                               \
            entry_type *entry;                                                                               \
            wanted.found = 0;                                                                                \
            EXPECT(tree != NULL);                                                                            \
            while ((entry = read_tree(tree)) != NULL) {                                                      \
                if (entry->fts_info == FTS_F)                                                                \
                    (void)note(entry->fts_path, entry->fts_statp->st_size, FTW_F);                           \
                if (entry->fts_info != FTS_D || options == FTS_PHYSICAL) /* children set it anew */          \
                    continue;                                                                                \
                for (entry_type *child = children(tree, 0); child != NULL; child = child->fts_link)          \
                    EXPECT(child->fts_info != FTS_F || child->fts_statp->st_size == 7);                      \
            }                                                                                                \
            EXPECT(wanted.found == 2 && close_tree(tree) == 0);                                              \
        }                                                                                                    \
    } while (0)

static void test_fts(const char *file)
{
    char *one[] = {(char *)file, NULL};
    FTS *tree;
    FTSENT *entry;

    WALK(FTS, FTSENT, fts_open, fts_read, fts_children, fts_close);
    tree = fts_open(one, FTS_PHYSICAL, NULL);
    entry = fts_children(tree, 0);
    EXPECT(entry != NULL && entry->fts_statp->st_size == 7);
    entry = fts_read(tree);
    EXPECT(entry != NULL && entry->fts_statp->st_size == 7 && fts_close(tree) == 0);
}

static void test_fts64(const char *file)
{
    WALK(FTS64, FTSENT64, fts64_open, fts64_read, fts64_children, fts64_close);
}

/* Names alone: the walk works, and finds no file of the shim. */
static void test_names(const char *file)
{
    const char *folder = prepare(file);
    int fd = open(file, O_RDWR);
    DIR *directory = opendir(folder);
    struct dirent **names;
    glob_t found;
    int count = 0;

    while (readdir(directory) != NULL)
        count++;
    EXPECT(count == 4 && closedir(directory) == 0);
    EXPECT(scandir(folder, &names, NULL, alphasort) == 4);
    EXPECT(glob(sibling(file, "*"), 0, NULL, &found) == 0 && found.gl_pathc == 2);
    globfree(&found);
    EXPECT(close(fd) == 0);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"ftw", test_ftw},          {"ftw64", test_ftw64},          {"nftw", test_nftw},
        {"nftw64", test_nftw64},    {"fts_read", test_fts},         {"fts_children", test_fts},
        {"fts64_read", test_fts64}, {"fts64_children", test_fts64}, {"readdir", test_names},
        {"scandir", test_names},    {"glob", test_names},           {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
