/*
 * The image reader, and a commit on top of the image that it read, on arbitrary bytes (I1, I2, I5).
 *
 * An input is a plan of 16 bytes and the file. The plan says how the file is read, and which
 * changes and faults come in between. What must hold:
 *
 *   - a file that nobody changes reads as expected() below says, which shares nothing with the
 *     reader but the header's decoder and the CRC: exactly one valid image, the plain bytes, or EIO
 *   - a file that is changed under the reader gives an image whose header was there and whose CRC
 *     holds, the plain bytes of some moment, or an error with a reason
 *   - the bytes read and mapped, and the time slept, stay within bounds that the file's real size
 *     justifies
 *   - a commit succeeds and the next reader gets it, or it changes nothing; it writes no byte of
 *     the live image
 *
 * With SEEDS=DIR in the environment it writes its seeds there, files that the engine itself made,
 * and ends.
 */
#include "format/crc32c.h"
#include "fuzz.h"
#include "kernel.h"
#include "os/scratch.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

enum {
    PLAN_SIZE = 16,
    EVENTS = 4,
    PAGES_MAX = 4,
    INPUT_FILE_MAX = PAGES_MAX * IMAGE_PAGE + IMAGE_FILE_REMAINDER,
    VERSIONS_MAX = EVENTS + 1,
    ATTEMPTS_MAX = 28, /* without and with the lock; the code is allowed to make fewer */
    CALLS_MAX = 24,    /* calls of one attempt */
};

enum way { COPY, VERIFY, LOOK, COMMIT, WAYS };

enum event_kind {
    NOTHING,
    WRITE_BYTE,
    TRUNCATE,
    MOVE_HEADER, /* a header appears at 0 that was elsewhere */
    COPY_PAGE,
    EMPTY_HEADER, /* a header without an image appears at 0 */
    PLAIN_REWRITE,
    RESTORE,
    CUT_SHORT,
    INTERRUPT,
    FAIL,
    EVENT_KINDS,
};

struct event {
    uint8_t call, kind, argument;
};

struct plan {
    uint8_t way, lock, commit_size;
    /* a set of enum flag; the rest, times 97, is the number of bytes before the note's zeros */
    uint8_t flags;
    struct event events[EVENTS];
};
_Static_assert(sizeof(struct plan) == PLAN_SIZE, "a plan is read as it stands");

enum flag { UNSYNCED = 1, NOTED = 2, BLANK = 4, FLAGS = 8 };

enum lock_state { FREE, UNLOCKED_FREE, HELD_FOR_A_WHILE, HELD_FOR_EVER, LOCK_STATES };

/* The result that a reader must find. */
struct expectation {
    int result;
    struct store_image image;
    const char *bytes;
};

static struct run {
    struct plan plan;
    bool committing;
    bool changed;   /* another program changed the file */
    bool in_pieces; /* a read may have been made in several */
    int injected;   /* an error that a call returned */
    struct kernel_file versions[VERSIONS_MAX];
    int version_count;
    struct store_image live; /* at a commit */
} run;

static struct kernel_file inode;
static struct kernel_file target;

/* ---- the content of the file by the rules of atomshim-format(5) ---- */

static bool complete(const struct kernel_file *file, const struct image_header *header, uint64_t place,
                     bool trust_mark)
{
    if (header->generation == 0 || place + image_length(header->size) > file->size)
        return false;
    return (trust_mark && header->flushed) ||
           crc32c_mixed(0, file->bytes + place + IMAGE_HEADER_SIZE, header->size) == header->payload_crc;
}

static enum image_kind header_at(const struct kernel_file *file, uint64_t place, struct image_header *header)
{
    uint64_t left = place < file->size ? file->size - place : 0;

    return image_decode_header(left != 0 ? file->bytes + place : "",
                               left < IMAGE_HEADER_SIZE ? left : IMAGE_HEADER_SIZE, header);
}

static bool twin_complete(const struct kernel_file *file, uint64_t place, bool trust_mark,
                          struct image_header *header)
{
    return header_at(file, place, header) == IMAGE_VALID && header->twin == 0 &&
           complete(file, header, place, trust_mark);
}

