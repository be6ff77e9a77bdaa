/* The FILE arguments of the commands, and the options that go with them. */
#ifndef ATOMSHIM_FILES_H
#define ATOMSHIM_FILES_H

#include <stdbool.h>

/* The options that were given; a command accepts only those in its list. */
struct files_options {
    bool recursive; /* -r: all files below a folder */
    bool quiet;     /* -q */
    bool json;      /* --json */
    bool yes;       /* --yes */
    bool previous;  /* --previous */
};

extern struct files_options files_options;

/*
 * Takes the options in front of the files into files_options. `accepted` lists them, "-r -q
 * --json". Returns the index of the first FILE, or -1 with *status set when there is nothing more
 * to do: help was asked for, or the command line is wrong.
 */
int files_first(int argc, char *argv[], const char *help, const char *accepted, int *status);

/*
 * Calls `visit` for each of the files; with -r for each regular file below one that is a folder,
 * symbolic links not followed. Shows on stderr how many files it has visited, if stderr is a
 * terminal, the visits take long, and there is a folder. Returns the gravest of the statuses.
 */
int files_each(int argc, char *argv[], int first, int (*visit)(const char *name));

/* Returns the graver of two exit statuses. */
int files_graver(int a, int b);

#endif
