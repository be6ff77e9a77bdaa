#include "format/line.h"

#include "format/crc32c.h"

#include <string.h>

static void put_digits(char *bytes, int count, uint64_t value, bool is_hexadecimal)
{
    while (count > 0 && value != 0) {
        bytes[--count] = "0123456789abcdef"[is_hexadecimal ? value % 16 : value % 10];
        value /= is_hexadecimal ? 16 : 10;
    }
    memset(bytes, '0', (size_t)count);
}

static bool get_decimal(const char *digits, int count, uint64_t *value)
{
    *value = 0;
    for (; count > 8 && memcmp(digits, "00000000", 8) == 0; count -= 8) /* most numbers are small */
        digits += 8;
    for (int i = 0; i < count; i++) {
        unsigned digit = (unsigned char)digits[i] - (unsigned)'0';

        if (digit > 9)
            return false;
        *value = *value * 10 + digit; /* 19 decimal digits fit 64 bits */
    }
    return true;
}

/* Refuses upper-case digits, which no encoder writes. */
static bool get_hexadecimal(const char *digits, int count, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < count; i++) {
        unsigned digit = (unsigned char)digits[i] - (unsigned)'0';

        if (digit > 9) {
            digit = (unsigned char)digits[i] - (unsigned)'a';
            if (digit > 5)
                return false;
            digit += 10;
        }
        *value = *value * 16 + digit;
    }
    return true;
}

/* A field of the template, and where the field before it ends. */
struct field {
    char kind; /* '\0': there is none, and all that is left stands for itself */
    int after;
    int start;
    int end;
};

/* Finds the field behind *field. */
static void find_next(const struct line *line, struct field *field)
{
    int i = field->end;

    field->after = i;
    while (i < line->size && !line_is_field(line->text[i]))
        i++;
    field->start = i;
    field->kind = line->text[i]; /* the text ends in a NUL */
    while (i < line->size && line->text[i] == field->kind)
        i++;
    field->end = i;
}

static uint32_t own_crc(const char *bytes, const struct line *line, const void *tail, size_t tail_size)
{
    return crc32c(crc32c(0, bytes, (size_t)line->crc_span), tail, line->has_tail ? tail_size : 0);
}

void line_encode(char *bytes, const struct line *line, const struct line_fields *fields, const void *tail,
                 size_t tail_size)
{
    struct field field = {.end = 0};
    int number = 0;

    memcpy(bytes, line->text, (size_t)line->size);
    for (find_next(line, &field); field.kind != '\0'; find_next(line, &field)) {
        char *at = bytes + field.start;
        int length = field.end - field.start;

        if (field.kind == 'D')
            put_digits(at, length, fields->number[number++], false);
        else if (field.kind == 'X' || field.kind == 'I')
            put_digits(at, length, field.kind == 'X' ? fields->data : fields->identity, true);
        else if (field.kind == 'H') /* the line's last number: the bytes before are in place */
            put_digits(at, length, own_crc(bytes, line, tail, tail_size), true);
        else if (field.kind == 'M')
            *at = fields->mark;
        else
            memcpy(at, fields->word, LINE_WORD);
    }
}

/* Reads the field of `length` characters at `bytes`. Returns false if no encoder writes such a
 * field. */
static bool get_field(char kind, const char *bytes, int length, struct line_fields *fields, int *number)
{
    switch (kind) {
    case 'D':
        return get_decimal(bytes, length, &fields->number[(*number)++]);
    case 'X':
        return get_hexadecimal(bytes, length, &fields->data);
    case 'I':
        return get_hexadecimal(bytes, length, &fields->identity);
    case 'H':
        return get_hexadecimal(bytes, length, &fields->head);
    case 'M':
        fields->mark = *bytes;
        return true;
    default:
        memcpy(fields->word, bytes, LINE_WORD);
        return true;
    }
}

enum image_kind line_decode(const char *bytes, size_t size, const struct line *line,
                            struct line_fields *fields)
{
    struct field field = {.kind = 'D', .end = 0};
    int number = 0;

    if (size < (size_t)line->magic_size || memcmp(bytes, line->text, (size_t)line->magic_size) != 0)
        return IMAGE_ABSENT;
    if (size < (size_t)line->size)
        return IMAGE_TORN;
    while (field.kind != '\0') {
        find_next(line, &field);
        if (memcmp(bytes + field.after, line->text + field.after, (size_t)(field.start - field.after)) != 0 ||
            (field.kind != '\0' &&
             !get_field(field.kind, bytes + field.start, field.end - field.start, fields, &number)))
            return IMAGE_TORN;
    }
    return own_crc(bytes, line, bytes + line->size, size - (size_t)line->size) == fields->head ? IMAGE_VALID
                                                                                               : IMAGE_TORN;
}
