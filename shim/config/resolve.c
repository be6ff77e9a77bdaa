#include "config/resolve.h"

#include "config/pattern.h"
#include "os/path_without_proc.h"
#include "os/scratch.h"
#include "os/sys.h"

#include <string.h>

/* The state lies at the start of a scratch buffer, and the new list behind it. */
struct resolver {
    size_t length; /* the list has so many bytes */
    size_t size;   /* the list has room for so many */
    bool added;
    char folder[PATH_MAX];    /* the folder that was resolved last, */
    char canonical[PATH_MAX]; /* and its path; "" if the folder has none */
    char path[PATH_MAX];
    char list[];
};

/* Appends `size` bytes; a list that does not fit ends before the pattern that does not. */
static bool append_bytes(struct resolver *resolver, const char *bytes, size_t size)
{
    if (resolver->size - resolver->length <= size)
        return false;
    memcpy(resolver->list + resolver->length, bytes, size);
    resolver->length += size;
    return true;
}

/* Appends a path as a pattern that matches it and nothing else. */
static bool append_path(struct resolver *resolver, const char *path)
{
    bool fits = true;

    for (; *path != '\0' && fits; path++)
        fits = (strchr(":*?[\\", *path) == NULL || append_bytes(resolver, "\\", 1)) &&
               append_bytes(resolver, path, 1);
    return fits;
}

/* Writes the text that the pattern's bytes [start, end) stand for; '\' is their only special
 * character. */
static bool read_literal(char path[PATH_MAX], const char *start, const char *end)
{
    size_t length = 0;

    for (; start < end && length < PATH_MAX - 1; start++) {
        if (*start == '\\')
            start++;
        path[length++] = *start;
    }
    path[length] = '\0';
    return start == end;
}

/* Finds where the literal part of a pattern ends: behind the pattern, or at the last '/' before a
 * special character. */
static const char *find_literal_end(const struct pattern_item *item)
{
    const char *slash = item->start;

    for (const char *p = item->start; p < item->end; p++) {
        if (strchr("*?[", *p) != NULL)
            return slash;
        if (*p == '/')
            slash = p;
        if (*p == '\\')
            p++;
    }
    return item->end;
}

/* Adds the pattern with `canonical` in place of its bytes before `rest`. */
static void add_twin(struct resolver *resolver, const struct pattern_item *item, const char *canonical,
                     const char *rest)
{
    size_t before = resolver->length;

    if (append_bytes(resolver, ":", 1) &&
        append_bytes(resolver, item->whole, (size_t)(item->start - item->whole)) &&
        append_path(resolver, strcmp(canonical, "/") == 0 ? "" : canonical) &&
        append_bytes(resolver, rest, (size_t)(item->end - rest)))
        resolver->added = true;
    else
        resolver->length = before;
}

/* Resolves the folder in front of `slash`, unless it is the one that was resolved last. */
static void resolve_folder(struct resolver *resolver, const struct pattern_item *item, const char *slash)
{
    if (slash == item->start || !read_literal(resolver->path, item->start, slash))
        return;
    if (strcmp(resolver->path, resolver->folder) != 0) {
        memcpy(resolver->folder, resolver->path, strlen(resolver->path) + 1);
        if (path_without_proc(AT_FDCWD, resolver->path, resolver->canonical) < 0)
            resolver->canonical[0] = '\0';
    }
    if (resolver->canonical[0] != '\0' && strcmp(resolver->folder, resolver->canonical) != 0)
        add_twin(resolver, item, resolver->canonical, slash);
}

/*
 * A pattern without special characters may name a link itself: the file that it leads to is meant,
 * too.
 */
static void resolve_file(struct resolver *resolver, const struct pattern_item *item)
{
    char byte;

    if (!read_literal(resolver->path, item->start, item->end) ||
        sys_readlinkat(AT_FDCWD, resolver->path, &byte, sizeof byte) < 0)
        return;
    resolver->folder[0] = '\0'; /* the answer needs its place */
    if (path_without_proc(AT_FDCWD, resolver->path, resolver->canonical) >= 0)
        add_twin(resolver, item, resolver->canonical, item->end);
}

static void resolve_item(struct resolver *resolver, const struct pattern_item *item)
{
    const char *end = find_literal_end(item);
    const char *slash = end;

    if (*item->start != '/')
        return;
    if (end == item->end)
        for (slash = end - 1; *slash != '/'; slash--)
            continue;
    resolve_folder(resolver, item, slash);
    if (end == item->end && slash + 1 < end)
        resolve_file(resolver, item);
}

/* The folder that is known to be canonical: the first bytes of a pattern. */
struct checked {
    const char *start;
    size_t length;
};

/* True if the component that ends at `end` is empty, "." or "..". */
static bool is_no_name(const char *path, const char *end)
{
    const char *p = end;

    while (p > path && p[-1] == '.' && end - p < 2)
        p--;
    return p[-1] == '/';
}

/*
 * True if nothing is to be added for the pattern, as for most: its literal part leads through no
 * symbolic link, or nowhere. False for one that needs a second look, too. This touches no memory
 * but the stack: page faults would cost the start of a program more than all the rest.
 */
static bool is_canonical(const struct pattern_item *item, struct checked *checked)
{
    const size_t length = (size_t)(find_literal_end(item) - item->start);
    char path[256];
    size_t at = 1;
    ssize_t n;
    char byte;

    if (*item->start != '/')
        return true;
    if (length >= sizeof path ||
        (item->start + length != item->end && length != 0 && item->start[length - 1] == '/'))
        return false;
    memcpy(path, item->start, length);
    path[length] = '\0';
    if (checked->length < length && path[checked->length] == '/' &&
        memcmp(path, checked->start, checked->length) == 0)
        at = checked->length + 1;
    for (; at < length || (at == length && path[at - 1] != '/'); at++) {
        if (path[at] == '\\')
            return false;
        if (at < length && path[at] != '/')
            continue;
        if (is_no_name(path, path + at))
            return false;
        path[at] = '\0';
        n = sys_readlinkat(AT_FDCWD, path, &byte, sizeof byte);
        if (n != -EINVAL) /* it is a link, or there is no such file, or no way to it */
            return n < 0;
        path[at] = '/';
        if (at < length)
            *checked = (struct checked){item->start, at};
    }
    return true;
}

static bool are_canonical(const char *patterns)
{
    struct checked checked = {patterns, 0};
    struct pattern_item item;

    while (pattern_next(&patterns, &item))
        if (!is_canonical(&item, &checked))
            return false;
    return true;
}

const char *config_resolve_patterns(const char *patterns)
{
    const char *left = patterns;
    struct pattern_item item;
    struct resolver *resolver;
    struct scratch scratch;

    if (are_canonical(patterns) || scratch_take(&scratch, SCRATCH_CHUNK) != 0)
        return patterns;
    resolver = scratch.bytes;
    resolver->length = 0;
    resolver->size = scratch.size - sizeof *resolver;
    resolver->added = false;
    resolver->folder[0] = '\0';
    while (pattern_next(&left, &item) && (resolver->length == 0 || append_bytes(resolver, ":", 1)) &&
           append_bytes(resolver, item.whole, (size_t)(item.end - item.whole)))
        resolve_item(resolver, &item);
    resolver->list[resolver->length] = '\0';
    if (resolver->added && *left == '\0')
        return resolver->list; /* the buffer stays taken */
    scratch_give(&scratch);
    return patterns;
}
