/* config.h: every variable, its default, and the line that a bad value gets. */
#include "check.h"

#include "config/config.h"
#include "os/log.h"

#include <stdlib.h>

enum { MESSAGES_MAX = 16 };

static struct {
    char text[MESSAGES_MAX][512];
    int count;
} messages;

static void collect(const char *message, void *context)
{
    (void)context;
    (void)snprintf(messages.text[messages.count++], sizeof messages.text[0], "%s", message);
}

static struct config parse(const char *const *environment)
{
    struct config config;

    messages.count = 0;
    CHECK_EQUAL(config_parse(&config, (char *const *)environment, collect, NULL), messages.count);
    return config;
}

static struct config parse_one(const char *entry)
{
    const char *const environment[] = {"HOME=/root", entry, NULL};

    return parse(environment);
}

static void check_bad(const char *entry, const char *message)
{
    struct config config = parse_one(entry);
    struct config defaults = parse_one("X=");

    (void)parse_one(entry);
    CHECK_EQUAL(messages.count, 1);
    CHECK_STRING(messages.text[0], message);
    CHECK(config.format == defaults.format && config.isolation == defaults.isolation &&
          config.sync == defaults.sync && config.lock_timeout == defaults.lock_timeout &&
          config.log_level == defaults.log_level && config.rescue_dir == NULL && config.log_file == NULL);
    CHECK_STRING(config.paths, "");
}

static void test_defaults(void)
{
    static const char *const nothing[] = {NULL};
    struct config config = parse(nothing);

    CHECK_EQUAL(messages.count, 0);
    CHECK(!config.disabled && config.sync);
    CHECK_EQUAL(config.format, CONFIG_SIZED);
    CHECK_EQUAL(config.isolation, CONFIG_COMMIT);
    CHECK_EQUAL(config.lock_timeout, 30000000000);
    CHECK_EQUAL(config.log_level, LOG_ERROR);
    CHECK_STRING(config.paths, "");
    CHECK(config.rescue_dir == NULL && config.log_file == NULL);
}

static void test_good_values(void)
{
    static const char *const all[] = {
        "ATOMSHIM_PATHS=/data/:*.cfg",
        "ATOMSHIM_FORMAT=plain",
        "ATOMSHIM_SYNC=0",
        "ATOMSHIM_ISOLATION=session",
        "ATOMSHIM_LOCK_TIMEOUT=0.25",
        "ATOMSHIM_RESCUE_DIR=/var/rescue",
        "ATOMSHIM_LOG=debug",
        "ATOMSHIM_LOG_FILE=/var/log/a",
        "ATOMSHIM_DISABLE=0",
        "ATOMSHIM_PATHS=/the/first/wins",
        NULL,
    };
    struct config config = parse(all);

    CHECK_EQUAL(messages.count, 0);
    CHECK_STRING(config.paths, "/data/:*.cfg");
    CHECK_EQUAL(config.format, CONFIG_PLAIN);
    CHECK_EQUAL(config.isolation, CONFIG_SESSION);
    CHECK(!config.sync && !config.disabled);
    CHECK_EQUAL(config.lock_timeout, 250000000);
    CHECK_STRING(config.rescue_dir, "/var/rescue");
    CHECK_STRING(config.log_file, "/var/log/a");
    CHECK_EQUAL(config.log_level, LOG_DEBUG);
    CHECK_EQUAL(parse_one("ATOMSHIM_FORMAT=sized").format, CONFIG_SIZED);
    CHECK_EQUAL(parse_one("ATOMSHIM_ISOLATION=commit").isolation, CONFIG_COMMIT);
    CHECK_EQUAL(parse_one("ATOMSHIM_LOG=warn").log_level, LOG_WARN);
    CHECK_EQUAL(parse_one("ATOMSHIM_LOG=info").log_level, LOG_INFO);
    CHECK_EQUAL(parse_one("ATOMSHIM_LOG=error").log_level, LOG_ERROR);
    CHECK(parse_one("ATOMSHIM_SYNC=1").sync);
    CHECK(parse_one("ATOMSHIM_SYNC=").sync); /* empty is unset */
    CHECK_EQUAL(messages.count, 0);
}

