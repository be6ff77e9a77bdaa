/* doctor: which format a file gets at its next commit, why, and what protects a plain one. */
#include "cli/doctor.h"
#include "cli/reason.h"
#include "config/libc_files.h"
#include "format/redo.h"

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

/* Bytes of the record of a commit that overwrites `size` bytes by as many. */
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

/*
 * Says in `text` what makes commits to a plain file safe. Returns false if nothing does, and says
 * why.
 */
static bool find_protection(const struct inspect_file *file, const char *path, char *text, size_t size)
{
    char folder[PATH_MAX];
    struct stat beside;
    struct stat own;
    size_t room;
    int error;

    get_folder(path, folder);
    if (fstat(file->fd, &own) != 0 || stat(folder, &beside) != 0 || own.st_dev != beside.st_dev) {
        (void)snprintf(text, size, "it is mounted by itself, so that its file system cannot be tried");
        return false;
    }
    error = doctor_find_room(folder, &room);
    if (error < 0)
        (void)snprintf(text, size, "the file system cannot be tried: %s: %s", folder, strerror(-error));
    else if (error > 0)
        (void)snprintf(text, size, "extended attributes cannot be set there: %s", strerror(error));
    else if (record_size(file->image.size, (uint64_t)own.st_blksize) > room)
        (void)snprintf(text, size,
                       "its record does not fit into an attribute, which has room for %zu bytes of "
                       "content",
                       doctor_content_room(room, (uint64_t)own.st_blksize));
    else {
        (void)snprintf(text, size, "protected by a record in its attribute " RECORD_NAME);
        return true;
    }
    return false;
}

/* Why the name of a file asks for the format that it does. */
static const char *reason_of_format(const struct config *config, const char *path)
{
    if (config_is_read_by_libc(path))
        return REASON_LIBC;
    if (pattern_format(config->paths, path) != PATTERN_NO_FORMAT)
        return "a pattern says so";
    return config->format == CONFIG_PLAIN ? "ATOMSHIM_FORMAT=plain" : "ATOMSHIM_FORMAT=sized, the default";
}

static void look_at_plain(const struct inspect_file *file, const char *path, const char *what,
                          const char *reason)
{
    char protection[2 * PATH_MAX];

    if (file->image.bytes == STORE_TORN)
        doctor_problem("%s: torn: a commit that nothing protected was cut short; write the file anew", path);
    else if (file->image.unsettled)
        doctor_warn("%s: a commit was cut short: `atomshim recover` ends it, or the next commit", path);
    if (find_protection(file, path, protection, sizeof protection))
        doctor_ok("%s: %s; stays plain (%s), %s", path, what, reason, protection);
    else
        doctor_warn("%s: %s; stays plain (%s), not protected: %s: a kill or a power cut may tear it, which "
                    "`atomshim verify` would tell",
                    path, what, reason, protection);
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
        look_at_plain(file, path, what, reason);
    else if (!sized)
        doctor_ok("%s: %s; becomes sized at its next commit (%s)", path, what, reason);
    else if (executed != NULL)
        doctor_problem("%s: %s; %s, and finds the header; becomes plain at its next commit", path, what,
                       executed);
    else if (config_is_read_by_libc(path))
        doctor_problem("%s: %s; %s, and finds the header; stays sized", path, what, REASON_LIBC);
    else
        doctor_ok("%s: %s; stays sized", path, what);
}
