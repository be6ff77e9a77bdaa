/*
 * Writers and readers that keep to the protocol, in every order that the input asks for (I1, I2,
 * I4, I5).
 *
 * An input is the size of a plain file and up to 16 commits of 8 bytes each. A commit runs on a
 * copy of the file, perhaps with calls that fail or are cut short, and its writes are recorded. The
 * target then applies the record to the file in pieces, between the calls of a reader, which
 * several commits may lap; or only up to some point, where the writer was killed. Since a writer
 * holds the lock, its record is exact. What must hold:
 *
 *   - a reader gets the image that was live when it began or one that was committed since, never
 *     less, never an error
 *   - a commit that returned 0 is the content; one that failed is not; one that was killed is, or
 *     is not
 *   - no byte of the live image changes, but its mark
 *   - the next commit always works
 *
 * With SEEDS=DIR in the environment it writes its seeds there, and ends.
 */
#include "format/crc32c.h"
#include "fuzz.h"
#include "kernel.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

enum {
    COMMITS_MAX = 16,
    CONTENTS_MAX = COMMITS_MAX + 2, /* the plain bytes before, one clean commit at the end */
    CONTENT_MAX = 1 << 16,
    STEPS_MAX = 64,
    SECTOR = 512,
};

enum fault_kind {
    NO_FAULT,
    FAIL_ONCE,
    FAIL_EVER_AFTER,
    CUT_SHORT,
    FULL_DISK,
    INTERRUPT,
    NO_FLUSH,
    FAULT_KINDS
};

struct commit {
    uint8_t flags; /* a set of enum flag */
    uint8_t size_low, size_high;
    uint8_t fault_kind, fault_call;
    uint8_t kill_step, kill_at;
    uint8_t pace; /* for a reader beside it: bits 0-1 calls, 2-4 bytes, 5-7 further commits */
};

enum flag {
    ALONE = 1,     /* no reader beside it */
    LEFT_OPEN = 2, /* not finished before the next reader begins */
    SMALL = 4,     /* sizes are mostly small: each of these takes four bits */
    SMALLER = 8,
    NOT_SYNCED = 16,
    KILLED = 32,
    LOOK = 64, /* the reader looks; else it copies */
    VERIFY = 128,
};

/* One call of a writer that changed the file. */
struct step {
    long number;
    uint64_t offset, size;
    char *bytes;
};

static struct kernel_file file;
static struct kernel_file shadow; /* the file on which a commit is recorded */
static struct kernel_file target;
static struct kernel_file aside; /* the target of a load while a reader has the other one */

static uint64_t sizes[CONTENTS_MAX]; /* a content is its size and its number as every byte */
static int content_count;
static char payload_bytes[CONTENT_MAX];

static struct {
    const struct commit *next, *end;
    struct commit commit; /* the writer that is active */
    bool busy;
    int content;
    int result;
    struct step steps[STEPS_MAX];
    int step_count, step;
    uint64_t done; /* bytes of the present step */
    char arena[4 * CONTENT_MAX];
    size_t arena_used;
    struct store_image live; /* when it began */
    bool moved;              /* the header at 0 names a new twin place: the old image is dead */
    uint32_t may_be;         /* contents that may be live between writers: after a kill two */
} writer;

static struct {
    bool active;
    int laps;
    uint32_t may_get;
    struct commit commit; /* the commit whose pace it keeps */
} reader;

static void advance_writer(void);

/* ---- contents ---- */

static uint32_t bit(int content)
{
    return 1u << content;
}

static struct store_payload fill_payload(int content)
{
    memset(payload_bytes, content, sizes[content]);
    return (struct store_payload){payload_bytes, sizes[content],
                                  crc32c_mixed(0, payload_bytes, sizes[content])};
}

static bool is_content(const struct store_image *image, int content, bool copied)
{
    struct store_payload payload;

    if (image->size != sizes[content])
        return false;
    payload = fill_payload(content);
    if (image->kind == STORE_SIZED && image->payload_crc != payload.crc)
        return false;
    return !copied || (kernel.target->size == payload.size &&
                       memcmp(kernel.target->bytes, payload.bytes, payload.size) == 0);
}

