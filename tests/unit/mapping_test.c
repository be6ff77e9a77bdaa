/* mapping.h: the facts about a mapping of ours, in this process and in another one. */
#include "check.h"

#include "os/mapping.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

struct search {
    uintptr_t address;
    struct mapping found;
    int visits;
};

static int covers(const struct mapping *mapping, void *context)
{
    struct search *search = context;

    search->visits++;
    if (search->address < mapping->start || search->address >= mapping->end)
        return 0;
    search->found = *mapping;
    return 7;
}

/* Returns the mapping at `address`, all zeros if there is none. */
static struct mapping mapping_at(int process, const void *address)
{
    struct search search = {.address = (uintptr_t)address};

    CHECK_EQUAL(mapping_for_each(process, covers, &search), search.found.end != 0 ? 7 : 0);
    return search.found;
}

static char *map(int fd, size_t pages, int protection, int flags, off_t offset)
{
    char *bytes = mmap(NULL, pages * PAGE, protection, flags, fd, offset);

    if (bytes == MAP_FAILED)
        abort();
    return bytes;
}

static int make_buffer(const char *name, struct stat *status)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)8 * PAGE) != 0 || fstat(fd, status) != 0)
        abort();
    return fd;
}

static void test_fields(void)
{
    struct stat status;
    int memory = make_buffer("atomshim:1:2:3:4", &status);
    char *bytes = map(memory, 3, PROT_READ | PROT_WRITE, MAP_SHARED, (off_t)2 * PAGE);
    struct mapping found = mapping_at(0, bytes + PAGE);

    CHECK_EQUAL(found.start, (uintptr_t)bytes);
    CHECK_EQUAL(found.end, (uintptr_t)bytes + (uintptr_t)3 * PAGE);
    CHECK_EQUAL(found.offset, 2 * PAGE);
    CHECK_EQUAL(found.protection, PROT_READ | PROT_WRITE);
    CHECK_EQUAL(found.number, status.st_ino);
    CHECK(found.shared && found.is_buffer && !found.is_shim);
    CHECK_EQUAL(munmap(bytes, (size_t)3 * PAGE), 0);
    CHECK_EQUAL(mapping_at(0, bytes).end, 0);

    bytes = map(memory, 1, PROT_READ, MAP_PRIVATE, 0);
    found = mapping_at(0, bytes);
    CHECK_EQUAL(found.protection, PROT_READ);
    CHECK(!found.shared && found.is_buffer);
    CHECK_EQUAL(munmap(bytes, PAGE), 0);
    CHECK_EQUAL(close(memory), 0);

    memory = make_buffer("another", &status);
    bytes = map(memory, 1, PROT_READ, MAP_SHARED, 0);
    found = mapping_at(0, bytes);
    CHECK_EQUAL(found.number, status.st_ino);
    CHECK(!found.is_buffer && !found.is_shim);
    CHECK_EQUAL(munmap(bytes, PAGE), 0);
    CHECK_EQUAL(close(memory), 0);

    found = mapping_at(0, (const void *)test_fields);
    CHECK_EQUAL(found.protection, PROT_READ | PROT_EXEC);
    CHECK(!found.shared && !found.is_buffer && !found.is_shim);
}

/* Tells whether a file with this name below `directory` counts as the shim, with its name and after
 * it lost it. */
static void check_name(const char *directory, const char *name, bool expected)
{
    char path[PATH_MAX];
    char *bytes;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, PAGE) != 0)
        abort();
    bytes = map(fd, 1, PROT_READ, MAP_PRIVATE, 0);
    CHECK_EQUAL(mapping_at(0, bytes).is_shim, expected);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(mapping_at(0, bytes).is_shim, expected);
    CHECK_EQUAL(munmap(bytes, PAGE), 0);
    CHECK_EQUAL(close(fd), 0);
}

static void test_shim(void)
{
    char directory[] = "/tmp/mapping test.XXXXXX";
    char below[PATH_MAX];

    if (mkdtemp(directory) == NULL)
        abort();
    check_name(directory, "libatomshim.so", true);
    check_name(directory, "xlibatomshim.so", false);
    check_name(directory, "libatomshim.so.1", false);
    check_name(directory, "libatomshim.s", false);
    (void)snprintf(below, sizeof below, "%s/libatomshim.so", directory);
    CHECK_EQUAL(mkdir(below, 0700), 0);
    check_name(below, "other", false);
    check_name(below, "libatomshim.so", true);
    CHECK_EQUAL(rmdir(below), 0);
    CHECK_EQUAL(rmdir(directory), 0);
}

