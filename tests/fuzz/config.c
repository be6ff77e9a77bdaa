/*
 * The configuration parser. An input is an environment, its entries separated by NULs. Every
 * setting ends up in its range, every report is one whole message about an existing variable, a
 * reported setting has its default, and the parser accepts the environment without the reported
 * variables.
 *
 * With SEEDS=DIR in the environment it writes its seeds there, and ends.
 */
#include "config/config.h"

#include "config/pattern.h"
#include "fuzz.h"
#include "os/log.h"

#include <string.h>

enum { ENTRIES_MAX = 64, MESSAGE_MAX = 384, REPORTS_MAX = ENTRIES_MAX + 16 };

#define REQUIRE(condition) ((condition) ? (void)0 : required(#condition))

static void required(const char *what)
{
    (void)fprintf(stderr, "not so: %s\n", what);
    abort();
}

struct reports {
    char *const *environment;
    char names[REPORTS_MAX][64];
    int count;
};

static const char *const variables[] = {"ATOMSHIM_PATHS",     "ATOMSHIM_FORMAT",       "ATOMSHIM_SYNC",
                                        "ATOMSHIM_ISOLATION", "ATOMSHIM_LOCK_TIMEOUT", "ATOMSHIM_RESCUE_DIR",
                                        "ATOMSHIM_LOG",       "ATOMSHIM_LOG_FILE",     "ATOMSHIM_DISABLE"};

/* True for capitals, digits and '_', the characters of a name in a message. */
static bool well_formed(char *const *environment)
{
    for (; *environment != NULL; environment++)
        if ((*environment)[strspn(*environment, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")] != '=')
            return false;
    return true;
}

/* The name ends at the message's first '=' or ':'; long ones of unknown variables are cut there. */
static void take_report(const char *message, void *context)
{
    struct reports *reports = context;
    size_t length = strcspn(message, "=:");
    bool found = false;

    REQUIRE(strlen(message) < MESSAGE_MAX);
    REQUIRE(strstr(message, "accepted") != NULL || strncmp(message, "ATOMSHIM_PATHS: pattern ", 24) == 0);
    REQUIRE(reports->count < REPORTS_MAX);
    for (char *const *entry = reports->environment; *entry != NULL && !found; entry++)
        found = strncmp(*entry, message, length < 63 ? length : 63) == 0;
    REQUIRE(found && strncmp(message, "ATOMSHIM_", 9) == 0);
    (void)snprintf(reports->names[reports->count++], sizeof reports->names[0], "%.*s", (int)length, message);
}

static bool reported(const struct reports *reports, const char *name)
{
    for (int i = 0; i < reports->count; i++)
        if (strcmp(reports->names[i], name) == 0)
            return true;
    return false;
}

/* Returns the value that getenv(3) finds; an empty value counts as none. */
static const char *value_of(char *const *environment, const char *name)
{
    size_t length = strlen(name);

    for (; *environment != NULL; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return (*environment)[length + 1] != '\0' ? *environment + length + 1 : NULL;
    return NULL;
}

static void check_ranges(const struct config *config)
{
    const char *where;
    size_t length;

    REQUIRE(config->format == CONFIG_SIZED || config->format == CONFIG_PLAIN);
    REQUIRE(config->isolation == CONFIG_COMMIT || config->isolation == CONFIG_SESSION);
    REQUIRE(config->lock_timeout >= 0 && config->lock_timeout <= INT64_C(86400000000000));
    REQUIRE(config->log_level >= LOG_ERROR && config->log_level <= LOG_DEBUG);
    REQUIRE(config->paths != NULL && pattern_check(config->paths, &where, &length) == NULL);
    REQUIRE(config->rescue_dir == NULL || config->rescue_dir[0] == '/');
    REQUIRE(config->log_file == NULL || config->log_file[0] == '/');
}

/* Checks that a setting has its default if its value is missing or bad, else the value. */
static void check_values(const struct config *config, char *const *environment, const struct reports *reports)
{
    const char *value[sizeof variables / sizeof variables[0]];
    const char *text;

    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        value[i] = reported(reports, variables[i]) ? NULL : value_of(environment, variables[i]);
    text = value[0] != NULL ? value[0] : "";
    REQUIRE(strcmp(config->paths, text) == 0);
    REQUIRE(config->format == (value[1] != NULL && value[1][0] == 'p' ? CONFIG_PLAIN : CONFIG_SIZED));
    REQUIRE(config->sync == !(value[2] != NULL && value[2][0] == '0'));
    REQUIRE(config->isolation == (value[3] != NULL && value[3][0] == 's' ? CONFIG_SESSION : CONFIG_COMMIT));
    REQUIRE(value[4] != NULL ? config->lock_timeout / 1000000000 == strtol(value[4], NULL, 10)
                             : config->lock_timeout == INT64_C(30000000000));
    REQUIRE(config->rescue_dir == value[5] && config->log_file == value[7]);
    REQUIRE(value[6] != NULL || config->log_level == LOG_ERROR);
}

/* Makes the environment of the entries whose variables were not reported. */
static void check_rest(char *const *environment, const struct reports *reports)
{
    struct config config;
    struct reports none = {0};
    char *rest[ENTRIES_MAX + 1];
    int count = 0;

    for (; *environment != NULL; environment++) {
        char name[64];

        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(*environment, "="), *environment);
        if (!reported(reports, name))
            rest[count++] = *environment;
    }
    rest[count] = NULL;
    none.environment = rest;
    REQUIRE(config_parse(&config, rest, take_report, &none) == 0 && none.count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct reports reports;
    struct config config;
    char *environment[ENTRIES_MAX + 1];
    char *text = malloc(size + 1);
    int count = 0;
    int bad;

    if (text == NULL)
        return -1;
    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t at = 0; at <= size && count < ENTRIES_MAX; at += strlen(text + at) + 1)
        if (strchr(text + at, '=') != NULL)
            environment[count++] = text + at;
    environment[count] = NULL;

    reports.count = 0;
    reports.environment = environment;
    bad = config_parse(&config, environment, take_report, &reports);
    REQUIRE(bad == reports.count);
    check_ranges(&config);
    REQUIRE(!config.disabled || bad == 0);
    if (!config.disabled && well_formed(environment)) {
        check_values(&config, environment, &reports);
        check_rest(environment, &reports);
    }
    free(text);
    return 0;
}

void fuzz_write_seeds(void)
{
    static const char *const values[] = {"/data/*.cfg:!/data/tmp/",
                                         "plain",
                                         "0",
                                         "session",
                                         "0.25",
                                         "/rescue",
                                         "debug",
                                         "/log",
                                         "1",
                                         "",
                                         "86400",
                                         "86400.1",
                                         "sized",
                                         "commit",
                                         "[",
                                         "!"};
    enum { VARIABLES = sizeof variables / sizeof variables[0], VALUES = sizeof values / sizeof values[0] };

    for (size_t i = 0; i < 32; i++) {
        char seed[512];
        int size = 0;

        for (size_t k = 0; k < 1 + i % 4; k++)
            size +=
                snprintf(seed + size, sizeof seed - (size_t)size, "%s=%s%c", variables[(i + k) % VARIABLES],
                         values[(i < VALUES ? i + k : i * 5 + k) % VALUES], '\0');
        fuzz_write_seed(seed, (size_t)size);
    }
}
