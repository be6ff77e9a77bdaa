/*
 * An index over a list of patterns (pattern.h): a path is compared with the few that can match it,
 * however many there are.
 */
#ifndef ATOMSHIM_PATTERN_INDEX_H
#define ATOMSHIM_PATTERN_INDEX_H

#include "config/pattern.h"

struct pattern_node;

/* Zeroed it is the index of nothing: the functions below read the whole list then. */
struct pattern_index {
    struct pattern_node *nodes;
    uint32_t *by_key; /* where the chain of each hash begins */
    uint32_t *by_end;
    uint32_t mask;
    uint32_t count;
    bool any_name;          /* every name can be matched */
    uint64_t last_bytes[4]; /* a bit for each byte with which a name that can be matched ends */
};

/* Returns how many bytes of memory the index of `patterns` needs. */
size_t pattern_index_size(const char *patterns);

/* Makes the index of `patterns` in `memory`, which is zeroed, and stays the caller's. */
void pattern_index_make(struct pattern_index *index, const char *patterns, void *memory);

/* pattern_match() and pattern_format() for the patterns that the index was made of. */
bool pattern_index_match(const struct pattern_index *index, const char *patterns, const char *path);
enum pattern_format pattern_index_format(const struct pattern_index *index, const char *patterns,
                                         const char *path);

/*
 * False only if no file that lies right in `folder`, an absolute canonical path, can be matched,
 * whatever its name. True promises nothing; a long list gets no other answer.
 */
bool pattern_index_may_hold(const struct pattern_index *index, const char *patterns, const char *folder);

/* pattern_may_name() for the last component of `path`. */
bool pattern_index_may_name(const struct pattern_index *index, const char *patterns, const char *path);

#endif
