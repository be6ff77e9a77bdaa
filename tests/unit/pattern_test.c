/* pattern.h: a table, malformed lists, and a comparison with a matcher that is simple. */
#include "check.h"

#include "config/pattern_index.h"

#include <stdlib.h>

static const struct {
    const char *patterns, *path;
    bool matches;
} table[] = {
    {"/data/app.cfg", "/data/app.cfg", true},
    {"/data/app.cfg", "/data/app.cfg2", false},
    {"/data/app.cfg", "/other/data/app.cfg", false},
    {"/data/*.cfg", "/data/app.cfg", true},
    {"/data/*.cfg", "/data/.cfg", true},
    {"/data/*.cfg", "/data/sub/app.cfg", false},
    {"/data/?.cfg", "/data/a.cfg", true},
    {"/data/?.cfg", "/data/ab.cfg", false},
    {"/data?app.cfg", "/data/app.cfg", false},
    {"/data/", "/data/app.cfg", true},
    {"/data/", "/data/a/b/c", true},
    {"/data/", "/data", false},
    {"/data/", "/database/x", false},
    {"/d*/", "/data/deep/x", true},
    {"/d*/", "/x/data/y", false},
    {"app.cfg", "/any/where/app.cfg", true},
    {"app.cfg", "/any/where/my-app.cfg", false},
    {"*.cfg", "/any/where/app.cfg", true},
    {"*.cfg", "/any.cfg/where", false},
    {"/etc/**", "/etc/a", true},
    {"/etc/**", "/etc/a/b", true},
    {"/etc/**.cfg", "/etc/a/b.cfg", true},
    {"/etc/**/app.cfg", "/etc/app.cfg", true},
    {"/etc/**/app.cfg", "/etc/a/b/app.cfg", true},
    {"/etc/**/app.cfg", "/etc/a/my-app.cfg", false},
    {"/**/x/**/y", "/x/y", true},
    {"/**/x/**/y", "/a/x/b/c/y", true},
    {"/**/x/**/y", "/a/xx/y", false},
    {"**/app.cfg", "/app.cfg", true},
    {"**/app.cfg", "/a/b/app.cfg", true},
    {"/a/**b*c/d", "/a/x/b/bc/d", true},
    {"/a/[a-c]", "/a/b", true},
    {"/a/[a-c]", "/a/d", false},
    {"/a/[!a-c]", "/a/d", true},
    {"/a/[!a-c]", "/a/b", false},
    {"/a[!x]b", "/a/b", false},
    {"/a/[]]", "/a/]", true},
    {"/a/[a-]", "/a/-", true},
    {"/a/[\\]]", "/a/]", true},
    {"/a/\\*", "/a/*", true},
    {"/a/\\*", "/a/b", false},
    {"/a\\:b", "/a:b", true},
    {"/a\\:b", "/a", false},
    {"/x:/y", "/y", true},
    {"/x:/data/a\\:b:/y", "/data/a:b", true},
    {"/x:/data/a\\:b:/y", "/y", true},
    {"/x\\\\:/data/b", "/data/b", true},
    {"/x/:/y/*.cfg:/data/b:!/z", "/data/b", true},
    {"/data/c:/data/:/data/d", "/data/b", true},
    {"/a/b]:/c", "/a/b]", true},
    {"/da:/data/b/c", "/data/b", false},
    {"/data/\\b", "/data/b", true},
    {"b:c=d:!x", "/data/c=d", true},
    {"plain=b", "/data/b", true},
    {"plain=b:!b", "/data/b", false},
    {"/long/name", "/me", false},
    {":/x::/y:", "/x", true},
    {"", "/x", false},
    {"/data/:!/data/tmp/", "/data/x", true},
    {"/data/:!/data/tmp/", "/data/tmp/x", false},
    {"!/data/tmp/:/data/", "/data/tmp/x", false},
    {"/data/:!*.bak", "/data/a.bak", false},
    {"!/data/", "/other", false},
    {"/", "/anything/at/all", true},
    {"**", "/anything", true},
    {"*", "/any/thing", true},
};

static struct pattern_index index_of(const char *patterns)
{
    struct pattern_index index;
    void *memory = calloc(1, pattern_index_size(patterns));

    CHECK(memory != NULL);
    pattern_index_make(&index, patterns, memory);
    return index;
}

