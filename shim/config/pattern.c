#include "config/pattern.h"

#include "os/path.h"

#include <string.h>

/* The prefixes of a pattern that say the format. */
static const struct prefix {
    const char *text;
    enum pattern_format format;
} prefixes[] = {{"plain=", PATTERN_PLAIN}, {"sized=", PATTERN_SIZED}};

static enum pattern_format read_prefix(const char **p)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(*p, prefixes[i].text, strlen(prefixes[i].text)) == 0) {
            *p += strlen(prefixes[i].text);
            return prefixes[i].format;
        }
    return PATTERN_NO_FORMAT;
}

bool pattern_next(const char **list, struct pattern_item *item)
{
    const char *p = *list;

    while (*p == ':')
        p++;
    item->whole = p;
    item->format = read_prefix(&p);
    item->takes_out = item->format == PATTERN_NO_FORMAT && *p == '!';
    if (item->takes_out)
        p++;
    item->start = p;
    while (*p != '\0' && *p != ':')
        p += *p == '\\' && p[1] != '\0' ? 2 : 1;
    item->end = p;
    *list = p;
    return p != item->whole;
}

/* Returns where the set that begins at `p`, a '[', ends; NULL if nothing closes it. */
static const char *find_set_end(const char *p, const char *end)
{
    const char *first;

    p++;
    if (p < end && (*p == '!' || *p == '^'))
        p++;
    first = p;
    while (p < end && (*p != ']' || p == first))
        p += *p == '\\' && p + 1 < end ? 2 : 1;
    return p < end ? p + 1 : NULL;
}

static unsigned char take_set_char(const char **p)
{
    if (**p == '\\')
        ++*p;
    return (unsigned char)*(*p)++;
}

/* Tells whether `c` is in the set [p, end), whose last character is its ']'. */
static bool set_holds(const char *p, const char *end, unsigned char c)
{
    bool inverted = p[1] == '!' || p[1] == '^';
    bool found = false;

    p += inverted ? 2 : 1;
    while (p < end - 1) {
        unsigned char low = take_set_char(&p);
        unsigned char high = low;

        if (*p == '-' && p + 1 < end - 1) {
            p++;
            high = take_set_char(&p);
        }
        found = found || (low <= c && c <= high);
    }
    return found != inverted && c != '/';
}

/*
 * Matches one character of the text with the one token at *p, which is no star, and goes behind the
 * token.
 */
static bool match_token(const char **p, const char *end, char c)
{
    const char *token = *p;
    const char *behind;

    switch (*token) {
    case '?':
        *p = token + 1;
        return c != '/';
    case '[':
        behind = find_set_end(token, end);
        if (behind == NULL)
            return false; /* pattern_check() refuses it */
        *p = behind;
        return set_holds(token, behind, (unsigned char)c);
    case '\\':
        if (token + 1 < end)
            token++;
        break;
    default:
        break;
    }
    *p = token + 1;
    return *token == c;
}

/* The place to go on at after a mismatch: behind a star, at the first character not tried yet. */
struct retry {
    const char *pattern; /* NULL: no star yet */
    const char *text;
    bool whole; /* "**" between two '/': it stands for whole components, or for none */
};

/* The state of the matcher. */
struct match {
    const char *start;   /* the first byte of the pattern */
    const char *pattern; /* the rest of the pattern that is to be matched, up to `end` */
    const char *end;
    const char *text;    /* with this rest of the text */
    struct retry narrow; /* at the last '*' */
    struct retry wide;   /* at the last "**" */
};

/*
 * Lets "**" take more. If a '*' behind it ran into the end of its component (`stuck`), it would do
 * so wherever else "**" stopped in that component: skipping these places keeps the time at most
 * quadratic.
 */
static bool extend_wide(struct retry *wide, bool stuck)
{
    const char *slash;

    if (wide->pattern == NULL || *wide->text == '\0')
        return false;
    if (!wide->whole && !stuck) {
        wide->text++;
        return true;
    }
    slash = strchr(wide->text, '/');
    if (slash != NULL)
        wide->text = slash + 1;
    return slash != NULL;
}

