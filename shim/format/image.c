#include "format/image.h"

#include "format/crc32c.h"

#include <string.h>

/*
 * The lines as templates: 'D' is a decimal digit, 'X' a digit of the payload's CRC, 'H' one of the line's
 * own CRC, 'M' the mark; all else is literal. The encoder fills them in, the decoder checks against them.
 */
#define HEADER_TEXT                                                                                          \
    "#atomshim/1 generation=DDDDDDDDDDDDDDDDDDD size=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "          \
    "data=XXXXXXXX head=HHHHHHHH mark=M\n"
#define FOOTER_TEXT                                                                                          \
    "#atomshim/1-first-commit plain=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "                           \
    "start=XXXXXXXX .......................head=HHHHHHHH\n"
#define OLD_FOOTER_TEXT                                                                                      \
    "#atomshim/1-first-commit plain=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "                           \
    "......................................head=HHHHHHHH\n"
#define NOTE_TEXT "DDDDDDDDDDDDDDDDDDD DDDDDDDDDDDDDDDDDDD XXXXXXXX HHHHHHHH"

struct line {
    const char *text;
    int size;
    int magic_size; /* what begins so and is not valid is torn */
    int crc_span;   /* what the line's own CRC covers */
};

static const struct line header_line = {HEADER_TEXT, IMAGE_HEADER_SIZE, 12, 106};
static const struct line footer_line = {FOOTER_TEXT, IMAGE_HEADER_SIZE, 12, 114};
static const struct line old_footer_line = {OLD_FOOTER_TEXT, IMAGE_HEADER_SIZE, 12, 114};
static const struct line note_line = {NOTE_TEXT, IMAGE_NOTE_SIZE, 0, 48};

enum { FIELDS_MAX = 3 };

_Static_assert(sizeof HEADER_TEXT == IMAGE_HEADER_SIZE + 1, "a header is 128 bytes");
_Static_assert(sizeof FOOTER_TEXT == IMAGE_HEADER_SIZE + 1, "a footer is 128 bytes");
_Static_assert(sizeof OLD_FOOTER_TEXT == sizeof FOOTER_TEXT, "a footer is 128 bytes");
_Static_assert(sizeof NOTE_TEXT == IMAGE_NOTE_SIZE + 1, "a note is 57 bytes");

struct fields {
    uint64_t number[FIELDS_MAX];
    uint32_t data;
    uint32_t head;
    char mark;
};

static void put_digits(char *end, int count, uint64_t value, unsigned base)
{
    for (int i = 1; i <= count; i++, value /= base)
        end[-i] = "0123456789abcdef"[value % base];
}

/* The length of the run of one character that starts at text[i]. */
static int run_length(const struct line *line, int i)
{
    int length = 1;

    while (i + length < line->size && line->text[i + length] == line->text[i])
        length++;
    return length;
}

static bool is_field(char c)
{
    return c == 'D' || c == 'X' || c == 'H' || c == 'M';
}

static void encode(char *bytes, const struct line *line, const struct fields *fields)
{
    const char *text = line->text;
    int number = 0;

    memcpy(bytes, text, (size_t)line->size);
    for (int i = 0; i < line->size;) {
        int length = is_field(text[i]) ? run_length(line, i) : 1;
        char *end = bytes + i + length;

        if (text[i] == 'D')
            put_digits(end, length, fields->number[number++], 10);
        else if (text[i] == 'X')
            put_digits(end, length, fields->data, 16);
        else if (text[i] == 'H') /* the last number of a line: all that it covers is in place */
            put_digits(end, length, crc32c(0, bytes, (size_t)line->crc_span), 16);
        else if (text[i] == 'M')
            bytes[i] = fields->mark;
        i += length;
    }
}

/* Lower-case digits of `base`; false for any other character. */
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

static enum image_kind decode(const char *bytes, size_t size, const struct line *line, struct fields *fields)
{
    const char *text = line->text;
    int number = 0;

