/*
 * The pattern matcher against a slow one that follows its meaning word by word.
 *
 * An input is a list of patterns and a path, separated by a NUL. A list that pattern_check()
 * accepts matches, and asks for a format, as the slow matcher says; if it refuses a list it names
 * the first bad pattern, and matching the list stays harmless; and no path matches whose last
 * component pattern_may_name() has excluded. An index agrees with the list. The time is at most
 * quadratic: inputs that are too long for the slow matcher are only matched, and libFuzzer's
 * timeout watches.
 *
 * With SEEDS=DIR in the environment it writes its seeds there, and ends.
 */
#include "config/pattern_index.h"

#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

enum { INPUT_MAX = 4096, SLOW_MAX = 48, STAR_COUNT_MAX = 5 };

#define REQUIRE(condition) ((condition) ? (void)0 : required(#condition))

static void required(const char *what)
{
    (void)fprintf(stderr, "not so: %s\n", what);
    abort();
}

/* ---- the meaning of one pattern [p, end) ---- */

/* Behind the character of a set at `p`, which goes to *c. */
static const char *set_character(const char *p, unsigned char *c)
{
    p += *p == '\\';
    *c = (unsigned char)*p;
    return p + 1;
}

/* Tells whether `c` is in the set from a '[' to its ']'; *behind goes behind the ']'. */
static bool in_set(const char *p, unsigned char c, const char **behind)
{
    bool inverted = p[1] == '!' || p[1] == '^';
    bool found = false;
    bool first = true;

    for (p += inverted ? 2 : 1; *p != ']' || first; first = false) {
        unsigned char low;
        unsigned char high;

        p = set_character(p, &low);
        high = low;
        if (*p == '-' && p[1] != ']')
            p = set_character(p + 1, &high);
        found = found || (low <= c && c <= high);
    }
    *behind = p + 1;
    return c != '/' && found != inverted;
}

static bool slow_match(const char *start, const char *p, const char *end, bool tree, const char *text);

/* A run of stars at `p`. */
static bool slow_stars(const char *start, const char *p, const char *end, bool tree, const char *text)
{
    const char *behind = p;
    bool wide;
    bool whole;

    while (behind < end && *behind == '*')
        behind++;
    wide = behind - p > 1;
    whole = wide && p > start && p[-1] == '/' && behind < end && *behind == '/';
    for (const char *t = text;; t++) {
        if ((!whole || t == text || t[-1] == '/') && slow_match(start, behind + whole, end, tree, t))
            return true;
        if (*t == '\0' || (!wide && *t == '/'))
            return false;
    }
}

static bool slow_match(const char *start, const char *p, const char *end, bool tree, const char *text)
{
    const char *behind;

    if (p == end)
        return tree || *text == '\0';
    if (*p == '*')
        return slow_stars(start, p, end, tree, text);
    if (*text == '\0')
        return false;
    if (*p == '?')
        return *text != '/' && slow_match(start, p + 1, end, tree, text + 1);
    if (*p == '[')
        return in_set(p, (unsigned char)*text, &behind) && slow_match(start, behind, end, tree, text + 1);
    p += *p == '\\';
    return *p == *text && slow_match(start, p + 1, end, tree, text + 1);
}

/* The '/' that ends a pattern makes it a tree; one without any is a name. In a set it does not
 * count, behind '\\' it does. */
static const char *last_slash(const char *p, const char *end)
{
    const char *slash = NULL;
    const char *behind;

    while (p < end) {
        if (*p == '[') {
            (void)in_set(p, 'x', &behind);
            p = behind;
            continue;
        }
        p += *p == '\\';
        if (*p == '/')
            slash = p;
        p++;
    }
    return slash;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* Reads "plain=" or "sized=" in front of a pattern. Returns its length, or 0. */
static size_t read_format(const char *item, enum pattern_format *format)
{
    *format = strncmp(item, "plain=", 6) == 0   ? PATTERN_PLAIN
              : strncmp(item, "sized=", 6) == 0 ? PATTERN_SIZED
                                                : PATTERN_NO_FORMAT;
    return *format == PATTERN_NO_FORMAT ? 0 : 6;
}

/* Says whether the list takes the path in, and which format it asks for. */
static bool slow_list(const char *list, const char *path, enum pattern_format *asked)
{
    bool taken_in = false;
    bool taken_out = false;

    *asked = PATTERN_NO_FORMAT;
    while (*list != '\0') {
        const char *end = list;
        enum pattern_format format = PATTERN_NO_FORMAT;
        bool takes_out = *list == '!';
        const char *start = list + (takes_out ? 1 : read_format(list, &format));
        const char *slash;

        while (*end != '\0' && *end != ':')
            end += *end == '\\' ? 2 : 1;
        slash = last_slash(start, end);
        if (start < end && slow_match(start, start, end, slash != NULL && slash + 1 == end,
                                      slash != NULL ? path : name_of(path))) {
            taken_out = taken_out || takes_out;
            taken_in = true;
            if (!takes_out && format != PATTERN_NO_FORMAT)
                *asked = format;
        }
        list = *end == ':' ? end + 1 : end;
    }
    return taken_in && !taken_out;
}

/* ---- the target ---- */

static int count_stars(const char *list)
{
    int count = 0;

    for (; *list != '\0'; list++)
        count += *list == '*' && list[1] != '*';
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *list = malloc(size + 2);
    char *path;
    const char *where;
    const char *fault;
    struct pattern_index index;
    void *memory;
    enum pattern_format format;
    size_t length;
    bool matched;

    if (list == NULL || size > INPUT_MAX) {
        free(list);
        return -1;
    }
    memcpy(list, data, size);
    list[size] = list[size + 1] = '\0';
    path = list + strlen(list) + (strlen(list) < size);

    fault = pattern_check(list, &where, &length);
    matched = pattern_match(list, path);
    if (fault != NULL)
        REQUIRE(*fault != '\0' && where >= list && where + length <= list + strlen(list));
    else if (strlen(list) <= SLOW_MAX && strlen(path) <= SLOW_MAX && count_stars(list) <= STAR_COUNT_MAX)
        REQUIRE(matched == slow_list(list, path, &format) && pattern_format(list, path) == format);
    if (matched)
        REQUIRE(pattern_may_name(list, name_of(path)));
    memory = calloc(1, pattern_index_size(list));
    if (memory != NULL) {
        pattern_index_make(&index, list, memory);
        if (fault == NULL)
            REQUIRE(pattern_index_match(&index, list, path) == matched &&
                    pattern_index_format(&index, list, path) == pattern_format(list, path));
        else
            (void)pattern_index_match(&index, list, path);
        REQUIRE(pattern_index_may_name(&index, list, path) == pattern_may_name(list, name_of(path)));
    }
    free(memory);
    free(list);
    return 0;
}

void fuzz_write_seeds(void)
{
    static const char *const lists[] = {
        "/data/app.cfg",   "/data/*.cfg:!/data/tmp/", "/data/",       "/data/**/app.cfg", "*.cfg:x?",
        "/d/[a-c][!x]\\:", "**/x/*:/a**b/[^/]",       "/a/[]-]:!\\*:"};
    static const char *const paths[] = {"/data/app.cfg", "/data/tmp/a.cfg", "/d/b:", "/x", "/a/]"};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++) {
            char seed[128];
            int size = snprintf(seed, sizeof seed, "%s%c%s", lists[i], '\0', paths[k]);

            fuzz_write_seed(seed, (size_t)size);
        }
}
