/* All unit tests include this: a failing check prints its line and the values, and the test goes
 * on. */
#ifndef ATOMSHIM_CHECK_H
#define ATOMSHIM_CHECK_H

#include <stdio.h>
#include <string.h>

static int check_failures;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            check_failed(__FILE__, __LINE__, #condition, 0, 0);                                              \
    } while (0)

/* Compares two whole numbers. */
#define CHECK_EQUAL(actual, expected)                                                                        \
    do {                                                                                                     \
        long long check_actual = (long long)(actual);                                                        \
        long long check_expected = (long long)(expected);                                                    \
        if (check_actual != check_expected)                                                                  \
            check_failed(__FILE__, __LINE__, #actual " == " #expected, check_actual, check_expected);        \
    } while (0)

#define CHECK_STRING(actual, expected)                                                                       \
    do {                                                                                                     \
        const char *check_text = (actual);                                                                   \
        if (strcmp(check_text, (expected)) != 0) {                                                           \
            check_failed(__FILE__, __LINE__, #actual, 0, 0);                                                 \
            (void)fprintf(stderr, "  got '%s'\n  not '%s'\n", check_text, (expected));                       \
        }                                                                                                    \
    } while (0)

static inline void check_failed(const char *file, int line, const char *what, long long actual,
                                long long expected)
{
    check_failures++;
    (void)fprintf(stderr, "%s:%d: %s (%lld, %lld)\n", file, line, what, actual, expected);
}

/* Returns the exit status of a test program. */
static inline int check_result(void)
{
    return check_failures == 0 ? 0 : 1;
}

#endif
