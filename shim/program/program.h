/* Which file a program name stands for, and whether the shim will load into it. */
#ifndef ATOMSHIM_CLI_PROGRAM_H
#define ATOMSHIM_CLI_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* What an ELF file runs on. A loader ignores a preload that differs in any of these. */
struct program_kind {
    unsigned char elf_class;
    unsigned char byte_order;
    uint16_t machine;
};

enum { PROGRAM_REASON_SIZE = 2 * PATH_MAX + 256 };

/*
 * Finds the file that execvp(name) would run, in PATH unless the name has a '/', and puts it into `path`,
 * which always has a '/'. Returns 0 or a positive errno: ENOENT if there is none, EACCES if what there is may
 * not be executed.
 */
int program_find(const char *name, char path[PATH_MAX]);

/*
 * Tells whether a loader that reads LD_PRELOAD will run in the process once `path` is executed: follows "#!"
 * lines to the program that is run in the end, which must be dynamically linked, of the shim's kind, with a
 * loader that exists, and must not run in secure-execution mode (ld.so(8)). If not, says why in `reason`.
 */
bool program_loads_shim(const char *path, const struct program_kind *shim, char reason[PROGRAM_REASON_SIZE]);

/* Is `name` a string of the file's: a library that it needs, a function that it calls, or, at worst, something else? */
bool program_mentions(const char *path, const char *name);

/* The loader that the ELF file names. False if there is none. */
bool program_loader(const char *path, char loader[PATH_MAX]);

/* Reads the kind of an ELF file. False if it is none. */
bool program_read_kind(int fd, struct program_kind *kind);

#endif
