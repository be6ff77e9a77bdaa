/*
 * Replays every prefix of a commit's writes, each cut at every 512-byte sector, as a kill leaves them in the
 * page cache, and subsets of what was not flushed, as a power cut leaves them on the disk. In each state a
 * reader must find the old or the new content (I2, I4, I5), and the next commit must work. While recording,
 * I1 is checked on each write. At the end the same machinery must find violations where there are some.
 *
 * The disk: a power cut keeps, of what was written since the last flush, any subset of the sectors, each in
 * any version that it had, and any size that the file had; but no size without the data that extended the
 * file to it (store.h, ASSUMED).
 */
#include "check.h"

#include "crc32c.h"
#include "store.h"
#include "store_calls.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SECTOR = 512,
    FILE_MAX = 1 << 18,
    OPERATIONS_MAX = 64,
    CONTENTS_MAX = 4,
    RANDOM_SUBSETS = 12,
    SECTORS_MAX = FILE_MAX / SECTOR,
};

struct bytes {
    uint64_t size;
    char data[FILE_MAX];
};

enum kind { WRITE, TRUNCATE, FLUSH };

struct operation {
    enum kind kind;
    uint64_t offset; /* of a write; the new size of a truncation */
    uint64_t size;
    char *data;
};

/* What a commit did to its file. */
static struct {
    struct operation list[OPERATIONS_MAX];
    int count;
    bool forget_flushes; /* a control */
} record;

/* What may be read: contents[0] is the oldest. */
static struct {
    struct bytes *list[CONTENTS_MAX];
    int count;
} contents;

static struct {
    long kills, cuts, violations;
    bool quiet; /* a control: violations are counted, not reported */
} result;

static struct store_calls original_calls;
static int work_file;
static int target_file;

/* ---- recording ---- */

static struct operation *add(enum kind kind, uint64_t offset, uint64_t size)
{
    struct operation *operation = &record.list[record.count++];

    if (record.count > OPERATIONS_MAX)
        abort();
    *operation = (struct operation){.kind = kind, .offset = offset, .size = size};
    return operation;
}

static ssize_t recording_pwritev(int fd, const struct iovec *pieces, int count, uint64_t offset)
{
    struct operation *operation;
    uint64_t size = 0;

    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    operation = add(WRITE, offset, size);
    operation->data = malloc(size + 1);
    if (operation->data == NULL)
        abort();
    size = 0;
    for (int i = 0; i < count; i++) {
        memcpy(operation->data + size, pieces[i].iov_base, pieces[i].iov_len);
        size += pieces[i].iov_len;
    }
    return original_calls.pwritev(fd, pieces, count, offset);
}

static ssize_t recording_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    return recording_pwritev(fd, &(struct iovec){(void *)buffer, size}, 1, offset);
}

static int recording_ftruncate(int fd, uint64_t size)
{
    (void)add(TRUNCATE, size, 0);
    return original_calls.ftruncate(fd, size);
}

static int recording_fdatasync(int fd)
{
    (void)fd;
    if (!record.forget_flushes)
        (void)add(FLUSH, 0, 0);
    return 0;
}

static void forget_record(void)
{
    for (int i = 0; i < record.count; i++)
        free(record.list[i].data);
    record.count = 0;
}

/* ---- files ---- */

static struct bytes *new_bytes(void)
{
    struct bytes *bytes = calloc(1, sizeof *bytes);

    if (bytes == NULL)
        abort();
    return bytes;
}

static void put_file(int fd, const struct bytes *bytes)
{
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes->data, bytes->size, 0) != (ssize_t)bytes->size)
        abort();
}

static void get_file(int fd, struct bytes *bytes)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || status.st_size > FILE_MAX)
        abort();
    memset(bytes->data, 0, sizeof bytes->data);
    bytes->size = (uint64_t)status.st_size;
    if (pread(fd, bytes->data, bytes->size, 0) != status.st_size)
        abort();
}

static struct bytes *make_content(unsigned seed, uint64_t size)
{
    struct bytes *bytes = new_bytes();

