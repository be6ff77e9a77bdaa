/* doctor: tells which files the patterns match, their states, and their file systems. */
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/inspect.h"
#include "cli/paths.h"
#include "cli/tree.h"
#include "config/pattern.h"
#include "config/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    LOOKED_AT_MAX = 200000, /* files, per pattern */
    LISTED_MAX = 50,
};

/* ---- file systems ---- */

static const struct file_system {
    unsigned magic;
    const char *name;
    const char *caution; /* NULL: it was tested */
} file_systems[] = {
    {EXT4_SUPER_MAGIC, "ext4", NULL},
    {XFS_SUPER_MAGIC, "xfs", NULL},
    {BTRFS_SUPER_MAGIC, "btrfs", NULL},
    {TMPFS_MAGIC, "tmpfs", NULL},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs",
     "the first write to a file of the lower layer splits its hard links, unless overlayfs is mounted with "
     "index=on"},
    {NFS_SUPER_MAGIC, "NFS",
     "not tested; let one machine write at a time, and make sure that its locks work"},
    {FUSE_SUPER_MAGIC, "FUSE",
     "only GlusterFS was tested, with the options in libatomshim(7), BEYOND ONE MACHINE"},
    {V9FS_MAGIC, "9p", "not tested; its locks and caches may be too weak"},
    {CEPH_SUPER_MAGIC, "Ceph", "not tested"},
    {SMB2_SUPER_MAGIC, "SMB", "not tested; its locks may be too weak"},
    {MSDOS_SUPER_MAGIC, "FAT",
     "not tested; it has no hard links, and a power cut may destroy more than the last commit"},
};

static void look_at_room(const char *folder, uint64_t block)
{
    size_t room;
    int error = doctor_find_room(folder, &room);

    if (error == 0)
        doctor_ok("%s: a record in its attribute protects a plain file of up to %zu bytes; a journal file "
                  "longer ones",
                  folder, doctor_content_room(room, block));
    else if (error > 0)
        doctor_note("%s: extended attributes cannot be set (%s): nothing protects plain files", folder,
                    strerror(error));
    else
        doctor_note("%s: doctor cannot try how long an extended attribute may be: %s", folder,
                    strerror(-error));
}

static void look_at_file_system(const char *folder)
{
    const struct file_system *known = NULL;
    struct flock lock = {.l_type = F_WRLCK};
    struct statfs status;
    int fd;

    if (statfs(folder, &status) != 0)
        return;
    for (size_t i = 0; i < sizeof file_systems / sizeof file_systems[0]; i++)
        if (file_systems[i].magic == (unsigned)status.f_type)
            known = &file_systems[i];
    if (known == NULL)
        doctor_warn("%s: a file system that was not tested (type 0x%lx)", folder,
                    (unsigned long)status.f_type);
    else if (known->caution != NULL)
        doctor_warn("%s: %s: %s", folder, known->name, known->caution);
    else
        doctor_ok("%s: %s", folder, known->name);
    look_at_room(folder, (uint64_t)status.f_bsize);
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return; /* nothing can be tried without leaving a trace */
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        doctor_problem("%s: no locks (F_OFD_SETLK: %s): two writers could commit at once", folder,
                       strerror(errno));
    if (fdatasync(fd) != 0)
        doctor_problem("%s: fdatasync: %s: nothing would survive a power cut", folder, strerror(errno));
    (void)close(fd);
}

/* ---- files ---- */

static struct {
    struct config config; /* with patterns that are resolved */
    const char *pattern;  /* the one of them that is looked at */
    long looked_at;
    long matched;
} walk;

