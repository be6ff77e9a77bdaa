/* import, export, undo, repair: each changes one file at a time, under its lock, in place. */
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/inspect.h"
#include "cli/reason.h"
#include "config/config.h"
#include "store/filelock.h"
#include "store/restamp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char import_help[] =
    "usage: atomshim import [-r] [-q] FILE...\n"
    "Makes each FILE that is plain a file in the sized format: same content, same inode, in one atomic "
    "step.\n"
    "Refuses files that programs without the shim have to read: those of the C library, and executable "
    "ones.\n"
    "  -r, --recursive   all files below a folder\n"
    "  -q, --quiet       no line for a file that was changed, or did not need it\n"
    "Exit status: 0, 1 a FILE was not changed, 2 wrong usage or a FILE cannot be opened.\n"
    "example: atomshim import /data/app.cfg\n";

static const char export_help[] =
    "usage: atomshim export [-r] [-q] FILE...\n"
    "Makes each FILE in the sized format plain: same content, same inode, atomic like a commit. A wrapped\n"
    "program makes it sized again with its next commit, unless its pattern is plain=FILE.\n"
    "  -r, --recursive   all files below a folder\n"
    "  -q, --quiet       no line for a file that was changed, or did not need it\n"
    "Exit status: 0, 1 a FILE was not changed, 2 wrong usage or a FILE cannot be opened.\n"
    "example: atomshim export -r /data\n";

static const char undo_help[] =
    "usage: atomshim undo [-q] FILE...\n"
    "Makes what FILE contained before its last commit the content again. That is a commit, too: a second "
    "undo\n"
    "leads back. Only the sized format keeps the content before.\n"
    "  -q, --quiet       no line for a file that was changed\n"
    "Exit status: 0, 1 there is no content before, or it cannot be written, 2 wrong usage or a FILE cannot "
    "be\n"
    "opened.\n"
    "example: atomshim cat --previous /data/app.cfg && atomshim undo /data/app.cfg\n";

static const char repair_help[] =
    "usage: atomshim repair [--yes] FILE...\n"
    "Says what is left of each damaged FILE, and what would become its content. With --yes it does so, and "
    "keeps\n"
    "the damaged file's bytes beside it first, as FILE.damaged. It takes the latest complete image, or else "
    "the\n"
    "latest one as it is, whose checksum is wrong.\n"
    "Exit status: 0 good or repaired, 1 damaged, 2 wrong usage or a FILE cannot be opened.\n"
    "example: atomshim repair /data/app.cfg\n";

/* A file whose lock is held. */
struct target {
    const char *name;
    int fd;
    bool sync;
};

static void say_outcome(const struct target *target, const char *what, const struct store_image *image)
{
    if (!files_options.quiet)
        cli_print("%s: %s, generation %" PRIu64 ", %" PRIu64 " bytes", target->name, what, image->generation,
                  image->size);
}

static int fail_change(const char *name, int error)
{
    cli_complain("%s: %s", name,
                 error == -EIO ? "it is damaged, or its disk fails: see atomshim verify"
                               : inspect_error(error));
    return CLI_BAD;
}

/* Opens and locks the file, and calls `change`. Returns an exit status. */
static int with_lock(const char *name, int (*change)(const struct target *target))
{
    struct target target = {.name = name, .fd = inspect_open(name, O_RDWR)};
    struct config config;
    struct filelock lock;
    int status;
    int error;

    if (target.fd < 0)
        return CLI_USAGE;
    (void)config_parse(&config, environ, cli_ignore_fault, NULL);
    target.sync = config.sync;
    error = filelock_acquire(&lock, target.fd, F_WRLCK, config.lock_timeout);
    status = error == 0 ? change(&target) : fail_change(name, error);
    if (error == 0)
        filelock_release(&lock);
    (void)close(target.fd);
    return status;
}

