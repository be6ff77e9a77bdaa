/*
 * From the sized format back to plain: the first commit (first_commit.c) backwards, atomic for
 * every size.
 *
 *   HEAD LIVE, TWIN LIVE              a copy of the live image behind the end of the file, as
 *                                     generation 1, and a footer behind it; flush
 *   HEAD LIVE, TWIN LIVE -> ADOPTED   the content's first 512 bytes at 0, in place of the header;
 *                                     flush
 *   ADOPTED -> PLAIN                  the rest of the content behind them; fsync; cut the file to
 *                                     the content's size; flush
 *
 * One sector switches from the old images to the copy: a reader finds either the header at 0, or
 * the footer, whose checksum of the first 512 bytes holds. So no reader has to know of exports.
 */
#include "store/internal.h"

#include "format/crc32c.h"
#include "store/calls.h"

#include <errno.h>
#include <string.h>

/* One export. */
struct export
{
    int inode;
    bool sync;
    struct store_image live;
    uint64_t file_size;           /* the file's, before the export */
    uint64_t place;               /* where the copy lies */
    char start[IMAGE_START_SIZE]; /* the file's first bytes in the end, zeros behind the content */
    size_t start_size;            /* bytes of it that are content */
};

static int flush_export(const struct export *export)
{
    return export->sync ? (int)STORE_RETRY(store_calls.fdatasync(export->inode)) : 0;
}

/*
 * Copies content from the image at `from`, beginning with its byte `done`, so that its byte 0
 * comes to lie at `to`.
 */
static int copy_content(const struct export *export, uint64_t from, uint64_t to, uint64_t done)
{
    struct scratch scratch;
    int error = scratch_take(&scratch, SCRATCH_CHUNK);

    while (error == 0 && done < export->live.size) {
        uint64_t rest = export->live.size - done;
        size_t chunk = rest < SCRATCH_CHUNK ? (size_t)rest : SCRATCH_CHUNK;
        ssize_t n = store_read_at(export->inode, scratch.bytes, chunk, from + IMAGE_HEADER_SIZE + done);

        if (n < (ssize_t)chunk)
            error = n < 0 ? (int)n : -EIO;
        else
            error = store_write_bytes(export->inode, scratch.bytes, chunk, to + done);
        done += chunk;
    }
    scratch_give(&scratch);
    return error;
}

/* Reads the content's first bytes. Returns 0, or a negative errno: -EINVAL if the plain file would
 * be taken for a sized one. */
static int look_at_content(struct export *export)
{
    const struct store_image *live = &export->live;
    const uint64_t payload = live->place + IMAGE_HEADER_SIZE;
    char end[IMAGE_HEADER_SIZE];
    struct image_header header;
    struct image_footer footer;
    ssize_t n;

    export->start_size = live->size < IMAGE_START_SIZE ? (size_t)live->size : IMAGE_START_SIZE;
    n = store_read_at(export->inode, export->start, export->start_size, payload);
    if (n < (ssize_t) export->start_size)
        return n < 0 ? (int)n : -EIO;
    if (image_decode_header(export->start, sizeof export->start, &header) != IMAGE_ABSENT)
        return -EINVAL;
    if (!image_size_possible(live->size))
        return 0;
    n = store_read_at(export->inode, end, sizeof end, payload + live->size - sizeof end);
    if (n < (ssize_t)sizeof end)
        return n < 0 ? (int)n : -EIO;
    return image_decode_footer(end, sizeof end, &footer) == IMAGE_VALID ? -EINVAL : 0;
}

/* Writes the copy and its footer. Nothing leads there yet. */
static int write_copy(const struct export *export)
{
    const uint64_t end = image_round_up(export->place + image_length(export->live.size));
    const struct image_header header = {
        .generation = 1, .size = export->live.size, .payload_crc = export->live.payload_crc};
    const struct image_footer footer = {.plain_size = export->live.size,
                                        .twin = export->place,
                                        .has_start = true,
                                        .start_crc = crc32c(0, export->start, sizeof export->start)};
    char bytes[IMAGE_HEADER_SIZE];
    int error;

    image_encode_header(bytes, &header);
    error = store_write_bytes(export->inode, bytes, sizeof bytes, export->place);
    if (error == 0)
        error = copy_content(export, export->live.place, export->place + IMAGE_HEADER_SIZE, 0);
    image_encode_footer(bytes, &footer);
    if (error == 0)
        error = store_write_bytes(export->inode, bytes, sizeof bytes, end);
    return error == 0 ? flush_export(export) : error;
}

/* Allocates the blocks that the content takes at 0, some of which are holes: a full disk must show
 * before the switch. */
static int reserve_blocks(const struct export *export)
{
    int error = export->live.size == 0 ? 0
                                       : (int)STORE_RETRY(store_calls.fallocate(
                                             export->inode, FALLOC_FL_KEEP_SIZE, 0, export->live.size));

    return error == -EOPNOTSUPP || error == -ENOSYS ? 0 : error;
}

/* Sets the record of the plain file, on disk before the file is plain: an existing record describes
 * an earlier content. */
static int set_record(const struct export *export)
{
    char line[RECORD_LINE_MAX];
    uint64_t block;
    const struct record record = {.word = RECORD_IDLE,
                                  .generation = export->live.generation,
                                  .size = export->live.size,
                                  .crc = export->live.payload_crc,
                                  .identity = store_identity(export->inode, &block)};
    size_t length = record_encode(line, &record);

    if (length == 0 || STORE_RETRY(store_calls.fsetxattr(export->inode, RECORD_NAME, line, length, 0)) != 0)
        (void)STORE_RETRY(store_calls.fremovexattr(export->inode, RECORD_NAME));
    return export->sync ? (int)STORE_RETRY(store_calls.fsync(export->inode)) : 0;
}

static int cut_to_content(const struct export *export)
{
    int error = (int)STORE_RETRY(store_calls.ftruncate(export->inode, export->live.size));

    return error == 0 ? flush_export(export) : error;
}

static int make_plain(struct export *export)
{
    int error = look_at_content(export);

    if (error != 0)
        return error;
    error = reserve_blocks(export);
    if (error == 0)
        error = write_copy(export);
    if (error == 0)
        error = store_write_bytes(export->inode, export->start, sizeof export->start, 0);
    if (error != 0) {
        (void)STORE_RETRY(store_calls.ftruncate(export->inode, export->file_size));
        return error;
    }
    /* from here on the copy must stay, whatever fails */
    error = flush_export(export);
    if (error == 0)
        error = copy_content(export, export->place, 0, export->start_size);
    if (error == 0)
        error = set_record(export);
    return error == 0 ? cut_to_content(export) : error;
}

int store_export(int inode, bool sync)
{
    struct export export = {.inode = inode, .sync = sync};
    struct stat status;
    int error = store_settle(inode, sync, &export.live);

    if (error == 0)
        error = (int)STORE_RETRY(store_calls.fstat(inode, &status));
    if (error != 0)
        return error;
    if (export.live.kind == STORE_PLAIN)
        return export.live.twin != 0 || export.live.blank ? cut_to_content(&export) : 0;
    export.file_size = (uint64_t)status.st_size;
    export.place = image_round_up(export.file_size);
    return export.file_size < IMAGE_NUMBER_MAX / 8 ? make_plain(&export) : -EFBIG;
}
