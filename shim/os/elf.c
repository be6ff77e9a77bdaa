#include "os/elf.h"

#include <elf.h>
#include <string.h>

enum { HIDDEN_VERSION = 0x8000 }; /* not the default version: LSB, "Symbol Versioning" */

const Elf64_Phdr *elf_find_segment(const Elf64_Phdr *headers, size_t count, Elf64_Word type)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].p_type == type)
            return &headers[i];
    return NULL;
}

/*
 * glibc has relocated the addresses in the dynamic section; musl and the kernel's object (vdso(7))
 * have not.
 */
static const void *address_of(Elf64_Addr base, Elf64_Addr pointer)
{
    return (const void *)(pointer < base ? base + pointer : pointer);
}

void elf_read_tables(Elf64_Addr base, const Elf64_Dyn *dynamic, struct elf_tables *tables)
{
    *tables = (struct elf_tables){0};
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        const void *address = address_of(base, dynamic->d_un.d_ptr);

        if (dynamic->d_tag == DT_SYMTAB)
            tables->symbols = address;
        else if (dynamic->d_tag == DT_STRTAB)
            tables->strings = address;
        else if (dynamic->d_tag == DT_GNU_HASH)
            tables->hash = address;
        else if (dynamic->d_tag == DT_VERSYM)
            tables->versions = address;
    }
}

static uint32_t hash_of(const char *name)
{
    uint32_t hash = 5381;

    for (; *name != '\0'; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

static bool is_definition(const struct elf_tables *tables, uint32_t index, const char *name)
{
    const Elf64_Sym *symbol = &tables->symbols[index];

    return symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0 && (symbol->st_info & 15) == STT_FUNC &&
           (tables->versions == NULL || (tables->versions[index] & HIDDEN_VERSION) == 0) &&
           strcmp(tables->strings + symbol->st_name, name) == 0;
}

const Elf64_Sym *elf_find_function(const struct elf_tables *tables, const char *name)
{
    const uint32_t *buckets;
    const uint32_t *chain;
    uint32_t first;
    uint32_t hash;
    uint32_t index;

    if (tables->symbols == NULL || tables->strings == NULL || tables->hash == NULL || tables->hash[0] == 0)
        return NULL;
    hash = hash_of(name);
    first = tables->hash[1];
    buckets = tables->hash + 4 + tables->hash[2] * (sizeof(Elf64_Addr) / sizeof(uint32_t));
    chain = buckets + tables->hash[0];
    index = buckets[hash % tables->hash[0]];
    if (index < first) /* the bucket is empty */
        return NULL;
    for (;; index++) {
        uint32_t entry = chain[index - first];

        if ((entry | 1) == (hash | 1) && is_definition(tables, index, name))
            return &tables->symbols[index];
        if (entry & 1) /* the bucket ends here */
            return NULL;
    }
}