static struct expectation take_image(const struct kernel_file *file, const struct image_header *header,
                                     uint64_t place, uint64_t twin)
{
    return (struct expectation){.image = {.kind = STORE_SIZED,
                                          .size = header->size,
                                          .generation = header->generation,
                                          .place = place,
                                          .twin = twin,
                                          .payload_crc = header->payload_crc,
                                          .flushed = header->flushed},
                                .bytes = file->bytes + place + IMAGE_HEADER_SIZE};
}

static struct expectation expected_plain(const struct kernel_file *file, bool trust_mark)
{
    struct expectation plain = {.image = {.kind = STORE_PLAIN, .size = file->size}, .bytes = file->bytes};
    struct image_footer footer;
    struct image_header header;
    struct record note;
    uint64_t blank;

    if (file->size % IMAGE_PAGE == IMAGE_FILE_REMAINDER &&
        image_decode_footer(file->bytes + file->size - IMAGE_HEADER_SIZE, IMAGE_HEADER_SIZE, &footer) ==
            IMAGE_VALID &&
        footer.plain_size <= footer.twin && footer.twin < file->size) {
        if (twin_complete(file, footer.twin, trust_mark, &header)) {
            if (header.generation != 1 ||
                (footer.has_start && (file->size < IMAGE_START_SIZE ||
                                      crc32c(0, file->bytes, IMAGE_START_SIZE) != footer.start_crc)))
                return (struct expectation){.result = -EIO};
            plain = take_image(file, &header, footer.twin, footer.twin);
            plain.image.adopted = true;
            return plain;
        }
        plain.image.size = footer.plain_size;
        plain.image.twin = footer.twin;
    } else if (record_decode(file->note, file->note_size, &note) == IMAGE_VALID && note.word == RECORD_NOTE &&
               note.size < file->size && file->size <= note.other &&
               crc32c_mixed(0, file->bytes, note.size) == note.crc) {
        blank = note.size;
        while (blank < file->size && file->bytes[blank] == 0)
            blank++;
        if (blank == file->size)
            plain.image = (struct store_image){
                .kind = STORE_PLAIN, .size = note.size, .payload_crc = note.crc, .blank = true};
    }
    if (!trust_mark)
        plain.image.payload_crc = crc32c_mixed(0, file->bytes, plain.image.size);
    return plain;
}

static struct expectation expected(const struct kernel_file *file, bool trust_mark)
{
    struct expectation damaged = {.result = -EIO};
    struct image_header head;
    struct image_header twin;
    bool head_good;
    bool twin_good;

    switch (header_at(file, 0, &head)) {
    case IMAGE_ABSENT:
        return expected_plain(file, trust_mark);
    case IMAGE_TORN:
        return damaged;
    default:
        break;
    }
    if (head.twin == 0)
        return damaged;
    head_good = image_length(head.size) <= head.twin && complete(file, &head, 0, trust_mark);
    twin_good = twin_complete(file, head.twin, trust_mark, &twin);
    if (twin_good && (!head_good || twin.generation > head.generation))
        return take_image(file, &twin, head.twin, head.twin);
    return head_good ? take_image(file, &head, 0, head.twin) : damaged;
}

/* ---- changes and faults during a read ---- */

static void remember_version(void)
{
    struct kernel_file *version = &run.versions[run.version_count++];

    version->size = inode.size;
    version->note_size = inode.note_size;
    memcpy(version->note, inode.note, sizeof inode.note);
    memcpy(version->bytes, inode.bytes, inode.size);
}

static void put_header(uint64_t place, const struct image_header *header)
{
    char bytes[IMAGE_HEADER_SIZE];

    image_encode_header(bytes, header);
    (void)kernel_write(&inode, bytes, sizeof bytes, place);
}

static void move_header(uint8_t argument)
{
    uint64_t from = (uint64_t)(argument % PAGES_MAX) * IMAGE_PAGE;
    char bytes[IMAGE_HEADER_SIZE];

    if (from + sizeof bytes > inode.size)
        return;
    memcpy(bytes, inode.bytes + from, sizeof bytes);
    (void)kernel_write(&inode, bytes, sizeof bytes, 0);
}