static void test_lock_timeout(void)
{
    static const char *const bad[] = {
        "-1", "x", ".5", "5.", "1e3", " 1", "1 ", "86400.1", "99999999999999999999"};

    CHECK_EQUAL(parse_one("ATOMSHIM_LOCK_TIMEOUT=0").lock_timeout, 0);
    CHECK_EQUAL(parse_one("ATOMSHIM_LOCK_TIMEOUT=86400").lock_timeout, 86400000000000);
    CHECK_EQUAL(parse_one("ATOMSHIM_LOCK_TIMEOUT=1.000000001").lock_timeout, 1000000001);
    CHECK_EQUAL(parse_one("ATOMSHIM_LOCK_TIMEOUT=0.12345678901234").lock_timeout, 123456789);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char entry[64];
        char message[128];

        (void)snprintf(entry, sizeof entry, "ATOMSHIM_LOCK_TIMEOUT=%s", bad[i]);
        (void)snprintf(message, sizeof message, "%s: accepted are seconds from 0 to 86400, such as 30 or 0.5",
                       entry);
        check_bad(entry, message);
    }
}

static void test_bad_values(void)
{
    check_bad("ATOMSHIM_FORMAT=bogus", "ATOMSHIM_FORMAT=bogus: accepted are \"sized\" and \"plain\"");
    check_bad("ATOMSHIM_ISOLATION=x", "ATOMSHIM_ISOLATION=x: accepted are \"commit\" and \"session\"");
    check_bad("ATOMSHIM_SYNC=yes", "ATOMSHIM_SYNC=yes: accepted are 0 and 1");
    check_bad("ATOMSHIM_DISABLE=yes", "ATOMSHIM_DISABLE=yes: accepted are 0 and 1");
    check_bad("ATOMSHIM_LOG=loud", "ATOMSHIM_LOG=loud: accepted are error, warn, info and debug");
    check_bad("ATOMSHIM_RESCUE_DIR=here",
              "ATOMSHIM_RESCUE_DIR=here: accepted is the absolute path of a folder");
    check_bad("ATOMSHIM_LOG_FILE=log", "ATOMSHIM_LOG_FILE=log: accepted is the absolute path of a file");
    check_bad("ATOMSHIM_PATHS=/good:data/x",
              "ATOMSHIM_PATHS: pattern data/x: a pattern with a '/' starts with '/' or with '**'");
    check_bad("ATOMSHIM_PATH=/data/",
              "ATOMSHIM_PATH: unknown variable: accepted are ATOMSHIM_PATHS, _FORMAT, _SYNC, "
              "_ISOLATION, _LOCK_TIMEOUT, _RESCUE_DIR, _JOURNAL_DIR, _LOG, _LOG_FILE and _DISABLE");
}

static void test_disable_comes_first(void)
{
    static const char *const environment[] = {"ATOMSHIM_FORMAT=bogus", "ATOMSHIM_NONSENSE=1",
                                              "ATOMSHIM_DISABLE=1", "ATOMSHIM_PATHS=/data/", NULL};

    CHECK(parse(environment).disabled);
    CHECK_EQUAL(messages.count, 0);
}

/* A value of any length gives one line of bounded length. */
static void test_long_value(void)
{
    char *entry = malloc(100000);

    (void)snprintf(entry, 100000, "ATOMSHIM_FORMAT=%090000d", 0);
    (void)parse_one(entry);
    CHECK_EQUAL(messages.count, 1);
    CHECK(strlen(messages.text[0]) < 400);
    (void)snprintf(entry, 100000, "ATOMSHIM_PATHS=x/%090000d", 0);
    (void)parse_one(entry);
    CHECK_EQUAL(messages.count, 1);
    CHECK(strstr(messages.text[0], "starts with '/'") != NULL);
    free(entry);
}

int main(void)
{
    test_defaults();
    test_good_values();
    test_lock_timeout();
    test_bad_values();
    test_disable_comes_first();
    test_long_value();
    return check_result();
}
