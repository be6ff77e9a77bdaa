#include "cli/json.h"

#include <inttypes.h>
#include <stdio.h>

static bool has_member; /* the object has a member already */

/* Returns the length of the UTF-8 sequence there, 0 if there is none (RFC 3629). */
static int sequence_length(const unsigned char *p)
{
    int more = *p < 0x80                 ? 0
               : *p >= 0xc2 && *p < 0xe0 ? 1
               : (*p & 0xf0) == 0xe0     ? 2
               : *p >= 0xf0 && *p < 0xf5 ? 3
                                         : -1;

    for (int i = 1; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return more + 1;
}

static void put_text(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    (void)putchar('"');
    while (*p != '\0') {
        int length = sequence_length(p);

        if (length == 0) {
            (void)fputs("\\ufffd", stdout);
            p++;
        } else if (*p < ' ' || *p == 0x7f)
            (void)printf("\\u%04x", *p++);
        else if (*p == '"' || *p == '\\')
            (void)printf("\\%c", *p++);
        else
            for (int i = 0; i < length; i++)
                (void)putchar(*p++);
    }
    (void)putchar('"');
}

static void put_name(const char *name)
{
    if (has_member)
        (void)fputs(", ", stdout);
    has_member = true;
    put_text(name);
    (void)fputs(": ", stdout);
}

void json_begin(void)
{
    (void)putchar('{');
    has_member = false;
}

void json_end(void)
{
    (void)fputs("}\n", stdout);
}

void json_text(const char *name, const char *value)
{
    put_name(name);
    if (value == NULL)
        (void)fputs("null", stdout);
    else
        put_text(value);
}

void json_number(const char *name, uint64_t value)
{
    put_name(name);
    (void)printf("%" PRIu64, value);
}

void json_bool(const char *name, bool value)
{
    put_name(name);
    (void)fputs(value ? "true" : "false", stdout);
}