static void copy_page(uint8_t argument)
{
    uint64_t from = (uint64_t)(argument % PAGES_MAX) * IMAGE_PAGE;
    uint64_t to = (uint64_t)(argument / PAGES_MAX % PAGES_MAX) * IMAGE_PAGE;

    if (from != to && from + IMAGE_PAGE <= inode.size)
        (void)kernel_write(&inode, inode.bytes + from, IMAGE_PAGE, to);
}

static void change_file(enum event_kind kind, uint8_t argument)
{
    char byte = (char)argument;

    switch (kind) {
    case WRITE_BYTE:
        (void)kernel_write(&inode, &byte, 1, (uint64_t)argument * 97 % (inode.size + 1));
        break;
    case TRUNCATE:
        (void)kernel_cut(&inode, (uint64_t)argument * IMAGE_HEADER_SIZE % INPUT_FILE_MAX);
        break;
    case MOVE_HEADER:
        move_header(argument);
        break;
    case COPY_PAGE:
        copy_page(argument);
        break;
    case EMPTY_HEADER:
        put_header(0, &(struct image_header){.twin = (uint64_t)(argument % 8) * IMAGE_PAGE});
        break;
    case PLAIN_REWRITE:
        (void)kernel_cut(&inode, 0);
        (void)kernel_write(&inode, "plain", 5, argument);
        break;
    default: /* RESTORE */
        (void)kernel_cut(&inode, 0);
        (void)kernel_write(&inode, run.versions[0].bytes, run.versions[0].size, 0);
        break;
    }
    run.changed = true;
    run.in_pieces = run.in_pieces || kind == TRUNCATE || kind == PLAIN_REWRITE || kind == RESTORE;
    remember_version();
}

static long happen(const struct event *event, long number, size_t *size)
{
    static const int errors[] = {EIO, ENOMEM, EACCES, ESTALE};
    enum event_kind kind = event->kind % EVENT_KINDS;

    if (kind == NOTHING)
        return 0;
    if (kind == CUT_SHORT) {
        if (number == SYS_pread64 && *size > 1) {
            *size /= 2;
            run.in_pieces = true;
        }
        return 0;
    }
    if (kind == INTERRUPT)
        return -EINTR;
    if (kind == FAIL) {
        run.injected = -errors[event->argument % 4];
        return run.injected;
    }
    change_file(kind, event->argument);
    return 0;
}

static long before_call(long number, size_t *size)
{
    long result = 0;

    REQUIRE(run.committing ||
            (number != SYS_pwrite64 && number != SYS_pwritev && number != SYS_ftruncate &&
             number != SYS_fdatasync && number != SYS_fsetxattr && number != SYS_fremovexattr));
    for (int i = 0; i < EVENTS && !run.committing; i++)
        if (run.plan.events[i].call % 32 + 1u == kernel.calls && result == 0)
            result = happen(&run.plan.events[i], number, size);
    return result;
}

static bool is_held(void)
{
    switch (run.plan.lock % LOCK_STATES) {
    case HELD_FOR_A_WHILE:
        return kernel.now < 100000000;
    case HELD_FOR_EVER:
        return true;
    default:
        return false;
    }
}

/* ---- what must hold ---- */

static bool same_image(const struct store_image *a, const struct store_image *b)
{
    return a->kind == b->kind && a->size == b->size && a->generation == b->generation &&
           a->place == b->place && a->twin == b->twin && a->payload_crc == b->payload_crc &&
           a->flushed == b->flushed && a->adopted == b->adopted && a->blank == b->blank;
}

static void check_unchanged(int result, const struct store_image *image, enum way way)
{
    struct expectation wanted = expected(&run.versions[0], way == LOOK);

    if (result == -ETIMEDOUT && wanted.result == -EIO)
        REQUIRE(run.plan.lock % LOCK_STATES == HELD_FOR_EVER);
    else
        REQUIRE(result == wanted.result);
    if (result != 0)
        return;
    REQUIRE(same_image(image, &wanted.image));
    REQUIRE(way != COPY ||
            (target.size == image->size && memcmp(target.bytes, wanted.bytes, target.size) == 0));
}

