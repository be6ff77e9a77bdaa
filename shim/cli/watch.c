/*
 * watch: a line for each commit to the files of some patterns. inotify(7) tells of writes to an
 * inode, whichever name they were made through. A line appears only when the content differs from
 * the one before, so the several writes of a commit make one line.
 */
#include "cli/cli.h"
#include "cli/inspect.h"
#include "cli/json.h"
#include "cli/paths.h"
#include "cli/places.h"
#include "cli/tree.h"
#include "config/pattern.h"
#include "config/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
    "usage: atomshim watch [--json] [--exec COMMAND] PATTERN...\n"
    "Prints a line for each commit to a file that a PATTERN names, files that are made later included.\n"
    "Commits that follow each other faster than they are read are one line.\n"
    "  --exec COMMAND   run COMMAND by sh after each, with the file's name as $1 and its generation as $2; "
    "the\n"
    "                   next commit is looked at when it has ended\n"
    "  --json           an object per commit, one a line; the fields are in the manual\n"
    "Exit status: 1 a folder cannot be watched or the output not be written, 2 wrong usage; else it ends by "
    "a\n"
    "signal.\n"
    "example: atomshim watch --exec 'systemctl reload app' /data/app.cfg\n";

enum { EVENTS_SIZE = 1 << 16 };

static const uint32_t folder_events = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;
static const uint32_t file_events = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE;

/* Entry `wd` of the table describes what inotify watches under that number. A folder has no
 * content. */
struct watched {
    char *path; /* NULL: nothing */
    bool is_folder;
    uint64_t generation;
    uint64_t size;
    uint32_t crc;
};

static struct {
    int inotify;
    const char *patterns;
    const char *command; /* the command of --exec, or NULL */
    bool json;
    bool begun; /* any content that is found now comes from a commit */
    struct watched *table;
    int room;
    long files;
    int status;
} watch;

/* Returns the entry of a watch. */
static struct watched *entry_of(int wd)
{
    if (wd >= watch.room) {
        int room = 2 * wd + 64;
        struct watched *table = realloc(watch.table, (size_t)room * sizeof *table);

        cli_need_memory(table != NULL);
        memset(table + watch.room, 0, (size_t)(room - watch.room) * sizeof *table);
        watch.table = table;
        watch.room = room;
    }
    return &watch.table[wd];
}

static void run_command(const struct watched *file)
{
    char generation[32];
    char *arguments[] = {"sh", "-c", (char *)watch.command, "atomshim", file->path, generation, NULL};
    pid_t child;
    int error;

    (void)snprintf(generation, sizeof generation, "%" PRIu64, file->generation);
    error = posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ);
    if (error != 0)
        cli_complain("watch: %s", strerror(error));
    else
        (void)waitpid(child, NULL, 0);
}

static void tell_content(const struct watched *file, const struct store_image *image)
{
    if (watch.json) {
        json_begin();
        json_text("file", file->path);
        json_text("format", image->kind == STORE_SIZED ? "sized" : "plain");
        json_number("generation", image->generation);
        json_number("size", image->size);
        json_end();
    } else
        cli_print("%s: %s, generation %" PRIu64 ", %" PRIu64 " bytes", file->path,
                  image->kind == STORE_SIZED ? "sized" : "plain", image->generation, image->size);
    if (cli_finish(CLI_GOOD) != CLI_GOOD)
        exit(CLI_BAD);
    if (watch.command != NULL)
        run_command(file);
}

/* Looks at a file that was written to; reports its content if that is new. */
static void look_at_file(int wd)
{
    struct watched *file = &watch.table[wd];
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct store_image image = {0};
    bool changed = false;
    int error = fd < 0 ? -errno : store_load(fd, -1, inspect_wait(), &image);

    if (error == 0) {
        changed = image.generation != file->generation || image.size != file->size ||
                  image.payload_crc != file->crc;
        file->generation = image.generation;
        file->size = image.size;
        file->crc = image.payload_crc;
    } else if (error != -ENOENT) /* it is gone */
        cli_complain("watch: %s: %s", file->path, inspect_error(error));
    if (fd >= 0)
        (void)close(fd);
    if (changed && watch.begun)
        tell_content(file, &image);
}

/* Begins to watch a file or a folder. Returns its watch, or -1; *known if it is watched already. */
static int add_watch(const char *path, bool is_folder, bool *known)
{
    int wd = inotify_add_watch(watch.inotify, path, is_folder ? folder_events : file_events);
    struct watched *entry;

    if (wd < 0) {
        if (errno != ENOENT) {
            cli_complain("watch: %s: %s%s", path, strerror(errno),
                         errno == ENOSPC ? " (fs.inotify.max_user_watches)" : "");
            watch.status = CLI_BAD;
        }
        return -1;
    }
    entry = entry_of(wd);
    *known = entry->path != NULL;
    if (!*known) {
        *entry = (struct watched){.path = strdup(path), .is_folder = is_folder};
        watch.files += !is_folder;
    }
    cli_need_memory(entry->path != NULL);
    return wd;
}

static void add_file(const char *path)
{
    bool known;
    int wd;

    if (!pattern_match(watch.patterns, path))
        return;
    wd = add_watch(path, false, &known);
    if (wd >= 0 && !known)
        look_at_file(wd);
}

