/* The writing half of store.h. The caller holds the exclusive lock throughout. */
#include "store/commit_steps.h"

#include "store/calls.h"

#include <errno.h>
#include <sys/resource.h>

enum {
    ATTEMPTS = 4, /* at a commit that a program without the lock undoes at once */
    /* A file with this many times the size that its image asks for is far too large. */
    TOO_LARGE = 8,
};

/* Sees to I1 before the commit writes the other place: the live image is on disk, and so is the
 * header that leads to it. */
static int settle_live(const struct commit *commit)
{
    int error = 0;

    if (commit->live.flushed || !commit->sync)
        return 0;
    error = store_rewrite(commit->inode, commit->live.place, image_length(commit->live.size));
    if (error == 0 && commit->live.place != 0)
        error = store_rewrite(commit->inode, 0, IMAGE_HEADER_SIZE);
    return error == 0 ? store_flush(commit) : error;
}

/*
 * Returns the size that the file gets for an image at `place`: the image fits, with the hole behind
 * it by which readers know the file (store_may_be_sized), and the size keeps its remainder
 * (image.h).
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

static struct image_header new_header(const struct commit *commit, uint64_t twin)
{
    return (struct image_header){
        .generation = commit->live.generation + 1,
        .size = commit->payload->size,
        .twin = twin,
        .payload_crc = commit->payload->crc,
    };
}

/* Undoes a failed commit at `place`: removes its image; at 0 the header goes on naming the twin.
 * After a failed fdatasync the page cache would else show a state that the disk does not have. */
static void withdraw_image(const struct commit *commit, uint64_t place, uint64_t twin)
{
    struct image_header none = {.twin = place == 0 ? twin : 0};

    (void)store_write_header(commit, place, &none);
    if (wanted_size(commit, place) > commit->file_size)
        (void)STORE_RETRY(store_calls.ftruncate(commit->inode, commit->file_size));
    (void)store_flush(commit);
}

/* HEAD LIVE -> TWIN LIVE, or TWIN LIVE -> HEAD LIVE: the image goes into the place that is not
 * live. */
static int overwrite_place(struct commit *commit, uint64_t place)
{
    struct image_header header = new_header(commit, place == 0 ? commit->live.twin : 0);
    struct image_header head;
    int error = make_room(commit, place);

    if (error == 0)
        error = store_write_image(commit, place, &header);
    if (error != 0) {
        withdraw_image(commit, place, commit->live.twin);
        return error;
    }
    store_mark_done(commit, place);
    head = store_live_header(commit, commit->live.twin);
    return (place != 0 && !store_is_in_place(commit, 0, &head)) || store_is_undone(commit, place, &header)
               ? UNDONE
               : 0;
}

/*
 * TWIN LIVE -> TWIN LIVE at `place`, a new twin place that does not touch the live image. The head
 * place is dead meanwhile: its header may be written.
 */
static int relocate_twin(struct commit *commit, uint64_t place)
{
    struct image_header header = new_header(commit, 0);
    bool may_lead = false;
    int error = make_room(commit, place);

    if (error == 0)
        error = store_write_twin(commit, place, &header, &may_lead);
    /* Until the old header at 0 is on disk again for certain, the new image must stay. Once the old
     * image has lost its mark, the next commit flushes both again. */
    if (may_lead && store_lead_to(commit, commit->live.twin) != 0) {
        store_set_mark(commit, commit->live.place, IMAGE_MARK_NONE);
        return error;
    }
    if (error < 0)
        withdraw_image(commit, place, 0);
    if (error != 0)
        return error;

    /* the old image lies behind the new one: give its blocks back */
    if (place < commit->live.place)
        (void)STORE_RETRY(store_calls.ftruncate(commit->inode, image_file_size(place, commit->length)));
    return store_check_twin(commit, place, &header);
}

int store_settle(int inode, bool sync, struct store_image *live)
{
    struct commit commit = {.inode = inode, .sync = sync};
    int error = store_load(inode, -1, (struct store_wait){.locked = true}, &commit.live);

    if (error == 0 && commit.live.adopted)
        error = store_finish_adoption(&commit);
    if (error == 0 && commit.live.kind == STORE_SIZED)
        error = settle_live(&commit);
    *live = commit.live;
    return error == UNDONE ? -EIO : error;
}

