/*
 * Symbols of an object that is in memory: System V ABI, "Dynamic Linking", and the GNU hash table,
 * which every libc since 2006 has.
 */
#ifndef ATOMSHIM_ELF_H
#define ATOMSHIM_ELF_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The tables of an object. A pointer is NULL if the object has no such table. */
struct elf_tables {
    const Elf64_Sym *symbols;
    const char *strings;
    const uint32_t *hash;
    const Elf64_Half *versions;
};

/* Returns the first of `count` program headers that has this type, or NULL. */
const Elf64_Phdr *elf_find_segment(const Elf64_Phdr *headers, size_t count, Elf64_Word type);

/* Fills *tables from the dynamic section of the object that lies at `base`. */
void elf_read_tables(Elf64_Addr base, const Elf64_Dyn *dynamic, struct elf_tables *tables);

/*
 * Returns the default version of the function that an object defines under this name, or NULL: also
 * if the object has no GNU hash table.
 */
const Elf64_Sym *elf_find_function(const struct elf_tables *tables, const char *name);

#endif
