#include "program/script.h"

#include "os/path.h"

#include <string.h>

static const char blank[] = " \t";

/* Takes the next word from *text, which goes behind it. Returns its length, 0 at the end. */
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

static void copy_interpreter(struct script *script, const char *name, size_t length)
{
    memcpy(script->interpreter, name, length);
    script->interpreter[length] = '\0';
}

static bool is_env(const char *interpreter)
{
    return strcmp(path_last_component(interpreter), "env") == 0;
}

/*
 * Reads the part of the line that env(1) interprets. With options or quotes that this function does
 * not know, env itself is the answer: the shim loads into it, and the program that env runs
 * inherits LD_PRELOAD.
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
        copy_interpreter(script, word, length);
        script->search = true;
        break;
    }
    return NULL;
}

static const char *read_line(const char *line, bool cut_off, bool through_env, struct script *script)
{
    const char *word;
    size_t length = next_word(&line, &word);

    if (length == 0)
        return "its #! line names no interpreter";
    if (cut_off && *line == '\0')
        return "its #! line is too long for the kernel";
    copy_interpreter(script, word, length);
    return through_env && is_env(script->interpreter) ? read_env(line, script) : NULL;
}

const char *script_read(const char *head, size_t size, bool through_env, struct script *script)
{
    char line[SCRIPT_HEAD_SIZE + 1];
    const char *end;

    script->search = false;
    if (size < 2 || memcmp(head, "#!", 2) != 0) {
        if (memchr(head, '\0', size) != NULL)
            return "it is neither an ELF file nor a script";
        copy_interpreter(script, "/bin/sh", strlen("/bin/sh"));
        return NULL;
    }
    if (size > SCRIPT_HEAD_SIZE)
        size = SCRIPT_HEAD_SIZE;
    memcpy(line, head, size);
    line[size] = '\0';
    end = memchr(line, '\n', size);
    if (end != NULL)
        line[end - line] = '\0';
    return read_line(line + 2, end == NULL && size == SCRIPT_HEAD_SIZE, through_env, script);
}
