/* run: sets the environment, makes sure that the shim will load, and executes the program. */
#include "cli/cli.h"
#include "cli/paths.h"
#include "cli/places.h"
#include "cli/preload.h"
#include "cli/reason.h"
#include "config/config.h"
#include "config/resolve.h"
#include "format/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: atomshim run [OPTION]... [--] PROGRAM [ARG]...\n"
    "Runs PROGRAM with the shim loaded, so that it overwrites the named files atomically.\n"
    "  -p, --path PATTERN       files to manage: /data/app.cfg, '/data/*.cfg', '/etc/**', /data/ (all "
    "below),\n"
    "                           '*.cfg' (by name), '!/data/tmp/' (not these), 'plain=/data/x.cfg' (without\n"
    "                           header); may be repeated.\n"
    "                           Replaces ATOMSHIM_PATHS, which is used if no --path is given\n"
    "  --plain                  no header in the files (ATOMSHIM_FORMAT=plain)\n"
    "  --no-sync                commits survive kill -9, but not power loss (ATOMSHIM_SYNC=0)\n"
    "  --isolation commit|session   lock the file for the commit only, or from open to close\n"
    "                           (ATOMSHIM_ISOLATION)\n"
    "  --lock-timeout SECONDS   how long a commit waits for other writers before it fails\n"
    "                           (ATOMSHIM_LOCK_TIMEOUT)\n"
    "  --rescue-dir DIR         save the images of failed commits here (ATOMSHIM_RESCUE_DIR)\n"
    "  --journal-dir DIR        where journals of plain files go (ATOMSHIM_JOURNAL_DIR)\n"
    "  --log LEVEL              which lines to log: error, warn, info or debug (ATOMSHIM_LOG)\n"
    "  --log-file FILE          instead of stderr (ATOMSHIM_LOG_FILE)\n"
    "  --force                  run PROGRAM even if the shim may not load into it\n"
    "Exit status: PROGRAM's own; 2 wrong usage or configuration, 126 PROGRAM cannot be run with the shim,\n"
    "127 PROGRAM not found.\n"
    "example: atomshim run --path '/data/*.cfg' -- sh -c 'date > /data/app.cfg'\n"
    "Manual: man atomshim\n";

/* An option sets a variable, to the value that follows it or to a fixed one. */
static const struct option {
    const char *name;
    const char *variable;
    const char *fixed; /* NULL: the option takes a value */
} options[] = {
    {"--path", "ATOMSHIM_PATHS", NULL},
    {"-p", "ATOMSHIM_PATHS", NULL},
    {"--plain", "ATOMSHIM_FORMAT", "plain"},
    {"--no-sync", "ATOMSHIM_SYNC", "0"},
    {"--isolation", "ATOMSHIM_ISOLATION", NULL},
    {"--lock-timeout", "ATOMSHIM_LOCK_TIMEOUT", NULL},
    {"--rescue-dir", "ATOMSHIM_RESCUE_DIR", NULL},
    {"--journal-dir", "ATOMSHIM_JOURNAL_DIR", NULL},
    {"--log", "ATOMSHIM_LOG", NULL},
    {"--log-file", "ATOMSHIM_LOG_FILE", NULL},
    {"--force", NULL, ""},
};

/* The options among the arguments. */
struct request {
    bool force;
    bool help;
    bool paths; /* ATOMSHIM_PATHS holds the values of --path by now */
};

/*
 * Finds the option of `argument`, "--name" or "--name=value". Complains and returns NULL if there
 * is none.
 */
static const struct option *find_option(const char *argument)
{
    size_t length = strcspn(argument, "=");

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, argument, length) == 0)
            return &options[i];
    cli_complain(
        "run: unknown option '%s': accepted are --path, --plain, --no-sync, --isolation, --lock-timeout, "
        "--rescue-dir, --journal-dir, --log, --log-file, --force and --help",
        argument);
    return NULL;
}

