/* recover: completes or undoes an interrupted commit to a plain file. */
#include "cli/cli.h"
#include "cli/inspect.h"
#include "cli/paths.h"
#include "cli/tree.h"
#include "config/pattern.h"
#include "config/resolve.h"
#include "store/filelock.h"
#include "store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: atomshim recover [FILE|PATTERN]...\n"
    "Ends commits to plain files that a kill or a power cut has cut short: each FILE, or each file that "
    "PATTERN\n"
    "(by default ATOMSHIM_PATHS) names, gets the complete old or new content for programs without the shim, "
    "too.\n"
    "A line for each file that was mended. `atomshim run` does the same for its patterns first.\n"
    "Exit status: 0, 1 a file cannot be mended, 2 wrong usage or a FILE cannot be read.\n"
    "example: atomshim recover /data/app.cfg '/etc/app/*.conf'\n";

enum { LOOKED_AT_MAX = 20000 }; /* files, per pattern */

/* nftw() has no argument for its function. */
static struct {
    const char *patterns;
    int looked_at;
    int status;
    bool sync;
    bool quiet; /* no line for a file that cannot be written: the reader need not be the writer */
    int64_t timeout;
} walk;

/* Mends the file of `fd`, in which a commit died. Returns an exit status. */
static int mend_file(const char *name, int fd, const struct store_image *old)
{
    struct store_image image;
    struct filelock lock;
    /* a leftover journal can wait */
    int error = filelock_acquire(&lock, fd, F_WRLCK, old->unsettled ? walk.timeout : 0);

    if (error == 0) {
        error = store_recover(fd, walk.sync);
        if (error == 0)
            error = store_load(fd, -1, (struct store_wait){.locked = true}, &image);
        filelock_release(&lock);
    }
    if (error != 0 && !old->unsettled)
        return CLI_GOOD;
    if (error != 0) {
        cli_complain("%s: %s", name, inspect_error(error));
        return CLI_BAD;
    }
    if (image.bytes == STORE_TORN) {
        cli_complain("%s: torn: a commit that nothing protected was cut short; write the file anew", name);
        return CLI_BAD;
    }
    if (old->unsettled && !image.unsettled)
        cli_complain("%s: recovered, generation %llu, %llu bytes", name, (unsigned long long)image.generation,
                     (unsigned long long)image.size);
    return CLI_GOOD;
}

/* Says why a file or folder cannot be looked at, unless it is gone or this user may not read
 * it. Returns an exit status. */
static int fail_file(const char *name, int error)
{
    if (error == -ENOENT || error == -ELOOP || error == -EACCES)
        return CLI_GOOD;
    cli_complain("%s: %s", name, inspect_error(error));
    return CLI_BAD;
}

/* Looks at one file. Returns an exit status. */
static int recover_file(const char *name)
{
    struct store_image image = {0};
    int status = CLI_GOOD;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    int error = fd < 0 ? -errno : store_look(fd, (struct store_wait){.timeout = walk.timeout}, &image);
    int writable;

    if (error != 0)
        status = fail_file(name, error);
    else if (image.unsettled || image.has_journal) {
        writable = open(name, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
        if (writable >= 0) {
            status = mend_file(name, writable, &image);
            (void)close(writable);
        } else if (!walk.quiet && image.unsettled) {
            cli_complain("%s: a commit was cut short, but: %s", name, strerror(errno));
            status = CLI_BAD;
        }
    }
    if (fd >= 0)
        (void)close(fd);
    return status;
}

static void take_status(int status)
{
    if (status > walk.status)
        walk.status = status;
}

static int visit_entry(const char *path, const struct stat *status, int error)
{
    if (++walk.looked_at > LOOKED_AT_MAX)
        return 1;
    if (error != 0)
        take_status(fail_file(path, -error));
    else if (S_ISREG(status->st_mode)) {
        if (pattern_match(walk.patterns, path))
            take_status(recover_file(path));
        journal_tidy(path);
    }
    return 0;
}

/* Looks at the files that one pattern of walk.patterns names. */
static void recover_item(const struct pattern_item *item)
{
    size_t length = (size_t)(item->end - item->start);
    size_t plain = paths_plain_part(item->start, length);
    char folder[PATH_MAX];

    if (plain == 0 || plain >= sizeof folder) {
        if (!walk.quiet)
            cli_complain("%.*s: skipped by recover: this pattern names no folder to look in", (int)length,
                         item->start);
        return;
    }
    (void)snprintf(folder, sizeof folder, "%.*s", (int)plain, item->start);
    walk.looked_at = 0;
    (void)tree_walk(folder, visit_entry);
    if (walk.looked_at > LOOKED_AT_MAX)
        cli_complain("%.*s: recover looked at the first %d files, and skipped the rest", (int)length,
                     item->start, LOOKED_AT_MAX);
}

static void recover_list(const char *patterns)
{
    const char *left = patterns;
    struct pattern_item item;

    walk.patterns = patterns;
    while (pattern_next(&left, &item))
        if (!item.takes_out)
            recover_item(&item);
}

static void prepare_walk(const struct config *config)
{
    walk.sync = config->sync;
    store_journal_folder = config->journal_dir;
    walk.timeout = config->lock_timeout;
    walk.status = CLI_GOOD;
}

void recover_patterns(const struct config *config)
{
    prepare_walk(config);
    walk.quiet = true;
    recover_list(config_resolve_patterns(config->paths));
}

/* Looks at one argument: the file of that name, or the files that the pattern names. */
static void recover_argument(const char *argument)
{
    struct stat status;
    const char *where;
    size_t length;
    const char *fault = NULL;
    int error = stat(argument, &status) == 0 ? 0 : errno;

    if (error == 0 && !S_ISDIR(status.st_mode)) {
        int fd = inspect_open(argument, O_RDONLY);

        if (fd < 0) {
            take_status(CLI_USAGE);
            return;
        }
        (void)close(fd);
        take_status(recover_file(argument));
        return;
    }
    if (*argument == '\0' || (strpbrk(argument, "*?[") == NULL && argument[strlen(argument) - 1] != '/')) {
        cli_complain("recover: %s: %s", *argument != '\0' ? argument : "''",
                     strerror(error != 0 ? error : EISDIR));
        take_status(CLI_USAGE);
        return;
    }
    fault = pattern_check(argument, &where, &length);
    if (fault != NULL) {
        cli_complain("recover: '%.*s': %s", (int)length, where, fault);
        take_status(CLI_USAGE);
        return;
    }
    recover_list(argument);
}

int cli_recover(int argc, char *argv[])
{
    struct config config;

    if (argc > 1 && cli_is_help(argv[1]))
        return cli_help(help);
    if (argc > 1 && argv[1][0] == '-') {
        cli_complain("recover: unknown option '%s': accepted are FILE names, patterns and --help", argv[1]);
        return CLI_USAGE;
    }
    if (config_parse(&config, environ, cli_report_fault, NULL) != 0)
        return CLI_USAGE;
    prepare_walk(&config);
    if (argc == 1 && !paths_take_in(config.paths)) {
        cli_complain("recover: no FILE or PATTERN given, and ATOMSHIM_PATHS names none");
        return CLI_USAGE;
    }
    if (argc == 1)
        recover_list(config_resolve_patterns(config.paths));
    for (int i = 1; i < argc; i++)
        recover_argument(argv[i]);
    return cli_finish(walk.status);
}
