#include "os/mapping.h"

#include "os/buffer_name.h"
#include "os/descriptor.h"
#include "os/path.h"
#include "os/proc.h"
#include "os/scratch.h"

#include <errno.h>
#include <string.h>

/* The file may have lost its name: an installation puts a new one in its place. */
static bool is_shim(const char *path)
{
    static const char name[] = "/" SHIM_NAME;
    const char *slash = strrchr(path, '/');

    if (slash == NULL || strncmp(slash, name, sizeof name - 1) != 0)
        return false;
    slash += sizeof name - 1;
    return *slash == '\0' || strcmp(slash, PROC_DELETED) == 0;
}

bool mapping_parse(const char *line, struct mapping *mapping)
{
    uint64_t start;
    uint64_t end;
    uint64_t number;

    line = proc_parse_number(line, 16, &start);
    if (*line != '-')
        return false;
    line = proc_parse_number(line + 1, 16, &end);
    if (*line != ' ' || strlen(line) < 6)
        return false;
    mapping->protection = (line[1] == 'r' ? PROT_READ : 0) | (line[2] == 'w' ? PROT_WRITE : 0) |
                          (line[3] == 'x' ? PROT_EXEC : 0);
    mapping->shared = line[4] == 's';
    line = proc_parse_number(line + 6, 16, &mapping->offset);
    if (*line != ' ')
        return false;
    line = strchr(line + 1, ' '); /* behind the device */
    if (line == NULL)
        return false;
    line = proc_parse_number(line + 1, 10, &number);
    line += strspn(line, " ");
    mapping->start = start;
    mapping->end = end;
    mapping->number = number;
    mapping->is_buffer = buffer_name_record(line) != NULL;
    mapping->is_shim = is_shim(line);
    return true;
}

struct walk {
    int (*visit)(const struct mapping *mapping, void *context);
    void *context;
};

static int visit_line(char *line, void *context)
{
    const struct walk *walk = context;
    struct mapping mapping;

    return mapping_parse(line, &mapping) ? walk->visit(&mapping, walk->context) : 0;
}

int mapping_for_each(int process, int (*visit)(const struct mapping *mapping, void *context), void *context)
{
    struct walk walk = {visit, context};
    struct scratch scratch;
    int result;
    int fd = proc_open(process, "maps", O_RDONLY);

    if (fd < 0)
        return fd;
    result = scratch_take(&scratch, SCRATCH_CHUNK);
    if (result == 0) {
        result = proc_for_each_line(fd, scratch.bytes, SCRATCH_CHUNK, visit_line, &walk);
        scratch_give(&scratch);
    }
    (void)sys_close(fd);
    return result;
}

/* ---- without /proc ---- */

enum {
    PAGE = 4096,
    HIGHEST_BIT = 47, /* the kernel gives no higher address unasked */
    PROBES = 1 << 20, /* half a second; a sanitizer's shadow alone has billions of pages */
};

struct probe {
    struct walk walk;
    int left; /* so many more looks, at first PROBES */
};

/* MAP_FIXED_NOREPLACE (mmap(2)) fails with EEXIST if anything is mapped there; an older kernel than
 * 4.17 takes the address as a hint. */
static bool is_empty(uintptr_t start, size_t size)
{
    void *here = sys_mmap((void *)start, size, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (sys_is_error(here))
        return false;
    (void)sys_munmap(here, size);
    return true;
}

/* mremap(2) with an old size of 0 makes a second mapping of the same pages if the first is
 * shared. */
static bool is_shared(uintptr_t page)
{
    void *twin = (void *)SYS_CALL(SYS_mremap, page, 0, PAGE, MREMAP_MAYMOVE, 0, 0);

    if (sys_is_error(twin))
        return false;
    (void)sys_munmap(twin, PAGE);
    return true;
}

/* From the highest address down, since the kernel maps files there. */
static void visit_shared(uintptr_t start, size_t size, struct probe *probe)
{
    if (probe->left-- <= 0 || is_empty(start, size))
        return;
    if (size > PAGE && SYS_CALL(SYS_msync, start, size, MS_ASYNC, 0, 0, 0) != 0) { /* with holes */
        visit_shared(start + size / 2, size / 2, probe);
        visit_shared(start, size / 2, probe);
        return;
    }
    for (size_t rest = size; rest > 0 && probe->left-- > 0; rest -= PAGE) {
        uintptr_t page = start + rest - PAGE;
        struct mapping mapping = {.start = page, .end = page + PAGE, .shared = true};

        if (is_shared(page))
            (void)probe->walk.visit(&mapping, probe->walk.context);
    }
}

void mapping_for_each_shared(int (*visit)(const struct mapping *mapping, void *context), void *context)
{
    struct probe probe = {{visit, context}, PROBES};

    visit_shared(0, (size_t)1 << HIGHEST_BIT, &probe);
}
