#include "image.h"

#include "crc32c.h"

#include <string.h>

/*
 * Both lines as templates: 'D' is a decimal digit, 'X' a digit of the payload's CRC, 'H' one of the line's
 * own CRC, 'M' the mark; all else is literal. The encoder fills them in, the decoder checks against them.
 */
static const char header_template[] =
    "#atomshim/1 generation=DDDDDDDDDDDDDDDDDDD size=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "
    "data=XXXXXXXX head=HHHHHHHH mark=M\n";
static const char footer_template[] =
    "#atomshim/1-first-commit plain=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "
    "......................................head=HHHHHHHH\n";

enum {
    MAGIC_SIZE = 12, /* "#atomshim/1 " or "#atomshim/1-" */
    HEADER_CRC_SPAN = 106,
    FOOTER_CRC_SPAN = 114,
    FIELDS_MAX = 3,
};

_Static_assert(sizeof header_template == IMAGE_HEADER_SIZE + 1, "a header is 128 bytes");
_Static_assert(sizeof footer_template == IMAGE_HEADER_SIZE + 1, "a footer is 128 bytes");

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

/* The length of the run of `kind` that starts at template[i]. */
static int run_length(const char *template, int i)
{
    int length = 1;

    while (i + length < IMAGE_HEADER_SIZE && template[i + length] == template[i])
        length++;
    return length;
}

static bool is_field(char c)
{
    return c == 'D' || c == 'X' || c == 'H' || c == 'M';
}

static void encode(char *bytes, const char *template, int crc_span, const struct fields *fields)
{
    int number = 0;

    memcpy(bytes, template, IMAGE_HEADER_SIZE);
    for (int i = 0; i < IMAGE_HEADER_SIZE;) {
        int length = is_field(template[i]) ? run_length(template, i) : 1;
        char *end = bytes + i + length;

        if (template[i] == 'D')
            put_digits(end, length, fields->number[number++], 10);
        else if (template[i] == 'X')
            put_digits(end, length, fields->data, 16);
        else if (template[i] == 'H') /* the last number of a line: all that it covers is in place */
            put_digits(end, length, crc32c(0, bytes, (size_t)crc_span), 16);
        else if (template[i] == 'M')
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

static enum image_kind decode(const char *bytes, size_t size, const char *template, int crc_span,
                              struct fields *fields)
{
    int number = 0;

    if (size < MAGIC_SIZE || memcmp(bytes, template, MAGIC_SIZE) != 0)
        return IMAGE_ABSENT;
    if (size < IMAGE_HEADER_SIZE)
        return IMAGE_TORN;
    for (int i = 0; i < IMAGE_HEADER_SIZE;) {
        int length = is_field(template[i]) ? run_length(template, i) : 1;
        uint64_t value = 0;

        if (template[i] == 'M')
            fields->mark = bytes[i];
        else if (!is_field(template[i])) {
            if (bytes[i] != template[i])
                return IMAGE_TORN;
        } else {
            if (!get_digits(bytes + i, length, template[i] == 'D' ? 10 : 16, &value))
                return IMAGE_TORN;
            if (template[i] == 'D' && value >= IMAGE_NUMBER_MAX)
                return IMAGE_TORN;
        }
        if (template[i] == 'D')
            fields->number[number++] = value;
        else if (template[i] == 'X')
            fields->data = (uint32_t)value;
        else if (template[i] == 'H')
            fields->head = (uint32_t)value;
        i += length;
    }
    return crc32c(0, bytes, (size_t)crc_span) == fields->head ? IMAGE_VALID : IMAGE_TORN;
}

void image_encode_header(char bytes[IMAGE_HEADER_SIZE], const struct image_header *header)
{
    struct fields fields = {
        .number = {header->generation, header->size, header->twin},
        .data = header->payload_crc,
        .mark = header->flushed ? IMAGE_MARK_FLUSHED : IMAGE_MARK_NONE,
    };

    encode(bytes, header_template, HEADER_CRC_SPAN, &fields);
}

enum image_kind image_decode_header(const char *bytes, size_t size, struct image_header *header)
{
    struct fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode(bytes, size, header_template, HEADER_CRC_SPAN, &fields);

    if (kind != IMAGE_VALID)
        return kind;
    if (fields.number[2] % IMAGE_PAGE != 0)
        return IMAGE_TORN;
    header->generation = fields.number[0];
    header->size = fields.number[1];
    header->twin = fields.number[2];
    header->payload_crc = fields.data;
    header->flushed = fields.mark == IMAGE_MARK_FLUSHED;
    return IMAGE_VALID;
}

void image_encode_footer(char bytes[IMAGE_HEADER_SIZE], const struct image_footer *footer)
{
    struct fields fields = {.number = {footer->plain_size, footer->twin}};

    encode(bytes, footer_template, FOOTER_CRC_SPAN, &fields);
}

enum image_kind image_decode_footer(const char *bytes, size_t size, struct image_footer *footer)
{
    struct fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode(bytes, size, footer_template, FOOTER_CRC_SPAN, &fields);

    if (kind != IMAGE_VALID)
        return kind;
    if (fields.number[1] % IMAGE_PAGE != 0 || fields.number[1] == 0)
        return IMAGE_TORN;
    footer->plain_size = fields.number[0];
    footer->twin = fields.number[1];
    return IMAGE_VALID;
}