/* Returns which of the contents in `candidates` this is. Two may be equal, of size 0. */
static uint32_t contents_like(const struct store_image *image, uint32_t candidates, bool copied)
{
    uint32_t found = 0;

    for (int i = 0; i < content_count; i++)
        if ((candidates & bit(i)) && is_content(image, i, copied))
            found |= bit(i);
    return found;
}

/* Returns the live image, while no writer is active. */
static struct store_image settle(void)
{
    struct kernel saved = kernel;
    struct store_image image;
    uint32_t found;

    REQUIRE(!writer.busy);
    kernel_reset(&file, &aside);
    REQUIRE(store_load(KERNEL_INODE, KERNEL_TARGET, (struct store_wait){.locked = true}, &image) == 0);
    found = contents_like(&image, writer.may_be, true);
    REQUIRE(found != 0);
    writer.may_be = found;
    kernel = saved;
    return image;
}

/* ---- recording a commit ---- */

static void record(long number, uint64_t offset, const char *bytes, uint64_t size)
{
    const struct store_image *live = &writer.live;
    uint64_t end = live->place + image_length(live->size);
    struct step *step = &writer.steps[writer.step_count++];

    REQUIRE(writer.step_count < STEPS_MAX && writer.arena_used + size <= sizeof writer.arena);
    *step = (struct step){number, offset, size, writer.arena + writer.arena_used};
    if (size != 0)
        memcpy(step->bytes, bytes, size);
    writer.arena_used += size;
    if (live->kind == STORE_PLAIN || number == SYS_fdatasync) /* I1 */
        return;
    if (number == SYS_pwrite64 && offset == 0 && size == IMAGE_HEADER_SIZE && live->place != 0)
        writer.moved = true;
    if (number == SYS_ftruncate)
        REQUIRE(offset >= end || writer.moved);
    else
        REQUIRE((size == 1 && offset == live->place + IMAGE_MARK_OFFSET) || offset + size <= live->place ||
                offset >= end || memcmp(bytes, file.bytes + offset, size) == 0);
}

static bool is_write(long number)
{
    return number == SYS_pwrite64 || number == SYS_pwritev || number == SYS_fdatasync ||
           number == SYS_ftruncate;
}

static long fail_call(long number, size_t *size)
{
    uint64_t call = writer.commit.fault_call % 24 + 1u;
    bool now = kernel.calls == call;
    bool after = kernel.calls >= call && is_write(number);

    switch (writer.commit.fault_kind % FAULT_KINDS) {
    case FAIL_ONCE:
        return now ? -EIO : 0;
    case FAIL_EVER_AFTER:
        return now || after ? -EIO : 0;
    case CUT_SHORT:
        if (now && number != SYS_pwrite64) /* a header is inside one sector */
            *size = number == SYS_pread64 ? (*size + 1) / 2 : writer.commit.size_low % 32 * SECTOR + SECTOR;
        return 0;
    case FULL_DISK: /* some bytes still fit, then none that need a block */
        if (number == SYS_pwritev && kernel.calls > call)
            return -ENOSPC;
        if (number == SYS_pwritev)
            *size = writer.commit.size_low % 32 * SECTOR + SECTOR;
        return 0;
    case INTERRUPT:
        return now ? -EINTR : 0;
    case NO_FLUSH:
        return number == SYS_fdatasync ? -EIO : 0;
    default:
        return 0;
    }
}

static uint64_t size_of(const struct commit *commit)
{
    uint64_t size = commit->size_low | (uint64_t)commit->size_high << 8;

    return size >> (commit->flags & SMALL ? 4 : 0) >> (commit->flags & SMALLER ? 4 : 0);
}

