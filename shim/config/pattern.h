/*
 * The patterns of ATOMSHIM_PATHS: a ':'-separated list, matched against the canonical path of a
 * file.
 *
 *   /data/app.cfg    that file                     *    any characters but '/'
 *   /data/?.cfg      one character before .cfg     ?    one character but '/'
 *   /data/           everything below /data        **   any characters, '/' too; between two '/' it
 *   app.cfg          files of that name anywhere        may stand for nothing, with one of them
 *   !/data/tmp/      takes out what it matches     [a-z] [!a-z]  one character of a set, never '/'
 *                                                  \    the next character as it is, ':' too
 *
 *   plain=/data/app.cfg  its files are plain, whatever ATOMSHIM_FORMAT says
 *   sized=/data/         its files are sized; of several patterns that say a format the last counts
 *
 * A pattern with a '/' starts with '/' or with "**". A path is matched if one pattern matches it
 * and none with a leading '!' does, in whatever order they stand.
 */
#ifndef ATOMSHIM_PATTERN_H
#define ATOMSHIM_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pattern_format { PATTERN_NO_FORMAT, PATTERN_PLAIN, PATTERN_SIZED };

/* One pattern of a list. All pointers lead into the list. */
struct pattern_item {
    const char *whole; /* with the prefixes */
    const char *start; /* without the prefixes */
    const char *end;   /* the end of both */
    bool takes_out;    /* it has a '!' in front */
    enum pattern_format format;
};

/*
 * Takes the next pattern that is not empty from *list, which goes behind it. Returns false at the
 * end of the list.
 */
bool pattern_next(const char **list, struct pattern_item *item);

/*
 * True if `path`, an absolute canonical path, is taken in by `patterns`. No allocation, bounded
 * stack, and time at most quadratic in the lengths for whatever patterns.
 */
bool pattern_match(const char *patterns, const char *path);

/*
 * Tells which format the patterns ask for: the format of the last pattern that matches `path`, an
 * absolute canonical path, and has one. PATTERN_NO_FORMAT if none does. Only pattern_match() tells
 * whether the path is taken in at all. Both cost the same.
 */
enum pattern_format pattern_format(const char *patterns, const char *path);

/*
 * False only if no file whose last path component is `name` (up to the first NUL) can be matched,
 * whatever directory it lies in. A cheap filter: true promises nothing.
 */
bool pattern_may_name(const char *patterns, const char *name);

/* Answer the questions of the two functions above for one pattern. A pattern that takes out names
 * nothing. */
bool pattern_item_matches(const struct pattern_item *item, const char *path);
bool pattern_item_may_name(const struct pattern_item *item, const char *name);

/* True if the character stands for itself wherever it is in a pattern. */
bool pattern_is_literal(char c);

/*
 * Looks for the first malformed pattern: relative with a '/', an unclosed '[', a lone '\' at the
 * end, '!' or '=' with nothing behind it, two of plain=, sized= and '!' in front of one pattern.
 * Returns NULL if all are well-formed, else a short static text that names the fault, and in *where
 * and *length the faulty pattern (inside `patterns`). Empty items are skipped.
 */
const char *pattern_check(const char *patterns, const char **where, size_t *length);

#endif
