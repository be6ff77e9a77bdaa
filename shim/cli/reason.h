/* Describes programs and files in words. */
#ifndef ATOMSHIM_REASON_H
#define ATOMSHIM_REASON_H

#include "program/program.h"
#include "store/store.h"

#include <stdio.h>

enum { REASON_PROGRAM_SIZE = 2 * PATH_MAX + 256 };

/* Says in `text` why the shim will not be in the program, by answer->obstacle. */
void reason_of_program(const struct program_answer *answer, const struct program_kind *shim,
                       char text[REASON_PROGRAM_SIZE]);

/* Calls program_loads_shim() for the program that execvp(3) runs in the end, through env(1).
 * Returns true, or false and the reason. Fills *answer, too. */
bool reason_loads_shim(const char *path, const struct program_kind *shim, struct program_answer *answer,
                       char text[REASON_PROGRAM_SIZE]);

/*
 * Returns a sentence about "it", the program, that names a part of it which may escape the shim
 * though the shim loads. The sentence is static. `index` 0, 1, ... asks for the next such finding;
 * NULL ends them.
 */
const char *reason_of_doubt(const char *program, int index);

/*
 * Tells whether `name` stands between two NULs in the file, as in a table of strings: a library
 * that it needs, a function.
 */
bool reason_mentions(const char *path, const char *name);

#define REASON_LIBC "the C library reads it by itself"

/*
 * Returns why the kernel may execute the file of `fd`, whose content *image is: it has an x bit, or
 * its content begins with #! or as an ELF file. A phrase of static storage, or NULL.
 */
const char *reason_to_be_executed(int fd, const struct store_image *image);

/*
 * Returns why programs without the shim, or parts of those with it, will read the bytes of the file
 * at `path` (canonical) as they are, so that it should be plain: a phrase of static storage, or
 * NULL if nothing is known.
 */
const char *reason_to_be_plain(const char *path);

#endif
