/*
 * A recorder of what commits do to a file, a disk that may lose power or fail, and a judge of the
 * states that this leads to: in each a reader must find an image that it may find (I2, I4, I5),
 * and the next commit must work.
 *
 * The disk: a power cut keeps any subset of the sectors that were written since the last flush,
 * each in any version that it had, and any size that the file had; but no size without the data
 * that extended the file to it, unless a note tells of that size (store.h, ASSUMED). Sizes and
 * notes come in the order in which they were made. A flush (fdatasync) makes the last size durable,
 * with the note that came with it or any later one; a sync (fsync) the last note, too. A cut zeroes
 * the rest of its block, perhaps before the size is on disk. A flush that fails has written any
 * subset of them, too; the kernel tells it once and calls the pages clean. So their content stays
 * uncertain, in spite of later flushes, until they are written and flushed again. The kernel may
 * also drop such a page and read it back from the disk.
 */
#ifndef ATOMSHIM_STORE_DISK_H
#define ATOMSHIM_STORE_DISK_H

#include "store_files.h"

#include <errno.h>

enum {
    SECTOR = 512,
    OPERATIONS_MAX = 256,
    CONTENTS_MAX = 6,
    RANDOM_SUBSETS = 12,
    SECTORS_MAX = FILE_MAX / SECTOR,
    PAGES_MAX = FILE_MAX / IMAGE_PAGE,
    SEEN_MAX = 1 << 20,
};

enum kind {
    WRITE,
    TRUNCATE,
    NOTE, /* `data` of `size` bytes is the note; 0: none */
    FLUSH,
    SYNC, /* a flush of the notes, too */
    FAILED_FLUSH,
    /* the kernel drops clean pages from its cache; `offset`: which of them were on disk, as a
     * seed */
    DROP,
    REPORT /* the contents that may be read from now on, in `offset` */
};

struct operation {
    enum kind kind;
    uint64_t offset; /* the offset of a write; the new size of a truncation */
    uint64_t size;
    char *data;
};

enum format { SIZED, PLAIN };

/* Which calls fail after the first one that did. */
enum after { NO_MORE, ALL_CALLS, FLUSHES };

/* The operations of commits on their file, and the calls that fail. */
static struct {
    struct operation list[OPERATIONS_MAX];
    int count;
    int calls;   /* calls that write, since prepare_fault() */
    int fail_at; /* the first is 1; 0: none */
    enum after after;
    int failures;
    /* controls */
    bool forget_flushes;
    bool forget_syncs;  /* a sync does nothing */
    bool lie;           /* a flush that fails says that it did not */
    bool skip_rewrites; /* bytes that the file has are not written again */
    bool skip_way_back; /* after a failure, no flush is done */
    bool forget_notes;  /* no note is set, but sizes come before their data all the same */
} record;

/* The contents that may be read; contents[0] is the oldest. A set of them is a set of bits. */
static struct {
    struct bytes *list[CONTENTS_MAX];
    int count;
    enum filling filling;
    enum format format; /* the format in which they are committed */
} contents;

static struct {
    long kills, cuts, judged, violations;
    bool quiet; /* a control: violations are counted, not reported */
    const char *name;
} result;

static int work_file;
static struct note work_note; /* its note */
static int target_file;

static inline unsigned one(int content)
{
    return 1U << content;
}

/* Returns the set of this content and all newer ones. */
static inline unsigned since(int content)
{
    return one(contents.count) - one(content);
}

/* ---- recording ---- */

static inline struct operation *add_operation(enum kind kind, uint64_t offset, uint64_t size)
{
    struct operation *operation = &record.list[record.count++];

    if (record.count > OPERATIONS_MAX)
        abort();
    *operation = (struct operation){.kind = kind, .offset = offset, .size = size};
    return operation;
}

static inline void prepare_fault(int at, enum after after)
{
    record.calls = record.failures = 0;
    record.fail_at = at;
    record.after = after;
}

static inline bool fails_now(enum kind kind)
{
    bool later;

    record.calls++;
    /* a disk that goes on failing does not hinder calls that need no disk */
    later = record.fail_at != 0 && record.calls > record.fail_at && kind != TRUNCATE && kind != NOTE &&
            (record.after == ALL_CALLS || (record.after == FLUSHES && (kind == FLUSH || kind == SYNC)));
    if (record.calls != record.fail_at && !later)
        return false;
    record.failures++;
    return true;
}

