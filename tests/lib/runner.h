/* What the programs that run test programs have in common. */
#ifndef ATOMSHIM_RUNNER_H
#define ATOMSHIM_RUNNER_H

#include <stdio.h>
#include <stdlib.h>

/* Ends the program with status 2, and the reason in errno. */
static inline void die(const char *what)
{
    perror(what);
    exit(2);
}

/* Returns text that the caller may free. */
static inline char *format(const char *pattern, const char *a, const char *b)
{
    char *text;

    if (asprintf(&text, pattern, a, b) < 0)
        die("asprintf");
    return text;
}

#endif