/* Checks that the image's header was there at some time. */
static bool had_header(const struct store_image *image)
{
    struct image_header header;

    for (int i = 0; i < run.version_count; i++)
        if (header_at(&run.versions[i], image->place, &header) == IMAGE_VALID && header.size == image->size &&
            header.generation == image->generation && header.payload_crc == image->payload_crc &&
            image->generation != 0)
            return true;
    return false;
}

static bool had_size(uint64_t size)
{
    struct image_footer footer;
    struct record note;

    for (int i = 0; i < run.version_count; i++) {
        const struct kernel_file *file = &run.versions[i];

        if (record_decode(file->note, file->note_size, &note) == IMAGE_VALID && note.word == RECORD_NOTE &&
            note.size == size)
            return true;
        if (file->size == size || (file->size >= IMAGE_HEADER_SIZE &&
                                   image_decode_footer(file->bytes + file->size - IMAGE_HEADER_SIZE,
                                                       IMAGE_HEADER_SIZE, &footer) == IMAGE_VALID &&
                                   footer.plain_size == size))
            return true;
    }
    return false;
}

static bool had_byte(uint64_t at)
{
    for (int i = 0; i < run.version_count; i++)
        if (at < run.versions[i].size && run.versions[i].bytes[at] == target.bytes[at])
            return true;
    return false;
}

/* Checks the bytes: read at once, they are those of one version; in pieces, each byte is that of
 * some version. */
static bool had_bytes(uint64_t size)
{
    uint64_t good = 0;

    for (int i = 0; i < run.version_count; i++)
        if (size <= run.versions[i].size && memcmp(target.bytes, run.versions[i].bytes, size) == 0)
            return true;
    while (run.in_pieces && good < size && had_byte(good))
        good++;
    return good == size;
}

static void check_changed(int result, const struct store_image *image, enum way way)
{
    if (result == -ETIMEDOUT)
        REQUIRE(run.plan.lock % LOCK_STATES == HELD_FOR_EVER);
    else if (result != 0)
        REQUIRE(result == -EIO || result == run.injected);
    if (result != 0)
        return;
    REQUIRE(image->kind == STORE_PLAIN ? had_size(image->size) : had_header(image));
    if (way != COPY)
        return;
    REQUIRE(target.size == image->size);
    REQUIRE(crc32c_mixed(0, target.bytes, target.size) == image->payload_crc);
    REQUIRE(image->kind == STORE_SIZED || had_bytes(target.size));
}

static void check_work(void)
{
    uint64_t largest = 0;

    for (int i = 0; i < run.version_count; i++)
        if (run.versions[i].size > largest)
            largest = run.versions[i].size;
    REQUIRE(kernel.calls - kernel.lock_calls <= (uint64_t)ATTEMPTS_MAX * CALLS_MAX);
    REQUIRE(kernel.bytes_read <= (uint64_t)ATTEMPTS_MAX * 2 * (largest + (uint64_t)4 * IMAGE_HEADER_SIZE));
    REQUIRE(kernel.mapped <= 2 * SCRATCH_CHUNK);
    REQUIRE(kernel.now < INT64_C(2000000000));
}

static void check_read(enum way way)
{
    struct store_wait wait = {.locked = run.plan.lock % LOCK_STATES == FREE, .timeout = 1000000000};
    struct store_image image;
    int result = way == LOOK ? store_look(KERNEL_INODE, wait, &image)
                             : store_load(KERNEL_INODE, way == COPY ? KERNEL_TARGET : -1, wait, &image);

    if (run.changed || run.injected != 0)
        check_changed(result, &image, way);
    else
        check_unchanged(result, &image, way);
    check_work();
}