    bytes->size = size;
    for (uint64_t i = 0; i < size; i++)
        bytes->data[i] = (char)('a' + (i / 7 + (uint64_t)seed * 31 + i % (seed + 3)) % 26);
    return bytes;
}

static int commit(const struct bytes *content, bool sync)
{
    struct store_payload payload = {content->data, content->size, crc32c(0, content->data, content->size)};

    return store_commit(work_file, &payload, sync);
}

static void resize(struct bytes *bytes, uint64_t size)
{
    if (size > FILE_MAX)
        abort();
    if (size < bytes->size)
        memset(bytes->data + size, 0, bytes->size - size);
    bytes->size = size;
}

/* Applies a write of which only the first `cut` bytes got through. */
static void apply_write(struct bytes *bytes, const struct operation *operation, uint64_t cut)
{
    if (cut == 0)
        return;
    if (operation->offset + cut > bytes->size)
        resize(bytes, operation->offset + cut);
    memcpy(bytes->data + operation->offset, operation->data, cut);
}

static void apply(struct bytes *bytes, const struct operation *operation)
{
    if (operation->kind == WRITE)
        apply_write(bytes, operation, operation->size);
    else if (operation->kind == TRUNCATE)
        resize(bytes, operation->offset);
}

/* ---- judging a state ---- */

static void violation(const char *what, const char *state, int operation, uint64_t where)
{
    result.violations++;
    if (result.quiet)
        return;
    (void)fprintf(stderr, "%s: %s, operation %d, %llu\n", what, state, operation, (unsigned long long)where);
    check_failed(__FILE__, __LINE__, what, operation, (long long)where);
}

/* Index of the content that a reader finds in `state`, or -1. */
static int read_state(const struct bytes *state)
{
    static struct bytes found;
    struct store_image image;

    put_file(work_file, state);
    if (store_load(work_file, target_file, (struct store_wait){.locked = true}, &image) != 0)
        return -1;
    get_file(target_file, &found);
    for (int i = contents.count - 1; i >= 0; i--)
        if (found.size == contents.list[i]->size &&
            memcmp(found.data, contents.list[i]->data, found.size) == 0)
            return i;
    return -1;
}

/* `oldest`: the first content that may be read. */
static void judge(const struct bytes *state, int oldest, const char *kind, int operation, uint64_t where)
{
    static struct bytes *next;
    struct store_calls recording = store_calls;
    int found = read_state(state);

    if (next == NULL)
        next = make_content(99, 3000);
    if (found < oldest) {
        violation(found < 0 ? "neither old nor new (I2)" : "a commit is lost (I4)", kind, operation, where);
        return;
    }
    store_calls = original_calls;
    store_calls.fdatasync =
        recording.fdatasync == recording_fdatasync ? sys_fdatasync : store_calls.fdatasync;
    contents.list[contents.count++] = next;
    if (commit(next, true) != 0)
        violation("the next commit failed", kind, operation, where);
    else {
        static struct bytes after;

        get_file(work_file, &after);
        if (read_state(&after) != contents.count - 1)
            violation("the next commit is not the content", kind, operation, where);
    }
    contents.count--;
    store_calls = recording;
}

/* ---- kills: prefixes of the page cache ---- */

/* `from`: the first operation of the commit that may be killed; the ones before have happened. `old`: the
 * content before it. */
static void replay_kills(const struct bytes *base, int from, int old)
{
    struct bytes *state = new_bytes();
    struct bytes *cut_state = new_bytes();

    *state = *base;
    for (int i = 0; i < record.count; i++) {
        const struct operation *operation = &record.list[i];
        bool dead = i < from;

        if (!dead && operation->kind == WRITE)
            for (uint64_t cut = 0; cut < operation->size; cut += SECTOR) {
                *cut_state = *state;
                apply_write(cut_state, operation, cut);
                judge(cut_state, old, "kill", i, cut);
                result.kills++;
            }
        apply(state, operation);
        if (!dead) {
            judge(state, i == record.count - 1 ? contents.count - 1 : old, "kill after", i, 0);
            result.kills++;
        }
    }
    free(state);
    free(cut_state);
}

