/* Reads files without a header at 0: plain ones, and files whose first commit has begun. */
#include "store/internal.h"

#include "format/crc32c.h"
#include "store/calls.h"

/* Returns true if there is a complete image at this twin place now. */
static bool has_image(const struct attempt *attempt, uint64_t place)
{
    struct store_image image;
    struct attempt look = *attempt;
    struct image_header header;
    int error;

    look.image = &image;
    look.depth = attempt->depth == SIZE ? SIZE : VERIFY;
    return store_read_header(look.inode, place, &header, &error) == IMAGE_VALID && header.twin == 0 &&
           store_try_image(&look, &header, place, place) == 0;
}

/* Returns 0 if the note counts for these bytes, CHANGED if it does not, or a negative errno. */
static int check_note(const struct attempt *attempt, const struct record *note)
{
    uint64_t rest = (uint64_t)attempt->status.st_size - note->size;
    struct attempt look = *attempt;
    uint32_t crc;
    int error;

    if (attempt->depth == SIZE && (uint64_t)attempt->status.st_size > SIZE_CHECKED)
        return 0;
    if (attempt->depth == COPY)
        look.depth = VERIFY;
    error = store_read_bytes(&look, 0, note->size, &crc);
    if (error == 0 && crc != note->crc)
        return CHANGED;
    if (error == 0)
        error = store_read_bytes(&look, note->size, rest, &crc);
    if (error == 0 && crc != crc32c_zeros(0, (rest + WORD_MASK) & ~WORD_MASK))
        return CHANGED;
    return error;
}

/*
 * Called if the file ends in zeros. They are no content if a first commit's note says that it made
 * the file longer than these plain bytes: a power cut leaves then the size without the footer
 * (ext4), or zeros up to the end of a block (xfs). If another program has written there since, its
 * bytes count. Returns 0, and changes attempt->image if the note counts; or a negative errno.
 */
static int heed_note(const struct attempt *attempt, const struct record *note)
{
    uint64_t size = (uint64_t)attempt->status.st_size;
    int error;

    if (note->word != RECORD_NOTE || size <= note->size || size > note->other)
        return 0;
    error = check_note(attempt, note);
    if (error == 0)
        *attempt->image = (struct store_image){
            .kind = STORE_PLAIN, .size = note->size, .payload_crc = note->crc, .blank = true};
    return error == CHANGED ? 0 : error;
}

/* Called if the file has a footer and no header at 0. Returns 0 if a first commit has left it so,
 * DAMAGED if another program has overwritten the header since, or a negative errno. */
static int check_start(const struct attempt *attempt, const struct image_footer *footer)
{
    char start[IMAGE_START_SIZE];
    ssize_t n;

    if (attempt->image->generation != 1)
        return DAMAGED;
    if (!footer->has_start)
        return 0;
    n = store_read_at(attempt->inode, start, sizeof start, 0);
    if (n < 0)
        return (int)n;
    return (size_t)n == sizeof start && crc32c(0, start, sizeof start) == footer->start_crc ? 0 : DAMAGED;
}

/* Called if a valid footer ends the file: the content is the twin's image, or else the plain bytes.
 * Returns as store_try_plain(). */
static int try_first_commit(const struct attempt *attempt, const struct image_footer *footer)
{
    struct image_header header;
    int error = 0;
    bool has_header = store_read_header(attempt->inode, footer->twin, &header, &error) == IMAGE_VALID;

    if (has_header && header.twin == 0) {
        error = store_try_image(attempt, &header, footer->twin, footer->twin);
        if (error == 0) {
            attempt->image->adopted = true;
            return check_start(attempt, footer);
        }
    } else if (error == 0)
        error = DAMAGED;
    if (error != DAMAGED)
        return error;
    *attempt->image =
        (struct store_image){.kind = STORE_PLAIN, .size = footer->plain_size, .twin = footer->twin};
    return 0;
}

/* Looks at the end of the file: a footer, or zeros with a note. Returns as store_try_plain(). */
static int try_end(const struct attempt *attempt, const struct record *record)
{
    uint64_t file_size = (uint64_t)attempt->status.st_size;
    char bytes[IMAGE_HEADER_SIZE];
    size_t size = image_size_possible(file_size) ? sizeof bytes : file_size != 0;
    struct image_footer footer;
    ssize_t n = size == 0 ? 0 : store_read_at(attempt->inode, bytes, size, file_size - size);

    if (n < 0)
        return (int)n;
    if ((size_t)n < size) /* a first commit failed and was undone meanwhile, perhaps not the last */
        return CHANGED;
    if (size == sizeof bytes && image_decode_footer(bytes, size, &footer) == IMAGE_VALID &&
        footer.plain_size <= footer.twin && footer.twin < file_size)
        return try_first_commit(attempt, &footer);
    return size != 0 && store_is_zero(bytes, size) ? heed_note(attempt, record) : 0;
}