/* I1: of the live image only the mark is changed. */
static void check_write(long number, uint64_t offset, const char *bytes, uint64_t size)
{
    const struct store_image *live = &run.live;
    bool is_mark = size == 1 && offset == live->place + IMAGE_MARK_OFFSET;
    uint64_t end = live->place + image_length(live->size);

    if (live->kind == STORE_PLAIN || number == SYS_fdatasync)
        return;
    if (number == SYS_ftruncate)
        REQUIRE(offset >= end);
    else
        REQUIRE(is_mark || offset + size <= live->place || offset >= end ||
                memcmp(bytes, run.versions[0].bytes + offset, size) == 0);
}

static void check_commit(void)
{
    static char bytes[256 * 64];
    struct expectation seen = expected(&run.versions[0], false);
    struct expectation now;
    struct store_payload payload = {bytes, (uint64_t)run.plan.commit_size * 64, 0};
    uint64_t end = seen.image.twin > inode.size ? seen.image.twin : inode.size;
    uint64_t place = image_place_size(image_length(payload.size));
    int result;

    memset(bytes, 'c', sizeof bytes);
    payload.crc = crc32c_mixed(0, bytes, payload.size);
    run.committing = true;
    run.live = seen.image;
    if (seen.result == 0)
        kernel.changed = check_write;
    result = store_commit(KERNEL_INODE, &payload, (run.plan.flags & UNSYNCED) == 0);

    now = expected(&inode, false);
    if (seen.result != 0) {
        REQUIRE(result == seen.result && inode.size == run.versions[0].size &&
                memcmp(inode.bytes, run.versions[0].bytes, inode.size) == 0);
    } else if (result == 0) {
        REQUIRE(now.result == 0 && now.image.kind == STORE_SIZED && now.image.size == payload.size);
        REQUIRE(now.image.generation == seen.image.generation + 1);
        REQUIRE(memcmp(now.bytes, bytes, payload.size) == 0);
        REQUIRE(inode.size <= image_round_up(end) + 2 * place + IMAGE_TAIL + IMAGE_PAGE);
    } else {
        REQUIRE(result == -EFBIG);
        REQUIRE(now.result == 0 && now.image.size == seen.image.size &&
                crc32c_mixed(0, now.bytes, now.image.size) == crc32c_mixed(0, seen.bytes, seen.image.size));
    }
}

/* Adds a note that is right for the file, of a size that counts, and zeros for a footer; but there
 * may be bytes between the zeros and the plain bytes. */
static void put_note(uint64_t plain_size)
{
    struct record note = {.word = RECORD_NOTE, .identity = KERNEL_IDENTITY};

    inode.size = (inode.size - IMAGE_FILE_REMAINDER) / IMAGE_PAGE * IMAGE_PAGE + IMAGE_FILE_REMAINDER;
    note.other = inode.size;
    note.size = plain_size < inode.size - IMAGE_HEADER_SIZE ? plain_size : inode.size - IMAGE_HEADER_SIZE;
    note.crc = crc32c_mixed(0, inode.bytes, note.size);
    memset(inode.bytes + inode.size - IMAGE_HEADER_SIZE, 0, IMAGE_HEADER_SIZE);
    if (run.plan.flags & BLANK)
        memset(inode.bytes + note.size, 0, inode.size - note.size);
    inode.note_size = record_encode(inode.note, &note);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum way way;

    if (size < PLAN_SIZE || size > PLAN_SIZE + INPUT_FILE_MAX)
        return -1;
    memcpy(&run.plan, data, PLAN_SIZE);
    run.committing = run.changed = run.in_pieces = false;
    run.injected = run.version_count = 0;
    kernel_reset(&inode, &target);
    inode.size = size - PLAN_SIZE;
    memcpy(inode.bytes, data + PLAN_SIZE, inode.size);
    target.size = 0;
    inode.note_size = 0;
    if ((run.plan.flags & NOTED) && inode.size >= IMAGE_HEADER_SIZE)
        put_note((uint64_t)run.plan.flags / FLAGS * 97);
    remember_version();

    kernel.before = before_call;
    kernel.is_held = is_held;
    way = run.plan.way % WAYS;
    if (way == COMMIT)
        check_commit();
    else
        check_read(way);
    return 0;
}

/* ---- mutations that keep the CRCs right ---- */