/* Takes the option at argv[i]; a NULL ends argv. Returns the index behind it, or -1. */
static int take_option(char *argv[], int i, struct request *request)
{
    const struct option *option = find_option(argv[i]);
    const char *value = strchr(argv[i], '=');

    if (option == NULL)
        return -1;
    if (option->fixed != NULL) {
        if (value != NULL) {
            cli_complain("run: %s takes no value", option->name);
            return -1;
        }
        if (option->variable == NULL)
            request->force = true;
        else
            cli_need_memory(setenv(option->variable, option->fixed, 1) == 0);
        return i + 1;
    }
    value = value != NULL ? value + 1 : argv[++i];
    if (value == NULL) {
        cli_complain("run: %s needs a value", option->name);
        return -1;
    }
    if (strcmp(option->variable, "ATOMSHIM_PATHS") != 0)
        cli_need_memory(setenv(option->variable, value, 1) == 0);
    else if (!paths_add("run", value, &request->paths))
        return -1;
    return i + 1;
}

/*
 * Returns the index of PROGRAM, or -1 after a complaint. With request->help the result means
 * nothing.
 */
static int take_options(int argc, char *argv[], struct request *request)
{
    int i = 1;

    while (i >= 0 && i < argc && argv[i][0] == '-' && argv[i][1] != '\0' && !request->help) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (cli_is_help(argv[i]))
            request->help = true;
        else
            i = take_option(argv, i, request);
    }
    if (i == argc && !request->help) {
        cli_complain("run: no PROGRAM given");
        return -1;
    }
    return i;
}

static bool has_header(const char *path)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_header header;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : pread(fd, bytes, sizeof bytes, 0);

    if (fd >= 0)
        (void)close(fd);
    return n == (ssize_t)sizeof bytes && image_decode_header(bytes, sizeof bytes, &header) == IMAGE_VALID;
}

/*
 * Warns of files that the patterns name one by one and that should not be in the sized format, but
 * are.
 */
static void warn_of_sized_files(const struct config *config)
{
    const char *left = config_resolve_patterns(config->paths);
    struct pattern_item item;
    char path[PATH_MAX];

    while (pattern_next(&left, &item)) {
        size_t length = (size_t)(item.end - item.start);
        const char *reason;

        if (item.takes_out || length >= sizeof path || paths_plain_part(item.start, length) != length)
            continue;
        (void)snprintf(path, sizeof path, "%.*s", (int)length, item.start);
        reason = reason_to_be_plain(path);
        if (reason != NULL && has_header(path))
            cli_complain("warning: %s: %s, and finds the sized format's header", path, reason);
    }
}

static bool check_config(struct config *config)
{
    if (config_parse(config, environ, cli_report_fault, NULL) != 0)
        return false;
    if (config->disabled)
        return true;
    if (paths_take_in(config->paths)) {
        places_check(cli_warn);
        places_check_patterns(config->paths, cli_warn);
        recover_patterns(config);
        warn_of_sized_files(config);
        return true;
    }
    cli_complain("run: no files to manage: give --path PATTERN or set ATOMSHIM_PATHS");
    return false;
}

/*
 * Makes sure that the shim will be in `file`. Returns false after a complaint if the program must
 * not be run.
 */
static bool prepare_program(const char *name, const char *file, bool force)
{
    char shim[PATH_MAX];
    static struct program_answer answer;
    char reason[REASON_PROGRAM_SIZE];
    struct program_kind kind;
    const char *doubt;
    bool covered;

    if (!preload_find(shim, &kind))
        return false;
    covered = reason_loads_shim(file, &kind, &answer, reason);
    if (!covered) {
        cli_complain(force ? "warning: %s: the shim may not load: %s"
                           : "%s: the shim would not load: %s (--force runs it anyway)",
                     name, reason);
        if (!force)
            return false;
    }
    for (int i = 0; covered && (doubt = reason_of_doubt(file, i)) != NULL; i++)
        cli_complain("warning: %s: %s", name, doubt);
    preload_set(shim);
    return true;
}

static int execute_program(char *argv[], const struct request *request, const struct config *config)
{
    char file[PATH_MAX];
    int error = -program_find(argv[0], getenv("PATH"), file, sizeof file);

    if (error == 0) {
        /* a shim that is switched off need not load */
        if (!config->disabled && !prepare_program(argv[0], file, request->force))
            return CLI_CANNOT_RUN;
        (void)execvp(file, argv);
        error = errno;
    }
    cli_complain("%s: %s", argv[0], error == ENOENT ? "not found" : strerror(error));
    return error == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_RUN;
}

int cli_run(int argc, char *argv[])
{
    struct request request = {0};
    struct config config;
    int program = take_options(argc, argv, &request);

    if (request.help)
        return cli_help(help);
    if (program < 0 || !check_config(&config))
        return CLI_USAGE;
    return execute_program(argv + program, &request, &config);
}
