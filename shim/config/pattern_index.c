/*
 * Each pattern stands in a hash table under what is literal at its two ends: the folders that it
 * begins with, up to a '/', and the end of its last component. A path has few of both: as many
 * folders as it is deep, and three ends.
 */
#include "config/pattern_index.h"

#include "os/path.h"

#include <string.h>

struct pattern_node {
    uint32_t at;      /* where the pattern begins in the list, with what stands in front of it */
    uint32_t start;   /* where it begins without that */
    uint32_t folders; /* the bytes of the literal folders that an absolute pattern begins with */
    uint32_t key;
    uint32_t end;
    uint32_t next_by_key; /* numbers of nodes from 1; 0 ends a chain */
    uint32_t next_by_end;
};

enum { SHORT_LIST = 4 };

/* FNV-1a */
#define HASH_OF_NOTHING UINT32_C(2166136261)
#define HASH_FACTOR UINT32_C(16777619)

static uint32_t add_to_hash(uint32_t hash, unsigned char c)
{
    return (hash ^ c) * HASH_FACTOR;
}

static uint32_t hash_of(uint32_t hash, const char *p, const char *end)
{
    for (; p < end; p++)
        hash = add_to_hash(hash, (unsigned char)*p);
    return hash;
}

static uint32_t key_of(uint32_t folders, uint32_t end)
{
    return (folders ^ end * HASH_FACTOR) * HASH_FACTOR;
}

/*
 * The ends of a component: nothing, all of it, and what begins with the last byte that is neither a
 * letter nor a digit, as ".cfg".
 */
enum { END_NOTHING, END_WHOLE, END_PIECE, ENDS };