/* A write that fails has written half of its bytes. */
static inline ssize_t recording_pwritev(int fd, const struct iovec *pieces, int count, uint64_t offset)
{
    struct operation *operation;
    bool fails = fails_now(WRITE);
    uint64_t size = 0;
    ssize_t n;

    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    operation = add_operation(WRITE, offset, size);
    operation->data = malloc(size + 1);
    if (operation->data == NULL)
        abort();
    size = 0;
    for (int i = 0; i < count; i++) {
        memcpy(operation->data + size, pieces[i].iov_base, pieces[i].iov_len);
        size += pieces[i].iov_len;
    }
    if (fails)
        operation->size = size / 2 / SECTOR * SECTOR;
    n = original_calls.pwrite(fd, operation->data, operation->size, offset);
    return fails ? -EIO : n;
}

static inline ssize_t recording_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    char there[1 << 12];

    if (record.skip_rewrites && size <= sizeof there &&
        original_calls.pread(fd, there, size, offset) == (ssize_t)size && memcmp(there, buffer, size) == 0)
        return (ssize_t)size;
    return recording_pwritev(fd, &(struct iovec){(void *)buffer, size}, 1, offset);
}

static inline int recording_ftruncate(int fd, uint64_t size)
{
    if (fails_now(TRUNCATE))
        return -EIO;
    (void)add_operation(TRUNCATE, size, 0);
    return original_calls.ftruncate(fd, size);
}

static inline int flush(enum kind kind)
{
    bool way_back = record.failures != 0;
    bool fails = fails_now(kind);

    if (record.forget_flushes || (record.skip_way_back && way_back) || (record.forget_syncs && kind == SYNC))
        return 0;
    (void)add_operation(fails ? FAILED_FLUSH : kind, 0, 0);
    return fails && !record.lie ? -EIO : 0;
}

static inline int recording_fdatasync(int fd)
{
    (void)fd;
    return flush(FLUSH);
}

static inline int recording_fsync(int fd)
{
    (void)fd;
    return flush(SYNC);
}

static inline int change_note(const char *value, size_t size)
{
    struct operation *operation;

    if (fails_now(NOTE))
        return -EIO;
    operation = add_operation(NOTE, 0, size);
    operation->data = malloc(size + 1);
    if (operation->data == NULL)
        abort();
    memcpy(operation->data, value, size);
    memcpy(work_note.data, value, size);
    work_note.size = size;
    return 0;
}

static inline int recording_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    (void)fd;
    CHECK(strcmp(name, RECORD_NAME) == 0 && flags == 0);
    if (size > NOTE_MAX)
        return -ENOSPC;
    return record.forget_notes ? 0 : change_note(value, size);
}

static inline int recording_fremovexattr(int fd, const char *name)
{
    (void)fd;
    CHECK(strcmp(name, RECORD_NAME) == 0);
    return record.forget_notes ? 0 : work_note.size == 0 ? -ENODATA : change_note("", 0);
}

static inline ssize_t disk_fgetxattr(int fd, const char *name, void *value, size_t size)
{
    if (fd != work_file || strcmp(name, RECORD_NAME) != 0 || work_note.size == 0)
        return -ENODATA;
    if (work_note.size > size)
        return -ERANGE;
    memcpy(value, work_note.data, work_note.size);
    return (ssize_t)work_note.size;
}

/* Calls outside a record change the note, too, and nothing else. */
static inline int disk_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    (void)fd;
    (void)name;
    (void)flags;
    if (size > NOTE_MAX)
        return -ENOSPC;
    memcpy(work_note.data, value, size);
    work_note.size = size;
    return 0;
}

static inline int disk_fremovexattr(int fd, const char *name)
{
    (void)fd;
    (void)name;
    work_note.size = 0;
    return 0;
}

static inline void forget_record(void)
{
    for (int i = 0; i < record.count; i++)
        free(record.list[i].data);
    record.count = 0;
}

