/* The writing half of store.h. The caller holds the exclusive lock throughout. */
#include "store/internal.h"

#include "format/crc32c.h"
#include "store/calls.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>

enum {
    ATTEMPTS = 4,     /* at a commit that somebody without the lock undoes at once */
    UNDONE = CHANGED, /* what one of them returns then, besides 0 and a negative errno */
    /* A file is far too large when it has this many times the size that its image asks for. */
    TOO_LARGE = 8,
};

/* One commit: what is there, what is wanted, and how the file must look again if it fails. */
struct commit {
    int inode;
    bool sync;
    const struct store_payload *payload;
    struct store_image live;
    uint64_t length;    /* of the new image */
    uint64_t file_size; /* before the commit */
    bool undone;        /* the attempt before this one did not last */
    bool sized_only;    /* store_commit_sized() */
};

static int flush(const struct commit *commit)
{
    return commit->sync ? (int)STORE_RETRY(store_calls.fdatasync(commit->inode)) : 0;
}

static int write_header(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    char bytes[IMAGE_HEADER_SIZE];
    ssize_t n;

    image_encode_header(bytes, header);
    n = STORE_RETRY(store_calls.pwrite(commit->inode, bytes, sizeof bytes, place));
    /* inside one page: there is no short write but that of a full disk */
    return n == sizeof bytes ? 0 : n < 0 ? (int)n : -ENOSPC;
}

/*
 * Writes bytes of the file over themselves, so that the next flush covers them. Their writer died
 * before its flush, or had it fail: then the kernel has reported the error once, calls the pages
 * clean, and a flush alone would prove nothing.
 */
int store_rewrite(int inode, uint64_t offset, uint64_t length)
{
    struct scratch scratch;
    int error = scratch_take(&scratch, SCRATCH_CHUNK);

    for (uint64_t done = 0; error == 0 && done < length;) {
        size_t chunk = length - done < SCRATCH_CHUNK ? (size_t)(length - done) : SCRATCH_CHUNK;
        ssize_t n = store_read_at(inode, scratch.bytes, chunk, offset + done);

        if (n >= 0 && n < (ssize_t)chunk) {
            error = CHANGED; /* somebody has just cut the file off */
            break;
        }
        if (n > 0)
            n = STORE_RETRY(store_calls.pwrite(inode, scratch.bytes, chunk, offset + done));
        if (n <= 0)
            error = n < 0 ? (int)n : -ENOSPC;
        else
            done += (uint64_t)n;
    }
    scratch_give(&scratch);
    return error;
}

static int rewrite_live(const struct commit *commit)
{
    return store_rewrite(commit->inode, commit->live.place, image_length(commit->live.size));
}

/* I1, before the other place is written: the live image is on disk, and so is the header that
 * leads to it. */
static int settle_live(const struct commit *commit)
{
    int error = 0;

    if (commit->live.flushed || !commit->sync)
        return 0;
    error = rewrite_live(commit);
    if (error == 0 && commit->live.place != 0)
        error = store_rewrite(commit->inode, 0, IMAGE_HEADER_SIZE);
    return error == 0 ? flush(commit) : error;
}

/* Header and payload in one pwritev; several only where the kernel stops short (2 GiB, a full
 * disk). */
static int write_image(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    char bytes[IMAGE_HEADER_SIZE];
    uint64_t done = 0;

    image_encode_header(bytes, header);
    while (done < commit->length) {
        uint64_t payload_done = done < sizeof bytes ? 0 : done - sizeof bytes;
        struct iovec pieces[2] = {
            {bytes + (done < sizeof bytes ? done : sizeof bytes),
             done < sizeof bytes ? sizeof bytes - (size_t)done : 0},
            {(char *)commit->payload->bytes + payload_done, commit->payload->size - payload_done},
        };
        ssize_t n = STORE_RETRY(store_calls.pwritev(commit->inode, pieces, 2, place + done));

        if (n <= 0)
            return n < 0 ? (int)n : -ENOSPC;
        done += (uint64_t)n;
    }
    return 0;
}

