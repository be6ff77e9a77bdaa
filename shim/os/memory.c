#include "os/memory.h"

#include "os/descriptor.h"
#include "os/proc.h"
#include "os/scratch.h"

#include <limits.h>
#include <string.h>

enum { TEXT_SIZE = 4096 };

/* Reads the start of a file as text; "" if that fails. */
static void read_text(const char *path, char text[TEXT_SIZE])
{
    int fd = DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));

    (void)proc_read_open(fd, text, TEXT_SIZE);
}

/* Returns the number that follows the first `name` in the text, and blanks; else `otherwise`. */
static uint64_t find_number(const char *text, const char *name, uint64_t otherwise)
{
    const char *at = strstr(text, name);
    uint64_t number;

    if (at == NULL)
        return otherwise;
    at += strlen(name);
    at += strspn(at, " ");
    return proc_parse_number(at, 10, &number) == at ? otherwise : number;
}

/* The files of the two versions. */
struct version {
    const char *line;   /* in /proc/self/cgroup, in front of the path of the group */
    const char *folder; /* below which that path lies */
    const char *limit;
    const char *usage;
};

static uint64_t number_in(const char *folder, const char *name, char text[TEXT_SIZE], uint64_t otherwise)
{
    char path[PATH_MAX / 4]; /* twice the room of a folder */

    (void)stpcpy(stpcpy(path, folder), name);
    read_text(path, text);
    return find_number(text, "", otherwise);
}

/* Returns how many bytes the group has left whose files lie in `folder`. */
static uint64_t left_in(const struct version *version, const char *folder, char text[TEXT_SIZE])
{
    uint64_t limit = number_in(folder, version->limit, text, UINT64_MAX);
    uint64_t usage = limit == UINT64_MAX ? 0 : number_in(folder, version->usage, text, 0);
    uint64_t of_files;

    if (limit == UINT64_MAX)
        return limit;
    (void)number_in(folder, "/memory.stat", text, 0);
    of_files = find_number(text, "\ninactive_file", 0) + find_number(text, "\nactive_file", 0);
    usage -= of_files < usage ? of_files : usage;
    return usage < limit ? limit - usage : 0;
}

/* In a container the mount's root may be the group of the container, while the kernel names the
 * group by its path on the host. */
static uint64_t left_in_cgroup(char text[TEXT_SIZE])
{
    static const struct version versions[] = {
        {":memory:", "/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes"},
        {"0::", "/sys/fs/cgroup", "/memory.max", "/memory.current"},
    };
    char folder[PATH_MAX / 8];
    const char *group = NULL;
    size_t length;
    uint64_t left;
    size_t i;

    read_text("/proc/self/cgroup", text);
    for (i = 0; group == NULL && i < sizeof versions / sizeof versions[0]; i++)
        group = strstr(text, versions[i].line);
    if (group == NULL)
        return UINT64_MAX;
    i--;
    group += strlen(versions[i].line);
    length = strcspn(group, "\n");
    if (strlen(versions[i].folder) + length >= sizeof folder)
        return UINT64_MAX;
    memcpy(stpcpy(folder, versions[i].folder), group, length);
    folder[strlen(versions[i].folder) + length] = '\0';
    left = left_in(&versions[i], folder, text);
    return left != UINT64_MAX ? left : left_in(&versions[i], versions[i].folder, text);
}

uint64_t memory_available(void)
{
    struct scratch scratch;
    uint64_t available;
    uint64_t left;

    if (scratch_take(&scratch, TEXT_SIZE) != 0)
        return UINT64_MAX;
    read_text("/proc/meminfo", scratch.bytes);
    available = find_number(scratch.bytes, "\nMemAvailable:", UINT64_MAX / 1024) * 1024;
    left = left_in_cgroup(scratch.bytes);
    scratch_give(&scratch);
    return left < available ? left : available;
}