/* Lets a star take more after a mismatch. Returns false if none can. */
static bool retry_match(struct match *match)
{
    struct retry *from = &match->narrow;

    if (from->pattern != NULL && *from->text != '/' && *from->text != '\0') {
        from->text++;
    } else {
        if (!extend_wide(&match->wide, from->pattern != NULL))
            return false;
        from->pattern = NULL;
        from = &match->wide;
    }
    match->pattern = from->pattern;
    match->text = from->text;
    return true;
}

/* Reads the star or stars at the front of the pattern, and remembers the place. */
static void take_star(struct match *match)
{
    const char *star = match->pattern;
    const char *p = star;

    while (p < match->end && *p == '*')
        p++;
    if (p - star == 1)
        match->narrow = (struct retry){.pattern = p, .text = match->text};
    else {
        bool whole = star > match->start && star[-1] == '/' && p < match->end && *p == '/';

        p += whole;
        match->wide = (struct retry){.pattern = p, .text = match->text, .whole = whole};
        match->narrow.pattern = NULL;
    }
    match->pattern = p;
}

/*
 * Matches all of the text with the pattern [p, end), or its beginning if the pattern ends in '/'
 * (`tree`). Only the last "*" and the last "**" need be remembered: an earlier star that took more
 * would leave the later ones less to choose from.
 */
static bool match_pattern(const char *p, const char *end, bool tree, const char *text)
{
    struct match match = {.start = p, .pattern = p, .end = end, .text = text};

    for (;;) {
        if (match.pattern == end && (tree || *match.text == '\0'))
            return true;
        if (match.pattern < end && *match.pattern == '*')
            take_star(&match);
        else if (match.pattern < end && *match.text != '\0' && match_token(&match.pattern, end, *match.text))
            match.text++;
        else if (!retry_match(&match))
            return false;
    }
}

/* The last component of a pattern, and the part of it behind its last "**". */
struct tail {
    const char *component;
    const char *behind_wide; /* NULL: no "**" in that component */
};

static struct tail find_tail(const struct pattern_item *item)
{
    struct tail tail = {.component = item->start};
    const char *p = item->start;

    while (p < item->end) {
        const char *behind = *p == '[' ? find_set_end(p, item->end) : NULL;

        if (behind != NULL)
            p = behind;
        else if (*p == '*' && p + 1 < item->end && p[1] == '*') {
            p += 2;
            tail.behind_wide = p;
        } else {
            if (*p == '\\' && p + 1 < item->end)
                p++;
            if (*p++ == '/')
                tail = (struct tail){.component = p};
        }
    }
    return tail;
}

bool pattern_item_matches(const struct pattern_item *item, const char *path)
{
    const char *component = find_tail(item).component;

    return match_pattern(item->start, item->end, component == item->end,
                         component == item->start ? path_last_component(path) : path);
}

/* ---- a cheap look at a pattern before it is read: in a long list most patterns are about other
 * files ---- */

bool pattern_is_literal(char c)
{
    /* most letters in paths are small ones, which lie behind all others in ASCII */
    return (unsigned char)c > ']' || (c != '*' && c != '?' && c != '[' && c != ']' && c != '\\');
}

/* Returns the end of the pattern at `p`, or NULL if a '\\' must be looked at to tell. */
static const char *find_end(const char *p)
{
    const char *end = strchr(p, ':');

    if (end == NULL)
        return p + strlen(p);
    return end > p && end[-1] == '\\' ? NULL : end;
}

/* Tells whether the path begins as the absolute pattern [p, end) does, up to its first token. */
static bool begins_like(const char *p, const char *end, const char *path)
{
    while (p < end && *p == *path && pattern_is_literal(*p)) {
        p++;
        path++;
    }
    return p == end || !pattern_is_literal(*p);
}

