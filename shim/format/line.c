#include "format/line.h"

#include "format/crc32c.h"

#include <string.h>

static void put_digits(char *end, int count, uint64_t value, unsigned base)
{
    for (int i = 1; i <= count; i++, value /= base)
        end[-i] = "0123456789abcdef"[value % base];
}

/* Reads a lower-case digit of `base`; returns false for any other character. */
static bool get_digits(const char *digits, int count, unsigned base, uint64_t *value)
{
    *value = 0;
    for (int i = 0; i < count; i++) {
        unsigned digit;

        if (digits[i] >= '0' && digits[i] <= '9')
            digit = (unsigned)(digits[i] - '0');
        else if (base == 16 && digits[i] >= 'a' && digits[i] <= 'f')
            digit = (unsigned)(digits[i] - 'a') + 10;
        else
            return false;
        *value = *value * base + digit; /* 19 decimal digits fit 64 bits */
    }
    return true;
}

/* Returns the length of the run of one character that starts at text[i]. */
static int run_length(const struct line *line, int i)
{
    int length = 1;

    while (i + length < line->size && line->text[i + length] == line->text[i])
        length++;
    return length;
}

bool line_is_field(char c)
{
    return c != '\0' && strchr("DXIHMW", c) != NULL;
}

static uint32_t own_crc(const char *bytes, const struct line *line, const void *tail, size_t tail_size)
{
    return crc32c(crc32c(0, bytes, (size_t)line->crc_span), tail, line->has_tail ? tail_size : 0);
}

void line_encode(char *bytes, const struct line *line, const struct line_fields *fields, const void *tail,
                 size_t tail_size)
{
    int number = 0;
    int length;

    memcpy(bytes, line->text, (size_t)line->size);
    for (int i = 0; i < line->size; i += length) {
        char c = line->text[i];
        char *end;

        length = line_is_field(c) ? run_length(line, i) : 1;
        end = bytes + i + length;
        if (c == 'D')
            put_digits(end, length, fields->number[number++], 10);
        else if (c == 'X' || c == 'I')
            put_digits(end, length, c == 'X' ? fields->data : fields->identity, 16);
        else if (c == 'H') /* the last number of a line: the bytes that it covers are in place */
            put_digits(end, length, own_crc(bytes, line, tail, tail_size), 16);
        else if (c == 'M')
            bytes[i] = fields->mark;
        else if (c == 'W')
            memcpy(bytes + i, fields->word, LINE_WORD);
    }
}

/* Reads the field of `length` characters at `bytes`. Returns false if no encoder writes such a
 * field. */
static bool get_field(char kind, const char *bytes, int length, struct line_fields *fields, int *number)
{
    uint64_t value = 0;

    if (kind == 'M')
        fields->mark = *bytes;
    else if (kind == 'W')
        memcpy(fields->word, bytes, LINE_WORD);
    else if (!get_digits(bytes, length, kind == 'D' ? 10 : 16, &value))
        return false;
    else if (kind == 'D')
        fields->number[(*number)++] = value;
    else if (kind == 'X')
        fields->data = (uint32_t)value;
    else if (kind == 'I')
        fields->identity = (uint32_t)value;
    else
        fields->head = (uint32_t)value;
    return true;
}

enum image_kind line_decode(const char *bytes, size_t size, const struct line *line,
                            struct line_fields *fields)
{
    const char *text = line->text;
    int number = 0;
    int length;

    if (size < (size_t)line->magic_size || memcmp(bytes, text, (size_t)line->magic_size) != 0)
        return IMAGE_ABSENT;
    if (size < (size_t)line->size)
        return IMAGE_TORN;
    for (int i = 0; i < line->size; i += length) {
        length = line_is_field(text[i]) ? run_length(line, i) : 1;
        if (!line_is_field(text[i]) ? bytes[i] != text[i]
                                    : !get_field(text[i], bytes + i, length, fields, &number))
            return IMAGE_TORN;
    }
    return own_crc(bytes, line, bytes + line->size, size - (size_t)line->size) == fields->head ? IMAGE_VALID
                                                                                               : IMAGE_TORN;
}
