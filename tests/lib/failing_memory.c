/*
 * The memory of build/failing/atomshim: from main() on the allocation with the number $ALLOCATION
 * fails, be it the command's or the libc's, and with "N+" all that follow it, too. malloc() writes
 * a byte to descriptor 9 for each.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Alignas(16) char room[32 << 20];
static size_t used;
static long count;

static int is_to_fail(void)
{
    const char *wanted = getenv("ALLOCATION");
    char *end = NULL;
    long number = wanted == NULL ? 0 : strtol(wanted, &end, 10);

    count += cli_self != NULL; /* main() begins with that */
    return number != 0 && (count == number || (*end == '+' && count > number));
}

/* Each block lies behind its size. */
void *malloc(size_t size)
{
    size_t *block = (size_t *)(void *)(room + used);

    if (is_to_fail() || size > sizeof room - used - 32) {
        (void)!write(9, "!", 1);
        errno = ENOMEM;
        return NULL;
    }
    *block = size;
    used += (size + 31) / 16 * 16;
    return (char *)block + 16;
}

void free(void *block)
{
    (void)block;
}

void *calloc(size_t number, size_t size)
{
    return malloc(number * size); /* `room` holds zeros, and no block is used again */
}

void *realloc(void *block, size_t size)
{
    size_t before = block == NULL ? 0 : *(size_t *)(void *)((char *)block - 16);
    void *moved = malloc(size);

    if (moved != NULL && block != NULL)
        memcpy(moved, block, before < size ? before : size);
    return moved;
}
