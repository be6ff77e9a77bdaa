#include "config/config.h"

#include "config/libc_files.h"
#include "config/resolve.h"
#include "os/environment.h"
#include "os/log.h"
#include "os/sys.h"

#include <string.h>

#define SECOND INT64_C(1000000000)

enum {
    MESSAGE_SIZE = 384,
    TIMEOUT_MAX = 86400, /* seconds */
};

#define NAMES                                                                                                \
    "ATOMSHIM_PATHS, _FORMAT, _SYNC, _ISOLATION, _LOCK_TIMEOUT, _RESCUE_DIR, _JOURNAL_DIR, _LOG, _LOG_FILE " \
    "and _DISABLE"

static bool read_word(const char *value, const char *const words[], int *result)
{
    for (int i = 0; words[i] != NULL; i++)
        if (strcmp(value, words[i]) == 0) {
            *result = i;
            return true;
        }
    return false;
}

/* Each of the following functions puts a good value into *config, or returns the values that are
 * accepted instead. */

static const char *set_format(struct config *config, const char *value)
{
    static const char *const words[] = {"sized", "plain", NULL};
    int word;

    if (!read_word(value, words, &word))
        return "accepted are \"sized\" and \"plain\"";
    config->format = word == 0 ? CONFIG_SIZED : CONFIG_PLAIN;
    return NULL;
}

static const char *set_isolation(struct config *config, const char *value)
{
    static const char *const words[] = {"commit", "session", NULL};
    int word;

    if (!read_word(value, words, &word))
        return "accepted are \"commit\" and \"session\"";
    config->isolation = word == 0 ? CONFIG_COMMIT : CONFIG_SESSION;
    return NULL;
}

static const char *set_sync(struct config *config, const char *value)
{
    static const char *const words[] = {"0", "1", NULL};
    int word;

    if (!read_word(value, words, &word))
        return "accepted are 0 and 1";
    config->sync = word == 1;
    return NULL;
}

/* The words stand in the order of enum log_level. */
static const char *set_log(struct config *config, const char *value)
{
    static const char *const words[] = {"error", "warn", "info", "debug", NULL};

    return read_word(value, words, &config->log_level) ? NULL : "accepted are error, warn, info and debug";
}

static const char *set_lock_timeout(struct config *config, const char *value)
{
    int64_t time = 0;
    int64_t unit = SECOND;
    const char *p = value;

    for (; *p >= '0' && *p <= '9' && time <= TIMEOUT_MAX * SECOND; p++)
        time = time * 10 + (*p - '0') * SECOND;
    if (p != value && *p == '.' && p[1] != '\0')
        for (p++; *p >= '0' && *p <= '9'; p++) {
            unit /= 10;
            time += (*p - '0') * unit;
        }
    if (p == value || *p != '\0' || time > TIMEOUT_MAX * SECOND)
        return "accepted are seconds from 0 to 86400, such as 30 or 0.5";
    config->lock_timeout = time;
    return NULL;
}

static const char *set_rescue_dir(struct config *config, const char *value)
{
    if (value[0] != '/')
        return "accepted is the absolute path of a folder";
    config->rescue_dir = value;
    return NULL;
}

static const char *set_journal_dir(struct config *config, const char *value)
{
    if (value[0] != '/')
        return "accepted is the absolute path of a folder";
    config->journal_dir = value;
    return NULL;
}

static const char *set_log_file(struct config *config, const char *value)
{
    if (value[0] != '/')
        return "accepted is the absolute path of a file";
    config->log_file = value;
    return NULL;
}

/* check_paths() reports the faults, and names the pattern. */
static const char *set_paths(struct config *config, const char *value)
{
    config->paths = value;
    return NULL;
}

/* config_parse() has read the value before all others. */
static const char *set_disable(struct config *config, const char *value)
{
    (void)config;
    return strcmp(value, "0") == 0 || strcmp(value, "1") == 0 ? NULL : "accepted are 0 and 1";
}