static void begin_commit(struct commit commit)
{
    struct kernel saved = kernel;
    struct store_payload payload;

    writer.live = settle();
    writer.commit = commit;
    writer.content = content_count++;
    sizes[writer.content] = size_of(&commit);
    writer.step_count = writer.step = 0;
    writer.done = 0;
    writer.arena_used = 0;
    writer.moved = false;
    shadow.size = file.size;
    shadow.note_size = 0; /* the file that readers see has none */
    memcpy(shadow.bytes, file.bytes, file.size);

    kernel_reset(&shadow, &target);
    kernel.before = fail_call;
    kernel.changed = record;
    payload = fill_payload(writer.content);
    writer.result = store_commit(KERNEL_INODE, &payload, !(commit.flags & NOT_SYNCED));
    kernel = saved;
    if (commit.fault_kind % FAULT_KINDS == NO_FAULT || commit.fault_kind % FAULT_KINDS == INTERRUPT)
        REQUIRE(writer.result == 0);
    writer.busy = true;
    if (reader.active)
        reader.may_get |= bit(writer.content);
}

/* ---- applying it ---- */

static void end_commit(bool killed)
{
    enum fault_kind fault = writer.commit.fault_kind % FAULT_KINDS;

    writer.busy = false;
    if (!killed && writer.result == 0)
        writer.may_be = bit(writer.content);
    else if (killed || fault == FAIL_EVER_AFTER || fault == NO_FLUSH)
        writer.may_be |= bit(writer.content); /* no step could be undone: complete all the same */
    if (!reader.active)
        (void)settle();
}

/* A kill stops a write between two pages; this stops it between two sectors, which asks for
 * more. */
static bool is_killed_at(uint64_t offset)
{
    const struct step *step = &writer.steps[writer.step];
    uint64_t at = step->offset + step->size * writer.commit.kill_at / 255;

    return (writer.commit.flags & KILLED) && writer.step == writer.commit.kill_step % 16 &&
           (step->size == 0 || offset >= at / SECTOR * SECTOR);
}

static uint64_t chunk_size(void)
{
    static const uint64_t chunks[] = {UINT64_MAX, 65536, 16384, 4096, 1000, 512, 100, 64};

    return chunks[reader.commit.pace >> 2 & 7];
}

static uint64_t next_chunk(const struct step *step)
{
    uint64_t chunk = step->size - writer.done;
    uint64_t offset = step->offset + writer.done;

    if (chunk > chunk_size())
        chunk = chunk_size();
    /* the kernel lengthens a file page by page: its data are there before its size is */
    if (offset + chunk > file.size && chunk < IMAGE_PAGE - offset % IMAGE_PAGE)
        chunk = step->size - writer.done;
    if (offset + chunk > file.size && chunk > IMAGE_PAGE - offset % IMAGE_PAGE)
        chunk = IMAGE_PAGE - offset % IMAGE_PAGE;
    /* a chunk ends where a kill may cut */
    if ((writer.commit.flags & KILLED) && chunk > SECTOR - offset % SECTOR)
        chunk = SECTOR - offset % SECTOR;
    return chunk;
}

static void apply_writes(void)
{
    const struct step *step = &writer.steps[writer.step];
    uint64_t chunk;

    if (writer.step == writer.step_count) {
        end_commit(false);
        return;
    }
    if (is_killed_at(step->offset + writer.done)) {
        end_commit(true);
        return;
    }
    if (step->number == SYS_ftruncate)
        REQUIRE(kernel_cut(&file, step->offset) == 0);
    chunk = next_chunk(step);
    REQUIRE(kernel_write(&file, step->bytes + writer.done, chunk, step->offset + writer.done) == (long)chunk);
    writer.done += chunk;
    if (writer.done == step->size) {
        writer.step++;
        writer.done = 0;
    }
}

/* The writers' next step. */
static void advance_writer(void)
{
    if (writer.busy)
        apply_writes();
    else if (writer.next < writer.end && reader.laps > 0 && kernel.lock == F_UNLCK) {
        reader.laps--;
        begin_commit(*writer.next++);
    }
}

static void finish_commit(void)
{
    while (writer.busy)
        apply_writes();
}

/* ---- reading ---- */

