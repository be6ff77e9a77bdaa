#include "cli/places.h"

#include "cli/paths.h"
#include "config/pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Returns 0, or the errno that says why no file can be made in the folder. */
static int check_folder(const char *path, int flags)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | flags);
    int error = fd < 0 ? errno : faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) != 0 ? errno : 0;

    if (fd >= 0)
        (void)close(fd);
    return error;
}

static void check_rescue(const char *path, char text[PLACES_TEXT_SIZE])
{
    int error = check_folder(path, O_NOFOLLOW);

    if (error != 0)
        (void)snprintf(text, PLACES_TEXT_SIZE, "%s: the images of failed commits would be lost",
                       error == ENOTDIR ? "is no folder, or a symbolic link, which is not followed"
                                        : strerror(error));
}

static void check_journal(const char *path, char text[PLACES_TEXT_SIZE])
{
    int error = check_folder(path, 0);

    if (error != 0)
        (void)snprintf(text, PLACES_TEXT_SIZE, "%s: no journal file can be made there", strerror(error));
}

/* The first line of the log makes the file. */
static void check_log(const char *path, char text[PLACES_TEXT_SIZE])
{
    char folder[PATH_MAX];
    struct stat status;
    int error = 0;

    if (lstat(path, &status) == 0) {
        if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode)) {
            (void)snprintf(text, PLACES_TEXT_SIZE,
                           "is neither a regular file nor a terminal%s: lines would go to stderr",
                           S_ISLNK(status.st_mode) ? " but a symbolic link, which is not followed" : "");
            return;
        }
        error = faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0 ? errno : 0;
    } else if (strlen(path) < sizeof folder && *path == '/') {
        (void)strcpy(folder, path);
        strrchr(folder, '/')[1] = '\0';
        error = check_folder(folder, 0);
    }
    if (error != 0)
        (void)snprintf(text, PLACES_TEXT_SIZE, "%s: lines would go to stderr", strerror(error));
}

void places_check(void (*tell)(const char *text))
{
    static const struct {
        const char *variable;
        void (*check)(const char *path, char text[PLACES_TEXT_SIZE]);
    } places[] = {
        {"ATOMSHIM_RESCUE_DIR", check_rescue},
        {"ATOMSHIM_JOURNAL_DIR", check_journal},
        {"ATOMSHIM_LOG_FILE", check_log},
    };
    static char text[PLACES_TEXT_SIZE];
    static char line[2 * PLACES_TEXT_SIZE];

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *path = getenv(places[i].variable);

        if (path == NULL || *path == '\0')
            continue;
        text[0] = '\0';
        places[i].check(path, text);
        (void)snprintf(line, sizeof line, "%s: %s: %s", places[i].variable, path, text);
        if (text[0] != '\0')
            tell(line);
    }
}

static void check_pattern(const char *pattern, size_t length, char text[PLACES_TEXT_SIZE])
{
    size_t plain = paths_plain_part(pattern, length);
    char path[PATH_MAX];
    struct stat status;

    text[0] = '\0';
    if (plain == 0 || plain >= sizeof path)
        return;
    (void)snprintf(path, sizeof path, "%.*s", (int)plain, pattern);
    if (plain == length && pattern[length - 1] != '/') {
        if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
            (void)snprintf(text, PLACES_TEXT_SIZE, "%s: is a folder: write %s/ to take in all files below it",
                           path, path);
            return;
        }
        strrchr(path, '/')[strrchr(path, '/') == path] = '\0';
    }
    if (stat(path, &status) != 0)
        (void)snprintf(text, PLACES_TEXT_SIZE, "%.*s: matches nothing: %s: %s", (int)length, pattern, path,
                       strerror(errno));
}

void places_check_patterns(const char *paths, void (*tell)(const char *text))
{
    static char text[PLACES_TEXT_SIZE];
    struct pattern_item item;

    while (pattern_next(&paths, &item)) {
        check_pattern(item.start, (size_t)(item.end - item.start), text);
        if (text[0] != '\0' && !item.takes_out)
            tell(text);
    }
}