static void look_at_access(const char *path, int fd)
{
    struct flock lock = {.l_type = F_WRLCK};
    int attributes = 0;

    if (access(path, W_OK) != 0)
        doctor_note("%s: this user may not write to it: %s", path, strerror(errno));
    if (ioctl(fd, FS_IOC_GETFLAGS, &attributes) == 0 && (attributes & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0)
        doctor_problem("%s: has the attribute %s (lsattr): it cannot be opened for writing", path,
                       attributes & FS_IMMUTABLE_FL ? "i" : "a");
    if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
        doctor_warn("%s: process %d holds a lock on it: commits wait for it", path, lock.l_pid);
}

static void look_at_file(const char *path)
{
    struct inspect_file file;
    char reason[256];

    if (++walk.matched > LISTED_MAX)
        return;
    if (access(path, R_OK) != 0) {
        doctor_problem("%s: this user may not read it, so the shim cannot open it, not even for writing: %s",
                       path, strerror(errno));
        return;
    }
    if (!inspect_begin(&file, path)) {
        doctor_problem("%s: cannot be looked at", path);
        return;
    }
    inspect_reason(&file, reason, sizeof reason);
    if (file.damaged)
        doctor_problem("%s: damaged: %s; ': >FILE' without the shim makes it an empty one that works", path,
                       reason);
    else
        doctor_look_at_format(&file, path, &walk.config);
    look_at_access(path, file.fd);
    inspect_end(&file);
}

static int visit_entry(const char *path, const struct stat *status, int error)
{
    if (++walk.looked_at > LOOKED_AT_MAX)
        return 1;
    if (error != 0)
        doctor_note("%s: cannot be looked at: %s", path, strerror(error));
    else if (S_ISREG(status->st_mode) && pattern_match(walk.pattern, path) &&
             pattern_match(walk.config.paths, path))
        look_at_file(path);
    return 0;
}

static void look_below(const char *pattern)
{
    size_t plain = paths_plain_part(pattern, strlen(pattern));
    char folder[PATH_MAX];
    struct stat status;

    if (plain == 0 || plain >= sizeof folder) {
        doctor_note("%s: %s; doctor does not search for such files", pattern,
                    plain == 0 ? "matches by name in every folder" : "is longer than a path may be");
        return;
    }
    memcpy(folder, pattern, plain);
    folder[plain] = '\0';
    if (lstat(folder, &status) != 0 && strrchr(folder, '/') != folder)
        *strrchr(folder, '/') = '\0';
    if (stat(folder, &status) != 0) /* places_check_patterns() has reported it */
        return;
    walk.pattern = pattern;
    walk.looked_at = walk.matched = 0;
    (void)tree_walk(folder, visit_entry);
    if (S_ISREG(status.st_mode))
        *strrchr(folder, '/') = '\0';
    look_at_file_system(folder[0] != '\0' ? folder : "/");
    if (walk.looked_at > LOOKED_AT_MAX)
        doctor_note("%s: matches %ld of the first %d files; doctor did not look at the rest", pattern,
                    walk.matched, LOOKED_AT_MAX);
    else if (walk.matched > LISTED_MAX)
        doctor_note("%s: matches %ld files, of which %d are shown", pattern, walk.matched, LISTED_MAX);
    else if (walk.matched == 0)
        doctor_note("%s: matches no file right now", pattern);
}

/* Looks below the pattern `item`. If the pattern leads through a link, looks below the last of the
 * patterns that it resolves to: for a link to a file, the pattern of the file itself. */
static void look_at_pattern(const struct pattern_item *item)
{
    char *alone;
    const char *resolved;

    if (item->takes_out)
        return;
    alone = strndup(item->start, (size_t)(item->end - item->start));
    cli_need_memory(alone != NULL);
    resolved = config_resolve_patterns(alone);
    if (resolved != alone) {
        struct pattern_item last;

        for (const char *left = resolved; pattern_next(&left, &last);)
            resolved = last.start;
        doctor_note("%s: leads through a symbolic link: its files are those of %s", alone, resolved);
    }
    look_below(resolved);
    free(alone);
}

void doctor_look_at_patterns(const struct config *config)
{
    const char *left = config->paths;
    struct pattern_item item;

    if (!paths_take_in(left)) {
        doctor_problem("no files to manage: give --path PATTERN or set ATOMSHIM_PATHS");
        return;
    }
    walk.config = *config;
    config_resolve(&walk.config);
    while (pattern_next(&left, &item))
        look_at_pattern(&item);
}
