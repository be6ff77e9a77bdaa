/* config/resolve.h: patterns through symbolic links, as text. */
#include "check.h"

#include "config/pattern.h"
#include "config/resolve.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/resolve_test.XXXXXX";

/* `format` with the test's folder in place of each "%1$s". */
#define IN_FOLDER(buffer, format) (void)snprintf(buffer, sizeof(buffer), "" format, folder)

#define CHECK_RESOLVED(from, to)                                                                             \
    do {                                                                                                     \
        char list[512];                                                                                      \
        char expected[1024];                                                                                 \
        IN_FOLDER(list, from);                                                                               \
        IN_FOLDER(expected, to);                                                                             \
        CHECK_STRING(config_resolve_patterns(list), expected);                                               \
    } while (0)

/* The function adds nothing, and returns the same list. */
#define CHECK_KEPT(from)                                                                                     \
    do {                                                                                                     \
        char list[512];                                                                                      \
        IN_FOLDER(list, from);                                                                               \
        CHECK(config_resolve_patterns(list) == list);                                                        \
    } while (0)

static void test_links(void)
{
    CHECK_RESOLVED("%1$s/link/", "%1$s/link/:%1$s/real/");
    CHECK_RESOLVED("%1$s/link/f", "%1$s/link/f:%1$s/real/f");
    CHECK_RESOLVED("%1$s/link/f*.c", "%1$s/link/f*.c:%1$s/real/f*.c");
    CHECK_RESOLVED("%1$s/link/**/f:x", "%1$s/link/**/f:%1$s/real/**/f:x");
    CHECK_RESOLVED("!%1$s/link/", "!%1$s/link/:!%1$s/real/");
    CHECK_RESOLVED("plain=%1$s/link/f", "plain=%1$s/link/f:plain=%1$s/real/f");
    CHECK_RESOLVED("%1$s/real/../link/./f", "%1$s/real/../link/./f:%1$s/real/f");
    /* behind a pattern that needs nothing, in its folder, and in one whose name begins like it */
    CHECK_RESOLVED("%1$s/real/g:%1$s/real/file", "%1$s/real/g:%1$s/real/file:%1$s/real/f");
    CHECK_RESOLVED("%1$s/real/:%1$s/real/../link/f", "%1$s/real/:%1$s/real/../link/f:%1$s/real/f");
    CHECK_RESOLVED("%1$s/real/g:%1$s/real-link/f", "%1$s/real/g:%1$s/real-link/f:%1$s/real/f");
    CHECK_RESOLVED("%1$s/real/g:%1$s/real\\-link/f", "%1$s/real/g:%1$s/real\\-link/f:%1$s/real/f");
    /* a link to a file: the file, too; and what may replace the link in its own folder */
    CHECK_RESOLVED("%1$s/real/file", "%1$s/real/file:%1$s/real/f");
    CHECK_RESOLVED("%1$s/link/file", "%1$s/link/file:%1$s/real/file:%1$s/real/f");
    /* two slashes in front of a wildcard, where no link is */
    CHECK_RESOLVED("%1$s/real//*.db", "%1$s/real//*.db:%1$s/real/*.db");
    CHECK_RESOLVED("%1$s/real//**/f", "%1$s/real//**/f:%1$s/real/**/f");
    CHECK_RESOLVED("%1$s/real/g:%1$s/real//?", "%1$s/real/g:%1$s/real//?:%1$s/real/?");
    /* each in its place, since the last pattern with a format counts */
    CHECK_RESOLVED("%1$s/link/:sized=%1$s/link/f",
                   "%1$s/link/:%1$s/real/:sized=%1$s/link/f:sized=%1$s/real/f");
    /* the canonical path as a pattern that matches it alone */
    CHECK_RESOLVED("%1$s/odd/f", "%1$s/odd/f:%1$s/a\\*\\:\\[b]/f");
    CHECK_RESOLVED("%1$s/a\\*\\:\\[b\\]/../link/f", "%1$s/a\\*\\:\\[b\\]/../link/f:%1$s/real/f");
    CHECK_RESOLVED("%1$s/root/*", "%1$s/root/*:/*");
    CHECK_RESOLVED(":%1$s/link/::y:", "%1$s/link/:%1$s/real/:y");
}

static void test_kept(void)
{
    CHECK(*config_resolve_patterns("") == '\0');
    CHECK_STRING(config_resolve_patterns("*.cfg:!x"), "*.cfg:!x");
    CHECK_KEPT("%1$s/real/:%1$s/real/f:%1$s/real/*:**/link/:/");
    CHECK_KEPT("%1$s/none/f:%1$s/none/g/*");
    CHECK_KEPT("%1$s/loop/f");
    CHECK_KEPT("%1$s/l*/f");
}

/* A list that would outgrow its room stays as it is. */
static void test_bound(void)
{
    enum { SIZE = 1 << 21 };
    char *list = malloc(SIZE);
    size_t length = 0;

    CHECK(list != NULL);
    while (list != NULL && length + 64 < SIZE)
        length += (size_t)snprintf(list + length, 64, "%s/link/%zu:", folder, length);
    CHECK(config_resolve_patterns(list) == list);
    free(list);
}

int main(void)
{
    static const char *const links[][2] = {{"real", "link"}, {"f", "real/file"}, {"real", "real-link"},
                                           {"loop", "loop"}, {"a*:[b]", "odd"},  {"/", "root"}};

    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    CHECK(mkdir("real", 0700) == 0 && mkdir("a*:[b]", 0700) == 0);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        CHECK_EQUAL(symlink(links[i][0], links[i][1]), 0);
    test_links();
    test_kept();
    test_bound();
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        CHECK_EQUAL(unlink(links[i][1]), 0);
    CHECK(rmdir("real") == 0 && rmdir("a*:[b]") == 0 && chdir("/") == 0 && rmdir(folder) == 0);
    return check_result();
}
