#include "program/script.h"

#include <string.h>

static const char blank[] = " \t";

/* The next word of *text; an empty one at the end. *text goes behind it. */
static size_t next_word(const char **text, const char **word)
{
    size_t length;

    *word = *text + strspn(*text, blank);
    length = strcspn(*word, blank);
    *text = *word + length;
    return length;
}

static bool word_is(const char *word, size_t length, const char *expected)
{
    return strlen(expected) == length && memcmp(word, expected, length) == 0;
}

static void set_interpreter(struct script *script, const char *name, size_t length)
{
    memcpy(script->interpreter, name, length);
    script->interpreter[length] = '\0';
}

static bool is_env(const char *interpreter)
{
    const char *slash = strrchr(interpreter, '/');

    return strcmp(slash != NULL ? slash + 1 : interpreter, "env") == 0;
}

/*
 * The rest of a line that env interprets. With options or quotes that are not known here env itself stays the
 * answer: the shim loads into it, and what it runs inherits LD_PRELOAD.
 */
static const char *read_env(const char *rest, struct script *script)
{
    static const char split_long[] = "--split-string=";
    const char *word;
    size_t length;

    rest += strspn(rest, blank);
    if (strncmp(rest, "-S", 2) == 0)
        rest += 2;
    else if (strncmp(rest, split_long, sizeof split_long - 1) == 0)
        rest += sizeof split_long - 1;
    while ((length = next_word(&rest, &word)) != 0) {
        if (word_is(word, length, "-") || word_is(word, length, "-i") ||
            word_is(word, length, "--ignore-environment"))
            return "its #! line has env clear the environment, LD_PRELOAD with it";
        if (word[0] == '-' || strcspn(word, "\"'\\$") < length)
            break;
        if (memchr(word, '=', length) != NULL)
            continue;
        set_interpreter(script, word, length);
        script->search = true;
        break;
    }
    return NULL;
}

static const char *read_line(const char *line, bool cut_off, struct script *script)
{
    const char *word;
    size_t length = next_word(&line, &word);

    if (length == 0)
        return "its #! line names no interpreter";
    if (cut_off && *line == '\0')
        return "its #! line is too long for the kernel";
    set_interpreter(script, word, length);
    return is_env(script->interpreter) ? read_env(line, script) : NULL;
}

const char *script_read(const char *head, size_t size, struct script *script)
{
    char line[SCRIPT_HEAD_SIZE + 1];
    const char *end;

    script->search = false;
    if (size < 2 || memcmp(head, "#!", 2) != 0) {
        if (memchr(head, '\0', size) != NULL)
            return "it is neither an ELF file nor a script";
        set_interpreter(script, "/bin/sh", strlen("/bin/sh"));
        return NULL;
    }
    if (size > SCRIPT_HEAD_SIZE)
        size = SCRIPT_HEAD_SIZE;
    memcpy(line, head, size);
    line[size] = '\0';
    end = memchr(line, '\n', size);
    if (end != NULL)
        line[end - line] = '\0';
    return read_line(line + 2, end == NULL && size == SCRIPT_HEAD_SIZE, script);
}
