/* doctor: what the patterns match, in what state that is, and on what file systems. */
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/inspect.h"
#include "cli/paths.h"
#include "cli/reason.h"
#include "config/pattern.h"
#include "config/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
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
     "the first write to a file of the lower layer parts its hard links, unless it is mounted with index=on"},
    {NFS_SUPER_MAGIC, "NFS", "not tested; one writing machine at a time, with locks that work"},
    {FUSE_SUPER_MAGIC, "FUSE", "of these GlusterFS was tested, with the options of the README"},
    {V9FS_MAGIC, "9p", "not tested; its locks and caches may not be what is needed"},
    {CEPH_SUPER_MAGIC, "Ceph", "not tested"},
    {SMB2_SUPER_MAGIC, "SMB", "not tested; its locks may not be what is needed"},
    {MSDOS_SUPER_MAGIC, "FAT", "not tested; no links, and a power cut may take more than a commit"},
};

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
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return; /* nothing can be tried without leaving a trace */
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        doctor_problem("%s: no locks (F_OFD_SETLK: %s): writers would not be kept apart", folder,
                       strerror(errno));
    if (fdatasync(fd) != 0)
        doctor_problem("%s: fdatasync: %s: nothing would survive a power cut", folder, strerror(errno));
    (void)close(fd);
}

/* ---- files ---- */

static struct {
    const char *paths;
    const char *pattern; /* the pattern of `paths` that is looked at */
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
    const char *plain;
    char reason[256];

    if (++walk.matched > LISTED_MAX)
        return;
    if (access(path, R_OK) != 0) {
        doctor_problem("%s: this user may not read it, and so not open it under the shim: %s", path,
                       strerror(errno));
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
    else if (file.error != 0)
        doctor_problem("%s: %s", path, strerror(-file.error));
    else if (file.begun)
        doctor_ok("%s: a first commit has begun, %" PRIu64 " bytes", path, file.image.size);
    else if (file.image.kind == STORE_PLAIN)
        doctor_ok("%s: plain, %" PRIu64 " bytes", path, file.image.size);
    else
        doctor_ok("%s: sized, generation %" PRIu64 ", %" PRIu64 " bytes", path, file.image.generation,
                  file.image.size);
    plain = reason_to_be_plain(path);
    if (plain != NULL && file.error == 0 && (file.begun || file.image.kind == STORE_SIZED))
        doctor_problem("%s: %s, and finds the sized format's header", path, plain);
    else if (plain != NULL)
        doctor_note("%s: %s: it stays plain", path, plain);
    look_at_access(path, file.fd);
    inspect_end(&file);
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)position;
    if (++walk.looked_at > LOOKED_AT_MAX)
        return 1;
    if (type == FTW_F && S_ISREG(status->st_mode) && pattern_match(walk.pattern, path) &&
        pattern_match(walk.paths, path))
        look_at_file(path);
    return 0;
}

static void look_below(const char *pattern, size_t length, const char *paths)
{
    char alone[PATH_MAX];
    size_t plain = paths_plain_part(pattern, length);
    char folder[PATH_MAX];
    struct stat status;

    if (plain == 0) {
        doctor_note("%.*s: matches by name, anywhere: not looked for", (int)length, pattern);
        return;
    }
    if (plain >= sizeof folder || length >= sizeof alone)
        return;
    memcpy(folder, pattern, plain);
    folder[plain] = '\0';
    if (lstat(folder, &status) != 0 && strrchr(folder, '/') != folder)
        *strrchr(folder, '/') = '\0';
    if (stat(folder, &status) != 0) {
        doctor_warn("%.*s: matches nothing: %s: %s", (int)length, pattern, folder, strerror(errno));
        return;
    }
    memcpy(alone, pattern, length);
    alone[length] = '\0';
    walk.pattern = alone;
    walk.paths = paths;
    walk.looked_at = walk.matched = 0;
    if (S_ISREG(status.st_mode)) {
        visit(folder, &status, FTW_F, NULL);
        *strrchr(folder, '/') = '\0';
    } else
        (void)nftw(folder, visit, 64, FTW_PHYS);
    look_at_file_system(folder[0] != '\0' ? folder : "/");
    if (walk.looked_at > LOOKED_AT_MAX)
        doctor_note("%.*s: matches %ld of the first %d files; the others were not looked at", (int)length,
                    pattern, walk.matched, LOOKED_AT_MAX);
    else if (walk.matched > LISTED_MAX)
        doctor_note("%.*s: matches %ld files, of which %d are shown", (int)length, pattern, walk.matched,
                    LISTED_MAX);
    else if (walk.matched == 0)
        doctor_note("%.*s: matches no file right now", (int)length, pattern);
}

/*
 * Looks below the pattern `item`. If it leads through a link, looks below the last of the patterns
 * that it is resolved to: for a link to a file, that is the pattern of the file itself.
 */
static void look_at_pattern(const struct pattern_item *item, const char *paths)
{
    int length = (int)(item->end - item->start);
    struct pattern_item last = *item;
    struct pattern_item next;
    char alone[PATH_MAX];
    const char *resolved;

    if (item->takes_out || snprintf(alone, sizeof alone, "%.*s", length, item->start) >= (int)sizeof alone)
        return;
    resolved = config_resolve_patterns(alone);
    if (resolved != alone) {
        for (const char *left = resolved; pattern_next(&left, &next);)
            last = next;
        doctor_note("%s: leads through a symbolic link: its files are those of %s", alone, last.start);
    }
    look_below(last.start, (size_t)(last.end - last.start), paths);
}

void doctor_look_at_patterns(const char *paths)
{
    const char *resolved = config_resolve_patterns(paths);
    struct pattern_item item;

    if (!paths_take_in(paths)) {
        doctor_problem("no files to manage: give --path PATTERN or set ATOMSHIM_PATHS");
        return;
    }
    while (pattern_next(&paths, &item))
        look_at_pattern(&item, resolved);
}
