#include "format/record.h"

#include "format/crc32c.h"
#include "format/redo.h"

#include <string.h>

#define SHORT_TEXT "WWWW DDDDDDDDDD DDDDDDDDDDDDDDD XXXXXXXX IIIIIIII HHHHHHHH"
#define LONG_TEXT "WWWW DDDDDDDDDD DDDDDDDDDDDDDDD DDDDDDDDDDDDDDD XXXXXXXX IIIIIIII HHHHHHHH"
#define NOTE_TEXT "WWWW DDDDDDDDDDDDDDD DDDDDDDDDDDDDDD XXXXXXXX IIIIIIII HHHHHHHH"
#define OLD_NOTE_TEXT "DDDDDDDDDDDDDDDDDDD DDDDDDDDDDDDDDDDDDD XXXXXXXX HHHHHHHH"

#define LINE(text, tail)                                                                                     \
    {                                                                                                        \
        text, sizeof text - 1, 0, sizeof text - 1 - 9, tail                                                  \
    }

static const struct line short_line = LINE(SHORT_TEXT, true);
static const struct line long_line = LINE(LONG_TEXT, true);
static const struct line note_line = LINE(NOTE_TEXT, true);
static const struct line old_note_line = LINE(OLD_NOTE_TEXT, true);

_Static_assert(sizeof LONG_TEXT == RECORD_LINE_MAX + 1, "the longest line");
_Static_assert(sizeof NOTE_TEXT == RECORD_NOTE_SIZE + 1, "a note's size");
_Static_assert(sizeof OLD_NOTE_TEXT == RECORD_OLD_NOTE_SIZE + 1, "an old note's size");

static const struct {
    char word[LINE_WORD + 1];
    const struct line *line;
} words[] = {
    [RECORD_NONE] = {"", NULL},           [RECORD_IDLE] = {"IDLE", &short_line},
    [RECORD_KEPT] = {"KEPT", &long_line}, [RECORD_BUSY] = {"BUSY", &short_line},
    [RECORD_REDO] = {"REDO", &long_line}, [RECORD_BACK] = {"BACK", &long_line},
    [RECORD_FILE] = {"FILE", &long_line}, [RECORD_NOTE] = {"NOTE", &note_line},
};

size_t record_line_size(enum record_word word)
{
    return (size_t)words[word].line->size;
}

size_t record_encode(char *bytes, const struct record *record)
{
    const struct line *line = words[record->word].line;
    struct line_fields fields = {.data = record->crc, .identity = record->identity};
    int number = 0;

    if (record->generation > RECORD_GENERATION_MAX || record->size > RECORD_NUMBER_MAX ||
        record->other > RECORD_NUMBER_MAX)
        return 0;
    if (record->word != RECORD_NOTE)
        fields.number[number++] = record->generation;
    fields.number[number++] = record->size;
    if (line != &short_line)
        fields.number[number] = record->other;
    memcpy(fields.word, words[record->word].word, LINE_WORD);
    line_encode(bytes, line, &fields, record->body, record->body_size);
    return (size_t)line->size;
}

static bool are_spaces(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != ' ')
            return false;
    return true;
}

/* True if a record with this word can have such a body. */
static bool is_body(const struct record *record)
{
    switch (record->word) {
    case RECORD_REDO:
    case RECORD_BACK:
        return redo_is_body(record);
    case RECORD_KEPT:
    case RECORD_FILE:
        return record->body_size != 0 && record->body[0] == '/' &&
               memchr(record->body, '\0', record->body_size) == NULL;
    case RECORD_IDLE:
        return record->body_size <= RECORD_IDLE_MAX - (size_t)short_line.size &&
               are_spaces(record->body, record->body_size);
    default:
        return record->body_size == 0;
    }
}

static enum image_kind decode_old_note(const char *bytes, size_t size, struct record *record)
{
    struct line_fields fields = {0};

    if (size != RECORD_OLD_NOTE_SIZE || line_decode(bytes, size, &old_note_line, &fields) != IMAGE_VALID)
        return IMAGE_ABSENT;
    *record = (struct record){.word = RECORD_NOTE,
                              .size = fields.number[0],
                              .other = fields.number[1],
                              .crc = fields.data,
                              .body = bytes + size};
    return IMAGE_VALID;
}

static enum record_word find_word(const char *bytes, size_t size)
{
    for (enum record_word word = RECORD_NOTE; word != RECORD_NONE && size >= LINE_WORD; word--)
        if (memcmp(bytes, words[word].word, LINE_WORD) == 0)
            return word;
    return RECORD_NONE;
}

enum image_kind record_decode(const char *bytes, size_t size, struct record *record)
{
    enum record_word word = find_word(bytes, size);
    struct line_fields fields = {0};
    const struct line *line = words[word].line;
    int number = 0;
    struct record found;

    if (word == RECORD_NONE)
        return decode_old_note(bytes, size, record);
    if (line_decode(bytes, size, line, &fields) != IMAGE_VALID)
        return IMAGE_TORN;
    found =
        (struct record){.word = word, .crc = fields.data, .identity = fields.identity, .has_identity = true};
    if (word != RECORD_NOTE)
        found.generation = fields.number[number++];
    found.size = fields.number[number++];
    if (line != &short_line)
        found.other = fields.number[number];
    found.body = bytes + line->size;
    found.body_size = size - (size_t)line->size;
    if (!is_body(&found))
        return IMAGE_TORN;
    *record = found;
    return IMAGE_VALID;
}

uint32_t record_identity(uint64_t number, int64_t seconds, uint32_t nanoseconds)
{
    uint64_t words64[3] = {number, (uint64_t)seconds, nanoseconds};

    return crc32c_mixed(0, words64, sizeof words64);
}