/* Asks the list and its index, which must agree. */
static bool may_name(const char *patterns, const char *path)
{
    const char *slash = strrchr(path, '/');
    bool may = pattern_may_name(patterns, slash != NULL ? slash + 1 : path);
    struct pattern_index index = index_of(patterns);

    CHECK_EQUAL(pattern_index_may_name(&index, patterns, path), may);
    free(index.nodes);
    return may;
}

/* Asks the index about the path's folder. */
static bool may_hold(const char *patterns, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct pattern_index index = index_of(patterns);
    bool may = folder == NULL || pattern_index_may_hold(&index, patterns, folder);

    CHECK(folder != NULL);
    free(folder);
    free(index.nodes);
    return may;
}

static void check_both(const char *patterns, const char *path, bool matches)
{
    struct pattern_index index = index_of(patterns);

    if (pattern_match(patterns, path) != matches || pattern_index_match(&index, patterns, path) != matches ||
        pattern_index_format(&index, patterns, path) != pattern_format(patterns, path) ||
        (matches && !(may_name(patterns, path) && (*path != '/' || may_hold(patterns, path))))) {
        (void)fprintf(stderr, "'%.60s' and '%s':\n", patterns, path);
        CHECK(false);
    }
    free(index.nodes);
}

static void test_table(void)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        check_both(table[i].patterns, table[i].path, table[i].matches);
}

/* Lists of many patterns; each matches a path of its own. */
static void test_many(void)
{
    static const char *const kinds[] = {"/d%d/",      "/d/e%d/app.cfg", "/d/*.x%d",   "n%d.cfg",
                                        "*-%d",       "/f%d/**/z",      "!/d%d/out/", "*w%d",
                                        "/f/**/g%d/", "plain=/p%d/*"};
    static const char *const paths[] = {"/d%d/x",       "/d/e%d/app.cfg", "/d/a.x%d",   "/any/n%d.cfg",
                                        "/any/a.b-%d",  "/f%d/y/z",       "/d%d/out/x", "/aw%d",
                                        "/f/h/i/g%d/j", "/p%d/x"};
    enum { KINDS = sizeof kinds / sizeof kinds[0], ITEMS = 40, ROOM = 32 };
    static char list[KINDS * ITEMS * ROOM];
    char *p = list;
    char path[64];

    for (int i = 0; i < KINDS * ITEMS; i++) {
        p += snprintf(p, ROOM, kinds[i % KINDS], i / KINDS);
        *p++ = ':';
    }
    for (int i = 0; i < KINDS * ITEMS; i++) {
        (void)snprintf(path, sizeof path, paths[i % KINDS], i / KINDS);
        check_both(list, path, kinds[i % KINDS][0] != '!');
        (void)snprintf(path, sizeof path, paths[i % KINDS], 1000 + i);
        check_both(list, path, false);
    }
}

/* The last pattern that says a format counts, wherever the index has it. */
static void test_index_format(void)
{
    static const char list[] = "plain=/d/:sized=*.x:plain=/d/e/:/d/e/f:sized=/d/e/g";
    struct pattern_index index = index_of(list);

    CHECK_EQUAL(pattern_index_format(&index, list, "/d/a"), PATTERN_PLAIN);
    CHECK_EQUAL(pattern_index_format(&index, list, "/d/a.x"), PATTERN_SIZED);
    CHECK_EQUAL(pattern_index_format(&index, list, "/d/e/a.x"), PATTERN_PLAIN);
    CHECK_EQUAL(pattern_index_format(&index, list, "/d/e/f"), PATTERN_PLAIN);
    CHECK_EQUAL(pattern_index_format(&index, list, "/d/e/g"), PATTERN_SIZED);
    free(index.nodes);
    index = (struct pattern_index){0};
    CHECK_EQUAL(pattern_index_format(&index, list, "/d/e/g"), PATTERN_SIZED);
}

static void check_fault(const char *patterns, const char *item, const char *fault)
{
    const char *where = NULL;
    size_t length = 0;
    const char *found = pattern_check(patterns, &where, &length);

    CHECK_STRING(found != NULL ? found : "good", fault);
    if (where != NULL)
        CHECK(strlen(item) == length && memcmp(where, item, length) == 0);
}

