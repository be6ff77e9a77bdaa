/* doctor: tells which format a file gets at its next commit, why, and what protects a plain
 * file. */
#include "cli/doctor.h"
#include "cli/reason.h"
#include "config/libc_files.h"
#include "format/redo.h"
#include "store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- the room that a folder's file system has for records ---- */

/* Sets an attribute of `size` bytes. Returns 0 or an errno. */
static int try_attribute(int fd, size_t size)
{
    static char value[RECORD_SIZE_MAX];

    memset(value, 'x', sizeof value);
    return fsetxattr(fd, RECORD_NAME, value, size, 0) == 0 ? 0 : errno;
}

int doctor_find_room(const char *folder, size_t *room)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    size_t below = RECORD_SIZE_MAX + 1; /* the smallest size that is known not to fit */
    int error = fd < 0 ? errno : try_attribute(fd, 1);

    *room = error == 0;
    while (error == 0 && *room + 1 < below) {
        size_t middle = *room + (below - *room) / 2;

        if (try_attribute(fd, middle) == 0)
            *room = middle;
        else
            below = middle;
    }
    if (fd < 0)
        return -error;
    (void)close(fd);
    return error;
}

/* Returns the size of the record of a commit that overwrites `size` bytes by as many. */
static size_t record_size(uint64_t size, uint64_t block)
{
    return record_line_size(RECORD_REDO) + redo_body_size(size, size, block);
}

size_t doctor_content_room(size_t room, uint64_t block)
{
    size_t below = room + 1;
    size_t fits = 0;

    while (fits + 1 < below) {
        size_t middle = fits + (below - fits) / 2;

        if (record_size(middle, block) <= room)
            fits = middle;
        else
            below = middle;
    }
    return fits;
}

/* ---- one file ---- */

/* Writes the folder of `path`, which is absolute. */
static void get_folder(const char *path, char folder[PATH_MAX])
{
    char *slash;

    (void)snprintf(folder, PATH_MAX, "%s", path);
    slash = strrchr(folder, '/');
    slash[slash == folder] = '\0';
}

/* Finds where a journal of the file would lie. Returns true and its folder in `text`; or false and
 * the reason why there is no place. */
static bool find_journal(const struct inspect_file *file, const struct config *config, char *text,
                         size_t size)
{
    char folder[PATH_MAX];
    size_t used = 0;

    store_journal_folder = config->journal_dir;
    *text = '\0';
    for (int i = 0; i < JOURNAL_PLACES && used < size; i++) {
        int fd = journal_open_place(file->fd, i, config->sync, folder);
        int error = fd < 0 ? -fd : faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) != 0 ? errno : 0;

        if (fd >= 0)
            (void)close(fd);
        if (error == 0) {
            (void)snprintf(text, size, "%s", folder);
            return true;
        }
        if (folder[0] == '\0')
            used += (size_t)snprintf(text + used, size - used, "%s",
                                     i == 0 ? "ATOMSHIM_JOURNAL_DIR is not set"
                                            : ", and the file is mounted by itself");
        else
            used += (size_t)snprintf(text + used, size - used, "%s%s: %s", i == 0 ? "" : ", and ", folder,
                                     error == EXDEV ? "lies in memory" : strerror(error));
    }
    return false;
}

/* Returns 0 if the attribute of a file may be `size` bytes long, or the reason, as
 * doctor_find_room() does. */
static int find_file_room(const struct inspect_file *file, const char *path, size_t *room)
{
    char folder[PATH_MAX];
    struct stat beside;
    struct stat own;

    get_folder(path, folder);
    if (fstat(file->fd, &own) != 0 || stat(folder, &beside) != 0)
        return -errno;
    return own.st_dev == beside.st_dev ? doctor_find_room(folder, room) : -EXDEV;
}

enum protection { PROTECTED, UNPROTECTED, UNTRIED };

