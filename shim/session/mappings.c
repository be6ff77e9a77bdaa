/* Handles this process's mappings of its sessions' buffers: a mapping outlives the descriptor. */
#include "session/internal.h"

#include "format/image.h"
#include "os/descriptor.h"
#include "os/mapping.h"
#include "os/proc.h"
#include "session/buffer.h"

#include <errno.h>

struct of_number {
    ino_t number;
    struct session *session;
};

struct at_address {
    uintptr_t address;
    ino_t number;
};

static int covers_address(const struct mapping *mapping, void *context)
{
    struct at_address *wanted = context;

    if (!mapping->is_buffer || !mapping->shared || wanted->address < mapping->start ||
        wanted->address >= mapping->end)
        return 0;
    wanted->number = mapping->number;
    return 1;
}

static int has_buffer_number(struct session *session, void *context)
{
    struct of_number *wanted = context;

    if (session->buffer_number != wanted->number)
        return 0;
    wanted->session = session;
    return 1;
}

int session_mapped_at(const void *address, struct session_found *found)
{
    struct at_address wanted = {.address = (uintptr_t)address};
    struct of_number search = {0};

    int result = mapping_for_each(0, covers_address, &wanted);

    found->session = NULL;
    if (result != 1)
        return result;
    search.number = wanted.number;
    (void)session_for_each(has_buffer_number, &search);
    found->session = search.session;
    found->buffer_number = wanted.number;
    return 0;
}

static bool shows_buffer_of(const struct mapping *mapping, const struct session *session)
{
    return mapping->is_buffer && mapping->number == session->buffer_number;
}

static int find_one(const struct mapping *mapping, void *context)
{
    return shows_buffer_of(mapping, context);
}

bool session_knows_mappings(void)
{
    int fd = proc_open(PROC_SELF, "maps", O_RDONLY);

    descriptor_close_if_open(fd);
    return fd >= 0;
}

bool session_is_mapped(const struct session *session)
{
    return mapping_for_each(0, find_one, (void *)session) == 1;
}

struct remap {
    const struct session *session;
    bool private_left;
};

static int remap_one(const struct mapping *mapping, void *context)
{
    struct remap *remap = context;

    if (!shows_buffer_of(mapping, remap->session))
        return 0;
    if (mapping->shared)
        (void)sys_mmap((void *)mapping->start, mapping->end - mapping->start, mapping->protection,
                       MAP_SHARED | MAP_FIXED, remap->session->buffer, mapping->offset);
    else
        remap->private_left = true; /* the process may have changed its pages: it keeps them */
    return 0;
}

bool session_remap(const struct session *session)
{
    struct remap remap = {.session = session};

    (void)mapping_for_each(0, remap_one, &remap);
    return remap.private_left;
}

/* ---- the last page of a file ---- */

/* Another thread may let the file grow meanwhile: this writes only if there are stray bytes. */
static void clear_tail(const struct session *session)
{
    struct stat before;
    struct stat now;
    size_t used;
    char *page;

    if (sys_fstat(session->buffer, &before) != 0)
        return;
    used = (size_t)before.st_size % IMAGE_PAGE;
    if (used == 0 || !(session->flags & SESSION_WRITABLE))
        return;
    page = sys_mmap(NULL, IMAGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, session->buffer,
                    (uint64_t)before.st_size - used);
    if (sys_is_error(page))
        return;
    for (size_t i = used; i < IMAGE_PAGE; i++)
        if (page[i] != 0 && sys_fstat(session->buffer, &now) == 0 && now.st_size == before.st_size)
            page[i] = 0;
    (void)sys_munmap(page, IMAGE_PAGE);
}

static int clear_in_turn(struct session *session, void *unused)
{
    (void)unused;
    clear_tail(session);
    return 0;
}

static int clear_one(struct session *session, void *unused)
{
    return SESSION_GET(session->flags) & SESSION_WRITABLE
               ? session_in_turn(session, false, clear_in_turn, unused, 0)
               : 0;
}

void session_clear_tail(struct session *session)
{
    if (session_is_stray(session) || !session_table_is_ours())
        clear_tail(session);
    else
        (void)clear_one(session, NULL);
}

void session_clear_tails(void)
{
    if (session_table_is_ours())
        (void)session_for_each(clear_one, NULL);
}

int session_check_size(const struct session *session, uint64_t size)
{
    return size >= IMAGE_NUMBER_MAX / 8 || buffer_is_beyond_memory(session->buffer, size) ? -EFBIG : 0;
}
