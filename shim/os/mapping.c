#include "os/mapping.h"

#include "os/buffer_name.h"
#include "os/descriptor.h"
#include "os/scratch.h"

#include <errno.h>
#include <string.h>

const char *mapping_parse_hex(const char *text, uint64_t *value)
{
    *value = 0;
    for (;; text++) {
        if (*text >= '0' && *text <= '9')
            *value = *value << 4 | (uint64_t)(*text - '0');
        else if (*text >= 'a' && *text <= 'f')
            *value = *value << 4 | (uint64_t)(*text - 'a' + 10);
        else
            return text;
    }
}

/* The file may have lost its name: an installation puts a new one in its place. */
static bool is_shim(const char *path)
{
    static const char name[] = "/libatomshim.so";
    const char *slash = strrchr(path, '/');

    if (slash == NULL || strncmp(slash, name, sizeof name - 1) != 0)
        return false;
    slash += sizeof name - 1;
    return *slash == '\0' || strcmp(slash, PROC_DELETED) == 0;
}

/* "START-END PERMS OFFSET DEVICE INODE PATH", proc(5) */
static bool parse_mapping(const char *line, struct mapping *mapping)
{
    uint64_t start;
    uint64_t end;
    uint64_t number = 0;

    line = mapping_parse_hex(line, &start);
    line = mapping_parse_hex(line + 1, &end);
    if (*line != ' ' || strlen(line) < 6)
        return false;
    mapping->protection = (line[1] == 'r' ? PROT_READ : 0) | (line[2] == 'w' ? PROT_WRITE : 0) |
                          (line[3] == 'x' ? PROT_EXEC : 0);
    mapping->shared = line[4] == 's';
    line = mapping_parse_hex(line + 6, &mapping->offset);
    line = strchr(line + 1, ' '); /* behind the device */
    if (line == NULL)
        return false;
    for (line++; *line >= '0' && *line <= '9'; line++)
        number = number * 10 + (uint64_t)(*line - '0');
    while (*line == ' ')
        line++;
    mapping->start = start;
    mapping->end = end;
    mapping->number = number;
    mapping->is_buffer = buffer_name_record(line) != NULL;
    mapping->is_shim = is_shim(line);
    return true;
}

static int open_maps(int process)
{
    char path[PROC_PATH_SIZE] = "/proc/self";

    if (process != 0)
        (void)descriptor_process_path(path, process);
    return sys_openat(AT_FDCWD, strcat(path, "/maps"), O_RDONLY | O_CLOEXEC, 0);
}

int mapping_for_each(int process, int (*visit)(const struct mapping *mapping, void *context), void *context)
{
    struct scratch scratch;
    struct mapping mapping;
    size_t size = 0;
    int result = 0;
    int fd = open_maps(process);

    if (fd < 0)
        return fd;
    if (scratch_take(&scratch, SCRATCH_CHUNK) != 0) {
        (void)sys_close(fd);
        return -ENOMEM;
    }
    for (;;) {
        char *text = scratch.bytes;
        ssize_t n = sys_read(fd, text + size, SCRATCH_CHUNK - 1 - size);
        char *newline;

        if (n <= 0) {
            result = (int)n;
            break;
        }
        size += (size_t)n;
        text[size] = '\0';
        while (result == 0 && (newline = strchr(text, '\n')) != NULL) {
            *newline = '\0';
            if (parse_mapping(text, &mapping))
                result = visit(&mapping, context);
            text = newline + 1;
        }
        if (result != 0)
            break;
        size -= (size_t)(text - (char *)scratch.bytes);
        memmove(scratch.bytes, text, size);
    }
    scratch_give(&scratch);
    (void)sys_close(fd);
    return result;
}