/* Says in `text` what makes commits to a plain file safe, or why nothing does. */
static enum protection find_protection(const struct inspect_file *file, const char *path,
                                       const struct config *config, char *text, size_t size)
{
    struct stat status = {.st_blksize = REDO_BLOCK_MIN};
    char place[3 * PATH_MAX];
    const bool has_journal = find_journal(file, config, place, sizeof place);
    size_t room = 0;
    int error = find_file_room(file, path, &room);

    (void)fstat(file->fd, &status);
    if (error > 0) {
        (void)snprintf(text, size, "not protected: extended attributes cannot be set there: %s",
                       strerror(error));
        return UNPROTECTED;
    }
    if (error < 0) {
        (void)snprintf(text, size, "doctor cannot try whether a record fits into its attribute (%s); %s%s",
                       error == -EXDEV ? "it is mounted by itself" : strerror(-error),
                       has_journal ? "one that does not goes into a journal file in "
                                   : "there is no place for a journal file: ",
                       place);
        return UNTRIED;
    }
    if (record_size(file->image.size, (uint64_t)status.st_blksize) <= room)
        (void)snprintf(text, size, "protected by a record in its attribute " RECORD_NAME);
    else if (has_journal)
        (void)snprintf(text, size, "protected by a journal file in %s", place);
    else {
        (void)snprintf(
            text, size,
            "not protected: its attribute has room for %zu bytes of content, and there is no place "
            "for a journal file: %s",
            doctor_content_room(room, (uint64_t)status.st_blksize), place);
        return UNPROTECTED;
    }
    return PROTECTED;
}

/* Returns the reason why the name of a file asks for its format. */
static const char *reason_of_format(const struct config *config, const char *path)
{
    if (config_is_read_by_libc(path))
        return REASON_LIBC;
    if (pattern_format(config->paths, path) != PATTERN_NO_FORMAT)
        return "a pattern says so";
    return config->format == CONFIG_PLAIN ? "ATOMSHIM_FORMAT=plain" : "ATOMSHIM_FORMAT=sized, the default";
}

static void look_at_plain(const struct inspect_file *file, const char *path, const struct config *config,
                          const char *reason)
{
    char protection[4 * PATH_MAX];
    char what[PATH_MAX + 128];

    (void)snprintf(what, sizeof what, "%s: plain, %llu bytes; stays plain (%s)", path,
                   (unsigned long long)file->image.size, reason);
    if (file->image.bytes == STORE_TORN)
        doctor_problem("%s: torn: a commit that nothing protected was cut short; write the file anew", path);
    else if (file->image.unsettled)
        doctor_warn("%s: a commit was cut short: `atomshim recover` ends it, or the next commit", path);
    switch (find_protection(file, path, config, protection, sizeof protection)) {
    case PROTECTED:
        doctor_ok("%s, %s", what, protection);
        break;
    case UNTRIED:
        doctor_note("%s, %s", what, protection);
        break;
    default:
        doctor_warn("%s, %s; a kill or a power cut may tear it, which `atomshim verify` would tell", what,
                    protection);
    }
}

void doctor_look_at_format(const struct inspect_file *file, const char *path, const struct config *config)
{
    const char *executed = reason_to_be_executed(file->fd, &file->image);
    const bool plain = executed != NULL || config_format_of(config, path) == CONFIG_PLAIN;
    const char *reason = executed != NULL ? executed : reason_of_format(config, path);
    const bool sized = file->begun || file->image.kind == STORE_SIZED;
    char what[128];

    if (file->begun)
        (void)snprintf(what, sizeof what, "a first commit has begun, %llu bytes",
                       (unsigned long long)file->image.size);
    else if (sized)
        (void)snprintf(what, sizeof what, "sized, generation %llu, %llu bytes",
                       (unsigned long long)file->image.generation, (unsigned long long)file->image.size);
    else
        (void)snprintf(what, sizeof what, "plain, %llu bytes", (unsigned long long)file->image.size);
    if (!sized && plain)
        look_at_plain(file, path, config, reason);
    else if (!sized)
        doctor_ok("%s: %s; becomes sized at its next commit (%s)", path, what, reason);
    else if (executed != NULL)
        doctor_problem("%s: %s; %s, and finds the header; becomes plain at its next commit", path, what,
                       executed);
    else if (config_is_read_by_libc(path))
        doctor_problem("%s: %s; %s, and finds the header; stays sized until `atomshim export`", path, what,
                       REASON_LIBC);
    else if (plain)
        doctor_warn("%s: %s; stays sized until `atomshim export` makes it plain (%s)", path, what, reason);
    else
        doctor_ok("%s: %s; stays sized", path, what);
}