/* Reads digits, and skips everything between them. */
static uint64_t read_digits(const char *digits, int count)
{
    uint64_t number = 0;

    for (int i = 0; i < count; i++)
        number = number * 10 + (uint64_t)(digits[i] >= '0' && digits[i] <= '9' ? digits[i] - '0' : 0);
    return number;
}

enum {
    GENERATION_AT = 23,
    SIZE_AT = 48,
    TWIN_AT = 73,
    FOOTER_PLAIN_AT = 31,
    FOOTER_TWIN_AT = 56,
    DIGITS = 19
};

static void stamp_header(char *file, size_t size, size_t place, const struct image_header *fields)
{
    struct image_header header = *fields;

    if (place + IMAGE_HEADER_SIZE > size)
        return;
    if (header.size <= size - place - IMAGE_HEADER_SIZE)
        header.payload_crc = crc32c_mixed(0, file + place + IMAGE_HEADER_SIZE, header.size);
    image_encode_header(file + place, &header);
}

static void stamp_again(char *file, size_t size, size_t place)
{
    struct image_header header;

    if (place + IMAGE_HEADER_SIZE > size || memcmp(file + place, "#atomshim/1 ", 12) != 0)
        return;
    header = (struct image_header){
        .generation = read_digits(file + place + GENERATION_AT, DIGITS),
        .size = read_digits(file + place + SIZE_AT, DIGITS),
        .twin = read_digits(file + place + TWIN_AT, DIGITS),
        .flushed = file[place + IMAGE_MARK_OFFSET] == IMAGE_MARK_FLUSHED,
    };
    stamp_header(file, size, place, &header);
}

static void stamp_footer(char *file, size_t size, const struct image_footer *footer)
{
    if (size >= IMAGE_HEADER_SIZE)
        image_encode_footer(file + size - IMAGE_HEADER_SIZE, footer);
}

/* The header at 0 last: its payload may hold others. */
static void stamp_all(char *file, size_t size)
{
    if (size >= IMAGE_HEADER_SIZE && memcmp(file + size - IMAGE_HEADER_SIZE, "#atomshim/1-", 12) == 0) {
        const char *line = file + size - IMAGE_HEADER_SIZE;
        struct image_footer footer = {read_digits(line + FOOTER_PLAIN_AT, DIGITS),
                                      read_digits(line + FOOTER_TWIN_AT, DIGITS)};

        stamp_footer(file, size, &footer);
    }
    for (size_t page = size / IMAGE_PAGE + 1; page-- > 0;)
        stamp_again(file, size, page * IMAGE_PAGE);
}

static uint64_t any_number(size_t size)
{
    const uint64_t numbers[] = {0,
                                1,
                                2,
                                3,
                                100,
                                3968,
                                3969,
                                4096,
                                8192,
                                12288,
                                16384,
                                20480,
                                size,
                                size - IMAGE_HEADER_SIZE,
                                image_round_up(size),
                                IMAGE_NUMBER_MAX - 1,
                                IMAGE_NUMBER_MAX,
                                IMAGE_NUMBER_MAX - IMAGE_PAGE,
                                INT64_MAX,
                                (uint64_t)1 << 32,
                                (uint64_t)1 << 40};
    uint64_t number = numbers[(size_t)fuzz_random() % (sizeof numbers / sizeof numbers[0])];

    return number > INT64_MAX ? 0 : number;
}

static void put_any_header(char *file, size_t size)
{
    size_t place = fuzz_random() % 2 == 0 ? 0 : fuzz_random() % PAGES_MAX * IMAGE_PAGE;
    struct image_header header = {
        .generation = fuzz_random() % 4 == 0 ? any_number(size) : fuzz_random() % 4,
        .size = fuzz_random() % 2 == 0 ? any_number(size) : fuzz_random() % 5000,
        .twin = place != 0 && fuzz_random() % 8 != 0 ? 0
                : fuzz_random() % 4 == 0             ? any_number(size)
                                                     : (uint64_t)(fuzz_random() % PAGES_MAX) * IMAGE_PAGE,
        .flushed = fuzz_random() % 2 == 0,
    };

    stamp_header(file, size, place, &header);
}

