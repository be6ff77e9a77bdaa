/*
 * Finds the next definitions of our names, as dlsym(RTLD_NEXT) would. dlsym(3) itself is of no use
 * here: it allocates where a name is missing, while an allocator's own set-up may be what called
 * us; and before glibc 2.34 it lies in libdl, which not every image has. So this file reads the
 * tables of the loaded objects: System V ABI, "Hash Table", and the GNU hash table, which every
 * libc since 2006 has.
 */
#include "interpose/real.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

enum { HIDDEN_VERSION = 0x8000 }; /* not the default version: LSB, "Symbol Versioning" */

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

/*
 * glibc has relocated the addresses in the dynamic section; musl and the kernel's object (vdso(7))
 * have not.
 */
static const void *address_of(Elf64_Addr base, Elf64_Addr pointer)
{
    return (const void *)(pointer < base ? base + pointer : pointer);
}

static void read_tables(Elf64_Addr base, const Elf64_Dyn *entry, struct tables *tables)
{
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *address = address_of(base, entry->d_un.d_ptr);

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

static bool is_definition(const struct tables *tables, uint32_t index, const char *name)
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

/*
 * The first object that defines a name provides it: objects come in the order in which the loader
 * searches them.
 */
static void find_names_in(struct search *search, Elf64_Addr base, const Elf64_Dyn *dynamic)
{
    struct tables tables = {0};

    if (dynamic == _DYNAMIC)
        search->past_us = true;
    else if (search->past_us)
        read_tables(base, dynamic, &tables);
    if (tables.symbols == NULL || tables.strings == NULL || tables.hash == NULL)
        return;
    for (size_t i = 0; i < search->count; i++) {
        const struct real_name *name = &search->names[i];
        const Elf64_Sym *symbol = *name->found ? NULL : find_symbol(&tables, name->name);
        void *address;

        if (symbol == NULL)
            continue;
        address = (void *)(base + symbol->st_value);
        memcpy(name->pointer, &address, sizeof address);
        *name->found = true;
    }
}

/* Finds the segment of this type among the program headers. Returns NULL if there is none. */
static const Elf64_Phdr *find_segment(const Elf64_Phdr *headers, size_t count, Elf64_Word type)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].p_type == type)
            return &headers[i];
    return NULL;
}

/*
 * Returns the first object of the list that the loader keeps for debuggers, which the program's
 * DT_DEBUG leads to (<link.h>, struct r_debug), or NULL if the program has none. Unlike
 * dl_iterate_phdr(3), which another preloaded library may stand in front of and not be ready for,
 * reading the list calls nobody.
 */
static const struct link_map *first_object(void)
{
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    size_t count = headers == NULL ? 0 : getauxval(AT_PHNUM);
    const Elf64_Phdr *self = find_segment(headers, count, PT_PHDR);
    const Elf64_Phdr *dynamic = find_segment(headers, count, PT_DYNAMIC);
    const struct r_debug *debug;
    Elf64_Addr base;

    if (self == NULL || dynamic == NULL)
        return NULL;
    base = (Elf64_Addr)headers - self->p_vaddr;
    for (const Elf64_Dyn *entry = (const Elf64_Dyn *)(base + dynamic->p_vaddr); entry->d_tag != DT_NULL;
         entry++)
        if (entry->d_tag == DT_DEBUG) {
            debug = (const struct r_debug *)entry->d_un.d_ptr;
            return debug == NULL ? NULL : debug->r_map;
        }
    return NULL;
}

static int visit_object(struct dl_phdr_info *object, size_t size, void *search)
{
    const Elf64_Phdr *dynamic = find_segment(object->dlpi_phdr, object->dlpi_phnum, PT_DYNAMIC);

    (void)size;
    if (dynamic != NULL)
        find_names_in(search, object->dlpi_addr, (const Elf64_Dyn *)(object->dlpi_addr + dynamic->p_vaddr));
    return 0;
}

void real_lookup(const struct real_name *names, size_t count)
{
    struct search search = {.names = names, .count = count};

    for (const struct link_map *object = first_object(); object != NULL; object = object->l_next)
        find_names_in(&search, object->l_addr, object->l_ld);
    /*
     * a program without DT_DEBUG, one that musl's loader was told to run, or a namespace of
     * dlmopen(3)
     */
    if (!search.past_us)
        (void)dl_iterate_phdr(visit_object, &search);
}
