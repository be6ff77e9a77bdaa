/* The configuration, read once from the environment. */
#ifndef ATOMSHIM_CONFIG_H
#define ATOMSHIM_CONFIG_H

#include "config/pattern_index.h"

#include <stdbool.h>
#include <stdint.h>

enum config_format { CONFIG_SIZED, CONFIG_PLAIN };
enum config_isolation { CONFIG_COMMIT, CONFIG_SESSION };

struct config {
    bool disabled; /* ATOMSHIM_DISABLE=1: the kill switch */
    enum config_format format;
    bool may_be_plain; /* `format`, or a pattern, asks for the plain format */
    bool never_sized;  /* neither `format` nor a pattern asks for the sized format */
    enum config_isolation isolation;
    bool sync;
    int64_t lock_timeout;       /* nanoseconds */
    int log_level;              /* enum log_level of log.h */
    const char *paths;          /* ATOMSHIM_PATHS as given or as resolved, "" if none */
    struct pattern_index index; /* the index of `paths`, once config_resolve() has made it */
    const char *rescue_dir;     /* NULL if none */
    const char *journal_dir;    /* NULL: journals lie beside their files */
    const char *log_file;       /* NULL: stderr */
};

/*
 * config_parse() calls it for each bad value, with one line that names variable, value and what is
 * accepted.
 */
typedef void config_report(const char *message, void *context);

/*
 * Fills *config from `environment` ("NAME=value" strings, NULL-terminated), with the default in
 * place of every missing or bad value, and reports each bad one: an unknown word, a number out of
 * range, a pattern that pattern_check() refuses, a directory or file name that is not absolute, and
 * any ATOMSHIM_ variable that does not exist. With ATOMSHIM_DISABLE=1 it looks at nothing else. The
 * strings are not copied: the caller keeps the environment alive, or passes a copy. No malloc, no
 * stdio, no locale; async-signal-safe. Returns the number of bad values.
 */
int config_parse(struct config *config, char *const environment[], config_report *report, void *context);

/*
 * Replaces config->paths by the result of config_resolve_patterns(), and makes their index. Reads
 * the file system, which config_parse() does not. To be called once in a process: the memory of a
 * short index is static.
 */
void config_resolve(struct config *config);

/*
 * Tells which format the file at `path` (absolute, canonical) is to get: plain if the C library
 * reads it by itself, else the format of a pattern, else ATOMSHIM_FORMAT. A file that is sized
 * already stays sized: the caller must look at its content.
 */
enum config_format config_format_of(const struct config *config, const char *path);

#endif