static bool is_mark(unsigned char c)
{
    return c < 0x80 && !(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Returns the last mark in [p, end), or `end`. */
static const char *find_piece(const char *p, const char *end)
{
    const char *piece = end;

    while (piece > p)
        if (is_mark((unsigned char)*--piece))
            return piece;
    return end;
}

static uint32_t hash_end(int kind, const char *p, const char *end)
{
    return hash_of(add_to_hash(HASH_OF_NOTHING, (unsigned char)kind), p, end);
}

/* Hashes the literal end of a pattern, which a path that it matches must have, too. */
static uint32_t end_of_item(const struct pattern_item *item)
{
    const char *p = item->end;
    const char *piece;

    while (p > item->start && p[-1] != '/' && pattern_is_literal(p[-1]))
        p--;
    if (p < item->end && (p == item->start || p[-1] == '/'))
        return hash_end(END_WHOLE, p, item->end);
    piece = find_piece(p, item->end);
    return piece < item->end ? hash_end(END_PIECE, piece, item->end) : hash_end(END_NOTHING, p, p);
}

/* Returns how many bytes the literal folders have that an absolute pattern begins with. */
static uint32_t length_of_folders(const struct pattern_item *item)
{
    const char *behind = item->start;

    for (const char *p = item->start; *item->start == '/' && p < item->end && pattern_is_literal(*p); p++)
        if (*p == '/')
            behind = p + 1;
    return (uint32_t)(behind - item->start);
}

static void find_ends(const char *path, uint32_t ends[ENDS])
{
    const char *name = path_last_component(path);
    const char *end = name + strlen(name);
    const char *piece = find_piece(name, end);

    ends[END_NOTHING] = hash_end(END_NOTHING, end, end);
    ends[END_WHOLE] = hash_end(END_WHOLE, name, end);
    ends[END_PIECE] = piece < end ? hash_end(END_PIECE, piece, end) : ends[END_NOTHING];
}

/* Notes the last byte of the names that the pattern can match; all bytes if it is not literal. */
static void note_last_byte(struct pattern_index *index, const struct pattern_item *item)
{
    unsigned char last = item->end > item->start ? (unsigned char)item->end[-1] : '/';

    if (last != '/' && pattern_is_literal((char)last))
        index->last_bytes[last / 64] |= UINT64_C(1) << last % 64;
    else
        memset(index->last_bytes, 0xff, sizeof index->last_bytes);
}

/* Tells whether a name that can be matched ends as the path does. Costs less than hashes. */
static bool may_end_so(const struct pattern_index *index, const char *path)
{
    size_t length = strlen(path);
    unsigned char last = length != 0 && path[length - 1] != '/' ? (unsigned char)path[length - 1] : 0;

    return (index->last_bytes[last / 64] >> last % 64 & 1) != 0;
}

static size_t count_items(const char *patterns)
{
    struct pattern_item item;
    size_t count = 0;

    while (pattern_next(&patterns, &item))
        count++;
    return count;
}

static size_t count_chains(size_t items)
{
    size_t chains = 1;

    while (chains < items)
        chains *= 2;
    return chains;
}

size_t pattern_index_size(const char *patterns)
{
    size_t items = count_items(patterns);

    return (items + 1) * sizeof(struct pattern_node) + 2 * count_chains(items) * sizeof(uint32_t);
}

void pattern_index_make(struct pattern_index *index, const char *patterns, void *memory)
{
    size_t items = count_items(patterns);
    size_t chains = count_chains(items);
    const char *left = patterns;
    struct pattern_item item;

    *index = (struct pattern_index){.nodes = memory, .mask = (uint32_t)chains - 1, .count = (uint32_t)items};
    index->by_key = (uint32_t *)(index->nodes + items + 1);
    index->by_end = index->by_key + chains;
    for (uint32_t i = 1; pattern_next(&left, &item); i++) {
        struct pattern_node *node = &index->nodes[i];

        *node = (struct pattern_node){.at = (uint32_t)(item.whole - patterns),
                                      .start = (uint32_t)(item.start - patterns),
                                      .folders = length_of_folders(&item),
                                      .end = end_of_item(&item)};
        node->key = key_of(hash_of(HASH_OF_NOTHING, item.start, item.start + node->folders), node->end);
        node->next_by_key = index->by_key[node->key & index->mask];
        index->by_key[node->key & index->mask] = i;
        if (item.takes_out)
            continue;
        note_last_byte(index, &item);
        node->next_by_end = index->by_end[node->end & index->mask];
        index->by_end[node->end & index->mask] = i;
        if (item.end > item.start && item.end[-1] == '/') /* a tree */
            index->any_name = index->any_name || pattern_item_may_name(&item, "");
    }
}

/* The verdict on a path, by the patterns that the index has compared so far. */
struct answer {
    bool taken_in;
    bool taken_out;
    enum pattern_format format;
    uint32_t last; /* where the pattern begins that says the format */
};

static void ask_pattern(const struct pattern_node *node, const char *patterns, const char *path,
                        struct answer *answer)
{
    const char *left = patterns + node->at;
    struct pattern_item item;

    if (!pattern_next(&left, &item) || !pattern_item_matches(&item, path))
        return;
    if (item.takes_out)
        answer->taken_out = true;
    else
        answer->taken_in = true;
    if (item.format != PATTERN_NO_FORMAT && node->at >= answer->last) {
        answer->format = item.format;
        answer->last = node->at;
    }
}

/* Asks the patterns that have this key. */
static void ask_chain(const struct pattern_index *index, const char *patterns, uint32_t key, const char *path,
                      struct answer *answer)
{
    for (uint32_t i = index->by_key[key & index->mask]; i != 0; i = index->nodes[i].next_by_key)
        if (index->nodes[i].key == key)
            ask_pattern(&index->nodes[i], patterns, path, answer);
}

/* Asks each pattern of a short list that begins like the path. */
static struct answer ask_each(const struct pattern_index *index, const char *patterns, const char *path)
{
    struct answer answer = {.format = PATTERN_NO_FORMAT};

    for (const struct pattern_node *node = index->nodes + 1; node <= index->nodes + index->count; node++)
        if (strncmp(patterns + node->start, path, node->folders) == 0)
            ask_pattern(node, patterns, path, &answer);
    return answer;
}

static struct answer ask_all(const struct pattern_index *index, const char *patterns, const char *path)
{
    struct answer answer = {.format = PATTERN_NO_FORMAT};
    uint32_t folders = HASH_OF_NOTHING;
    uint32_t ends[ENDS];
    const char *p = path;

    if (index->count <= SHORT_LIST)
        return ask_each(index, patterns, path);
    find_ends(path, ends);
    for (;;) {
        for (int i = 0; i < ENDS; i++)
            ask_chain(index, patterns, key_of(folders, ends[i]), path, &answer);
        do
            if (*p == '\0')
                return answer;
            else
                folders = add_to_hash(folders, (unsigned char)*p);
        while (*p++ != '/');
    }
}

bool pattern_index_match(const struct pattern_index *index, const char *patterns, const char *path)
{
    struct answer answer;

    if (index->nodes == NULL)
        return pattern_match(patterns, path);
    answer = ask_all(index, patterns, path);
    return answer.taken_in && !answer.taken_out;
}

enum pattern_format pattern_index_format(const struct pattern_index *index, const char *patterns,
                                         const char *path)
{
    return index->nodes == NULL ? pattern_format(patterns, path) : ask_all(index, patterns, path).format;
}

bool pattern_index_may_hold(const struct pattern_index *index, const char *patterns, const char *folder)
{
    const size_t length = folder[1] == '\0' ? 0 : strlen(folder);

    if (index->nodes == NULL || index->count > SHORT_LIST)
        return true;
    for (const struct pattern_node *node = index->nodes + 1; node <= index->nodes + index->count; node++)
        if (node->folders == 0 ||
            (node->folders <= length + 1 && memcmp(patterns + node->start, folder, node->folders - 1) == 0 &&
             (node->folders == length + 1 || folder[node->folders - 1] == '/')))
            return true;
    return false;
}

bool pattern_index_may_name(const struct pattern_index *index, const char *patterns, const char *path)
{
    const char *name;
    uint32_t ends[ENDS];

    if (index->nodes == NULL)
        return pattern_may_name(patterns, path_last_component(path));
    if (index->any_name || index->count == 0 || !may_end_so(index, path))
        return index->any_name;
    name = path_last_component(path);
    find_ends(path, ends);
    for (int i = 0; i < ENDS; i++)
        for (uint32_t n = index->by_end[ends[i] & index->mask]; n != 0; n = index->nodes[n].next_by_end) {
            const char *left = patterns + index->nodes[n].at;
            struct pattern_item item;

            if (index->nodes[n].end == ends[i] && pattern_next(&left, &item) &&
                pattern_item_may_name(&item, name))
                return true;
        }
    return false;
}