/* ---- power cuts: subsets of what is not flushed ---- */

struct version {
    char data[SECTOR];
    int sector;
    bool extends; /* the write made the file longer */
};

/* What the disk has, and what it may have besides. */
static struct {
    struct bytes disk;
    struct bytes cache;
    struct version versions[4 * SECTORS_MAX];
    int count;
    uint64_t sizes[OPERATIONS_MAX];
    int size_count;
} power;

static void power_flush(void)
{
    power.disk = power.cache;
    power.count = 0;
    power.size_count = 1;
    power.sizes[0] = power.cache.size;
}

static void power_apply(const struct operation *operation)
{
    uint64_t before = power.cache.size;

    if (operation->kind == FLUSH) {
        power_flush();
        return;
    }
    apply(&power.cache, operation);
    if (power.cache.size != before)
        power.sizes[power.size_count++] = power.cache.size;
    if (operation->kind != WRITE)
        return;
    for (uint64_t sector = operation->offset / SECTOR; sector * SECTOR < operation->offset + operation->size;
         sector++) {
        struct version *version = &power.versions[power.count++];

        memcpy(version->data, power.cache.data + sector * SECTOR, SECTOR);
        version->sector = (int)sector;
        version->extends = (sector + 1) * SECTOR > before;
    }
}

enum subset { NONE, ALL, ALL_BUT, ALONE, RANDOM };

static bool keeps(enum subset subset, int chosen, int i)
{
    switch (subset) {
    case NONE:
        return false;
    case ALL:
        return true;
    case ALL_BUT:
        return i != chosen;
    case ALONE:
        return i == chosen;
    default:
        return rand() % 4 >= chosen % 4;
    }
}

static void cut_power(enum subset subset, int chosen, uint64_t size, int oldest, int operation)
{
    static struct bytes state;

    state = power.disk;
    resize(&state, size);
    for (int i = 0; i < power.count; i++) {
        const struct version *version = &power.versions[i];
        uint64_t start = (uint64_t)version->sector * SECTOR;

        if (start >= size || !(keeps(subset, chosen, i) || version->extends))
            continue;
        memcpy(state.data + start, version->data, size - start < SECTOR ? size - start : SECTOR);
    }
    result.cuts++;
    judge(&state, oldest, "power cut", operation, (uint64_t)subset * 1000 + (uint64_t)chosen);
}

static void cut_power_here(int oldest, int operation)
{
    for (int s = 0; s < power.size_count; s++) {
        uint64_t size = power.sizes[s];

        cut_power(NONE, 0, size, oldest, operation);
        cut_power(ALL, 0, size, oldest, operation);
        for (int i = 0; i < power.count; i++) {
            cut_power(ALL_BUT, i, size, oldest, operation);
            cut_power(ALONE, i, size, oldest, operation);
        }
        for (int i = 0; i < RANDOM_SUBSETS && power.count > 1; i++)
            cut_power(RANDOM, i, size, oldest, operation);
    }
}

/* `durable`: the oldest content that a power cut during the commit may bring back. */
static void replay_power_cuts(const struct bytes *base, int from, int durable)
{
    power.cache = *base;
    power_flush();
    for (int i = 0; i < record.count; i++) {
        power_apply(&record.list[i]);
        /* behind the last flush the commit may have returned */
        bool done = i >= from && power.count == 0 && i + 2 >= record.count;

        cut_power_here(done ? contents.count - 1 : durable, i);
    }
    if (!result.quiet)
        cut_power_here(contents.count - 1, record.count);
}

/* ---- I1 on each write ---- */

/* `before`: the file when the commit began. An image that is not known to be on disk is written over itself. */
static bool writes_the_same(const struct operation *operation, const struct bytes *before)
{
    return operation->offset + operation->size <= before->size &&
           memcmp(before->data + operation->offset, operation->data, operation->size) == 0;
}