/* Returns the new twin place if it has to move, or 0 if the next image belongs into the head
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

/* RLIMIT_FSIZE cuts a write short where the limit is. A header at 0 that is cut would hide both
 * images for good; behind it a cut does no harm. */
static bool may_write_header(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

    return store_calls.prlimit(RLIMIT_FSIZE, NULL, &limit) != 0 || limit.rlim_cur >= IMAGE_HEADER_SIZE;
}

/* Tells whether the header at 0 leads to a missing image, and has none of its own: then a program
 * without the lock has cut the file off between two steps of a commit. */
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

/* Tells whether the commit writes no header at 0: the image goes to the twin place. */
static bool spares_head(const struct commit *commit)
{
    const struct store_image *live = &commit->live;

    return live->kind == STORE_SIZED && live->place == 0 && !live->adopted &&
           (live->flushed || !commit->sync);
}

/* Finds the live image. An attempt that did not last is not repeated from memory. */
static int find_live(struct commit *commit)
{
    struct stat *status = &commit->left.status;

    if (!commit->undone && (status->st_ino != 0 || store_calls.fstat(commit->inode, status) == 0) &&
        store_recall(status, &commit->live))
        return 0;
    /* not store_look(): a mark says that an image was flushed, not that it is still undamaged */
    return store_load(commit->inode, -1, (struct store_wait){.locked = true}, &commit->live);
}

/* Makes one attempt. Returns 0, UNDONE or a negative errno. */
static int attempt_commit(struct commit *commit)
{
    int error = find_live(commit);

    if (error == -EIO && commit->undone && may_write_header() && is_hollow(commit)) {
        error = (int)STORE_RETRY(store_calls.ftruncate(commit->inode, 0));
        commit->live = (struct store_image){.kind = STORE_PLAIN};
    }
    if (error != 0)
        return error;
    if (commit->live.kind == STORE_PLAIN && commit->sized_only && !commit->undone)
        return STORE_NOT_SIZED;
    commit->file_size = commit->live.file_size;
    if (commit->file_size >= IMAGE_NUMBER_MAX / 8 || commit->live.generation + 1 >= IMAGE_NUMBER_MAX ||
        (!spares_head(commit) && !may_write_header()))
        return -EFBIG;
    if (commit->live.adopted)
        error = store_finish_adoption(commit);
    if (error != 0)
        return error;
    if (commit->live.kind == STORE_PLAIN)
        return store_commit_first(commit);

    error = settle_live(commit);
    if (error != 0)
        return error;
    if (commit->live.place == 0)
        return overwrite_place(commit, commit->live.twin);

    uint64_t place = new_twin(commit);
    return place != 0 ? relocate_twin(commit, place) : overwrite_place(commit, 0);
}

static int commit_insistently(struct commit *commit)
{
    int error;

    commit->length = image_length(commit->payload->size);
    if (commit->payload->size >= IMAGE_NUMBER_MAX / 8)
        return -EFBIG;
    for (int i = 0; i < ATTEMPTS; i++) {
        error = attempt_commit(commit);
        if (error != UNDONE)
            return error;
        commit->undone = true;
    }
    return -EIO;
}

static int commit_and_tell(struct commit *commit, struct store_left *left)
{
    int error;

    if (left != NULL)
        commit->left.status = left->status;
    error = commit_insistently(commit);
    if (left != NULL && error == 0)
        *left = commit->left;
    return error;
}

int store_commit(int inode, const struct store_payload *payload, bool sync)
{
    return store_commit_and_tell(inode, payload, sync, NULL);
}

int store_commit_and_tell(int inode, const struct store_payload *payload, bool sync, struct store_left *left)
{
    struct commit commit = {.inode = inode, .sync = sync, .payload = payload};

    return commit_and_tell(&commit, left);
}

int store_commit_sized(int inode, const struct store_payload *payload, bool sync, struct store_left *left)
{
    struct commit commit = {.inode = inode, .sync = sync, .payload = payload, .sized_only = true};

    return commit_and_tell(&commit, left);
}