static inline void start_recording(void)
{
    original_calls = store_calls;
    original_calls.fdatasync = recording_fdatasync;
    original_calls.fsync = recording_fsync;
    original_calls.fgetxattr = store_calls.fgetxattr = disk_fgetxattr;
    original_calls.fsetxattr = disk_fsetxattr;
    original_calls.fremovexattr = disk_fremovexattr;
    store_calls.fsetxattr = recording_fsetxattr;
    store_calls.fremovexattr = recording_fremovexattr;
    store_calls.pwrite = recording_pwrite;
    store_calls.pwritev = recording_pwritev;
    store_calls.ftruncate = recording_ftruncate;
    store_calls.fdatasync = recording_fdatasync;
    store_calls.fsync = recording_fsync;
    work_file = memfd_create("work", 0);
    target_file = memfd_create("target", 0);
    srand(1);
}

/* ---- files ---- */

static inline int commit(int content, bool sync)
{
    const struct bytes *bytes = contents.list[content];

    return contents.format == SIZED ? commit_bytes(work_file, bytes->data, bytes->size, sync)
                                    : commit_plain_bytes(work_file, bytes->data, bytes->size, sync);
}

static inline int add_content(unsigned seed, uint64_t size)
{
    if (contents.count == CONTENTS_MAX)
        abort();
    contents.list[contents.count] = make_content(contents.filling, seed, size);
    return contents.count++;
}

/* A plain file must not begin with a header or end with a footer: readers recognise our files by
 * these. */
static inline int add_plain(uint64_t size)
{
    struct bytes *letters = make_content(LETTERS, 1, size);
    struct bytes *plain = contents.list[add_content(1, size)];
    uint64_t end = size < IMAGE_HEADER_SIZE ? size : IMAGE_HEADER_SIZE;

    memcpy(plain->data, letters->data, end);
    memcpy(plain->data + (size - end), letters->data, end);
    free(letters);
    return contents.count - 1;
}

static inline void put_work(const struct bytes *bytes)
{
    put_file(work_file, bytes);
    work_note = bytes->note;
}

/* Brings the work file to this state, on disk; contents.list[0] is its content. */
static inline void set_up(const struct scenario *scenario, bool sync, struct bytes *base)
{
    result.name = scenario->name;
    prepare_fault(0, NO_MORE);
    contents.count = 0;
    put_work(contents.list[add_plain(scenario->plain)]);
    for (int i = 0; i < scenario->commits; i++) {
        free(contents.list[--contents.count]);
        CHECK_EQUAL(commit(add_content((unsigned)i + 2, scenario->sizes[i]), sync), 0);
        forget_record();
    }
    get_file(work_file, base);
    base->note = work_note;
}

static inline void tear_down(void)
{
    while (contents.count > 0)
        free(contents.list[--contents.count]);
    forget_record();
}

static inline void copy_bytes(struct bytes *to, const struct bytes *from)
{
    memcpy(to->data, from->data, from->size);
    if (to->size > from->size)
        memset(to->data + from->size, 0, to->size - from->size);
    to->size = from->size;
    to->note = from->note;
}

static inline void resize(struct bytes *bytes, uint64_t size)
{
    if (size > FILE_MAX)
        abort();
    if (size < bytes->size)
        memset(bytes->data + size, 0, bytes->size - size);
    bytes->size = size;
}

/* Applies the first `cut` bytes of a write. */
static inline void apply_write(struct bytes *bytes, const struct operation *operation, uint64_t cut)
{
    if (cut == 0)
        return;
    if (operation->offset + cut > bytes->size)
        resize(bytes, operation->offset + cut);
    memcpy(bytes->data + operation->offset, operation->data, cut);
}

static inline void apply(struct bytes *bytes, const struct operation *operation)
{
    if (operation->kind == WRITE)
        apply_write(bytes, operation, operation->size);
    else if (operation->kind == TRUNCATE)
        resize(bytes, operation->offset);
    else if (operation->kind == NOTE) {
        bytes->note.size = operation->size;
        memcpy(bytes->note.data, operation->data, operation->size);
    }
}

/* ---- judging a state ---- */

static inline void violation(const char *what, const char *state, int operation, uint64_t where)
{
    result.violations++;
    if (result.quiet)
        return;
    (void)fprintf(stderr, "%s: %s: %s, operation %d, %llu\n", result.name, what, state, operation,
                  (unsigned long long)where);
    check_failed(__FILE__, __LINE__, what, operation, (long long)where);
}

/* Returns the contents that a reader finds in the work file, with the size that stat() shows: one,
 * or several that are equal. 0: none of them. */