static int visit_entry(const char *path, const struct stat *status, int error)
{
    bool known;

    if (error != 0 && error != EACCES) { /* add_watch() has reported that */
        cli_complain("watch: %s: %s", path, strerror(error));
        watch.status = CLI_BAD;
    } else if (S_ISDIR(status->st_mode) && error == 0)
        (void)add_watch(path, true, &known); /* before the entries are read: none is missed */
    else if (S_ISREG(status->st_mode))
        add_file(path);
    return 0;
}

/* Watches the files that one pattern names, and the folders in which more may appear. */
static bool watch_pattern(const struct pattern_item *item)
{
    size_t plain = paths_plain_part(item->start, (size_t)(item->end - item->start));
    char path[PATH_MAX];
    struct stat status;
    bool known;

    if (plain == 0 || plain >= sizeof path) {
        cli_complain("watch: %.*s: matches by name in every folder: give a folder, '/data/**/NAME'",
                     (int)(item->end - item->start), item->start);
        return false;
    }
    (void)snprintf(path, sizeof path, "%.*s", (int)plain, item->start);
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode)) {
        char folder[PATH_MAX];

        (void)snprintf(folder, sizeof folder, "%s", path);
        *strrchr(folder, '/') = '\0';
        if (add_watch(folder[0] != '\0' ? folder : "/", true, &known) < 0) {
            if (watch.status == CLI_GOOD)
                cli_complain("watch: %s: there is no such folder", folder);
            return false;
        }
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
            add_file(path);
        return true;
    }
    return tree_walk(path, visit_entry) == 0 && watch.status == CLI_GOOD;
}

/* Watches what the patterns name. Returns false after a complaint. */
static bool watch_patterns(void)
{
    const char *left = watch.patterns;
    struct pattern_item item;

    while (pattern_next(&left, &item))
        if (!item.takes_out && !watch_pattern(&item))
            return false;
    return true;
}

/* Called for an entry that was made in a folder, or moved there. */
static void look_at_entry(int wd, const char *name)
{
    char path[PATH_MAX];
    struct stat status;
    const char *folder = watch.table[wd].path;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name) >=
            sizeof path ||
        lstat(path, &status) != 0)
        return;
    if (S_ISDIR(status.st_mode) || S_ISREG(status.st_mode))
        (void)tree_walk(path, visit_entry);
}

static void take_event(const struct inotify_event *event)
{
    struct watched *entry;

    if (event->mask & IN_Q_OVERFLOW) { /* some events are lost: it looks at all, and for new ones */
        for (int wd = 0; wd < watch.room; wd++)
            if (watch.table[wd].path != NULL && !watch.table[wd].is_folder)
                look_at_file(wd);
        (void)watch_patterns();
        return;
    }
    entry = &watch.table[event->wd]; /* IN_IGNORED is the last event of a watch, inotify(7) */
    if (event->mask & IN_IGNORED) {
        free(entry->path);
        *entry = (struct watched){.path = NULL};
    } else if (entry->is_folder && event->len != 0)
        look_at_entry(event->wd, event->name);
    else if (!entry->is_folder)
        look_at_file(event->wd);
}

static int take_events(void)
{
    static char events[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));

    for (;;) {
        ssize_t n = read(watch.inotify, events, sizeof events);

        if (n < 0 && errno != EINTR) {
            cli_complain("watch: %s", strerror(errno));
            return CLI_BAD;
        }
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const struct inotify_event *)(events + at);

            take_event(event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
}

/* Takes options and patterns, in any order. Returns false after a complaint. */
static bool take_arguments(int argc, char *argv[])
{
    bool any = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            watch.json = true;
        else if (strncmp(argv[i], "--exec=", 7) == 0)
            watch.command = argv[i] + 7;
        else if (strcmp(argv[i], "--exec") == 0 && i + 1 < argc)
            watch.command = argv[++i];
        else if (argv[i][0] == '-') {
            cli_complain("watch: %s '%s': accepted are --exec COMMAND, --json and --help",
                         strcmp(argv[i], "--exec") == 0 ? "no command behind" : "unknown option", argv[i]);
            return false;
        } else if (!paths_add("watch", argv[i], &any))
            return false;
    }
    any = any && paths_take_in(getenv("ATOMSHIM_PATHS"));
    if (!any)
        cli_complain("watch: no PATTERN given");
    return any;
}

int cli_watch(int argc, char *argv[])
{
    if (argc > 1 && cli_is_help(argv[1]))
        return cli_help(help);
    if (!take_arguments(argc, argv))
        return CLI_USAGE;
    watch.inotify = inotify_init1(IN_CLOEXEC);
    if (watch.inotify < 0) {
        cli_complain("watch: inotify_init1: %s", strerror(errno));
        return CLI_BAD;
    }
    watch.patterns = config_resolve_patterns(getenv("ATOMSHIM_PATHS"));
    if (!watch_patterns())
        return CLI_BAD;
    places_check_patterns(watch.patterns, cli_warn);
    cli_complain("watching %ld files", watch.files);
    watch.begun = true;
    return take_events();
}