static long before_read(long number, size_t *size)
{
    REQUIRE(!is_write(number));
    for (int i = reader.commit.pace & 3; i > 0; i--)
        advance_writer();
    if (number == SYS_pread64 && reader.commit.kill_at == kernel.calls && *size > 1)
        *size /= 2;
    return 0;
}

static bool writer_has_lock(void)
{
    return writer.busy;
}

static void read_beside(struct commit commit)
{
    bool copy = !(commit.flags & (LOOK | VERIFY));
    struct store_wait wait = {.timeout = INT64_C(30000000000)};
    struct store_image image;

    kernel_reset(&file, &target);
    kernel.before = before_read;
    kernel.is_held = writer_has_lock;
    kernel.slept = advance_writer;
    reader.active = true;
    reader.commit = commit;
    reader.laps = commit.pace >> 5;
    reader.may_get = writer.may_be | (writer.busy ? bit(writer.content) : 0);
    REQUIRE((commit.flags & LOOK ? store_look(KERNEL_INODE, wait, &image)
                                 : store_load(KERNEL_INODE, copy ? KERNEL_TARGET : -1, wait, &image)) == 0);
    REQUIRE(contents_like(&image, reader.may_get, copy) != 0);
    REQUIRE(kernel.lock == F_UNLCK);
    reader.active = false;
    kernel_reset(&file, &target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct commit commits[COMMITS_MAX];
    static const struct commit last = {.flags = ALONE, .size_low = 77};
    size_t count = size != 0 ? (size - 1) / sizeof commits[0] : 0;

    if (size == 0 || count > COMMITS_MAX)
        return -1;
    memcpy(commits, data + 1, count * sizeof commits[0]);
    kernel_reset(&file, &target);
    memset(&reader, 0, sizeof reader);
    writer.next = commits;
    writer.end = commits + count;
    writer.busy = false;
    writer.may_be = bit(0);
    content_count = 1;
    sizes[0] = (uint64_t)data[0] * 40;
    file.size = 0;
    (void)kernel_write(&file, fill_payload(0).bytes, sizes[0], 0);

    while (writer.next < writer.end) {
        struct commit commit = *writer.next;

        bool left_open = writer.busy;

        if (!left_open) {
            begin_commit(commit);
            writer.next++;
        }
        if (!(commit.flags & ALONE))
            read_beside(commit);
        if (left_open || !(commit.flags & LEFT_OPEN))
            finish_commit();
    }
    finish_commit();
    begin_commit(last);
    finish_commit();
    REQUIRE(writer.result == 0 && writer.may_be == bit(writer.content));
    return 0;
}

/* ---- seeds ---- */

void fuzz_write_seeds(void)
{
    static const struct commit bases[] = {
        {.flags = ALONE | SMALL},
        {.flags = SMALL, .size_high = 20, .pace = 1 | 3 << 2 | 2 << 5},
        {.flags = SMALL | KILLED, .size_high = 30, .kill_step = 1, .kill_at = 100, .pace = 1},
        {.flags = ALONE, .size_high = 200, .fault_kind = FAIL_ONCE, .fault_call = 6},
        {.flags = LEFT_OPEN | LOOK, .size_high = 8, .pace = 2 | 5 << 2 | 4 << 5},
        {.flags = VERIFY | NOT_SYNCED, .size_low = 9, .fault_kind = FULL_DISK, .fault_call = 5, .pace = 1},
    };
    enum { BASES = sizeof bases / sizeof bases[0] };

    for (uint8_t seed = 0; seed < 24; seed++) {
        char data[1 + COMMITS_MAX * sizeof(struct commit)] = {(char)(seed * 3)};
        size_t count = 2 + seed % 7;

        for (size_t i = 0; i < count; i++) {
            struct commit commit = bases[(seed + i * (1 + seed / BASES)) % BASES];

            commit.size_low = (uint8_t)(commit.size_low + seed * i);
            memcpy(data + 1 + i * sizeof commit, &commit, sizeof commit);
        }
        fuzz_write_seed(data, 1 + count * sizeof(struct commit));
    }
}