static inline unsigned read_state(void)
{
    static struct bytes found;
    struct store_image image;
    uint64_t size;
    unsigned equal = 0;

    if (store_load(work_file, target_file, (struct store_wait){.locked = true}, &image) != 0 ||
        store_size(work_file, &size) != 0 || size != image.size)
        return 0;
    get_file(target_file, &found);
    for (int i = 0; i < contents.count; i++)
        if (same_bytes(&found, contents.list[i]))
            equal |= one(i);
    return equal;
}

/* States that were judged already, for these contents. */
static uint64_t seen[SEEN_MAX];

static inline void forget_seen(void)
{
    memset(seen, 0, sizeof seen);
}

static inline bool is_new(const struct bytes *state, unsigned allowed)
{
    uint64_t half = state->size / 2;
    uint64_t sum = crc32c(crc32c(allowed, state->note.data, state->note.size), state->data, half) |
                   (uint64_t)crc32c((uint32_t)state->size, state->data + half, state->size - half) << 32;

    sum += sum == 0;
    for (size_t at = (sum ^ sum >> 32) % SEEN_MAX, i = 0; i < 64; i++, at = (at + 1) % SEEN_MAX) {
        if (seen[at] == sum)
            return false;
        if (seen[at] == 0) {
            seen[at] = sum;
            break;
        }
    }
    return true;
}

/* `allowed`: the contents that may be read. */
static inline void judge(const struct bytes *state, unsigned allowed, const char *kind, int operation,
                         uint64_t where)
{
    static const char text[] = "committed on top";
    bool is_plain = contents.format == PLAIN;
    struct store_calls recording = store_calls;
    unsigned found;

    if (!is_new(state, allowed))
        return;
    result.judged++;
    put_work(state);
    found = read_state();
    if ((found & allowed) == 0) {
        violation(found == 0 ? "none of the images (I2)"
                             : "a commit is lost, or one that failed is not (I4, I5)",
                  kind, operation, where);
        return;
    }
    store_calls = original_calls;
    store_calls.fdatasync = sys_fdatasync;
    store_calls.fsync = sys_fsync;
    if (is_plain ? commit_plain_bytes(work_file, text, strlen(text), true) != 0
                 : commit_text(work_file, text) != 0)
        violation("the next commit failed", kind, operation, where);
    else if (!holds_text(work_file, text) || (is_plain && size_of(work_file) != strlen(text)))
        violation("the next commit is not the content", kind, operation, where);
    store_calls = recording;
}

/* ---- power cuts: subsets of the unflushed writes ---- */

struct version {
    char data[SECTOR];
    int sector;
    bool extends; /* the write made the file longer */
    /* if it made the file longer, its blocks are new: no earlier size leads to them */
    int since;
    int cut_by; /* the first size that a later truncation made; 0: none */
};

/* The bytes that the disk has, and the versions that it may have instead. */
static struct {
    struct bytes disk;
    struct bytes cache;
    struct version versions[4 * SECTORS_MAX];
    int count;
    bool dirty[PAGES_MAX + 1]; /* the next flush writes them */
    bool cut[PAGES_MAX + 1];   /* so it does after a truncation, failure or not */
    /* since the last flush; a later one implies the earlier ones */
    uint64_t sizes[OPERATIONS_MAX];
    struct note notes[OPERATIONS_MAX]; /* the notes of these sizes */
    /* the truncations up to this one: bytes that the disk had beyond are gone */
    uint64_t lowest[OPERATIONS_MAX];
    int size_count;
} power;

static inline int page_of(const struct version *version)
{
    return version->sector / (IMAGE_PAGE / SECTOR);
}

static inline void copy_page(struct bytes *to, const struct bytes *from, int page)
{
    uint64_t start = (uint64_t)page * IMAGE_PAGE;
    uint64_t end = start + IMAGE_PAGE < to->size ? start + IMAGE_PAGE : to->size;

    if (start < end)
        memcpy(to->data + start, from->data + start, end - start);
}

/* Forgets the versions of the pages that are `settled`. */
static inline void drop_versions(const bool *settled)
{
    int kept = 0;

    for (int i = 0; i < power.count; i++)
        if (!settled[page_of(&power.versions[i])])
            power.versions[kept++] = power.versions[i];
    power.count = kept;
}