static void test_other_process(void)
{
    struct stat status;
    int memory = make_buffer("atomshim:1:2:3:4", &status);
    char *bytes = map(memory, 1, PROT_READ, MAP_SHARED, 0);
    struct search search = {0};
    struct mapping found;
    pid_t child = fork();

    if (child == 0)
        for (;;)
            (void)pause();
    CHECK(child > 0);
    CHECK_EQUAL(munmap(bytes, PAGE), 0);
    CHECK_EQUAL(mapping_at(0, bytes).end, 0);
    found = mapping_at(child, bytes);
    CHECK_EQUAL(found.start, (uintptr_t)bytes);
    CHECK_EQUAL(found.number, status.st_ino);
    CHECK(found.shared && found.is_buffer);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK_EQUAL(mapping_for_each(child, covers, &search), -ENOENT);
    CHECK_EQUAL(search.visits, 0);
    CHECK_EQUAL(close(memory), 0);
}

/* More than one read of the file: the kernel gives a page at a time. Every second page has
 * another protection. */
static void test_many(void)
{
    enum { PAGES = 500 };
    char *bytes = map(-1, PAGES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0);

    for (int i = 0; i < PAGES; i += 2)
        CHECK_EQUAL(mprotect(bytes + (size_t)i * PAGE, PAGE, PROT_NONE), 0);
    for (int i = 1; i < PAGES - 1; i++) {
        struct mapping found = mapping_at(0, bytes + (size_t)i * PAGE);

        CHECK_EQUAL(found.start, (uintptr_t)bytes + (uintptr_t)i * PAGE);
        CHECK_EQUAL(found.end, found.start + PAGE);
        CHECK_EQUAL(found.protection, i % 2 == 0 ? PROT_NONE : PROT_READ);
    }
    CHECK_EQUAL(munmap(bytes, (size_t)PAGES * PAGE), 0);
}

struct pages {
    char *first;
    int visits;
    bool all_shared;
};

static int unmap_page(const struct mapping *mapping, void *context)
{
    struct pages *pages = context;
    char *page = (char *)mapping->start;

    pages->all_shared &= mapping->shared && mapping->end == mapping->start + PAGE;
    if (page < pages->first || page >= pages->first + (size_t)8 * PAGE)
        return 0;
    pages->visits++;
    CHECK_EQUAL(munmap(page, PAGE), 0);
    return 0;
}

/* Between shared pages there are private ones, of memory and of a file, and a hole. */
static void test_without_proc(void)
{
    int memory = memfd_create("atomshim:mapping", MFD_CLOEXEC);
    char *bytes = map(-1, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    struct pages pages = {.first = bytes, .all_shared = true};

    CHECK_EQUAL(ftruncate(memory, (off_t)8 * PAGE), 0);
    CHECK(mmap(bytes + PAGE, (size_t)2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, memory, 0) != MAP_FAILED);
    CHECK(mmap(bytes + (size_t)4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, memory, 0) != MAP_FAILED);
    CHECK(mmap(bytes + (size_t)6 * PAGE, PAGE, PROT_NONE, MAP_SHARED | MAP_FIXED, memory, PAGE) !=
          MAP_FAILED);
    CHECK_EQUAL(munmap(bytes + (size_t)5 * PAGE, PAGE), 0);
    mapping_for_each_shared(unmap_page, &pages);
    CHECK_EQUAL(pages.visits, 3);
    CHECK(pages.all_shared);
    CHECK_EQUAL(mapping_at(0, bytes + PAGE).end, 0);
    CHECK_EQUAL(mapping_at(0, bytes + (size_t)6 * PAGE).end, 0);
    CHECK_EQUAL(mapping_at(0, bytes + (size_t)4 * PAGE).start, (uintptr_t)bytes + (uintptr_t)4 * PAGE);
    CHECK_EQUAL(bytes[0] + bytes[(size_t)3 * PAGE] + bytes[(size_t)7 * PAGE], 0);
    CHECK_EQUAL(munmap(bytes, (size_t)8 * PAGE), 0);
    CHECK_EQUAL(close(memory), 0);
}

struct found {
    char *pages[3];
    bool seen[3];
};

static int note_page(const struct mapping *mapping, void *context)
{
    struct found *found = context;

    for (int i = 0; i < 3; i++)
        found->seen[i] |= (char *)mapping->start == found->pages[i];
    return 0;
}

/*
 * The look ends though more is mapped than it may ask for, a million pages: from the highest
 * address down it finds what lies within half of them, and not what lies behind all.
 */
static void test_bound(void)
{
    const size_t size = (size_t)5 << 30;
    char *region = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct found found = {.pages = {region + size - PAGE, region + size - ((size_t)2 << 30), region}};
    int memory = memfd_create("atomshim:mapping", MFD_CLOEXEC);

    CHECK(region != MAP_FAILED);
    CHECK_EQUAL(ftruncate(memory, PAGE), 0);
    for (int i = 0; i < 3; i++)
        CHECK(mmap(found.pages[i], PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, memory, 0) == found.pages[i]);
    mapping_for_each_shared(note_page, &found);
    CHECK(found.seen[0] && found.seen[1] && !found.seen[2]);
    CHECK_EQUAL(munmap(region, size), 0);
    CHECK_EQUAL(close(memory), 0);
}

int main(void)
{
    test_fields();
    test_shim();
    test_other_process();
    test_many();
    test_without_proc();
    test_bound();
    return check_result();
}
