/*
 * The actors of a history (history.c) and its checker (history_check.c) agree on these: names,
 * images, lines, and the log. A log has one line for each operation, with monotonic times in
 * nanoseconds:
 *
 *   w START END NAME           a commit: its close() has returned without an error
 *   r START END NAME           a read
 *   r START END torn           a read of something that nobody ever wrote
 *   x START END ERROR          an operation that failed
 *
 * Histories of appenders have a range instead of a name:
 *
 *   w START END WRITER FIRST LAST     the lines that were appended in one commit
 *   r START END LENGTH HASH           a read
 */
#ifndef HISTORY_H
#define HISTORY_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_SIZE = 1024, TINY = 3 };

#define HASH_START UINT64_C(14695981039346656037)

/* FNV-1a: the hash of a prefix can be continued. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (const unsigned char *byte = bytes; size-- != 0; byte++)
        hash = (hash ^ *byte) * UINT64_C(1099511628211);
    return hash;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/*
 * The name of an image is unique in its history. Images of 1 to TINY bytes have no room for more
 * than a number, which is drawn from one pool for all writers; the others carry their writer, its
 * sequence number, their size and a checksum.
 */
static inline uint64_t name_of_tiny(size_t size, uint64_t number)
{
    return (uint64_t)size << 56 | number;
}

static inline uint64_t name_of(unsigned writer, uint64_t sequence)
{
    return (uint64_t)writer << 40 | sequence;
}

struct image_start {
    uint64_t name, size, sum;
};

/* Sizes are 1 to TINY bytes, or at least that of struct image_start. */
static inline void make_image(char *bytes, size_t size, uint64_t name)
{
    struct image_start start = {.name = name, .size = size};
    uint64_t state = name + 1;

    if (size <= TINY) {
        memcpy(bytes, &name, size);
        return;
    }
    for (size_t i = sizeof start; i < size; i += sizeof state) {
        next_random(&state);
        memcpy(bytes + i, &state, size - i < sizeof state ? size - i : sizeof state);
    }
    memcpy(bytes, &start, sizeof start);
    start.sum = hash_bytes(HASH_START, bytes, size);
    memcpy(bytes, &start, sizeof start);
}

/* Returns false if these bytes are no image. May change them. */
static inline bool image_name(char *bytes, size_t size, uint64_t *name)
{
    struct image_start start = {0};
    uint64_t sum;

    if (size <= TINY) {
        memcpy(&start.name, bytes, size);
        *name = name_of_tiny(size, start.name);
        return size != 0;
    }
    if (size < sizeof start)
        return false;
    memcpy(&start, bytes, sizeof start);
    sum = start.sum;
    start.sum = 0;
    memcpy(bytes, &start, sizeof start);
    *name = start.name;
    return start.size == size && hash_bytes(HASH_START, bytes, size) == sum;
}

/* Makes the line number `sequence` of a writer, with the newline; returns its length. */
static inline size_t make_line(char line[LINE_MAX_SIZE], unsigned writer, uint64_t sequence)
{
    uint64_t state = name_of(writer, sequence) + 1;
    size_t filler = next_random(&state) % (LINE_MAX_SIZE - 64);
    int start = snprintf(line, LINE_MAX_SIZE, "%u %" PRIu64 " ", writer, sequence);

    memset(line + start, 'a' + (int)(next_random(&state) % 26), filler);
    line[(size_t)start + filler] = '\n';
    return (size_t)start + filler + 1;
}

#endif