static void test_check(void)
{
    check_fault("/a:*.cfg:/b/:**/c:!/d", "", "good");
    check_fault("", "", "good");
    check_fault("/a:x/y:/b", "x/y", "a pattern with a '/' starts with '/' or with '**'");
    check_fault("*/y", "*/y", "a pattern with a '/' starts with '/' or with '**'");
    check_fault("/a:!", "!", "nothing behind '!'");
    check_fault("/a/[bc", "/a/[bc", "a '[' without its ']'");
    check_fault("/a/[b:c]", "/a/[b", "a '[' without its ']'");
    check_fault("/a\\", "/a\\", "a '\\' at the end");
    check_fault("plain=/a:sized=b:/c", "", "good");
    check_fault("/a:plain=", "plain=", "nothing behind '='");
    check_fault("plain=a/b", "plain=a/b", "a pattern with a '/' starts with '/' or with '**'");
    check_fault("pain=/a", "pain=/a", "accepted in front of a pattern are plain= and sized=");
    check_fault("!plain=/a", "!plain=/a", "one of plain=, sized= and '!' in front of a pattern, not two");
    check_fault("plain=!/a", "plain=!/a", "one of plain=, sized= and '!' in front of a pattern, not two");
    check_fault("plain=sized=/a", "plain=sized=/a",
                "one of plain=, sized= and '!' in front of a pattern, not two");
}

static void test_format(void)
{
    CHECK_EQUAL(pattern_format("/data/:plain=/data/app.cfg", "/data/app.cfg"), PATTERN_PLAIN);
    CHECK_EQUAL(pattern_format("/data/:plain=/data/app.cfg", "/data/other"), PATTERN_NO_FORMAT);
    /* the last one that says a format counts */
    CHECK_EQUAL(pattern_format("plain=/data/:sized=*.big:/data/", "/data/x.big"), PATTERN_SIZED);
    CHECK_EQUAL(pattern_format("sized=*.big:plain=/data/", "/data/x.big"), PATTERN_PLAIN);
    CHECK_EQUAL(pattern_format("", "/data/x"), PATTERN_NO_FORMAT);
    CHECK(pattern_match("plain=/data/:!/data/tmp/", "/data/x"));
    CHECK(!pattern_match("plain=/data/:!/data/tmp/", "/data/tmp/x"));
    CHECK(may_name("plain=/data/app.cfg", "app.cfg"));
    CHECK(!may_name("plain=/data/app.cfg", "app.cfx"));
    /* a file may be called so */
    CHECK(pattern_match("\\plain=x", "/any/plain=x"));
    CHECK(!pattern_match("plain=x", "/any/plain=x"));
}

static void test_may_name(void)
{
    CHECK(!may_name("/data/app.cfg:*.ini", "app.conf"));
    CHECK(may_name("/data/app.cfg:*.ini", "x.ini"));
    CHECK(may_name("/data/:x", "anything"));
    CHECK(!may_name("/data/**.cfg", "x.ini"));
    CHECK(may_name("/data/x**.cfg", "y.cfg"));
    CHECK(!may_name("!/data/", "x"));
    CHECK(!may_name("", "x"));
    CHECK(may_name("/data/a[b-d]:x", "/any/ad"));
    CHECK(may_name("/data/a\\*", "a*"));
    CHECK(!may_name("/data/a\\*", "ab"));
    CHECK(may_name("*", "/folder/"));
    CHECK(!may_name("a", ""));
    CHECK(may_name("/data/", ""));
}

static bool slow_match(const char *start, const char *p, bool tree, const char *text);

/* slow_match() for a pattern that begins with "**". */
static bool slow_match_wide(const char *start, const char *p, bool tree, const char *text)
{
    const char *end = p + strspn(p, "*");
    bool whole = p > start && p[-1] == '/' && *end == '/'; /* whole components, or none */

    for (const char *t = text;; t++) {
        if ((!whole || t == text || t[-1] == '/') && slow_match(start, end + whole, tree, t))
            return true;
        if (*t == '\0')
            return false;
    }
}

/* Matches as the rules are worded, with as many calls as it takes. `start` is the start of the
 * pattern, `p` the rest of it. */
static bool slow_match(const char *start, const char *p, bool tree, const char *text)
{
    const char *end;
    bool inverted;
    bool found = false;

    if (*p == '\0')
        return tree || *text == '\0';
    if (p[0] == '*' && p[1] == '*')
        return slow_match_wide(start, p, tree, text);
    if (*p == '*') {
        for (const char *t = text;; t++) {
            if (slow_match(start, p + 1, tree, t))
                return true;
            if (*t == '\0' || *t == '/')
                return false;
        }
    }
    if (*text == '\0')
        return false;
    if (*p == '?')
        return *text != '/' && slow_match(start, p + 1, tree, text + 1);
    if (*p == '[') { /* only [ab] and [!ab] are made here */
        inverted = p[1] == '!';
        for (end = p + (inverted ? 2 : 1); *end != ']'; end++)
            found = found || *end == *text;
        return found != inverted && *text != '/' && slow_match(start, end + 1, tree, text + 1);
    }
    return *p == *text && slow_match(start, p + 1, tree, text + 1);
}

