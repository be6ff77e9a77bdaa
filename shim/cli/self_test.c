/*
 * doctor --self-test: tries the whole chain once, in the folder of a pattern: `run`, a program that
 * loads the shim, a commit, a program that is killed in the middle of a commit, and the content
 * that is left.
 */
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/inspect.h"
#include "cli/paths.h"
#include "cli/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The scratch file, with a second name. */
struct scratch_file {
    char path[PATH_MAX];
    char link[PATH_MAX + 8];
    char pattern[2 * PATH_MAX]; /* matches that file alone */
    ino_t number;
    bool linked;
};

/* Puts a backslash in front of each character that is special in a pattern. */
static void quote_path(const char *path, char *pattern)
{
    for (; *path != '\0'; path++) {
        if (strchr("*?[]\\:!", *path) != NULL)
            *pattern++ = '\\';
        *pattern++ = *path;
    }
    *pattern = '\0';
}

/* Runs a line of sh under the shim; $1 is the file. Returns its wait status, or -1. */
static int run_line(const struct scratch_file *file, const char *command, const char *line)
{
    char *arguments[] = {"atomshim", "run",        "--path", (char *)file->pattern, "--", "/bin/sh",
                         "-c",       (char *)line, "sh",     (char *)file->path,    NULL};
    int status = -1;
    pid_t child;

    if (posix_spawn(&child, command, NULL, NULL, arguments, environ) == 0)
        (void)waitpid(child, &status, 0);
    return status;
}

/* True if the file holds `text`, under either name, and is still the same inode. */
static bool holds_text(const struct scratch_file *file, const char *text)
{
    int fd = open(file->linked ? file->link : file->path, O_RDONLY | O_CLOEXEC);
    int buffer = memfd_create("atomshim-self-test", MFD_CLOEXEC);
    char found[16] = "";
    struct store_image image;
    struct stat status;
    bool same = fd >= 0 && buffer >= 0 && store_load(fd, buffer, inspect_wait(), &image) == 0 &&
                image.size == strlen(text) &&
                pread(buffer, found, sizeof found, 0) == (ssize_t)strlen(text) &&
                memcmp(found, text, strlen(text)) == 0 && stat(file->path, &status) == 0 &&
                status.st_ino == file->number;

    if (buffer >= 0)
        (void)close(buffer);
    if (fd >= 0)
        (void)close(fd);
    return same;
}

static void try_chain(const struct scratch_file *file, const char *command)
{
    int status = run_line(file, command, "printf old >\"$1\"");

    if (status != 0)
        doctor_problem("self-test: %s: /bin/sh did not write it under the shim (status %d)", file->path,
                       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    else if (!holds_text(file, "old"))
        doctor_problem("self-test: %s: what was written is not there, or not in the same inode", file->path);
    else if (run_line(file, command, "exec 3>\"$1\"; printf ne >&3; kill -9 $$") == -1 ||
             !holds_text(file, "old"))
        doctor_problem("self-test: %s: a program killed in the middle has changed the file", file->path);
    else if (run_line(file, command, "printf new >\"$1\"") != 0 || !holds_text(file, "new"))
        doctor_problem("self-test: %s: the next commit is not there", file->path);
    else
        doctor_ok("self-test in this folder: commits are there, in the same inode, and a killed program "
                  "changed nothing: %.*s",
                  (int)(strrchr(file->path, '/') - file->path), file->path);
}

/* Sets file->path to a new file in the pattern's folder. Returns false after a finding. */
static bool make_file(const char *pattern, struct scratch_file *file)
{
    size_t plain = paths_plain_part(pattern, strlen(pattern));
    char folder[PATH_MAX] = ".";
    char canonical[PATH_MAX];
    struct stat status;
    int fd = -1;

    if (plain != 0 && plain < sizeof folder) {
        (void)snprintf(folder, sizeof folder, "%.*s", (int)plain, pattern);
        if (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode))
            strrchr(folder, '/')[strrchr(folder, '/') == folder] = '\0';
    }
    if (realpath(folder, canonical) != NULL &&
        snprintf(file->path, PATH_MAX, "%s/.atomshim-self-test.XXXXXX", canonical) < PATH_MAX - 8)
        fd = mkostemp(file->path, O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        doctor_problem("self-test: %s: no file can be made there: %s", folder, strerror(errno));
        return false;
    }
    (void)close(fd);
    file->number = status.st_ino;
    (void)snprintf(file->link, sizeof file->link, "%s.link", file->path);
    file->linked = link(file->path, file->link) == 0; /* some file systems have no links */
    quote_path(file->path, file->pattern);
    return true;
}

void doctor_self_test(const char *pattern)
{
    static struct scratch_file file;
    char command[PATH_MAX];

    if (!preload_find_command(command) || !make_file(pattern, &file))
        return;
    try_chain(&file, command);
    (void)unlink(file.path);
    if (file.linked)
        (void)unlink(file.link);
}
