/* In place of os/scratch.c, in the library whose system calls fail: it keeps no buffer, so that
 * each one that is taken is a call, which may fail. */
#include "os/scratch.h"
#include "os/sys.h"

int scratch_take(struct scratch *scratch, size_t size)
{
    scratch->size = size <= SCRATCH_CHUNK ? SCRATCH_CHUNK : size;
    scratch->bytes =
        sys_mmap(NULL, scratch->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sys_is_error(scratch->bytes))
        return 0;
    scratch->bytes = NULL;
    return -ENOMEM;
}

void scratch_give(struct scratch *scratch)
{
    if (scratch->bytes != NULL)
        (void)sys_munmap(scratch->bytes, scratch->size);
    scratch->bytes = NULL;
}