/*
 * The size that the file gets for an image at `place`: the image fits, with the hole behind it by
 * which the file is known (store_may_be_sized), and the size keeps its remainder (image.h).
 */
static uint64_t wanted_size(const struct commit *commit, uint64_t place)
{
    uint64_t size = commit->file_size;

    if (place + image_round_up(commit->length) + IMAGE_PAGE + IMAGE_TAIL > size)
        return image_file_size(place, commit->length);
    return image_size_possible(size) ? size : image_round_up(size) + IMAGE_FILE_REMAINDER;
}

/* Extends the file, sparsely. */
static int make_room(const struct commit *commit, uint64_t place)
{
    uint64_t size = wanted_size(commit, place);

    return size == commit->file_size ? 0 : (int)STORE_RETRY(store_calls.ftruncate(commit->inode, size));
}

/* Writes a mark, to the page cache and no further: what is read after a power cut is on disk by
 * definition. */
static void set_mark(const struct commit *commit, uint64_t place, char mark)
{
    (void)STORE_RETRY(store_calls.pwrite(commit->inode, &mark, 1, place + IMAGE_MARK_OFFSET));
}

/* Marks a new image as what it is now. A mark that is lost costs the next commit a flush. */
static void mark_done(const struct commit *commit, uint64_t place)
{
    set_mark(commit, place, commit->sync ? IMAGE_MARK_FLUSHED : IMAGE_MARK_WRITTEN);
}

static struct image_header new_header(const struct commit *commit, uint64_t twin)
{
    return (struct image_header){
        .generation = commit->live.generation + 1,
        .size = commit->payload->size,
        .twin = twin,
        .payload_crc = commit->payload->crc,
    };
}

/* Returns the header of the live image as it stands in its place. */
static struct image_header live_header(const struct commit *commit, uint64_t twin)
{
    return (struct image_header){
        .generation = commit->live.generation,
        .size = commit->live.size,
        .twin = twin,
        .payload_crc = commit->live.payload_crc,
    };
}

/*
 * Undoes what a failed commit left at `place`: no image there, and at 0 the twin keeps its name.
 * After a failed fdatasync the page cache would else show a state that the disk does not have.
 */
static void withdraw(const struct commit *commit, uint64_t place, uint64_t twin)
{
    struct image_header none = {.twin = place == 0 ? twin : 0};

    (void)write_header(commit, place, &none);
    if (wanted_size(commit, place) > commit->file_size)
        (void)STORE_RETRY(store_calls.ftruncate(commit->inode, commit->file_size));
    (void)flush(commit);
}

/* Is the header still what was written there? What cannot be read is taken for good: it was
 * flushed. */
static bool is_in_place(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    char wanted[IMAGE_HEADER_SIZE];
    char found[IMAGE_HEADER_SIZE];
    ssize_t n = store_read_at(commit->inode, found, sizeof found, place);

    image_encode_header(wanted, header);
    wanted[IMAGE_MARK_OFFSET] = found[IMAGE_MARK_OFFSET];
    return n < 0 || (n == sizeof found && memcmp(found, wanted, sizeof found) == 0);
}

/*
 * A program that knows of no lock may have overwritten the file, or cut it off, at any moment of
 * the commit. Whatever it wrote has gone where a program's bytes go that another one overwrites, if
 * ours are there in the end; that they are is looked at before a header at 0 leads to them, and
 * once more when all is done.
 */
static bool is_undone(const struct commit *commit, uint64_t place, const struct image_header *header)
{
    struct stat status;

    return !is_in_place(commit, place, header) ||
           (STORE_RETRY(store_calls.fstat(commit->inode, &status)) == 0 &&
            (uint64_t)status.st_size < place + image_length(header->size));
}

/* HEAD LIVE -> TWIN LIVE, or TWIN LIVE -> HEAD LIVE: the image goes into the place that is not
 * live. */
static int overwrite(const struct commit *commit, uint64_t place)
{
    struct image_header header = new_header(commit, place == 0 ? commit->live.twin : 0);
    struct image_header head;
    int error = make_room(commit, place);

    if (error == 0)
        error = write_image(commit, place, &header);
    if (error == 0)
        error = flush(commit);
    if (error != 0) {
        withdraw(commit, place, commit->live.twin);
        return error;
    }
    mark_done(commit, place);
    head = live_header(commit, commit->live.twin);
    return is_undone(commit, place, &header) || (place != 0 && !is_in_place(commit, 0, &head)) ? UNDONE : 0;
}

