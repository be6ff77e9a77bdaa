/*
 * The next definitions of our names, as dlsym(RTLD_NEXT) would find them, which cannot be asked. It allocates where a name
 * is missing, and may be called from within an allocator's own set-up; and before glibc 2.34 it lies in a library of its own,
 * libdl: to need that would end every process of an image that has none. So the loaded objects' tables are read: System V ABI,
 * "Hash Table", and the GNU one, which every libc since 2006 has.
 */
#include "interpose/real.h"

#include <elf.h>
#include <link.h>
#include <string.h>

enum { HIDDEN_VERSION = 0x8000 }; /* of a version that is not the default: "Symbol Versioning" */

struct search {
    const struct real_name *names;
    size_t count;
    bool past_us;
};

/* The tables of a loaded object. */
struct tables {
    const Elf64_Sym *symbols;
    const char *strings;
    const uint32_t *hash;
    const Elf64_Half *versions;
};

/* glibc has put the addresses into place in its copy of the dynamic section, musl and the kernel's object have not. */
static const void *address_of(const struct dl_phdr_info *object, Elf64_Addr pointer)
{
    return (const void *)(pointer < object->dlpi_addr ? object->dlpi_addr + pointer : pointer);
}

static void read_tables(const struct dl_phdr_info *object, const Elf64_Dyn *entry, struct tables *tables)
{
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *address = address_of(object, entry->d_un.d_ptr);

        if (entry->d_tag == DT_SYMTAB)
            tables->symbols = address;
        else if (entry->d_tag == DT_STRTAB)
            tables->strings = address;
        else if (entry->d_tag == DT_GNU_HASH)
            tables->hash = address;
        else if (entry->d_tag == DT_VERSYM)
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

static bool is_it(const struct tables *tables, uint32_t index, const char *name)
{
    const Elf64_Sym *symbol = &tables->symbols[index];

    return symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0 && (symbol->st_info & 15) == STT_FUNC &&
           (tables->versions == NULL || (tables->versions[index] & HIDDEN_VERSION) == 0) &&
           strcmp(tables->strings + symbol->st_name, name) == 0;
}

static const Elf64_Sym *find_symbol(const struct tables *tables, const char *name)
{
    const uint32_t count = tables->hash[0];
    const uint32_t first = tables->hash[1];
    const uint32_t *buckets = tables->hash + 4 + tables->hash[2] * (sizeof(Elf64_Addr) / sizeof(uint32_t));
    const uint32_t *chain = buckets + count;
    uint32_t hash = hash_of(name);
    uint32_t index = count == 0 ? 0 : buckets[hash % count];

    if (index < first) /* an empty bucket */
        return NULL;
    for (;; index++) {
        uint32_t entry = chain[index - first];

        if ((entry | 1) == (hash | 1) && is_it(tables, index, name))
            return &tables->symbols[index];
        if (entry & 1) /* the last one of its bucket */
            return NULL;
    }
}

/* The first object that has a name is the one: objects come in the order in which they are searched. */
static int look_into(struct dl_phdr_info *object, size_t size, void *context)
{
    struct search *search = context;
    const Elf64_Dyn *dynamic = NULL;
    struct tables tables = {0};
    bool ours = false;

    (void)size;
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        Elf64_Addr start = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
        Elf64_Addr here = (Elf64_Addr)(void *)look_into;

        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const Elf64_Dyn *)start;
        else if (object->dlpi_phdr[i].p_type == PT_LOAD && here >= start &&
                 here - start < object->dlpi_phdr[i].p_memsz)
            ours = true;
    }
    if (!search->past_us || ours || dynamic == NULL) {
        search->past_us = search->past_us || ours;
        return 0;
    }
    read_tables(object, dynamic, &tables);
    if (tables.symbols == NULL || tables.strings == NULL || tables.hash == NULL)
        return 0;
    for (size_t i = 0; i < search->count; i++) {
        const struct real_name *name = &search->names[i];
        const Elf64_Sym *symbol = *name->found ? NULL : find_symbol(&tables, name->name);
        void *address;

        if (symbol == NULL)
            continue;
        address = (void *)(object->dlpi_addr + symbol->st_value);
        memcpy(name->pointer, &address, sizeof address);
        *name->found = true;
    }
    return 0;
}

void real_lookup(const struct real_name *names, size_t count)
{
    struct search search = {.names = names, .count = count};

    (void)dl_iterate_phdr(look_into, &search);
}
