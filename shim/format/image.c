#include "format/image.h"

#include "format/line.h"

#define HEADER_TEXT                                                                                          \
    "#atomshim/1 generation=DDDDDDDDDDDDDDDDDDD size=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "          \
    "data=XXXXXXXX head=HHHHHHHH mark=M\n"
#define FOOTER_TEXT                                                                                          \
    "#atomshim/1-first-commit plain=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "                           \
    "start=XXXXXXXX .......................head=HHHHHHHH\n"
#define OLD_FOOTER_TEXT                                                                                      \
    "#atomshim/1-first-commit plain=DDDDDDDDDDDDDDDDDDD twin=DDDDDDDDDDDDDDDDDDD "                           \
    "......................................head=HHHHHHHH\n"

static const struct line header_line = {HEADER_TEXT, IMAGE_HEADER_SIZE, 12, 106, false};
static const struct line footer_line = {FOOTER_TEXT, IMAGE_HEADER_SIZE, 12, 114, false};
static const struct line old_footer_line = {OLD_FOOTER_TEXT, IMAGE_HEADER_SIZE, 12, 114, false};

_Static_assert(sizeof HEADER_TEXT == IMAGE_HEADER_SIZE + 1, "a header is 128 bytes");
_Static_assert(sizeof FOOTER_TEXT == IMAGE_HEADER_SIZE + 1, "a footer is 128 bytes");
_Static_assert(sizeof OLD_FOOTER_TEXT == sizeof FOOTER_TEXT, "a footer is 128 bytes");

/* Tells whether a header whose first word was overwritten still has more than half of the other
 * characters that all headers share. */
static bool looks_like_header(const char *bytes, size_t size)
{
    int same = 0;
    int all = 0;

    if (size < IMAGE_HEADER_SIZE)
        return false;
    for (int i = header_line.magic_size; i < IMAGE_HEADER_SIZE; i++)
        if (!line_is_field(HEADER_TEXT[i])) {
            all++;
            same += bytes[i] == HEADER_TEXT[i];
        }
    return same > all / 2;
}

/* Decodes a line. A line with a number from IMAGE_NUMBER_MAX on is torn. */
static enum image_kind decode_line(const char *bytes, size_t size, const struct line *line,
                                   struct line_fields *fields)
{
    enum image_kind kind = line_decode(bytes, size, line, fields);

    for (int i = 0; i < LINE_NUMBERS && kind == IMAGE_VALID; i++)
        if (fields->number[i] >= IMAGE_NUMBER_MAX)
            kind = IMAGE_TORN;
    return kind;
}

void image_encode_header(char bytes[IMAGE_HEADER_SIZE], const struct image_header *header)
{
    struct line_fields fields = {
        .number = {header->generation, header->size, header->twin},
        .data = header->payload_crc,
        .mark = header->flushed    ? IMAGE_MARK_FLUSHED
                : header->complete ? IMAGE_MARK_WRITTEN
                                   : IMAGE_MARK_NONE,
    };

    line_encode(bytes, &header_line, &fields, NULL, 0);
}

enum image_kind image_decode_header(const char *bytes, size_t size, struct image_header *header)
{
    struct line_fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode_line(bytes, size, &header_line, &fields);

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
    struct line_fields fields = {.number = {footer->plain_size, footer->twin}, .data = footer->start_crc};

    line_encode(bytes, footer->has_start ? &footer_line : &old_footer_line, &fields, NULL, 0);
}

enum image_kind image_decode_footer(const char *bytes, size_t size, struct image_footer *footer)
{
    struct line_fields fields = {.mark = IMAGE_MARK_NONE};
    enum image_kind kind = decode_line(bytes, size, &footer_line, &fields);

    footer->has_start = kind == IMAGE_VALID;
    footer->start_crc = fields.data;
    if (kind == IMAGE_TORN)
        kind = decode_line(bytes, size, &old_footer_line, &fields);
    if (kind != IMAGE_VALID)
        return kind;
    if (fields.number[1] % IMAGE_PAGE != 0 || fields.number[1] == 0)
        return IMAGE_TORN;
    footer->plain_size = fields.number[0];
    footer->twin = fields.number[1];
    return IMAGE_VALID;
}