static void check_i1(const struct store_image *live, const struct bytes *before, int from, bool sync)
{
    uint64_t start = live->place;
    uint64_t end = live->kind == STORE_PLAIN ? live->size : start + image_length(live->size);
    int flushes = 0;

    for (int i = from; i < record.count; i++) {
        const struct operation *operation = &record.list[i];
        bool mark = operation->kind == WRITE && operation->size == 1;

        if (operation->kind == FLUSH)
            flushes++;
        if (operation->kind == TRUNCATE && operation->offset < end)
            CHECK(flushes >= 1 || !sync); /* the new image is on disk */
        if (operation->kind != WRITE || mark || writes_the_same(operation, before))
            continue;
        if (operation->offset < end && operation->offset + operation->size > start)
            CHECK(live->kind == STORE_PLAIN &&
                  (flushes >= 2 || !sync)); /* footer and new image are on disk */
        if (live->kind == STORE_SIZED && sync && !live->flushed && operation->size != IMAGE_HEADER_SIZE)
            CHECK(flushes >= 1);
    }
}

/* ---- scenarios ---- */

/* A file that has seen these contents, one commit each; the first is a plain file unless its size is 0. */
struct scenario {
    const char *name;
    uint64_t plain;
    int commits;
    uint64_t sizes[4];
    uint64_t next;
};

static const struct scenario scenarios[] = {
    {"first commit of an empty file", 0, 0, {0}, 2500},
    {"first commit of 0 bytes", 0, 0, {0}, 0},
    {"first commit of a small plain file", 700, 0, {0}, 900},
    {"first commit of a plain file, shorter", 9000, 0, {0}, 100},
    {"first commit of a plain file, longer", 5000, 0, {0}, 9500},
    {"first commit of a plain file of whole pages", 8192, 0, {0}, 8192},
    {"first commit of a plain file as long as a managed one", 4096 + 128, 0, {0}, 4096},
    {"overwrite, twin live", 100, 1, {2500}, 2600},
    {"overwrite, head live", 100, 2, {2500, 2600}, 2700},
    {"overwrite of 0 bytes, twin live", 10, 1, {0}, 0},
    {"overwrite by 0 bytes, head live", 10, 2, {1, 3000}, 0},
    {"growth, twin live", 100, 1, {1000}, 15000},
    {"growth, head live", 100, 2, {1000, 1100}, 15000},
    {"growth twice, twin live", 100, 3, {1000, 1100, 9000}, 30000},
    {"growth after an image that only fitted behind, twin live", 100, 3, {1000, 1100, 30000}, 12000},
    {"shrink, twin live", 100, 1, {20000}, 10},
    {"shrink, head live", 100, 2, {20000, 20000}, 10},
    {"shrink of a file far too large, twin live", 60000, 1, {60000}, 30},
    {"shrink of a file far too large, head live", 60000, 2, {60000, 60000}, 20},
};

/* Brings the work file there; contents.list is what it held. Returns the number of contents. */
static void set_up(const struct scenario *scenario, bool sync)
{
    struct bytes *plain = make_content(1, scenario->plain);

    contents.count = 0;
    contents.list[contents.count++] = plain;
    put_file(work_file, plain);
    for (int i = 0; i < scenario->commits; i++) {
        free(contents.list[0]);
        contents.list[0] = make_content((unsigned)i + 2, scenario->sizes[i]);
        CHECK_EQUAL(commit(contents.list[0], sync), 0);
        forget_record();
    }
}

static void tear_down(void)
{
    while (contents.count > 0)
        free(contents.list[--contents.count]);
    forget_record();
}

/* One commit on a file that is on disk. */
static void one_commit(const struct scenario *scenario, bool sync)
{
    struct bytes *base = new_bytes();
    struct store_image live;

    set_up(scenario, sync);
    get_file(work_file, base);
    CHECK_EQUAL(store_look(work_file, (struct store_wait){.locked = true}, &live), 0);
    contents.list[contents.count++] = make_content(50, scenario->next);
    CHECK_EQUAL(commit(contents.list[contents.count - 1], sync), 0);
    if (!result.quiet)
        check_i1(&live, base, 0, sync);
    replay_kills(base, 0, 0);
    if (sync)
        replay_power_cuts(base, 0, 0);
    free(base);
    tear_down();
}