/*
 * TWIN LIVE -> TWIN LIVE at `place`, a new twin place that does not touch the live image. The head
 * place is dead meanwhile: its header may be written.
 */
static int relocate(const struct commit *commit, uint64_t place)
{
    struct image_header header = new_header(commit, 0);
    struct image_header head = {.twin = place};
    int error = make_room(commit, place);

    if (error == 0)
        error = write_image(commit, place, &header);
    if (error == 0)
        error = flush(commit);
    if (error != 0)
        goto fail;
    if (is_undone(commit, place, &header))
        return UNDONE;

    error = write_header(commit, 0, &head);
    if (error == 0)
        error = flush(commit);
    if (error != 0)
        goto fail_head;

    mark_done(commit, place);
    /* the old image lies behind the new one: give its blocks back */
    if (place < commit->live.place)
        (void)STORE_RETRY(store_calls.ftruncate(commit->inode, image_file_size(place, commit->length)));
    return is_undone(commit, place, &header) || !is_in_place(commit, 0, &head) ? UNDONE : 0;

fail_head:
    /* Failed or not, the header may be on disk. Until the old one is there for certain the new
     * place must stay what it is; without its mark the next commit sees to it. */
    head.twin = commit->live.twin;
    if (write_header(commit, 0, &head) != 0 || flush(commit) != 0) {
        set_mark(commit, commit->live.place, IMAGE_MARK_NONE);
        return error;
    }
fail:
    withdraw(commit, place, 0);
    return error;
}

/*
 * ext4 may commit a size before the blocks that it is the size of, when another file is synced just
 * then: the note is on disk no later than the size. Where it cannot be set (no such attributes, no
 * room) all is as if there were none.
 */
static bool set_note(const struct commit *commit, uint64_t file_size)
{
    char bytes[RECORD_NOTE_SIZE];
    uint64_t block;
    struct record note = {.word = RECORD_NOTE,
                          .size = commit->live.size,
                          .other = file_size,
                          .crc = commit->live.payload_crc,
                          .identity = store_identity(commit->inode, &block)};

    return record_encode(bytes, &note) != 0 &&
           STORE_RETRY(store_calls.fsetxattr(commit->inode, RECORD_NAME, bytes, sizeof bytes, 0)) == 0;
}

/* One that stays is overwritten by the next first commit, and ignored by readers. */
static void remove_note(const struct commit *commit)
{
    (void)STORE_RETRY(store_calls.fremovexattr(commit->inode, RECORD_NAME));
}

/*
 * PREPARED -> PLAIN, and the zeros that a power cut left: the remains of an earlier first commit
 * must not lie where our footer will point, and while they are there our note would name a size
 * that the file does not have.
 */
static int drop_remains(struct commit *commit)
{
    int error = (int)STORE_RETRY(store_calls.ftruncate(commit->inode, commit->live.size));

    if (error == 0)
        error = flush(commit);
    if (error == 0) {
        commit->file_size = commit->live.size;
        remove_note(commit);
    }
    return error;
}

/* A first commit that fails needs this to restore the file. */
struct beginning {
    char start[IMAGE_START_SIZE]; /* the file's first bytes, then zeros */
    bool noted;                   /* a note is set */
};

/* PLAIN -> PREPARED: writes the footer, which the note stands for until it is on disk. */
static int write_footer(const struct commit *commit, uint64_t place, struct beginning *beginning)
{
    char bytes[IMAGE_HEADER_SIZE];
    uint64_t at = image_file_size(place, commit->length) - sizeof bytes;
    struct image_footer footer = {.plain_size = commit->live.size, .twin = place, .has_start = true};
    ssize_t n = store_read_at(commit->inode, beginning->start, sizeof beginning->start, 0);
    int error;

    if (n < 0)
        return (int)n;
    footer.start_crc = crc32c(0, beginning->start, sizeof beginning->start);
    image_encode_footer(bytes, &footer);
    beginning->noted = commit->sync && set_note(commit, at + sizeof bytes);
    n = STORE_RETRY(store_calls.pwrite(commit->inode, bytes, sizeof bytes, at));
    error = n == sizeof bytes ? flush(commit) : n < 0 ? (int)n : -ENOSPC;
    if (error == 0 && (beginning->noted || commit->live.generation != 0)) {
        remove_note(commit); /* the footer is on disk, and says the same; or an older record lies */
        beginning->noted = false;
    }
    return error;
}

