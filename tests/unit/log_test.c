/* log.h: the formatter, and the line as it arrives in a file. */
#include "check.h"

#include "os/log.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static void test_format(void)
{
    const char *volatile nothing = NULL;
    const char *volatile unfinished = "ends in %"; /* of which the compiler would warn */
    char buffer[128];

    CHECK_EQUAL(log_format(buffer, sizeof buffer, "%s %d %u %ld %lu %x %%", "text", -5, 7u, LONG_MIN,
                           ULONG_MAX, 0xbeefu),
                58);
    CHECK_STRING(buffer, "text -5 7 -9223372036854775808 18446744073709551615 beef %");
    (void)log_format(buffer, sizeof buffer, "%lx", 0xfedcba9876543210ul);
    CHECK_STRING(buffer, "fedcba9876543210");
    (void)log_format(buffer, sizeof buffer, "%d %d %u", INT_MIN, 0, UINT_MAX);
    CHECK_STRING(buffer, "-2147483648 0 4294967295");
    (void)log_format(buffer, sizeof buffer, "%s|%s", nothing, "");
    CHECK_STRING(buffer, "(null)|");
    CHECK_EQUAL(log_format(buffer, 5, "%s", "longer than that"), 4);
    CHECK_STRING(buffer, "long");
    CHECK_EQUAL(log_format(buffer, 1, "%d", 5), 0);
    CHECK_STRING(buffer, "");
    CHECK_EQUAL(log_format(buffer, 0, "%d", 5), 0);
    (void)log_format(buffer, sizeof buffer, unfinished, 5);
    CHECK_STRING(buffer, "ends in ");
}

static void read_file(const char *name, char *text, size_t size)
{
    FILE *file = fopen(name, "r");
    size_t n = file != NULL ? fread(text, 1, size - 1, file) : 0;

    text[n] = '\0';
    if (file != NULL)
        (void)fclose(file);
}

static void test_lines(void)
{
    static char text[100000];
    static char expected[100000];
    static char endless[50000];
    char directory[] = "/tmp/log_test.XXXXXX";
    char name[64];

    if (mkdtemp(directory) == NULL)
        abort();
    (void)snprintf(name, sizeof name, "%s/log", directory);
    log_configure(LOG_WARN, name);
    errno = 12345;
    log_line(LOG_ERROR, "%s: failed: %s", "/data/a\nb\x7f", log_errno(-ENOSPC));
    log_line(LOG_INFO, "not wanted");
    log_line(LOG_WARN, "second");
    CHECK_EQUAL(errno, 12345);
    (void)snprintf(expected, sizeof expected,
                   "atomshim[%d]: error: /data/a?b?: failed: no space left on device (ENOSPC)\n"
                   "atomshim[%d]: warn: second\n",
                   getpid(), getpid());
    read_file(name, text, sizeof text);
    CHECK_STRING(text, expected);

    CHECK_EQUAL(unlink(name), 0);
    memset(endless, 'x', sizeof endless - 1);
    log_line(LOG_ERROR, "%s", endless);
    read_file(name, text, sizeof text);
    CHECK(strlen(text) < 20000 && strlen(text) > 8000);
    CHECK(strlen(text) > 4 && strcmp(text + strlen(text) - 5, "x...\n") == 0);
    CHECK_EQUAL(unlink(name), 0);
    CHECK_EQUAL(rmdir(directory), 0);
}

static void test_errno(void)
{
    CHECK_STRING(log_errno(EIO), "input/output error (EIO)");
    CHECK_STRING(log_errno(-EROFS), "read-only file system (EROFS)");
    CHECK_STRING(log_errno(99999), "unknown error");
}

int main(void)
{
    test_format();
    test_lines();
    test_errno();
    return check_result();
}