    if (size < (size_t)line->magic_size || memcmp(bytes, text, (size_t)line->magic_size) != 0)
        return IMAGE_ABSENT;
    if (size < (size_t)line->size)
        return IMAGE_TORN;
    for (int i = 0; i < line->size;) {
        int length = is_field(text[i]) ? run_length(line, i) : 1;
        uint64_t value = 0;

        if (text[i] == 'M')
            fields->mark = bytes[i];
        else if (!is_field(text[i])) {
            if (bytes[i] != text[i])
                return IMAGE_TORN;
        } else {
            if (!get_digits(bytes + i, length, text[i] == 'D' ? 10 : 16, &value))
                return IMAGE_TORN;
            if (text[i] == 'D' && value >= IMAGE_NUMBER_MAX)
                return IMAGE_TORN;
        }
        if (text[i] == 'D')
            fields->number[number++] = value;
        else if (text[i] == 'X')
            fields->data = (uint32_t)value;
        else if (text[i] == 'H')
            fields->head = (uint32_t)value;
        i += length;
    }
    return crc32c(0, bytes, (size_t)line->crc_span) == fields->head ? IMAGE_VALID : IMAGE_TORN;
}

/* Of a header whose first word was overwritten: do more than half of the characters behind, which all headers share, stand? */
static bool looks_like_header(const char *bytes, size_t size)
{
    int same = 0;
    int all = 0;

    if (size < IMAGE_HEADER_SIZE)
        return false;
    for (int i = header_line.magic_size; i < IMAGE_HEADER_SIZE; i++)
        if (!is_field(HEADER_TEXT[i])) {
            all++;
            same += bytes[i] == HEADER_TEXT[i];
        }
    return same > all / 2;
}

void image_encode_header(char bytes[IMAGE_HEADER_SIZE], const struct image_header *header)
{
    struct fields fields = {
        .number = {header->generation, header->size, header->twin},
        .data = header->payload_crc,
        .mark = header->flushed    ? IMAGE_MARK_FLUSHED
                : header->complete ? IMAGE_MARK_WRITTEN
                                   : IMAGE_MARK_NONE,
    };

    encode(bytes, &header_line, &fields);
}

enum image_kind image_decode_header(const char *bytes, size_t size, struct image_header *header)
{
    struct fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode(bytes, size, &header_line, &fields);

    if (kind == IMAGE_ABSENT && looks_like_header(bytes, size))
        return IMAGE_TORN;
    if (kind != IMAGE_VALID)
        return kind;
    if (fields.number[2] % IMAGE_PAGE != 0)
        return IMAGE_TORN;
    header->generation = fields.number[0];
    header->size = fields.number[1];
    header->twin = fields.number[2];
    header->payload_crc = fields.data;
    header->flushed = fields.mark == IMAGE_MARK_FLUSHED;
    header->complete = header->flushed || fields.mark == IMAGE_MARK_WRITTEN;
    header->bad_mark = !header->complete && fields.mark != IMAGE_MARK_NONE;
    return IMAGE_VALID;
}

void image_encode_footer(char bytes[IMAGE_HEADER_SIZE], const struct image_footer *footer)
{
    struct fields fields = {.number = {footer->plain_size, footer->twin}, .data = footer->start_crc};

    encode(bytes, footer->has_start ? &footer_line : &old_footer_line, &fields);
}

enum image_kind image_decode_footer(const char *bytes, size_t size, struct image_footer *footer)
{
    struct fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode(bytes, size, &footer_line, &fields);

    footer->has_start = kind == IMAGE_VALID;
    footer->start_crc = fields.data;
    if (kind == IMAGE_TORN)
        kind = decode(bytes, size, &old_footer_line, &fields);
    if (kind != IMAGE_VALID)
        return kind;
    if (fields.number[1] % IMAGE_PAGE != 0 || fields.number[1] == 0)
        return IMAGE_TORN;
    footer->plain_size = fields.number[0];
    footer->twin = fields.number[1];
    return IMAGE_VALID;
}

void image_encode_note(char bytes[IMAGE_NOTE_SIZE], const struct image_note *note)
{
    struct fields fields = {.number = {note->plain_size, note->file_size}, .data = note->plain_crc};

    encode(bytes, &note_line, &fields);
}

enum image_kind image_decode_note(const char *bytes, size_t size, struct image_note *note)
{
    struct fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode(bytes, size, &note_line, &fields);

    if (kind != IMAGE_VALID)
        return kind;
    if (size != IMAGE_NOTE_SIZE || fields.number[0] + IMAGE_HEADER_SIZE > fields.number[1])
        return IMAGE_TORN;
    note->plain_size = fields.number[0];
    note->file_size = fields.number[1];
    note->plain_crc = fields.data;
    return IMAGE_VALID;
}