/* Called if there was no footer. First commits that came and went while the bytes were read may
 * have left the file's old size, and a footer. Returns 0, CHANGED, or a negative errno. */
static int look_for_footer(const struct attempt *attempt)
{
    uint64_t file_size = (uint64_t)attempt->status.st_size;
    char bytes[IMAGE_HEADER_SIZE];
    struct image_footer footer;
    ssize_t n;

    if (!image_size_possible(file_size))
        return 0;
    n = store_read_at(attempt->inode, bytes, sizeof bytes, file_size - sizeof bytes);
    if (n < 0)
        return (int)n;
    if ((size_t)n < sizeof bytes) /* it was cut meanwhile; it may have its old size again at once */
        return attempt->settle_for_plain ? 0 : CHANGED;
    return image_decode_footer(bytes, sizeof bytes, &footer) == IMAGE_VALID &&
                   footer.plain_size <= footer.twin && footer.twin < file_size
               ? CHANGED
               : 0;
}

/* Looks again: a first commit may have begun meanwhile, or come and gone. Returns as
 * store_try_plain(). */
static int confirm_plain(const struct attempt *attempt)
{
    struct image_header header;
    struct stat status;
    int error;

    if (store_read_header(attempt->inode, 0, &header, &error) != IMAGE_ABSENT)
        return DAMAGED;
    /* a first commit whose last flush failed withdraws its header, and then its image */
    if (error == 0 && attempt->image->twin != 0 && has_image(attempt, attempt->image->twin))
        return DAMAGED;
    if (error == 0 && attempt->image->twin == 0)
        error = look_for_footer(attempt);
    if (error == 0)
        error = (int)STORE_RETRY(store_calls.fstat(attempt->inode, &status));
    if (error == 0 && status.st_size != attempt->status.st_size && !attempt->settle_for_plain)
        return CHANGED;
    return error;
}

/* Called after the bytes were read: compares them with the record. */
static void compare_with_record(const struct attempt *attempt, const struct record *record)
{
    struct store_image *image = attempt->image;
    bool same = image->size == record->size && image->payload_crc == record->crc;

    if (record->word == RECORD_NONE || record->word == RECORD_NOTE)
        return;
    image->generation = record->generation;
    image->has_journal = record->word == RECORD_KEPT;
    /* FILE: its journal is gone */
    image->unsettled = record->word == RECORD_BUSY || record->word == RECORD_FILE;
    if (attempt->depth > LOOK)
        image->bytes = same ? STORE_CONTENT : image->unsettled ? STORE_TORN : STORE_EDITED;
}

/* The file's bytes are the content, as many as image->size says, or a footer tells of another
 * content. */
static int try_bytes(const struct attempt *attempt, const struct held_record *held)
{
    struct store_image *image = attempt->image;
    uint32_t noted_crc;
    int error = try_end(attempt, &held->record);

    if (error != 0 || image->kind == STORE_SIZED)
        return error;
    noted_crc = image->payload_crc;
    if (attempt->depth > LOOK)
        error = store_read_bytes(attempt, 0, image->size, &image->payload_crc);
    if (error == 0 && image->blank && image->payload_crc != noted_crc)
        error = CHANGED;
    if (error == 0)
        error = store_try_unprotected(attempt, held);
    if (error == 0)
        compare_with_record(attempt, &held->record);
    return error;
}

static int try_with_record(const struct attempt *attempt, const struct held_record *held)
{
    enum record_word word = held->record.word;
    enum redo_state state;
    int error;

    *attempt->image = (struct store_image){.kind = STORE_PLAIN, .size = (uint64_t)attempt->status.st_size};
    if (word == RECORD_REDO || word == RECORD_BACK)
        error = store_try_redo(attempt, held, &state);
    else
        error = try_bytes(attempt, held);
    if (error == 0 && attempt->image->kind == STORE_PLAIN)
        error = confirm_plain(attempt);
    return error == 0 ? store_record_confirm(attempt->inode, held) : error;
}

int store_try_plain(const struct attempt *attempt)
{
    struct held_record held;
    int error = store_record_take(attempt->inode, attempt->depth == SIZE, &held);

    if (error != 0)
        return error;
    error = try_with_record(attempt, &held);
    store_record_give(&held);
    return error;
}
