/* Lines of printable ASCII with fields of fixed width, as templates: headers, footers and
 * records are such lines. */
#ifndef ATOMSHIM_LINE_H
#define ATOMSHIM_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum image_kind {
    IMAGE_ABSENT, /* does not look like one of ours */
    IMAGE_TORN,   /* looks like one of ours, but its CRC or a field is wrong */
    IMAGE_VALID,
};

enum { LINE_NUMBERS = 3, LINE_WORD = 4 };

/*
 * In `text` a run of 'D' is a decimal number, of 'X' the sum `data`, of 'I' the identity, of 'H'
 * the line's own CRC, 'M' the mark, 'WWWW' the word; all else stands for itself. The encoder fills
 * the fields in, the decoder checks against the text.
 */
struct line {
    const char *text;
    int size;
    int magic_size; /* an invalid line that begins with so many bytes of the text is torn */
    int crc_span;   /* the line's own CRC covers so many of its first bytes, */
    bool has_tail;  /* and all the bytes that follow the line */
};

struct line_fields {
    uint64_t number[LINE_NUMBERS];
    uint32_t data;
    uint32_t identity;
    uint32_t head; /* the line's own CRC, set by the decoder */
    char mark;
    char word[LINE_WORD];
};

/* Writes line->size bytes; every number must fit its digits. If the line has a tail, `tail_size`
 * bytes of it follow. */
void line_encode(char *bytes, const struct line *line, const struct line_fields *fields, const void *tail,
                 size_t tail_size);

/*
 * Reads a line from the first of `size` bytes; if the line has a tail, all bytes behind the line
 * are the tail. IMAGE_VALID only if the CRC holds. *fields is of use only then. Numbers may have
 * any value that fits their digits.
 */
enum image_kind line_decode(const char *bytes, size_t size, const struct line *line,
                            struct line_fields *fields);

/* True for the characters of a template that stand for a field: the capital letters. */
static inline bool line_is_field(char c)
{
    return c >= 'A' && c <= 'Z';
}

#endif
