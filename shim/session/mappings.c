/* This process's mappings of its sessions' memory, which outlive the descriptors. */
#include "session/internal.h"

#include "os/mapping.h"

struct of_number {
    ino_t number;
    struct session *session;
};

struct at_address {
    uintptr_t address;
    ino_t number;
};

static int covers(const struct mapping *mapping, void *context)
{
    struct at_address *wanted = context;

    if (!mapping->is_buffer || !mapping->shared || wanted->address < mapping->start ||
        wanted->address >= mapping->end)
        return 0;
    wanted->number = mapping->number;
    return 1;
}

static int with_memory(struct session *session, void *context)
{
    struct of_number *wanted = context;

    if (session->buffer_number != wanted->number)
        return 0;
    wanted->session = session;
    return 1;
}

int session_mapped_at(const void *address, struct session **session)
{
    struct at_address wanted = {.address = (uintptr_t)address};
    struct of_number search = {0};

    int found = mapping_for_each(0, covers, &wanted);

    *session = NULL;
    if (found != 1)
        return found;
    search.number = wanted.number;
    (void)session_for_each(with_memory, &search);
    *session = search.session;
    return 0;
}

static bool is_of(const struct mapping *mapping, const struct session *session)
{
    return mapping->is_buffer && mapping->number == session->buffer_number;
}

static int find_one(const struct mapping *mapping, void *context)
{
    return is_of(mapping, context);
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

    if (!is_of(mapping, remap->session))
        return 0;
    if (mapping->shared)
        (void)sys_mmap((void *)mapping->start, mapping->end - mapping->start, mapping->protection,
                       MAP_SHARED | MAP_FIXED, remap->session->buffer, mapping->offset);
    else
        remap->private_left = true; /* its pages may be the process's own: they cannot be mapped anew */
    return 0;
}

bool session_remap(const struct session *session)
{
    struct remap remap = {.session = session};

    (void)mapping_for_each(0, remap_one, &remap);
    return remap.private_left;
}
