#include "cli/files.h"

#include "cli/cli.h"
#include "cli/tree.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct files_options files_options;

static const struct option {
    const char *name;
    const char *longer;
    size_t offset; /* the offset of its bool in files_options */
} options[] = {
    {"-r", "--recursive", offsetof(struct files_options, recursive)},
    {"-q", "--quiet", offsetof(struct files_options, quiet)},
    {"--json", "--json", offsetof(struct files_options, json)},
    {"--yes", "--yes", offsetof(struct files_options, yes)},
    {"--previous", "--previous", offsetof(struct files_options, previous)},
};

/* Tells whether `name` is a word of the list. */
static bool is_accepted(const char *accepted, const char *name)
{
    const char *at = strstr(accepted, name);

    return at != NULL && (at[strlen(name)] == ' ' || at[strlen(name)] == '\0');
}

static bool take_option(const char *argument, const char *accepted)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if ((strcmp(argument, options[i].name) == 0 || strcmp(argument, options[i].longer) == 0) &&
            is_accepted(accepted, options[i].name)) {
            *(bool *)((char *)&files_options + options[i].offset) = true;
            return true;
        }
    return false;
}

int files_first(int argc, char *argv[], const char *help, const char *accepted, int *status)
{
    int i = 1;

    *status = CLI_USAGE;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (cli_is_help(argv[i])) {
            *status = cli_help(help);
            return -1;
        }
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (!take_option(argv[i], accepted)) {
            cli_complain("%s: unknown option '%s': accepted are FILE names, %s%sand --help", argv[0], argv[i],
                         accepted, *accepted != '\0' ? " " : "");
            return -1;
        }
    }
    if (i < argc)
        return i;
    cli_complain("%s: no FILE given", argv[0]);
    return -1;
}

int files_graver(int a, int b)
{
    return a > b ? a : b;
}

/* ---- folders ---- */

enum { SHOWN_EVERY = 200000000 }; /* nanoseconds between two states of progress */

static struct {
    int (*visit)(const char *name);
    int status;
    long count;
    struct timespec shown; /* when progress was shown last */
} walk;

static void show_progress(void)
{
    struct timespec now;

    walk.count++;
    if (!cli_is_terminal(STDERR_FILENO) || clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return;
    if (walk.shown.tv_sec == 0)
        walk.shown = now;
    if ((now.tv_sec - walk.shown.tv_sec) * 1000000000L + now.tv_nsec - walk.shown.tv_nsec < SHOWN_EVERY)
        return;
    walk.shown = now;
    cli_progress("%ld files", walk.count);
}

static int visit_below(const char *name, const struct stat *status, int error)
{
    if (error != 0) {
        cli_complain("%s: %s", name, strerror(error));
        walk.status = files_graver(walk.status, CLI_USAGE);
    } else if (S_ISREG(status->st_mode)) {
        show_progress();
        walk.status = files_graver(walk.status, walk.visit(name));
    }
    return 0;
}

int files_each(int argc, char *argv[], int first, int (*visit)(const char *name))
{
    struct stat status;

    walk.visit = visit;
    walk.status = CLI_GOOD;
    for (int i = first; i < argc; i++) {
        bool folder = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);

        if (folder && files_options.recursive)
            (void)tree_walk(argv[i], visit_below);
        else
            walk.status = files_graver(walk.status, visit(argv[i]));
    }
    return cli_finish(walk.status);
}
