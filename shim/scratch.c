#include "scratch.h"

#include "sys.h"

#include <errno.h>

/* The kept buffer, or NULL while somebody has it. Exchanged atomically, so that no lock is needed. */
static void *kept;

int scratch_take(struct scratch *scratch, size_t size)
{
    scratch->size = size <= SCRATCH_CHUNK ? SCRATCH_CHUNK : size;
    scratch->bytes = NULL;
    if (scratch->size == SCRATCH_CHUNK)
        scratch->bytes = __atomic_exchange_n(&kept, NULL, __ATOMIC_ACQ_REL);
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
    if (bytes == NULL)
        return;
    if (scratch->size == SCRATCH_CHUNK)
        bytes = __atomic_exchange_n(&kept, bytes, __ATOMIC_ACQ_REL);
    if (bytes != NULL)
        (void)sys_munmap(bytes, scratch->size);
}
