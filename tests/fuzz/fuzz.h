/* All fuzz targets include this: libFuzzer's entry points, a random number, seeds. */
#ifndef ATOMSHIM_FUZZ_H
#define ATOMSHIM_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

/* Calls fuzz_write_seed() for each seed of the target. */
void fuzz_write_seeds(void);

static unsigned fuzz_state;

static inline void fuzz_seed(unsigned seed)
{
    fuzz_state = seed;
}

static inline unsigned fuzz_random(void)
{
    fuzz_state = fuzz_state * 1103515245u + 12345u;
    return fuzz_state >> 12 & 0xfffff;
}

/* Writes one input to $SEEDS. */
static inline void fuzz_write_seed(const void *data, size_t size)
{
    static int count;
    char path[4096];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%03d", getenv("SEEDS"), count++);
    file = fopen(path, "w");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(2);
    }
}

/* With SEEDS=DIR the program writes its seeds there and ends. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (getenv("SEEDS") != NULL) {
        fuzz_write_seeds();
        exit(0);
    }
    return 0;
}

#endif