static const struct setting {
    const char *name;
    const char *(*set)(struct config *config, const char *value);
} settings[] = {
    {"ATOMSHIM_DISABLE", set_disable},
    {"ATOMSHIM_PATHS", set_paths},
    {"ATOMSHIM_FORMAT", set_format},
    {"ATOMSHIM_SYNC", set_sync},
    {"ATOMSHIM_ISOLATION", set_isolation},
    {"ATOMSHIM_LOCK_TIMEOUT", set_lock_timeout},
    {"ATOMSHIM_RESCUE_DIR", set_rescue_dir},
    {"ATOMSHIM_JOURNAL_DIR", set_journal_dir},
    {"ATOMSHIM_LOG", set_log},
    {"ATOMSHIM_LOG_FILE", set_log_file},
};

enum { SETTINGS = sizeof settings / sizeof settings[0] };

/*
 * Returns the value of the first entry of that name, as getenv(3) does; NULL if there is none, or
 * an empty one.
 */
static const char *look_up(char *const environment[], const char *name)
{
    for (; *environment != NULL; environment++) {
        const char *value = environment_value(*environment, name);

        if (value != NULL)
            return value[0] != '\0' ? value : NULL;
    }
    return NULL;
}

static bool is_known(const char *entry)
{
    for (int i = 0; i < SETTINGS; i++)
        if (environment_value(entry, settings[i].name) != NULL)
            return true;
    return false;
}

static int check_names(char *const environment[], config_report *report, void *context)
{
    char message[MESSAGE_SIZE];
    int bad = 0;

    for (; *environment != NULL; environment++)
        if (strncmp(*environment, "ATOMSHIM_", 9) == 0 && !is_known(*environment)) {
            char name[64];
            size_t length = strcspn(*environment, "=");

            (void)log_format(name, length < sizeof name ? length + 1 : sizeof name, "%s", *environment);
            (void)log_format(message, sizeof message, "%s: unknown variable: accepted are " NAMES, name);
            report(message, context);
            bad++;
        }
    return bad;
}

static int check_paths(struct config *config, config_report *report, void *context)
{
    char message[MESSAGE_SIZE];
    char pattern[128];
    const char *where;
    size_t length;
    const char *fault = pattern_check(config->paths, &where, &length);

    if (fault == NULL)
        return 0;
    (void)log_format(pattern, length < sizeof pattern ? length + 1 : sizeof pattern, "%s", where);
    (void)log_format(message, sizeof message, "ATOMSHIM_PATHS: pattern %s: %s", pattern, fault);
    report(message, context);
    config->paths = "";
    return 1;
}

int config_parse(struct config *config, char *const environment[], config_report *report, void *context)
{
    const char *disable = look_up(environment, "ATOMSHIM_DISABLE");
    char message[MESSAGE_SIZE];
    int bad = 0;

    *config = (struct config){.sync = true, .lock_timeout = 30 * SECOND, .log_level = LOG_ERROR, .paths = ""};
    if (disable != NULL && strcmp(disable, "1") == 0) {
        config->disabled = true;
        return 0;
    }
    for (int i = 0; i < SETTINGS; i++) {
        const char *value = look_up(environment, settings[i].name);
        const char *accepted = value != NULL ? settings[i].set(config, value) : NULL;

        if (accepted != NULL) {
            char shown[128];

            (void)log_format(shown, sizeof shown, "%s", value);
            (void)log_format(message, sizeof message, "%s=%s: %s", settings[i].name, shown, accepted);
            report(message, context);
            bad++;
        }
    }
    bad += check_paths(config, report, context) + check_names(environment, report, context);
    config->may_be_plain = config->format == CONFIG_PLAIN || strstr(config->paths, "plain=") != NULL;
    config->never_sized = config->format == CONFIG_PLAIN && strstr(config->paths, "sized=") == NULL;
    return bad;
}

void config_resolve(struct config *config)
{
    static uint64_t room[64]; /* enough for most lists */
    void *memory = room;
    size_t size;

    config->paths = config_resolve_patterns(config->paths);
    size = pattern_index_size(config->paths);
    if (size > sizeof room)
        memory = sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sys_is_error(memory))
        pattern_index_make(&config->index, config->paths, memory);
}

enum config_format config_format_of(const struct config *config, const char *path)
{
    if (config_is_read_by_libc(path))
        return CONFIG_PLAIN;
    switch (pattern_index_format(&config->index, config->paths, path)) {
    case PATTERN_PLAIN:
        return CONFIG_PLAIN;
    case PATTERN_SIZED:
        return CONFIG_SIZED;
    default:
        return config->format;
    }
}
