/* "#!" lines, as the kernel and env(1) read them. */
#ifndef ATOMSHIM_CLI_SCRIPT_H
#define ATOMSHIM_CLI_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

enum { SCRIPT_HEAD_SIZE = 256 }; /* what the kernel looks at (BINPRM_BUF_SIZE) */

/* Who runs a script in the end. */
struct script {
    char interpreter[SCRIPT_HEAD_SIZE]; /* as the line names it */
    bool search;                        /* it is env's argument, to be looked up in PATH */
};

/*
 * Reads the first `size` bytes of a file that is no ELF file: a "#!" line, or text, which execvp(3) gives to
 * /bin/sh. "env NAME", also with -S and with assignments before NAME, stands for NAME.
 * Returns NULL and fills *script, or a static text that says why the shim will not get into what is run.
 */
const char *script_read(const char *head, size_t size, struct script *script);

#endif