/* Commits the content in `buffer`, which *image describes. */
static int commit_buffer(const struct target *target, int buffer, const struct store_image *image,
                         enum store_kind kind)
{
    struct store_payload payload = {.size = image->size, .crc = image->payload_crc};
    void *bytes = NULL;
    int error;

    if (image->size != 0)
        bytes = mmap(NULL, image->size, PROT_READ, MAP_SHARED, buffer, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    payload.bytes = bytes;
    error = kind == STORE_SIZED ? store_commit(target->fd, &payload, target->sync)
                                : store_commit_plain(target->fd, &payload, target->sync);
    if (bytes != NULL)
        (void)munmap(bytes, image->size);
    return error;
}

/* Commits the content of a plain file anew, in the format `kind`. Returns 0 or a negative errno;
 * *image describes the content before. */
static int commit_content(const struct target *target, enum store_kind kind, struct store_image *image)
{
    int buffer = memfd_create("atomshim-content", MFD_CLOEXEC);
    int error =
        buffer < 0 ? -errno : store_load(target->fd, buffer, (struct store_wait){.locked = true}, image);

    if (buffer < 0)
        return error;
    if (error == 0 && image->kind == STORE_PLAIN)
        error = commit_buffer(target, buffer, image, kind);
    (void)close(buffer);
    return error;
}

static int import_locked(const struct target *target)
{
    struct store_image before = {0};
    struct store_image image;
    int error = commit_content(target, STORE_SIZED, &before);

    if (error == 0)
        error = store_look(target->fd, (struct store_wait){.locked = true}, &image);
    if (error != 0)
        return fail_change(target->name, error);
    say_outcome(target, before.kind == STORE_SIZED ? "sized already" : "now sized", &image);
    return CLI_GOOD;
}

static int import_file(const char *name)
{
    char *path = realpath(name, NULL);
    const char *reason = path == NULL ? NULL : reason_to_be_plain(path);

    free(path);
    if (reason == NULL)
        return with_lock(name, import_locked);
    cli_complain("%s: stays plain: %s", name, reason);
    return CLI_BAD;
}

static int export_locked(const struct target *target)
{
    const struct store_wait locked = {.locked = true};
    struct store_image image = {0};
    int error = store_look(target->fd, locked, &image);
    bool was_plain = error == 0 && image.kind == STORE_PLAIN;

    if (error == 0)
        error = store_export(target->fd, target->sync);
    if (error == 0 && !was_plain)
        error = store_look(target->fd, locked, &image);
    if (error == -EINVAL) {
        cli_complain("%s: stays sized: its content looks like a file in the sized format", target->name);
        return CLI_BAD;
    }
    if (error != 0)
        return fail_change(target->name, error);
    if (!files_options.quiet)
        cli_print("%s: %s, %" PRIu64 " bytes", target->name, was_plain ? "plain already" : "now plain",
                  image.size);
    return CLI_GOOD;
}

static int export_file(const char *name)
{
    return with_lock(name, export_locked);
}

static int undo_locked(const struct target *target)
{
    struct store_image image = {0};
    int error = store_undo(target->fd, target->sync, &image);

    if (error == -ENODATA) {
        cli_complain("%s: holds no content before the present one", target->name);
        return CLI_BAD;
    }
    if (error != 0)
        return fail_change(target->name, error);
    say_outcome(target, "undone", &image);
    return CLI_GOOD;
}

static int undo_file(const char *name)
{
    return with_lock(name, undo_locked);
}

/* ---- repair ---- */

/* Copies the raw file to NAME.damaged beside it, which must not exist. Returns false after a
 * complaint. */
static bool keep_copy(const struct target *target)
{
    char name[PATH_MAX];
    char buffer[1 << 16];
    off_t done = 0;
    ssize_t n = 0;
    bool kept;
    int copy;

    if ((size_t)snprintf(name, sizeof name, "%s.damaged", target->name) >= sizeof name) {
        cli_complain("%s: %s", target->name, strerror(ENAMETOOLONG));
        return false;
    }
    errno = 0; /* a short write sets none */
    copy = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    while (copy >= 0 && (n = pread(target->fd, buffer, sizeof buffer, done)) > 0) {
        if (pwrite(copy, buffer, (size_t)n, done) != n) {
            n = -1;
            break;
        }
        done += n;
    }
    kept = copy >= 0 && n == 0 && fsync(copy) == 0;
    if (kept)
        cli_print("%s: its bytes are kept as %s", target->name, name);
    else {
        cli_complain("%s: not repaired, as its bytes cannot be kept: %s: %s", target->name, name,
                     strerror(errno != 0 ? errno : ENOSPC));
        if (copy >= 0)
            (void)unlink(name);
    }
    if (copy >= 0)
        (void)close(copy);
    return kept;
}

static void say_plan(const struct target *target, const struct store_repair *plan)
{
    const char *place = plan->place == 0 ? "head" : "twin";

    if (plan->kind == STORE_REPAIR_PLAIN)
        cli_print("%s: plain: a commit was cut short: its %" PRIu64 " bytes become the content", target->name,
                  plan->size);
    else if (plan->kind == STORE_REPAIR_COMPLETE)
        cli_print("%s: generation %" PRIu64 " is complete (%s): its %" PRIu64 " bytes become the content",
                  target->name, plan->found_generation, place, plan->size);
    else
        cli_print("%s: no image is complete; of generation %" PRIu64 " (%s) %" PRIu64 " of %" PRIu64
                  " bytes are there, not as they were committed: they become the content",
                  target->name, plan->found_generation, place, plan->size, plan->wanted_size);
}

/* Loads the plain file's bytes, by its record where the record protects them, else as they are. */
static int repair_plain(const struct target *target)
{
    const struct store_wait locked = {.locked = true};
    struct store_image image = {0};
    int error = store_recover(target->fd, target->sync);

    if (error == 0)
        error = store_load(target->fd, -1, locked, &image);
    if (error == 0 && image.bytes == STORE_TORN)
        error = commit_content(target, STORE_PLAIN, &image);
    return error;
}

static int repair_locked(const struct target *target)
{
    struct store_repair plan;
    int error = store_plan_repair(target->fd, &plan);

    if (error == -ENODATA) {
        cli_complain(
            "%s: nothing is left that tells where its content is; : >FILE without the shim makes it an "
            "empty file that works",
            target->name);
        return CLI_BAD;
    }
    if (error != 0)
        return fail_change(target->name, error);
    if (plan.kind == STORE_REPAIR_NOTHING) {
        cli_print("%s: good: nothing to repair", target->name);
        return CLI_GOOD;
    }
    say_plan(target, &plan);
    if (!files_options.yes) {
        cli_print("%s: nothing was changed: --yes repairs it", target->name);
        return CLI_BAD;
    }
    if (!keep_copy(target))
        return CLI_BAD;
    error = plan.kind == STORE_REPAIR_PLAIN ? repair_plain(target)
                                            : store_repair(target->fd, target->sync, &plan);
    if (error != 0)
        return fail_change(target->name, error);
    cli_print("%s: repaired", target->name);
    return CLI_GOOD;
}

static int repair_file(const char *name)
{
    return with_lock(name, repair_locked);
}

static int for_each(int argc, char *argv[], const char *help, const char *accepted,
                    int (*change)(const char *name))
{
    int status;
    int first = files_first(argc, argv, help, accepted, &status);

    return first < 0 ? status : files_each(argc, argv, first, change);
}

int cli_import(int argc, char *argv[])
{
    return for_each(argc, argv, import_help, "-r -q", import_file);
}

int cli_export(int argc, char *argv[])
{
    return for_each(argc, argv, export_help, "-r -q", export_file);
}

int cli_undo(int argc, char *argv[])
{
    return for_each(argc, argv, undo_help, "-q", undo_file);
}

int cli_repair(int argc, char *argv[])
{
    return for_each(argc, argv, repair_help, "--yes", repair_file);
}
