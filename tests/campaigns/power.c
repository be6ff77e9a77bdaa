/*
 * Replays power cuts from the recording of a disk.
 *
 *   power payload NAME VERSION SIZE   prints a payload whose every line names version and position
 *   power replay RECORDING BASE TYPE VERSIONS ATOMSHIM LIBRARY LIMIT RANDOM SEED
 *
 * BASE is the disk before the recording (power_disk.c) began, with a file system of TYPE; VERSIONS
 * holds the content VERSION of each FILE as FILE.VERSION. The recording carries these marks:
 *
 *   done FILE VERSION        the program's close() has returned success: from here on this version
 *                            or a newer one
 *   begin FILE VERSION       a program is about to write this version: from here on it may be found
 *   failed FILE VERSION      its close() has failed: from here on it must not be found
 *   loose FILE VERSION       up to the next `done` the last commit is one without sync: `atomshim
 *                            cat` may say that its image is damaged, and of a plain file any
 *                            mixture may be found
 *   inode FILE NUMBER LINKS  what a name must lead to, whenever it is there
 *   limit NUMBER             the LIMIT of the next workload; the last one counts
 *   format plain             the next workload's files are in the plain format
 *   workload NAME            power cuts from here on, until
 *   end                      here; the next workload has files of its own
 *
 * A power cut keeps all up to the last flush, and of what was written after it any subset of the 4
 * KiB blocks, or of their sectors. An epoch is what lies between two flushes; in each of them,
 * these crash images are made:
 *
 *   none     the disk as the last flush left it, at the end of the epoch
 *   all      everything that the epoch wrote: with the one above, every prefix that ends at a flush
 *   data     only the blocks of the managed files (power_is_data); metadata: only the others
 *   prefix   all up to some write
 *   dropped  all but one block; for each block
 *   alone    nothing but one block; for each block
 *   random   RANDOM subsets, with 10, 50 or 90 in 100 of the blocks, at random points of the epoch
 *   torn     RANDOM times: any subset of the blocks, and of one data block only some of its
 *            512-byte sectors
 *
 * Of these, LIMIT for a workload are taken at random (0: all), and no state of the disk is looked
 * at twice. Each is mounted. Every file of the workload must then be readable by `atomshim cat`,
 * with a version that may be found at that point (I4, I5; an image that is none of them was torn),
 * be the same inode with the same number of links (I3), and take another commit, from cp under the
 * shim, which the next reader must find. In the plain format a program without the shim must find
 * the same bytes, once `atomshim recover` has run, and after that commit.
 *
 * Prints for each workload "NAME:IMAGES:VIOLATIONS:TORN:LOST", then how many images there were of
 * each kind; on stderr, a line for each violation. Exits 0 unless it could not do its work.
 */
#include "power_recording.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/loop.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SECTOR = 512,
    NAME_ROOM = 32,
    DEVICE_ROOM = 32,
    FILES_MAX = 8,
    VERSIONS_MAX = 64,
    NO_VERSION = -1,
};

struct record {
    struct recorded is;
    const char *bytes;
};

struct bytes {
    char *data;
    size_t size;
};

/* A managed file of the present workload, and the versions that it may have at the present point in
 * time. */
struct file {
    char name[NAME_ROOM];
    unsigned long inode; /* 0: not known, the workload has yet to create it */
    unsigned long links;
    bool loose;      /* the last commit was not synced */
    int done;        /* the last acknowledged version, or NO_VERSION: the file may be missing */
    uint64_t begun;  /* a bit for each version */
    uint64_t failed; /* the same */
    struct bytes versions[VERSIONS_MAX];
};

/* A block of a write, which reaches the disk or not; or a whole range of zeroes. */
struct unit {
    size_t record;
    uint64_t offset;
    uint64_t size;
    const char *bytes; /* NULL: zeroes */
    bool data;
};

struct epoch {
    size_t first; /* record */
    size_t end;   /* the flush, or mark, that ends it */
    size_t unit;  /* its first one */
    size_t units;
};

enum kind { NONE, ALL, DATA, METADATA, PREFIX, DROPPED, ALONE, RANDOM, TORN, KINDS };

static const char *const kind_names[KINDS] = {
    "none", "all", "data only", "metadata only", "other prefix", "one dropped", "one alone", "random", "torn",
};