/* The cut takes footer and image away together: the plain bytes are all that remains. */
static void cut_to_plain(const struct commit *commit, const struct beginning *beginning)
{
    if (STORE_RETRY(store_calls.ftruncate(commit->inode, commit->live.size)) == 0 && beginning->noted)
        remove_note(commit);
    (void)flush(commit);
}

/* Puts the plain bytes back at 0. Returns true if they are there for certain. */
static bool restore_start(const struct commit *commit, const struct beginning *beginning)
{
    return STORE_RETRY(store_calls.pwrite(commit->inode, beginning->start, IMAGE_HEADER_SIZE, 0)) ==
               IMAGE_HEADER_SIZE &&
           flush(commit) == 0;
}

/* PLAIN -> PREPARED -> ADOPTED -> TWIN LIVE. Until the last step the plain bytes are intact. */
static int first_commit(const struct commit *commit)
{
    uint64_t least = image_place_size(commit->length);
    uint64_t place = image_round_up(commit->live.size);
    struct beginning beginning = {.noted = false};
    struct image_header header = {
        .generation = 1, .size = commit->payload->size, .payload_crc = commit->payload->crc};
    struct image_header head;
    int error;

    if (place < least)
        place = least;
    head = (struct image_header){.twin = place};
    error = write_footer(commit, place, &beginning);
    if (error == 0)
        error = write_image(commit, place, &header);
    if (error == 0)
        error = flush(commit);
    if (error == 0 && is_undone(commit, place, &header))
        return UNDONE;
    if (error == 0) {
        error = write_header(commit, 0, &head);
        if (error == 0)
            error = flush(commit);
        /*
         * Failed or not, the header may be on disk. Until the plain bytes are back for certain the
         * image must stay: the content is the new one, complete, though its commit is reported as
         * failed.
         */
        if (error != 0 && !restore_start(commit, &beginning))
            return error;
    }
    if (error != 0) {
        cut_to_plain(commit, &beginning);
        return error;
    }
    mark_done(commit, place);
    return is_undone(commit, place, &header) || !is_in_place(commit, 0, &head) ? UNDONE : 0;
}

/* ADOPTED -> TWIN LIVE: the last step of a first commit whose writer died. */
static int finish_adoption(struct commit *commit)
{
    struct image_header head = {.twin = commit->live.twin};
    struct image_header live = live_header(commit, 0);
    int error = rewrite_live(commit);

    if (error == 0)
        error = flush(commit);
    if (error == 0 && is_undone(commit, commit->live.place, &live))
        error = UNDONE;
    if (error == 0)
        error = write_header(commit, 0, &head);
    if (error == 0)
        error = flush(commit);
    if (error == 0) {
        commit->live.adopted = false;
        commit->live.flushed = commit->sync;
    }
    return error;
}

int store_settle(int inode, bool sync, struct store_image *live)
{
    struct commit commit = {.inode = inode, .sync = sync};
    int error = store_load(inode, -1, (struct store_wait){.locked = true}, &commit.live);

    if (error == 0 && commit.live.adopted)
        error = finish_adoption(&commit);
    if (error == 0 && commit.live.kind == STORE_SIZED)
        error = settle_live(&commit);
    *live = commit.live;
    return error == UNDONE ? -EIO : error;
}

/* Where the twin place goes when it has to move, or 0 if the next image belongs into the head
 * place. */
