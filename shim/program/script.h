/* Reads "#!" lines as the kernel and env(1) do. */
#ifndef ATOMSHIM_SCRIPT_H
#define ATOMSHIM_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

enum { SCRIPT_HEAD_SIZE = 256 }; /* BINPRM_BUF_SIZE of <linux/binfmts.h> */

/* The program that runs a script. */
struct script {
    char interpreter[SCRIPT_HEAD_SIZE]; /* as the line names it */
    bool search;                        /* env(1) looks it up in PATH */
};

/*
 * Reads the first `size` bytes of a file that is no ELF file: a "#!" line, or text, which execvp(3)
 * gives to /bin/sh. With `through_env` "env NAME", also with -S and with assignments before NAME,
 * stands for NAME. Returns NULL and fills *script, or a static text that says why the shim will not
 * get into the program that is run.
 */
const char *script_read(const char *head, size_t size, bool through_env, struct script *script);

#endif