/* A crash image to be made. */
struct cut {
    enum kind kind;
    size_t epoch;
    size_t unit; /* the block that is dropped, alone or torn, or the last of a prefix */
    unsigned seed;
};

struct page {
    uint64_t number;
    bool used;
    char bytes[POWER_BLOCK];
};

struct list {
    void *items;
    size_t count, room;
};

static struct {
    const char *type, *versions, *atomshim, *library;
    size_t limit;
    unsigned random;
    unsigned seed;
    char *directory;         /* the folder on which crash images are mounted */
    char *next;              /* the content that the check commits */
    char *preload, *managed; /* the shim's environment */
    bool plain;              /* the workload at hand is in the plain format */
} setup;

static struct {
    char *bytes;   /* the disk as the crash image must be */
    uint8_t *used; /* for each page of it: it is not a hole */
    uint64_t size;
    uint64_t hash; /* over all pages */
    struct list undo;
    int scratch; /* the file that is mounted, and its bytes */
    char *scratch_bytes;
    uint8_t *scratch_used;
} disk;

static struct {
    size_t images, violations, torn, lost;
} count;

static size_t kind_count[KINDS];
static char finding[128];
static struct list records, units, epochs, cuts, seen;
static struct file files[FILES_MAX];
static size_t files_count;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

static char *text(const char *format, ...)
{
    va_list arguments;
    char *result;

    va_start(arguments, format);
    if (vasprintf(&result, format, arguments) < 0)
        fail("memory");
    va_end(arguments);
    return result;
}

static void *more(struct list *list, size_t size)
{
    if (list->count == list->room) {
        list->room = list->room * 2 + 64;
        list->items = realloc(list->items, list->room * size);
        if (list->items == NULL)
            fail("memory");
    }
    return memset((char *)list->items + list->count++ * size, 0, size);
}

#define MORE(list, type) ((type *)more(&(list), sizeof(type)))
#define AT(list, type, index) (((type *)(list).items) + (index))

static struct bytes map_file(const char *path)
{
    struct bytes file = {NULL, 0};
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &status) != 0)
        fail(path);
    file.size = (size_t)status.st_size;
    if (file.size > 0) {
        file.data = mmap(NULL, file.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file.data == MAP_FAILED)
            fail(path);
    }
    (void)close(fd);
    return file;
}

/* ---- the disk ---- */

static uint64_t page_hash(uint64_t number)
{
    const char *bytes = disk.bytes + number * POWER_BLOCK;
    uint64_t hash = number * 0x9e3779b97f4a7c15;

    for (size_t i = 0; i < POWER_BLOCK; i += sizeof hash) {
        uint64_t word;

        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * 0xff51afd7ed558ccd;
        hash ^= hash >> 32;
    }
    return hash;
}

/* Calls `visit` for each page of the file that is not in a hole. */
static void for_each_used(int fd, uint64_t size, void (*visit)(uint64_t number))
{
    off_t end = 0;

    for (;;) {
        off_t start = lseek(fd, end, SEEK_DATA);

        if (start < 0 && errno == ENXIO)
            return;
        end = start < 0 ? start : lseek(fd, start, SEEK_HOLE);
        if (end < 0)
            fail("lseek");
        for (uint64_t page = (uint64_t)start / POWER_BLOCK; page * POWER_BLOCK < (uint64_t)end; page++)
            visit(page);
        if ((uint64_t)end >= size)
            return;
    }
}

static void mark_used(uint64_t page)
{
    disk.used[page] = 1;
}