/*
 * A commit whose writer died before its `dead_at`th flush, then one by the next writer. `mark`: a control,
 * the dead writer marks its image as flushed.
 */
static void commit_after_a_dead_one(const struct scenario *scenario, int dead_at, bool mark)
{
    struct bytes *base = new_bytes();
    struct bytes *cache = new_bytes();
    struct store_image live;
    int flushes = 0;
    int from = 0;
    int old;

    set_up(scenario, true);
    get_file(work_file, base);
    contents.list[contents.count++] = make_content(40, scenario->next);
    CHECK_EQUAL(commit(contents.list[contents.count - 1], true), 0);
    while (from < record.count && (record.list[from].kind != FLUSH || ++flushes < dead_at))
        from++;
    while (record.count > from)
        free(record.list[--record.count].data);

    *cache = *base;
    for (int i = 0; i < from; i++)
        apply(cache, &record.list[i]);
    old = read_state(cache);
    CHECK(old >= 0);
    CHECK_EQUAL(store_look(work_file, (struct store_wait){.locked = true}, &live), 0);
    if (mark && live.kind == STORE_SIZED) {
        char plus = IMAGE_MARK_FLUSHED;

        CHECK_EQUAL(recording_pwrite(work_file, &plus, 1, live.place + IMAGE_MARK_OFFSET), 1);
        live.flushed = true;
        from++;
    }
    contents.list[contents.count++] = make_content(60, scenario->next + 300);
    CHECK_EQUAL(commit(contents.list[contents.count - 1], true), 0);
    if (!mark)
        check_i1(&live, cache, from, true);
    replay_kills(base, from, old);
    replay_power_cuts(base, from, 0);
    free(base);
    free(cache);
    tear_down();
}

static void start(bool quiet)
{
    result.kills = result.cuts = result.violations = 0;
    result.quiet = quiet;
}

static void report(const char *name)
{
    (void)printf("%-40s %7ld kills %8ld power cuts %6ld violations\n", name, result.kills, result.cuts,
                 result.violations);
}

static void naive_overwrite(void)
{
    struct bytes *base = make_content(1, 6000);

    contents.count = 0;
    contents.list[contents.count++] = base;
    contents.list[contents.count++] = make_content(2, 6000);
    put_file(work_file, base);
    CHECK_EQUAL(recording_pwrite(work_file, contents.list[1]->data, 6000, 0), 6000);
    replay_kills(base, 0, 0);
    tear_down();
}

static void controls(void)
{
    start(true);
    naive_overwrite();
    report("control: overwritten in place");
    CHECK(result.violations > 0);

    start(true);
    record.forget_flushes = true;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        one_commit(&scenarios[i], true);
    record.forget_flushes = false;
    report("control: no flush");
    CHECK(result.violations > 0);

    start(true);
    for (size_t i = 7; i < sizeof scenarios / sizeof scenarios[0]; i++)
        commit_after_a_dead_one(&scenarios[i], 1, true);
    report("control: marked, but not flushed");
    CHECK(result.violations > 0);
}

int main(void)
{
    original_calls = store_calls;
    store_calls.pwrite = recording_pwrite;
    store_calls.pwritev = recording_pwritev;
    store_calls.ftruncate = recording_ftruncate;
    store_calls.fdatasync = recording_fdatasync;
    work_file = memfd_create("work", 0);
    target_file = memfd_create("target", 0);
    srand(1);

    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        start(false);
        one_commit(&scenarios[i], true);
        one_commit(&scenarios[i], false);
        report(scenarios[i].name);
    }
    for (int flush = 1; flush <= 3; flush++) {
        start(false);
        for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
            commit_after_a_dead_one(&scenarios[i], flush, false);
        report(flush == 1   ? "after a writer died before flush 1"
               : flush == 2 ? "after a writer died before flush 2"
                            : "after a writer died before flush 3");
    }
    controls();
    return check_result();
}