/*
 * Tells whether the path ends as the pattern does behind its last '/' or token. A prefix of a
 * pattern ends in '=' or '!'.
 */
static bool ends_like(const char *p, const char *end, const char *path, size_t length)
{
    for (; end > p && pattern_is_literal(end[-1]) && end[-1] != '/' && end[-1] != '=' && end[-1] != '!';
         end--)
        if (length == 0 || end[-1] != path[--length])
            return false;
    return true;
}

/* Goes past the patterns at the front of a list that cannot match the path, of `length` bytes. */
static const char *skip_unlike(const char *list, const char *path, size_t length)
{
    for (;;) {
        const char *p = list;
        const char *end;

        while (*p == ':')
            p++;
        end = *p == '\0' ? NULL : find_end(p);
        if (end == NULL || (ends_like(p, end, path, length) && (*p != '/' || begins_like(p, end, path))))
            return list;
        list = end;
    }
}

bool pattern_match(const char *patterns, const char *path)
{
    size_t length = strlen(path);
    struct pattern_item item;
    bool taken_in = false;

    while (patterns = skip_unlike(patterns, path, length), pattern_next(&patterns, &item))
        if (pattern_item_matches(&item, path)) {
            if (item.takes_out)
                return false;
            taken_in = true;
        }
    return taken_in;
}

enum pattern_format pattern_format(const char *patterns, const char *path)
{
    enum pattern_format format = PATTERN_NO_FORMAT;
    size_t length = strlen(path);
    struct pattern_item item;

    while (patterns = skip_unlike(patterns, path, length), pattern_next(&patterns, &item))
        if (item.format != PATTERN_NO_FORMAT && pattern_item_matches(&item, path))
            format = item.format;
    return format;
}

bool pattern_item_may_name(const struct pattern_item *item, const char *name)
{
    struct tail tail = find_tail(item);

    if (tail.component == item->end)
        return true;
    if (tail.behind_wide == NULL)
        return match_pattern(tail.component, item->end, false, name);
    do
        if (match_pattern(tail.behind_wide, item->end, false, name))
            return true;
    while (*name++ != '\0');
    return false;
}

bool pattern_may_name(const char *patterns, const char *name)
{
    struct pattern_item item;

    while (pattern_next(&patterns, &item))
        if (!item.takes_out && pattern_item_may_name(&item, name))
            return true;
    return false;
}

static const char *check_item(const struct pattern_item *item)
{
    const char *p = item->start;
    const char *end = item->end;
    const char *behind = p;

    if (p == end)
        return item->takes_out ? "nothing behind '!'" : "nothing behind '='";
    if (item->takes_out
            ? read_prefix(&behind) != PATTERN_NO_FORMAT
            : item->format != PATTERN_NO_FORMAT && (*p == '!' || read_prefix(&behind) != PATTERN_NO_FORMAT))
        return "one of plain=, sized= and '!' in front of a pattern, not two";
    if (find_tail(item).component != p && *p != '/' && (p + 1 == end || p[0] != '*' || p[1] != '*'))
        return p[strcspn(p, "=/")] == '=' ? "accepted in front of a pattern are plain= and sized="
                                          : "a pattern with a '/' starts with '/' or with '**'";
    while (p < end) {
        if (*p == '\\' && p + 1 == end)
            return "a '\\' at the end";
        if (*p == '[') {
            p = find_set_end(p, end);
            if (p == NULL)
                return "a '[' without its ']'";
        } else
            p += *p == '\\' ? 2 : 1;
    }
    return NULL;
}

const char *pattern_check(const char *patterns, const char **where, size_t *length)
{
    struct pattern_item item;

    while (pattern_next(&patterns, &item)) {
        const char *fault = check_item(&item);

        if (fault != NULL) {
            *where = item.whole;
            *length = (size_t)(item.end - *where);
            return fault;
        }
    }
    return NULL;
}