static void put_any_footer(char *file, size_t size)
{
    struct image_footer footer = {
        fuzz_random() % 2 == 0 ? any_number(size) : fuzz_random() % 8192,
        fuzz_random() % 4 == 0 ? any_number(size) : (uint64_t)(fuzz_random() % PAGES_MAX) * IMAGE_PAGE};

    stamp_footer(file, size, &footer);
}

static size_t resize(uint8_t *data, size_t size, size_t most)
{
    size_t wanted = PLAN_SIZE + fuzz_random() % (PAGES_MAX + 1) * IMAGE_PAGE +
                    (fuzz_random() % 4 != 0 ? IMAGE_FILE_REMAINDER : fuzz_random() % IMAGE_PAGE);

    if (wanted > most)
        wanted = most;
    if (wanted > size)
        memset(data + size, 'r', wanted - size);
    return wanted;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    char *file = (char *)data + PLAN_SIZE;

    fuzz_seed(seed);
    if (most < PLAN_SIZE + IMAGE_HEADER_SIZE)
        return LLVMFuzzerMutate(data, size, most);
    if (size < PLAN_SIZE) {
        memset(data + size, 0, PLAN_SIZE - size);
        size = PLAN_SIZE;
    }
    switch (fuzz_random() % 6) {
    case 0:
        size = resize(data, size, most);
        break;
    case 1:
        put_any_header(file, size - PLAN_SIZE);
        break;
    case 2:
        put_any_footer(file, size - PLAN_SIZE);
        break;
    case 3:
        data[fuzz_random() % PLAN_SIZE] = (uint8_t)fuzz_random();
        break;
    default:
        size = LLVMFuzzerMutate(data, size, most);
        break;
    }
    if (size > PLAN_SIZE && fuzz_random() % 4 != 0)
        stamp_all(file, size - PLAN_SIZE);
    return size;
}

/* ---- seeds ---- */

static int commit_letter(char letter, uint64_t size, bool sync)
{
    static char bytes[3 * IMAGE_PAGE];
    struct store_payload payload = {bytes, size, 0};

    memset(bytes, letter, sizeof bytes);
    payload.crc = crc32c_mixed(0, bytes, size);
    return store_commit(KERNEL_INODE, &payload, sync);
}

static int commits_begun; /* fails after so many writes, as after a kill of a first commit */

static long stop_after(long number, size_t *size)
{
    (void)size;
    if (number == SYS_pwrite64 || number == SYS_pwritev || number == SYS_ftruncate)
        return commits_begun-- > 0 ? 0 : -EIO;
    return 0;
}

static void write_seed(enum way way, enum lock_state lock)
{
    static char data[PLAN_SIZE + INPUT_FILE_MAX];
    size_t size = inode.size < INPUT_FILE_MAX ? inode.size : INPUT_FILE_MAX;

    memset(data, 0, PLAN_SIZE);
    data[0] = (char)way;
    data[1] = (char)lock;
    data[2] = 10;
    memcpy(data + PLAN_SIZE, inode.bytes, size);
    fuzz_write_seed(data, PLAN_SIZE + size);
}

void fuzz_write_seeds(void)
{
    for (enum way way = 0; way < WAYS; way++) {
        kernel_reset(&inode, &target);
        inode.size = 0;
        write_seed(way, FREE); /* empty */
        (void)kernel_write(&inode, "plain", 5, 0);
        write_seed(way, UNLOCKED_FREE);
        /* a first commit that has begun, that is nearly done */
        for (int writes = 1; writes <= 2; writes++) {
            kernel.before = stop_after;
            commits_begun = writes;
            (void)commit_letter('p', 300, true);
            kernel.before = NULL;
            write_seed(way, FREE);
        }
        for (int i = 0; i < 4; i++) {
            REQUIRE(commit_letter((char)('a' + i), 100 + 900 * (uint64_t)i, i % 2 == 0) == 0);
            write_seed(way, (enum lock_state)i);
        }
        (void)kernel_write(&inode, "?", 1, 30); /* a torn header */
        write_seed(way, HELD_FOR_A_WHILE);
    }
}