static inline bool same_note(const struct note *a, const struct note *b)
{
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* Notes that the last size is on disk, with the note that came with it, or a later one; with
 * `notes`, the last one. */
static inline void power_flush_sizes(bool notes)
{
    int first;

    if (power.size_count == 0)
        power.sizes[power.size_count++] = power.cache.size;
    first = power.size_count - 1;
    while (!notes && first > 0 && power.sizes[first - 1] == power.cache.size)
        first--;
    for (int i = first; i < power.size_count; i++)
        power.notes[i - first] = power.notes[i];
    power.size_count -= first;
    power.notes[power.size_count - 1] = power.cache.note;
    for (int i = 0; i < power.size_count; i++)
        power.sizes[i] = power.lowest[i] = power.cache.size;
}

static inline void power_flush(bool notes)
{
    resize(&power.disk, power.cache.size);
    for (int page = 0; page < PAGES_MAX; page++) {
        power.dirty[page] |= power.cut[page] || (uint64_t)page * IMAGE_PAGE >= power.cache.size;
        if (power.dirty[page])
            copy_page(&power.disk, &power.cache, page);
    }
    drop_versions(power.dirty);
    memset(power.dirty, 0, sizeof power.dirty);
    memset(power.cut, 0, sizeof power.cut);
    for (int i = 0; i < power.count; i++) { /* the size is on disk, with or without the data */
        power.versions[i].extends = false;
        power.versions[i].since = 0;
    }
    power_flush_sizes(notes);
}

static inline void power_drop(uint32_t seed)
{
    static bool dropped[PAGES_MAX + 1];

    for (int page = 0; page < PAGES_MAX; page++)
        dropped[page] = !power.dirty[page] && !power.cut[page];
    for (int i = 0; i < power.count; i++) /* if the note is not on disk, neither is the size */
        if (power.versions[i].extends)
            dropped[page_of(&power.versions[i])] = false;
    for (int i = 0; i < power.count; i++) {
        uint64_t start = (uint64_t)power.versions[i].sector * SECTOR;

        if (dropped[page_of(&power.versions[i])] && seed != 0 && crc32c(seed, &i, sizeof i) % 2 == 0 &&
            start + SECTOR <= power.disk.size)
            memcpy(power.disk.data + start, power.versions[i].data, SECTOR);
    }
    for (int page = 0; page < PAGES_MAX; page++)
        if (dropped[page])
            copy_page(&power.cache, &power.disk, page);
    drop_versions(dropped);
}

static inline void power_start(const struct bytes *base)
{
    copy_bytes(&power.cache, base);
    copy_bytes(&power.disk, base);
    power.count = power.size_count = 0;
    power_flush(true);
}

/* Tells whether a note names this size. */
static inline bool is_noted(uint64_t size)
{
    const struct note *bytes = &power.cache.note;
    struct record note;

    return record.forget_notes || (record_decode(bytes->data, bytes->size, &note) == IMAGE_VALID &&
                                   note.word == RECORD_NOTE && note.other == size);
}

static inline void power_write(const struct operation *operation, uint64_t before)
{
    uint64_t end = operation->offset + operation->size;

    for (uint64_t sector = operation->offset / SECTOR; sector * SECTOR < end; sector++) {
        struct version *version = &power.versions[power.count++];

        if (power.count == sizeof power.versions / sizeof power.versions[0])
            abort();
        memcpy(version->data, power.cache.data + sector * SECTOR, SECTOR);
        version->sector = (int)sector;
        version->extends = (sector + 1) * SECTOR > before && !is_noted(power.cache.size);
        version->since = (sector + 1) * SECTOR > before ? power.size_count - 1 : 0;
        version->cut_by = 0;
        power.dirty[page_of(version)] = true;
    }
}

/* The rest of the block is zeroed, which may get to the disk before the size does. */
static inline void power_zero(uint64_t size, uint64_t before)
{
    uint64_t end = image_round_up(size) < before ? image_round_up(size) : before;

    for (uint64_t sector = size / SECTOR; sector * SECTOR < end; sector++) {
        struct version *version = &power.versions[power.count++];

        if (power.count == sizeof power.versions / sizeof power.versions[0])
            abort();
        *version =
            (struct version){.sector = (int)sector, .cut_by = sector * SECTOR >= size ? power.size_count : 0};
        memcpy(version->data, power.cache.data + sector * SECTOR, SECTOR);
        power.dirty[page_of(version)] = true;
    }
}

static inline void power_truncate(uint64_t size, uint64_t before)
{
    for (uint64_t page = size / IMAGE_PAGE; page < PAGES_MAX; page++)
        power.cut[page] = true;
    for (int i = 0; i < power.count; i++)
        if ((uint64_t)power.versions[i].sector * SECTOR >= size && power.versions[i].cut_by == 0)
            power.versions[i].cut_by = power.size_count;
    power_zero(size, before);
}

static inline void power_resize(uint64_t size)
{
    uint64_t lowest = power.lowest[power.size_count - 1];

    power.notes[power.size_count] = power.cache.note;
    power.sizes[power.size_count] = size;
    power.lowest[power.size_count++] = size < lowest ? size : lowest;
}

static inline void power_apply(const struct operation *operation)
{
    uint64_t before = power.cache.size;

    apply(&power.cache, operation);
    if (power.cache.size < before)
        power_truncate(power.cache.size, before);
    if (power.cache.size != before || operation->kind == NOTE)
        power_resize(power.cache.size);
    if (operation->kind == FLUSH || operation->kind == SYNC)
        power_flush(operation->kind == SYNC);
    else if (operation->kind == FAILED_FLUSH)
        memset(power.dirty, 0, sizeof power.dirty);
    else if (operation->kind == DROP)
        power_drop((uint32_t)operation->offset);
    else if (operation->kind == WRITE)
        power_write(operation, before);
}

enum subset { NONE, ALL, ALL_BUT, ALONE, RANDOM };

static inline bool keeps(enum subset subset, int chosen, int i)
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

static inline void cut_power(enum subset subset, int chosen, int size_kept, unsigned allowed, int operation)
{
    static struct bytes state;
    uint64_t size = power.sizes[size_kept];

    copy_bytes(&state, &power.disk);
    state.note = power.notes[size_kept];
    if (state.size > power.lowest[size_kept])
        resize(&state, power.lowest[size_kept]);
    resize(&state, size);
    for (int i = 0; i < power.count; i++) {
        const struct version *version = &power.versions[i];
        uint64_t start = (uint64_t)version->sector * SECTOR;

        if (version->since > size_kept || (version->cut_by != 0 && version->cut_by <= size_kept))
            continue;
        if (start >= size || !(keeps(subset, chosen, i) || version->extends))
            continue;
        memcpy(state.data + start, version->data, size - start < SECTOR ? size - start : SECTOR);
    }
    result.cuts++;
    judge(&state, allowed, "power cut", operation, (uint64_t)subset * 1000 + (uint64_t)chosen);
}

static inline void cut_power_here(unsigned allowed, int operation)
{
    for (int s = 0; s < power.size_count; s++) {
        cut_power(NONE, 0, s, allowed, operation);
        cut_power(ALL, 0, s, allowed, operation);
        for (int i = 0; i < power.count; i++) {
            cut_power(ALL_BUT, i, s, allowed, operation);
            cut_power(ALONE, i, s, allowed, operation);
        }
        for (int i = 0; i < RANDOM_SUBSETS && power.count > 1; i++)
            cut_power(RANDOM, i, s, allowed, operation);
    }
}

/* Cuts the power after each operation from `from` on. `allowed`: until the first report, also
 * after a power cut. */
static inline void replay_power_cuts(const struct bytes *base, int from, unsigned allowed)
{
    power_start(base);
    for (int i = 0; i < record.count; i++) {
        const struct operation *operation = &record.list[i];

        power_apply(operation);
        if (operation->kind == REPORT)
            allowed = (unsigned)operation->offset;
        if (i < from)
            continue;
        if (operation->kind == REPORT || operation->kind == DROP)
            judge(&power.cache, allowed, "no power cut", i, 0);
        cut_power_here(allowed, i);
    }
}

/* ---- results ---- */

static inline void start(bool quiet)
{
    forget_seen();
    result.kills = result.cuts = result.judged = result.violations = 0;
    result.quiet = quiet;
}

static inline void report(const char *name)
{
    (void)printf("%-62s %6ld kills %8ld power cuts %7ld different states %5ld violations\n", name,
                 result.kills, result.cuts, result.judged, result.violations);
}

#endif
