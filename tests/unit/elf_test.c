/* os/elf: the look-up in a GNU hash table that is made here. */
#include "check.h"

#include "os/elf.h"

#include <elf.h>

enum { HIDDEN = 0x8000 };

/* The hash function of the table, which the test computes anew. */
static uint32_t hash_of(const char *name)
{
    uint32_t hash = 5381;

    while (*name != '\0')
        hash = (hash << 5) + hash + (unsigned char)*name++;
    return hash;
}

static const char strings[] = "\0read\0fence\0data\0old";
enum { READ = 1, FENCE = 6, DATA = 12, OLD = 17 };

/* A table of two buckets, one of which stays empty, with symbols from index 1 on. */
static struct {
    uint32_t buckets, first, bloom_words, bloom_shift;
    uint64_t bloom;
    uint32_t bucket[2];
    uint32_t chain[4];
} hash_table = {2, 1, 1, 0, UINT64_MAX, {0, 0}, {0}};

static const Elf64_Sym symbols[] = {
    {0},
    {.st_name = READ, .st_info = STT_FUNC, .st_shndx = 1, .st_value = 0x10},
    {.st_name = FENCE, .st_info = STT_FUNC, .st_shndx = SHN_UNDEF},
    {.st_name = DATA, .st_info = STT_OBJECT, .st_shndx = 1, .st_value = 0x30},
    {.st_name = OLD, .st_info = STT_FUNC, .st_shndx = 1, .st_value = 0x40},
};
static const Elf64_Half versions[] = {0, 2, 2, 2, 2 | HIDDEN};
static const struct elf_tables tables = {symbols, strings, &hash_table.buckets, versions};

/* Puts all symbols into the bucket of the first one. */
static unsigned fill_buckets(void)
{
    unsigned full = hash_of("read") % 2;

    hash_table.bucket[full] = 1;
    for (int i = 0; i < 4; i++)
        hash_table.chain[i] = hash_of(strings + symbols[i + 1].st_name) & ~1U;
    hash_table.chain[3] |= 1;
    return full;
}

static const char *name_for(unsigned bucket)
{
    static char name[] = "a";

    while (hash_of(name) % 2 != bucket)
        name[0]++;
    return name;
}

int main(void)
{
    unsigned full = fill_buckets();
    struct elf_tables none = tables;

    CHECK(elf_find_function(&tables, "read") == &symbols[1]);
    CHECK(elf_find_function(&tables, name_for(full)) == NULL);
    CHECK(elf_find_function(&tables, name_for(1 - full)) == NULL);
    for (int i = 2; i < 5; i++) { /* only looked for, of another type, not the default version */
        const char *name = strings + symbols[i].st_name;

        hash_table.bucket[hash_of(name) % 2] = 1;
        CHECK(elf_find_function(&tables, name) == NULL);
    }
    none.hash = NULL;
    CHECK(elf_find_function(&none, "read") == NULL);
    none = tables;
    none.versions = NULL;
    CHECK(elf_find_function(&none, "old") == &symbols[4]);
    return check_result();
}
