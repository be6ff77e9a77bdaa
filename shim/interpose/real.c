/*
 * Finds the next definitions of our names, as dlsym(RTLD_NEXT) would, each when it is called first:
 * few programs call many. dlsym(3) itself is of no use here: it takes a lock, and allocates where a
 * name is missing, while a signal handler or an allocator's own set-up may be what called us; and
 * before glibc 2.34 it lies in libdl, which not every image has. So this file reads the tables of
 * the loaded objects: System V ABI, "Hash Table", and the GNU hash table, which every libc since
 * 2006 has.
 */
#include "interpose/real.h"

#include "os/elf.h"

#include <sys/auxv.h>

real_function real_addresses[REAL_COUNT];

/*
 * The objects behind this one that were there when the first name was looked up, in the loader's
 * order. The loader takes none of them away while this one is there (dlclose(3)), and one that the
 * program loads later does not count, as if all names had been looked up at once.
 */
static const struct link_map *nearest; /* atomic */
static const struct link_map *farthest;
static bool is_ready; /* atomic */

/* Returns the fallback of calls.def, and the name that the libraries know. */
static real_function describe_call(enum real_number number, const char **name)
{
    switch (number) {
#define CALL(result, symbol, parameters, fallback)                                                           \
    case REAL_##symbol:                                                                                      \
        *name = #symbol;                                                                                     \
        return (real_function)fallback;
#include "interpose/calls.def"
#undef CALL
    case REAL_pthread_testcancel:
        *name = "pthread_testcancel";
        return NULL;
    case REAL___cxa_at_quick_exit:
        *name = "__cxa_at_quick_exit";
        return NULL;
    case REAL_at_quick_exit:
    default:
        *name = "at_quick_exit";
        return NULL;
    }
}

static real_function find_in(Elf64_Addr base, const Elf64_Dyn *dynamic, const char *name)
{
    struct elf_tables tables;
    const Elf64_Sym *symbol;

    elf_read_tables(base, dynamic, &tables);
    symbol = elf_find_function(&tables, name);
    /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
    return symbol == NULL ? NULL : (real_function)(base + symbol->st_value);
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
    const struct r_debug *debug = NULL;
    Elf64_Addr base;

    if (self == NULL || dynamic == NULL)
        return NULL;
    base = (Elf64_Addr)headers - self->p_vaddr;
    for (const Elf64_Dyn *entry = (const Elf64_Dyn *)(base + dynamic->p_vaddr); entry->d_tag != DT_NULL;
         entry++)
        if (entry->d_tag == DT_DEBUG)
            debug = (const struct r_debug *)entry->d_un.d_ptr;
    return debug == NULL ? NULL : debug->r_map;
}

/* Looks every name up that no object before this one has. */
static int visit_object(struct dl_phdr_info *object, size_t size, void *past_us)
{
    const Elf64_Phdr *segment = elf_find_segment(object->dlpi_phdr, object->dlpi_phnum, PT_DYNAMIC);
    const Elf64_Dyn *dynamic =
        segment == NULL ? NULL : (const Elf64_Dyn *)(object->dlpi_addr + segment->p_vaddr);

    (void)size;
    if (dynamic == NULL || (dynamic != _DYNAMIC && !*(bool *)past_us))
        return 0;
    for (enum real_number number = 0; *(bool *)past_us && number < REAL_COUNT; number++) {
        const char *name;

        (void)describe_call(number, &name);
        if (real_addresses[number] == NULL)
            real_addresses[number] = find_in(object->dlpi_addr, dynamic, name);
    }
    *(bool *)past_us = true;
    return 0;
}

void real_prepare(void)
{
    const struct link_map *object = first_object();
    bool past_us = false;

    while (object != NULL && object->l_ld != _DYNAMIC)
        object = object->l_next;
    if (object == NULL)
        /*
         * a program without DT_DEBUG, one that musl's loader was told to run, or a namespace of
         * dlmopen(3)
         */
        (void)dl_iterate_phdr(visit_object, &past_us);
    else
        for (const struct link_map *next = object->l_next; next != NULL; next = next->l_next)
            farthest = next;
    __atomic_store_n(&nearest, object == NULL ? NULL : object->l_next, __ATOMIC_RELEASE);
    __atomic_store_n(&is_ready, true, __ATOMIC_RELEASE);
}

real_function real_look_up(enum real_number number)
{
    const char *name;
    real_function fallback = describe_call(number, &name);
    real_function found = NULL;

    if (!__atomic_load_n(&is_ready, __ATOMIC_ACQUIRE))
        real_prepare();
    found = __atomic_load_n(&real_addresses[number], __ATOMIC_RELAXED);
    for (const struct link_map *object = nearest; found == NULL && object != NULL;
         object = object == farthest ? NULL : object->l_next)
        found = find_in(object->l_addr, object->l_ld, name);
    if (found == NULL)
        found = fallback;
    __atomic_store_n(&real_addresses[number], found, __ATOMIC_RELAXED);
    return found;
}
