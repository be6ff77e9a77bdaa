#include "os/proc.h"

#include "os/descriptor.h"

#include <string.h>

int proc_open(int process, const char *name, int flags)
{
    char path[PROC_PATH_SIZE];
    char *end;

    if (process == PROC_SELF)
        (void)stpcpy(path, "/proc/self");
    else if (process == PROC_THREAD)
        (void)stpcpy(path, "/proc/thread-self");
    else
        (void)descriptor_process_path(path, process);
    end = strchr(path, '\0');
    if ((size_t)(path + sizeof path - end) < strlen(name) + 2)
        return -ENAMETOOLONG;
    *end++ = '/';
    memcpy(end, name, strlen(name) + 1);
    return DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, path, flags | O_CLOEXEC, 0));
}

ssize_t proc_read(int process, const char *name, char *text, size_t size)
{
    return proc_read_open(proc_open(process, name, O_RDONLY), text, size);
}

ssize_t proc_read_open(int fd, char *text, size_t size)
{
    ssize_t n = fd < 0 ? fd : sys_read(fd, text, size - 1);

    descriptor_close_if_open(fd);
    text[n < 0 ? 0 : n] = '\0';
    return n;
}

int proc_for_each_line(int fd, char *buffer, size_t size, int (*visit)(char *line, void *context),
                       void *context)
{
    size_t held = 0;
    int result = 0;

    while (result == 0) {
        ssize_t n = held + 1 == size ? -EOVERFLOW : sys_read(fd, buffer + held, size - 1 - held);
        char *line = buffer;
        char *newline;

        if (n <= 0)
            return (int)n;
        held += (size_t)n;
        buffer[held] = '\0';
        while (result == 0 && (newline = strchr(line, '\n')) != NULL) {
            *newline = '\0';
            result = visit(line, context);
            line = newline + 1;
        }
        held -= (size_t)(line - buffer);
        memmove(buffer, line, held);
    }
    return result;
}

const char *proc_parse_number(const char *text, unsigned base, uint64_t *value)
{
    static const char digits[] = "0123456789abcdef";
    const char *digit;

    for (*value = 0; *text != '\0' && (digit = memchr(digits, *text, base)) != NULL; text++)
        *value = *value * base + (uint64_t)(digit - digits);
    return text;
}

bool proc_find_field(const char *text, const char *name, unsigned base, uint64_t *value)
{
    size_t length = strlen(name);

    for (; text != NULL; text = strchr(text, '\n')) {
        text += *text == '\n';
        if (strncmp(text, name, length) == 0 && text[length] == ':' && text[length + 1] == '\t') {
            (void)proc_parse_number(text + length + 2, base, value);
            return true;
        }
    }
    return false;
}