static void test_against_the_slow_one(void)
{
    static const char *const pieces[] = {"a", "b", "/", "*", "**", "/**/", "?", "[ab]", "[!a]", "*a", "/a"};
    long matches = 0;

    srand(7);
    for (int i = 0; i < 300000; i++) {
        char pattern[64] = "/";
        char path[16] = "/";
        int count = 1 + rand() % 6;
        int length = 1 + rand() % 9;
        bool tree;
        bool expected;

        for (int k = 0; k < count; k++)
            (void)strcat(pattern, pieces[(size_t)rand() % (sizeof pieces / sizeof pieces[0])]);
        for (int k = 1; k <= length; k++)
            path[k] = "aab/"[rand() % 4];
        if (path[length] == '/')
            path[length] = 'b';
        tree = pattern[strlen(pattern) - 1] == '/';
        expected = slow_match(pattern, pattern, tree, path);
        matches += expected;
        if (pattern_match(pattern, path) != expected) {
            (void)fprintf(stderr, "'%.60s' and '%s': expected %d\n", pattern, path, expected);
            CHECK(false);
        }
        CHECK(may_name(pattern, path) || !expected);
    }
    CHECK(matches > 20000); /* else the comparison proves little */
}

/* Unbounded backtracking would never finish. */
static void test_worst_case(void)
{
    static char pattern[8000] = "/**";
    static char path[4001] = "/";

    for (size_t i = 0; i < 1900; i++)
        (void)strcpy(pattern + 3 + 4 * i, i % 3 == 2 ? "a**a" : "a*a*");
    (void)strcat(pattern, "b");
    memset(path + 1, 'a', sizeof path - 2);
    CHECK(!pattern_match(pattern, path));
    for (size_t i = 2; i < sizeof path - 1; i += 2)
        path[i] = '/';
    CHECK(!pattern_match(pattern, path));
    CHECK(!pattern_match("/**/a/*/a/*/a/*/a/*/a/*/a/*/a/*/b", path));
}

static void test_folders(void)
{
    CHECK(may_hold("/a/b/", "/a/b/x") && may_hold("/a/b/", "/a/b/c/x") && may_hold("/a/b", "/a/x"));
    CHECK(may_hold("x.cfg", "/a/b/x") && may_hold("**/x", "/a/x") && may_hold("/*/x", "/a/x") &&
          may_hold("/", "/x"));
    CHECK(may_hold("/a/b/:/c/", "/c/x") && may_hold("/*.cfg", "/x") && may_hold("plain=/a/b/", "/a/b/x"));
    CHECK(!may_hold("/a/b/", "/a/x") && !may_hold("/a/b/", "/a/bc/x") && !may_hold("/a/bc/", "/a/b/x"));
    CHECK(!may_hold("/a/b/", "/x") && !may_hold("/a/b", "/c/x"));
    CHECK(!may_hold("", "/a/x") && !may_hold("/a/*/x", "/b/c/x") && !may_hold("/a/", "/x"));
    CHECK(may_hold("/a/:/b/:/c/:/d/:/e/", "/f/x")); /* a long list gets no other answer */
}

/* No memory for an index: every pattern is compared. */
static void test_index_of_nothing(void)
{
    static const struct pattern_index index;

    CHECK(pattern_index_match(&index, "/a/*.cfg:/b", "/a/x.cfg"));
    CHECK(!pattern_index_match(&index, "/a/*.cfg:/b", "/a/x.conf"));
    CHECK(pattern_index_may_name(&index, "/a/*.cfg:/b", "/c/x.cfg"));
    CHECK(!pattern_index_may_name(&index, "/a/*.cfg:/b", "/c/x.conf"));
}

/* pattern_check() refuses it; unchecked it matches nothing. */
static void test_unchecked(void)
{
    CHECK(!pattern_match("/a/[b", "/a/b"));
    CHECK(!pattern_match("/a/[b", "/a/[b"));
}

int main(void)
{
    test_table();
    test_many();
    test_index_format();
    test_check();
    test_format();
    test_may_name();
    test_against_the_slow_one();
    test_worst_case();
    test_folders();
    test_index_of_nothing();
    test_unchecked();
    return check_result();
}
