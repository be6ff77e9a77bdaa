#include "os/scratch.h"

#include "os/sys.h"

#include <errno.h>

/*
 * The buffers that are kept for the next taker; NULL while one is taken. An atomic exchange takes
 * and gives them, so that no lock is needed. A commit to a plain file needs one for the new
 * content, one for its record, and two to read what is there.
 */
static void *kept_buffers[4];

static void *exchange_kept(int slot, void *bytes)
{
    return __atomic_exchange_n(&kept_buffers[slot], bytes, __ATOMIC_ACQ_REL);
}

int scratch_take(struct scratch *scratch, size_t size)
{
    scratch->size = size <= SCRATCH_CHUNK ? SCRATCH_CHUNK : size;
    scratch->bytes = NULL;
    for (int i = 0; i < 4 && scratch->size == SCRATCH_CHUNK && scratch->bytes == NULL; i++)
        scratch->bytes = exchange_kept(i, NULL);
    if (scratch->bytes != NULL)
        return 0;
    scratch->bytes =
        sys_mmap(NULL, scratch->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sys_is_error(scratch->bytes))
        return 0;
    scratch->bytes = NULL;
    return -ENOMEM;
}

void scratch_give(struct scratch *scratch)
{
    void *bytes = scratch->bytes;

    scratch->bytes = NULL;
    for (int i = 0; i < 4 && scratch->size == SCRATCH_CHUNK && bytes != NULL; i++)
        bytes = exchange_kept(i, bytes);
    if (bytes != NULL)
        (void)sys_munmap(bytes, scratch->size);
}