static void *map_new(size_t size, int protection, int flags, int fd)
{
    void *at = mmap(NULL, size, protection, flags | MAP_NORESERVE, fd, 0);

    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

static void scratch_new(void)
{
    disk.scratch = memfd_create("crash image", MFD_CLOEXEC);
    if (disk.scratch < 0 || ftruncate(disk.scratch, (off_t)disk.size) != 0)
        fail("scratch");
    disk.scratch_bytes = map_new(disk.size, PROT_READ | PROT_WRITE, MAP_SHARED, disk.scratch);
}

static void disk_load(const char *base)
{
    int fd = open(base, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) != 0)
        fail(base);
    disk.size = (uint64_t)status.st_size;
    disk.bytes = map_new(disk.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    disk.used = calloc(2, disk.size / POWER_BLOCK);
    if (disk.used == NULL)
        fail("memory");
    disk.scratch_used = disk.used + disk.size / POWER_BLOCK;
    for_each_used(fd, disk.size, mark_used);
    for (uint64_t page = 0; page < disk.size / POWER_BLOCK; page++)
        if (disk.used[page] && pread(fd, disk.bytes + page * POWER_BLOCK, POWER_BLOCK,
                                     (off_t)(page * POWER_BLOCK)) != POWER_BLOCK)
            fail(base);
    (void)close(fd);

    scratch_new();
}

/* Writes into one page of the disk. With `keep` disk_undo() can restore it. */
static void disk_put(uint64_t offset, uint64_t size, const char *bytes, bool keep)
{
    uint64_t page = offset / POWER_BLOCK;
    char *at = disk.bytes + offset;

    if (bytes == NULL && !disk.used[page])
        return;
    if (disk.used[page])
        disk.hash -= page_hash(page);
    if (keep) {
        struct page *old = MORE(disk.undo, struct page);

        old->number = page;
        old->used = disk.used[page] != 0;
        memcpy(old->bytes, disk.bytes + page * POWER_BLOCK, POWER_BLOCK);
    }
    if (bytes != NULL)
        memcpy(at, bytes, size);
    else
        memset(at, 0, size);
    disk.used[page] = 1;
    disk.hash += page_hash(page);
}

/* `sectors` are the unit's sectors that arrive. */
static void disk_apply(const struct unit *unit, unsigned sectors, bool keep)
{
    uint64_t size;

    for (uint64_t done = 0; done < unit->size; done += size) {
        uint64_t offset = unit->offset + done;

        size = POWER_BLOCK - offset % POWER_BLOCK;
        if (sectors != ~0U)
            size = SECTOR;
        if (size > unit->size - done)
            size = unit->size - done;
        if ((sectors >> (done / SECTOR % 32) & 1) != 0)
            disk_put(offset, size, unit->bytes == NULL ? NULL : unit->bytes + done, keep);
    }
}

static void disk_undo(void)
{
    while (disk.undo.count > 0) {
        const struct page *old = AT(disk.undo, struct page, --disk.undo.count);

        disk.hash -= page_hash(old->number);
        memcpy(disk.bytes + old->number * POWER_BLOCK, old->bytes, POWER_BLOCK);
        disk.used[old->number] = old->used;
        if (old->used)
            disk.hash += page_hash(old->number);
    }
}

static void scratch_fix(uint64_t page)
{
    uint64_t offset = page * POWER_BLOCK;

    disk.scratch_used[page] = 1;
    if (!disk.used[page]) {
        if (fallocate(disk.scratch, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, POWER_BLOCK) !=
            0)
            fail("fallocate");
    } else if (memcmp(disk.scratch_bytes + offset, disk.bytes + offset, POWER_BLOCK) != 0) {
        memcpy(disk.scratch_bytes + offset, disk.bytes + offset, POWER_BLOCK);
    }
}

/* Makes the scratch file equal to the disk, whatever the last mount has left in it. */
static void scratch_fill(void)
{
    memset(disk.scratch_used, 0, disk.size / POWER_BLOCK);
    for_each_used(disk.scratch, disk.size, scratch_fix);
    for (uint64_t page = 0; page < disk.size / POWER_BLOCK; page++)
        if (disk.used[page] && !disk.scratch_used[page])
            memcpy(disk.scratch_bytes + page * POWER_BLOCK, disk.bytes + page * POWER_BLOCK, POWER_BLOCK);
}

/* ---- the recording ---- */

/* The recording may still grow behind the records that count: leaves an incomplete record out. */
static void load_recording(const char *path)
{
    struct bytes recording = map_file(path);
    struct recorded is;

    for (size_t at = 0; at + sizeof is <= recording.size;) {
        uint64_t size;
        struct record *record;

        memcpy(&is, recording.data + at, sizeof is);
        at += sizeof is;
        size = is.kind == RECORDED_WRITE || is.kind == RECORDED_MARK ? is.size : 0;
        if (size > recording.size - at)
            return;
        record = MORE(records, struct record);
        *record = (struct record){is, recording.data + at};
        at += size;
    }
}

static void add_units(size_t index)
{
    const struct record *record = AT(records, struct record, index);
    uint64_t size;

    if (record->is.failed || (record->is.kind != RECORDED_WRITE && record->is.kind != RECORDED_ZEROES))
        return;
    for (uint64_t done = 0; done < record->is.size; done += size) {
        struct unit *unit = MORE(units, struct unit);

        unit->record = index;
        unit->offset = record->is.offset + done;
        size = record->is.size - done;
        if (record->is.kind == RECORDED_WRITE) {
            unit->bytes = record->bytes + done;
            if (size > POWER_BLOCK - unit->offset % POWER_BLOCK)
                size = POWER_BLOCK - unit->offset % POWER_BLOCK;
            unit->data = power_is_data(unit->bytes, size);
        }
        unit->size = size;
    }
}

static bool is_mark(size_t index, const char *text)
{
    const struct record *record = AT(records, struct record, index);
    size_t length = strlen(text);

    return record->is.kind == RECORDED_MARK && record->is.size >= length &&
           memcmp(record->bytes, text, length) == 0;
}

static bool is_flush(size_t index)
{
    const struct record *record = AT(records, struct record, index);

    return record->is.kind == RECORDED_FLUSH && !record->is.failed;
}

/* Splits the recording at its flushes, and at the ends of the workloads. */
static void find_epochs(void)
{
    struct epoch epoch = {0};

    for (size_t i = 0; i < records.count; i++) {
        add_units(i);
        if (!is_flush(i) && !is_mark(i, "end") && i + 1 < records.count)
            continue;
        epoch.end = i;
        epoch.units = units.count - epoch.unit;
        *MORE(epochs, struct epoch) = epoch;
        if (is_flush(i))
            epoch = (struct epoch){.first = i + 1, .unit = units.count};
    }
}

/* ---- the versions that may be found ---- */

static struct file *file_named(const char *name)
{
    for (size_t i = 0; i < files_count; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    if (files_count == FILES_MAX) {
        fprintf(stderr, "power: too many files in a workload\n");
        exit(2);
    }
    files[files_count] = (struct file){.done = NO_VERSION};
    (void)snprintf(files[files_count].name, NAME_ROOM, "%s", name);
    return &files[files_count++];
}

static void heed(size_t index)
{
    const struct record *record = AT(records, struct record, index);
    char line[128];
    char what[NAME_ROOM];
    char name[NAME_ROOM];
    unsigned long number;
    unsigned long links;
    struct file *file;

    if (record->is.kind != RECORDED_MARK || is_mark(index, "workload ") || record->is.size >= sizeof line)
        return;
    memcpy(line, record->bytes, record->is.size);
    line[record->is.size] = '\0';
    if (sscanf(line, "%31s %31s %lu %lu", what, name, &number, &links) < 3)
        return;
    file = file_named(name);
    if (strcmp(what, "inode") == 0) {
        file->inode = number;
        file->links = links;
        return;
    }
    if (number >= VERSIONS_MAX || (strcmp(what, "begin") == 0 && file->begun >> number != 0)) {
        fprintf(stderr, "power: %s: version %lu is not above the last one, or above %d\n", name, number,
                VERSIONS_MAX - 1);
        exit(2);
    }
    file->begun |= (uint64_t)1 << number;
    if (strcmp(what, "loose") == 0)
        file->loose = true;
    if (strcmp(what, "done") == 0) {
        file->done = (int)number;
        file->loose = false;
    }
    if (strcmp(what, "failed") == 0)
        file->failed |= (uint64_t)1 << number;
}

/* Applies all marks from `first` up to `point`. Inodes and contents are known beforehand. */
static void know(size_t first, size_t point)
{
    for (size_t i = 0; i < files_count; i++) {
        files[i].done = NO_VERSION;
        files[i].begun = files[i].failed = 0;
        files[i].loose = false;
    }
    for (size_t i = first; i <= point; i++)
        if (!is_mark(i, "inode "))
            heed(i);
}

static void load_versions(void)
{
    for (size_t i = 0; i < files_count; i++) {
        for (int version = 0; version < VERSIONS_MAX; version++) {
            if ((files[i].begun >> version & 1) == 0)
                continue;
            char *path = text("%s/%s.%d", setup.versions, files[i].name, version);

            files[i].versions[version] = map_file(path);
            free(path);
        }
    }
}

static void forget_versions(void)
{
    for (size_t i = 0; i < files_count; i++)
        for (int version = 0; version < VERSIONS_MAX; version++)
            if (files[i].versions[version].size > 0)
                (void)munmap(files[i].versions[version].data, files[i].versions[version].size);
    files_count = 0;
}

/* ---- the check ---- */

/* Runs a program, under the shim or not, and stores its output; returns false if it failed. */
static bool run(const char *const argv[], bool shim, struct bytes *output)
{
    char *plain[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    char *shimmed[] = {plain[0],
                       plain[1],
                       setup.preload,
                       setup.managed,
                       setup.plain ? "ATOMSHIM_FORMAT=plain" : "ATOMSHIM_FORMAT=sized",
                       NULL};
    posix_spawn_file_actions_t actions;
    int memory = memfd_create("output", 0);
    int status = -1;
    struct stat written = {0};
    pid_t child;

    if (memory < 0 || posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, memory, STDOUT_FILENO) != 0 ||
        posix_spawn_file_actions_addclose(&actions, memory) != 0)
        fail("spawn");
    errno = posix_spawnp(&child, argv[0], &actions, NULL, (char **)argv, shim ? shimmed : plain);
    if (errno != 0)
        fail(argv[0]);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (waitpid(child, &status, 0) != child || fstat(memory, &written) != 0)
        fail(argv[0]);
    output->size = (size_t)written.st_size;
    output->data = malloc(output->size + 1);
    if (output->data == NULL || pread(memory, output->data, output->size, 0) != written.st_size)
        fail("output");
    (void)close(memory);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool equal(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* Keeps the fault for the line that try_cut() prints. Returns false. */
static bool violation(const struct file *file, const char *what)
{
    (void)snprintf(finding, sizeof finding, "%.*s %.60s", NAME_ROOM,
                   file == NULL ? "the file system" : file->name, what);
    return false;
}

/* Checks that the version is old or new; new if close() had returned (I4); not a failed one
 * (I5). */
static bool content_allowed(const struct file *file, const struct bytes *content)
{
    bool known = false;

    if ((file->done == NO_VERSION && content->size == 0) || (file->loose && setup.plain))
        return true;
    for (int version = 0; version < VERSIONS_MAX; version++) {
        if ((file->begun >> version & 1) == 0 || !equal(content, &file->versions[version]))
            continue;
        known = true;
        if (version == file->done || (version > file->done && (file->failed >> version & 1) == 0))
            return true;
    }
    if (known)
        count.lost++;
    else
        count.torn++;
    return violation(file, known ? "holds another version than it must" : "holds no version at all");
}

static bool inode_right(const struct file *file, const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return violation(file, "stat fails");
    if (file->inode == 0 || (status.st_ino == file->inode && status.st_nlink == file->links))
        return true;
    count.lost++;
    return violation(file, "I3: another inode, or number of links");
}

/* Reads a plain file as a program without the shim does. */
static bool is_bare(const char *path, const struct bytes *content)
{
    struct bytes bare = map_file(path);
    bool good = equal(&bare, content);

    if (bare.size > 0)
        (void)munmap(bare.data, bare.size);
    return good;
}

/* Checks a plain file: `content` is the finding of a reader under the shim; after a recovery the
 * others find the same. */
static bool check_recovered(const struct file *file, const char *path, const struct bytes *content)
{
    const char *const recover[] = {setup.atomshim, "recover", path, NULL};
    struct bytes said;
    bool good = run(recover, false, &said);

    free(said.data);
    if (good && is_bare(path, content))
        return true;
    count.torn++;
    return violation(file, good ? "is not what a reader found, after a recovery" : "is not recovered");
}

static bool check_content(const struct file *file, const char *path)
{
    const char *const cat[] = {setup.atomshim, "cat", path, NULL};
    struct bytes content;
    bool good;

    if (run(cat, false, &content) || file->loose) {
        good = content_allowed(file, &content) && (!setup.plain || check_recovered(file, path, &content));
    } else {
        count.torn++;
        good = violation(file, "cannot be read");
    }
    free(content.data);
    return good;
}

/* Runs the next commit, and its reader, both ordinary programs under the shim. */
static bool check_next(const struct file *file, const char *path)
{
    const char *const copy[] = {"cp", setup.next, path, NULL};
    const char *const cat[] = {"cat", path, NULL};
    struct bytes expected = map_file(setup.next);
    struct bytes content;
    bool good = run(copy, true, &content);

    free(content.data);
    if (good) {
        good = run(cat, true, &content) && equal(&content, &expected) &&
               (!setup.plain || is_bare(path, &expected));
        free(content.data);
    }
    (void)munmap(expected.data, expected.size);
    return good ? good : violation(file, "the next commit fails");
}

static bool check_path(const struct file *file, const char *path)
{
    bool missing = access(path, F_OK) != 0;

    if (missing && file->done != NO_VERSION) {
        count.lost++;
        return violation(file, "is missing");
    }
    if (!missing && (!inode_right(file, path) || !check_content(file, path)))
        return false;
    return check_next(file, path) && (missing || inode_right(file, path));
}

static bool check_file(const struct file *file)
{
    char *path = text("%s/%s", setup.directory, file->name);
    bool good = check_path(file, path);

    free(path);
    return good;
}

/* Makes a loop device of the scratch file, which disappears with its last user. */
static int attach(char *device, size_t room)
{
    struct loop_config config = {.fd = (uint32_t)disk.scratch, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    for (;;) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        int fd;

        if (number < 0)
            fail("/dev/loop-control");
        (void)snprintf(device, room, "/dev/loop%d", number);
        fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            (void)close(control);
            return fd;
        }
        if (errno != EBUSY && errno != ENXIO) /* another process has taken it */
            fail(device);
        if (fd >= 0)
            (void)close(fd);
    }
}

/* btrfs remembers what it saw on a device, and refuses an older state of it on another one. */
static void forget_devices(void)
{
    static const struct btrfs_ioctl_vol_args all = {0};
    int control = open("/dev/btrfs-control", O_RDWR | O_CLOEXEC);

    if (control >= 0) {
        (void)ioctl(control, BTRFS_IOC_FORGET_DEV, &all);
        (void)close(control);
    }
}

/*
 * After the umount the file system may still live: a mount namespace that another process made
 * meanwhile may hold it, and then it writes at any time. It may keep its scratch file; the next
 * crash image gets a new one.
 */
static void let_go(const char *device)
{
    struct loop_info64 info;
    struct stat status;
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    bool held = fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && fstat(disk.scratch, &status) == 0 &&
                info.lo_inode == status.st_ino && info.lo_device == status.st_dev;

    if (fd >= 0)
        (void)close(fd);
    if (!held)
        return;
    (void)munmap(disk.scratch_bytes, disk.size);
    (void)close(disk.scratch);
    scratch_new();
}

static bool check_image(void)
{
    char device[DEVICE_ROOM];
    bool good = true;
    int fd;

    scratch_fill();
    forget_devices();
    fd = attach(device, sizeof device);
    if (mount(device, setup.directory, setup.type, 0, strcmp(setup.type, "xfs") == 0 ? "nouuid" : NULL) !=
        0) {
        (void)close(fd);
        let_go(device);
        count.torn++;
        return violation(NULL, "cannot be mounted");
    }
    (void)close(fd);
    for (size_t i = 0; i < files_count && good; i++)
        good = check_file(&files[i]);
    if (umount2(setup.directory, 0) != 0)
        fail(setup.directory);
    let_go(device);
    return good;
}

/* ---- the crash images ---- */

static void add_cut(enum kind kind, size_t epoch, size_t unit)
{
    struct cut *cut = MORE(cuts, struct cut);

    cut->kind = kind;
    cut->epoch = epoch;
    cut->unit = unit;
    cut->seed = (unsigned)random();
}

/* Returns the n-th data block of the epoch, or how many there are. */
static size_t find_data(const struct epoch *epoch, size_t n)
{
    size_t found = 0;

    for (size_t i = 0; i < epoch->units; i++)
        if (AT(units, struct unit, epoch->unit + i)->data && found++ == n)
            return i;
    return found;
}

static void add_cuts(size_t index)
{
    const struct epoch *epoch = AT(epochs, struct epoch, index);

    add_cut(NONE, index, 0);
    for (size_t i = 0; i < epoch->units; i++) {
        const struct unit *unit = AT(units, struct unit, epoch->unit + i);

        if (i + 1 == epoch->units || unit[1].record != unit->record)
            add_cut(PREFIX, index, i);
        add_cut(DROPPED, index, i);
        add_cut(ALONE, index, i);
    }
    add_cut(ALL, index, 0);
    add_cut(DATA, index, 0);
    add_cut(METADATA, index, 0);
    for (unsigned i = 0; i < setup.random && epoch->units > 1; i++)
        add_cut(RANDOM, index, 0);
    for (unsigned i = 0; i < setup.random && find_data(epoch, SIZE_MAX) > 0; i++)
        add_cut(TORN, index, 0);
}

/* True if the cut keeps this unit, the n-th of its epoch. `lucky` is the result of a lottery. */
static bool keeps(const struct cut *cut, const struct unit *unit, size_t n, bool lucky)
{
    switch (cut->kind) {
    case PREFIX:
    case ALL:
        return true;
    case DROPPED:
        return n != cut->unit;
    case ALONE:
        return n == cut->unit;
    case DATA:
        return unit->data;
    case METADATA:
        return !unit->data;
    case RANDOM:
    case TORN:
        return lucky;
    default:
        return false;
    }
}

/* Applies the units that the cut keeps of its epoch. Returns the record at which the power
 * fails. */
static size_t make_cut(const struct cut *cut)
{
    static const unsigned percents[] = {10, 50, 90};
    const struct epoch *epoch = AT(epochs, struct epoch, cut->epoch);
    unsigned seed = cut->seed;
    unsigned percent = percents[(unsigned)rand_r(&seed) % 3];
    size_t units_before = epoch->units;
    size_t torn = epoch->units;
    size_t point = epoch->end;

    if (cut->kind == PREFIX)
        units_before = cut->unit + 1;
    if (cut->kind == RANDOM && rand_r(&seed) % 2 == 0)
        units_before = 1 + (size_t)rand_r(&seed) % epoch->units;
    if (units_before < epoch->units)
        point = AT(units, struct unit, epoch->unit + units_before)->record;
    if (cut->kind == TORN)
        torn = find_data(epoch, (size_t)rand_r(&seed) % find_data(epoch, SIZE_MAX));

    for (size_t i = 0; i < units_before; i++) {
        const struct unit *unit = AT(units, struct unit, epoch->unit + i);
        bool lucky = (unsigned)rand_r(&seed) % 100 < percent;

        if (keeps(cut, unit, i, lucky || i == torn))
            disk_apply(unit, i == torn ? (unsigned)rand_r(&seed) % 256 : ~0U, true);
    }
    return point;
}

/* True if this state of the disk, with these demands on it, is new. */
static bool is_new(void)
{
    uint64_t hash = disk.hash;

    for (size_t i = 0; i < files_count; i++) {
        hash = hash * 31 + (uint64_t)files[i].done;
        hash = hash * 31 + files[i].begun;
        hash = hash * 31 + files[i].failed * 2 + files[i].loose;
    }
    for (size_t i = 0; i < seen.count; i++)
        if (*AT(seen, uint64_t, i) == hash)
            return false;
    *MORE(seen, uint64_t) = hash;
    return true;
}

static void try_cut(const struct cut *cut, size_t first, size_t begin, const char *workload)
{
    const struct epoch *epoch = AT(epochs, struct epoch, cut->epoch);
    size_t point = make_cut(cut);

    know(first, point);
    if (point > begin && is_new()) { /* the epoch may begin before the workload */
        count.images++;
        kind_count[cut->kind]++;
        if (!check_image()) {
            count.violations++;
            fprintf(stderr, "%s, %s: %s, unit %zu of %zu, records %zu to %zu, cut at %zu: %s\n", setup.type,
                    workload, kind_names[cut->kind], cut->unit, epoch->units, epoch->first, epoch->end, point,
                    finding);
        }
    }
    disk_undo();
}

static int by_epoch(const void *a, const void *b)
{
    const struct cut *one = a;
    const struct cut *two = b;

    if (one->epoch != two->epoch)
        return one->epoch < two->epoch ? -1 : 1;
    return one->kind != two->kind ? (int)one->kind - (int)two->kind
                                  : (one->unit > two->unit) - (one->unit < two->unit);
}

static void take_some(size_t limit)
{
    if (limit == 0)
        return;
    for (size_t i = 0; i < cuts.count; i++) {
        size_t other = i + (size_t)random() % (cuts.count - i);
        struct cut kept = *AT(cuts, struct cut, i);

        *AT(cuts, struct cut, i) = *AT(cuts, struct cut, other);
        *AT(cuts, struct cut, other) = kept;
    }
    if (cuts.count > limit)
        cuts.count = limit;
}

/* Brings the disk to the start of the epoch: everything before it is flushed. */
static void advance(size_t *applied, size_t epoch)
{
    for (size_t end = AT(epochs, struct epoch, epoch)->unit; *applied < end; (*applied)++)
        disk_apply(AT(units, struct unit, *applied), ~0U, false);
}

static bool has_mark(size_t first, size_t begin, const char *text)
{
    for (size_t i = first; i < begin; i++)
        if (is_mark(i, text))
            return true;
    return false;
}

/* Returns the LIMIT of the workload whose marks begin at `first`. */
static size_t find_limit(size_t first, size_t begin)
{
    for (size_t i = begin; i-- > first;)
        if (is_mark(i, "limit ")) /* a number ends at what is no digit: the next record */
            return strtoul(AT(records, struct record, i)->bytes + strlen("limit "), NULL, 10);
    return setup.limit;
}

/* `first`: the record where the workload's first file is named; `begin`, `end`: its marks. */
static void run_workload(size_t first, size_t begin, size_t end, size_t *applied)
{
    const struct record *mark = AT(records, struct record, begin);
    char name[128];

    (void)snprintf(name, sizeof name, "%.*s", (int)mark->is.size - 9, mark->bytes + 9);
    for (size_t i = first; i <= end; i++)
        heed(i);
    setup.plain = has_mark(first, begin, "format plain");
    load_versions();
    memset(&count, 0, sizeof count);
    cuts.count = seen.count = 0;
    for (size_t i = 0; i < epochs.count; i++) {
        const struct epoch *epoch = AT(epochs, struct epoch, i);

        if (epoch->end > begin && epoch->end <= end)
            add_cuts(i);
    }
    take_some(find_limit(first, begin));
    qsort(cuts.items, cuts.count, sizeof(struct cut), by_epoch);
    for (size_t i = 0; i < cuts.count; i++) {
        const struct cut *cut = AT(cuts, struct cut, i);

        advance(applied, cut->epoch);
        try_cut(cut, first, begin, name);
    }
    printf("%s:%zu:%zu:%zu:%zu\n", name, count.images, count.violations, count.torn, count.lost);
    (void)fflush(stdout);
    forget_versions();
}

static void replay(char *argv[])
{
    size_t applied = 0;
    size_t first = 0;
    size_t begin = 0;

    load_recording(argv[0]);
    disk_load(argv[1]);
    setup.type = argv[2];
    setup.versions = argv[3];
    setup.atomshim = argv[4];
    setup.library = argv[5];
    setup.limit = strtoul(argv[6], NULL, 10);
    setup.random = (unsigned)strtoul(argv[7], NULL, 10);
    srandom((unsigned)strtoul(argv[8], NULL, 10));
    setup.directory = text("%s/crashed", setup.versions);
    setup.next = text("%s/next", setup.versions);
    setup.preload = text("LD_PRELOAD=%s", setup.library);
    setup.managed = text("ATOMSHIM_PATHS=%s/", setup.directory);
    if (mkdir(setup.directory, 0700) != 0 && errno != EEXIST)
        fail(setup.directory);

    find_epochs();
    for (size_t i = 0; i < records.count; i++) {
        if (is_mark(i, "workload "))
            begin = i;
        if (!is_mark(i, "end"))
            continue;
        run_workload(first, begin, i, &applied);
        first = i + 1;
    }
    for (int kind = 0; kind < KINDS; kind++)
        printf("%s%zu %s", kind == 0 ? "kinds:" : ", ", kind_count[kind], kind_names[kind]);
    printf("\n");
}

static void print_payload(const char *name, unsigned version, size_t size)
{
    char line[33];

    for (unsigned number = 0; size > 0; number++) {
        size_t length = size < sizeof line - 1 ? size : sizeof line - 1;

        (void)snprintf(line, sizeof line, PAYLOAD_LINE "%-9.9s%03u %08u\n", name, version % 1000,
                       number % 100000000);
        if (fwrite(line, 1, length, stdout) != length)
            fail("stdout");
        size -= length;
    }
}

int main(int argc, char *argv[])
{
    if (argc == 5 && strcmp(argv[1], "payload") == 0)
        print_payload(argv[2], (unsigned)strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    else if (argc == 11 && strcmp(argv[1], "replay") == 0)
        replay(argv + 2);
    else {
        fprintf(stderr,
                "usage: power payload NAME VERSION SIZE\n"
                "       power replay RECORDING BASE TYPE VERSIONS ATOMSHIM LIBRARY LIMIT RANDOM SEED\n");
        return 2;
    }
    return fflush(stdout) == 0 ? 0 : 2;
}