static uint64_t new_twin(const struct commit *commit)
{
    const struct store_image *live = &commit->live;
    uint64_t smallest = image_place_size(commit->length);
    uint64_t behind = image_round_up(live->place + image_length(live->size));

    if (commit->length > live->twin)
        return behind > smallest ? behind : smallest;
    if (smallest + image_place_size(commit->length) <= live->place &&
        commit->file_size / TOO_LARGE > image_file_size(smallest, commit->length))
        return smallest;
    return 0;
}

/* RLIMIT_FSIZE cuts a write short where the limit is. The header at 0, cut, would hide both
 * images and could not be mended any more; behind it a cut does no harm. */
static bool may_write_header(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

    return store_calls.prlimit(RLIMIT_FSIZE, NULL, &limit) != 0 || limit.rlim_cur >= IMAGE_HEADER_SIZE;
}

/* The header at 0 leads to an image that is not there, and has none of its own: a stranger cut
 * the file off between two steps of ours. */
static bool is_hollow(const struct commit *commit)
{
    char bytes[IMAGE_HEADER_SIZE];
    struct image_header head;
    struct image_header twin;
    ssize_t n = store_read_at(commit->inode, bytes, sizeof bytes, 0);

    if (n < 0 || image_decode_header(bytes, (size_t)n, &head) != IMAGE_VALID || head.generation != 0)
        return false;
    n = store_read_at(commit->inode, bytes, sizeof bytes, head.twin);
    return n >= 0 && image_decode_header(bytes, (size_t)n, &twin) != IMAGE_VALID;
}

/* One attempt at the first commit to a plain file. */
static int attempt_first(struct commit *commit)
{
    int error = 0;

    if (commit->live.unsettled) {
        error = store_recover(commit->inode, commit->sync);
        if (error == 0)
            error = store_load(commit->inode, -1, (struct store_wait){.locked = true}, &commit->live);
        commit->file_size = commit->live.size;
    }
    if (error == 0 && (commit->live.twin != 0 || commit->live.blank))
        error = drop_remains(commit);
    return error == 0 ? first_commit(commit) : error;
}

/* One attempt. Returns 0, UNDONE or a negative errno. */
static int attempt(struct commit *commit)
{
    int error;

    /* not store_look(): a mark says that an image was flushed, not that nobody has damaged it
     * since */
    error = store_load(commit->inode, -1, (struct store_wait){.locked = true}, &commit->live);
    if (error == -EIO && commit->undone && is_hollow(commit)) {
        error = (int)STORE_RETRY(store_calls.ftruncate(commit->inode, 0));
        commit->live = (struct store_image){.kind = STORE_PLAIN};
    }
    if (error != 0)
        return error;
    if (commit->live.kind == STORE_PLAIN && commit->sized_only && !commit->undone)
        return STORE_NOT_SIZED;
    commit->file_size = commit->live.file_size;
    if (commit->file_size >= IMAGE_NUMBER_MAX / 8 || commit->live.generation + 1 >= IMAGE_NUMBER_MAX)
        return -EFBIG;
    if (commit->live.adopted)
        error = finish_adoption(commit);
    if (error != 0)
        return error;
    if (commit->live.kind == STORE_PLAIN)
        return attempt_first(commit);

    error = settle_live(commit);
    if (error != 0)
        return error;
    if (commit->live.place == 0)
        return overwrite(commit, commit->live.twin);

    uint64_t place = new_twin(commit);
    return place != 0 ? relocate(commit, place) : overwrite(commit, 0);
}

static int insist(struct commit *commit)
{
    int error;

    commit->length = image_length(commit->payload->size);
    if (commit->payload->size >= IMAGE_NUMBER_MAX / 8 || !may_write_header())
        return -EFBIG;
    for (int i = 0; i < ATTEMPTS; i++) {
        error = attempt(commit);
        if (error != UNDONE)
            return error;
        commit->undone = true;
    }
    return -EIO;
}

int store_commit(int inode, const struct store_payload *payload, bool sync)
{
    struct commit commit = {.inode = inode, .sync = sync, .payload = payload};

    return insist(&commit);
}

int store_commit_sized(int inode, const struct store_payload *payload, bool sync)
{
    struct commit commit = {.inode = inode, .sync = sync, .payload = payload, .sized_only = true};

    return insist(&commit);
}
