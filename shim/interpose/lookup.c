/*
 * Finds the next definitions of our names, as dlsym(RTLD_NEXT) would. dlsym(3) itself is of no use
 * here: it allocates where a name is missing, while an allocator's own set-up may be what called
 * us; and before glibc 2.34 it lies in libdl, which not every image has. So this file reads the
 * tables of the loaded objects: System V ABI, "Hash Table", and the GNU hash table, which every
 * libc since 2006 has.
 */
#include "interpose/real.h"

#include "os/elf.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

struct search {
    const struct real_name *names;
    size_t count;
    bool past_us;
};

/*
 * The first object that defines a name provides it: objects come in the order in which the loader
 * searches them.
 */
static void find_names_in(struct search *search, Elf64_Addr base, const Elf64_Dyn *dynamic)
{
    struct elf_tables tables;

    if (dynamic == _DYNAMIC)
        search->past_us = true;
    if (dynamic == _DYNAMIC || !search->past_us)
        return;
    elf_read_tables(base, dynamic, &tables);
    for (size_t i = 0; i < search->count; i++) {
        const struct real_name *name = &search->names[i];
        const Elf64_Sym *symbol = *name->found ? NULL : elf_find_function(&tables, name->name);
        void *address;

        if (symbol == NULL)
            continue;
        address = (void *)(base + symbol->st_value);
        memcpy(name->pointer, &address, sizeof address);
        *name->found = true;
    }
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
    const Elf64_Phdr *self = elf_find_segment(headers, count, PT_PHDR);
    const Elf64_Phdr *dynamic = elf_find_segment(headers, count, PT_DYNAMIC);
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
    const Elf64_Phdr *dynamic = elf_find_segment(object->dlpi_phdr, object->dlpi_phnum, PT_DYNAMIC);

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
