/* Tells whether the shim will be in a program once it is run. The library asks before an exec, the
 * command before `run` and in `doctor`. */
#ifndef ATOMSHIM_PROGRAM_H
#define ATOMSHIM_PROGRAM_H

#include "program/script.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The machine that an ELF file runs on. A loader ignores a preload that differs in any of these. */
struct program_kind {
    unsigned char elf_class;
    unsigned char byte_order;
    uint16_t machine;
};

/* Reads the kind of an ELF file. Returns false if the file is none. */
bool program_read_kind(int fd, struct program_kind *kind);

struct program_question {
    int directory; /* `path` is relative to it; with AT_EMPTY_PATH in `flags` it is the program */
    const char *path;
    int flags;
    struct program_kind shim;
    /* NULL: the program in which the shim first loads counts. Else a PATH: if env(1) runs a script,
     * the program that env looks up there counts, and env must keep LD_PRELOAD. */
    const char *env_path;
};

enum program_obstacle {
    PROGRAM_NO_OBSTACLE,
    PROGRAM_UNREADABLE,    /* error */
    PROGRAM_NO_SCRIPT,     /* text: the fault of the script */
    PROGRAM_INTERPRETER,   /* other: a script names it; error: it cannot be executed */
    PROGRAM_SCRIPTS,       /* more than PROGRAM_SCRIPTS_MAX scripts, one run by the other */
    PROGRAM_OTHER_CLASS,   /* number: its ELF class */
    PROGRAM_OTHER_MACHINE, /* number: its ELF machine */
    PROGRAM_NO_PROGRAM,    /* an ELF file of another type */
    PROGRAM_DAMAGED,
    PROGRAM_GO, /* it makes its system calls past the C library */
    PROGRAM_STATIC,
    PROGRAM_LOADER, /* other: the file names it; error: it cannot be executed */
    PROGRAM_SECURE, /* it runs in secure-execution mode, ld.so(8) */
};

enum { PROGRAM_SCRIPTS_MAX = 5 }; /* as in exec_binprm() of the kernel's fs/exec.c */

struct program_answer {
    enum program_obstacle obstacle;
    int error; /* negative */
    int number;
    const char *text;
    int scripts; /* so many scripts led to the file */
    /* the program in the end, or the file that cannot be run; "" for the file that was asked
     * about */
    char file[PATH_MAX];
    char other[PATH_MAX]; /* the loader, if there is no obstacle */
};

/*
 * Tells whether a loader that reads LD_PRELOAD will run in the process once the program is
 * executed: follows "#!" lines to the program that is run in the end, which must be dynamically
 * linked, of the shim's kind, no Go program, with a loader that exists, and must not run in
 * secure-execution mode. A file that cannot be read counts as no. Fills *answer, which is too large
 * for a small stack. Raw system calls alone; async-signal-safe.
 */
bool program_loads_shim(const struct program_question *question, struct program_answer *answer);

/* The C library's search path where PATH is not set: execvp(3). */
#define PROGRAM_DEFAULT_PATH "/bin:/usr/bin"

/*
 * Finds the file that execvp(3) runs for `name`: in the folders of `search` (a value of PATH; NULL:
 * PROGRAM_DEFAULT_PATH) unless `name` has a '/'. Writes at most `size` bytes to `path`, which
 * has a '/' then. Returns 0 or a negative errno: -ENOENT if there is none, -EACCES if the file may
 * not be executed, -ENAMETOOLONG.
 */
int program_find(const char *name, const char *search, char *path, size_t size);

/*
 * Returns 0 if the permissions let this process execute the regular file at `path`, else a negative
 * errno.
 */
int program_check_executable(const char *path);

#endif
