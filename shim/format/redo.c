#include "format/redo.h"

#include "format/crc32c.h"

#include <string.h>

static uint64_t minimum(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t count_sectors(uint64_t size)
{
    return (size + REDO_SECTOR - 1) / REDO_SECTOR;
}

size_t redo_body_size(uint64_t size, uint64_t old_size, uint64_t block)
{
    uint64_t block_end;

    if (block == REDO_BLOCK_ALL)
        return size + (count_sectors(old_size) + 2) * REDO_SUM;
    block = block < REDO_BLOCK_MIN ? REDO_BLOCK_MIN : minimum(block, REDO_BLOCK_MAX);
    block_end = (size + block - 1) / block * block;
    return size + (count_sectors(minimum(old_size, block_end)) + 2) * REDO_SUM;
}

/* Returns how many sectors of the old content have a sum of their own, if the body is one. */
static uint64_t near_count(uint64_t size, size_t body_size)
{
    return (body_size - size) / REDO_SUM - 2;
}

bool redo_is_body(const struct record *record)
{
    uint64_t count;

    if (record->body_size < record->size || record->body_size - record->size < (size_t)2 * REDO_SUM ||
        (record->body_size - record->size) % REDO_SUM != 0)
        return false;
    count = near_count(record->size, record->body_size);
    return count <= count_sectors(record->other) &&
           (count == count_sectors(record->other) || count * REDO_SECTOR >= record->size);
}

static void put_sum(char *at, const uint32_t sum[2])
{
    for (int i = 0; i < REDO_SUM; i++)
        at[i] = (char)(sum[i / 4] >> (8 * (i % 4)));
}

static void sum_whole_sector(char *at, const char *bytes)
{
    uint32_t sum[2] = {0};

    crc32c_pair(sum, bytes, REDO_SECTOR);
    put_sum(at, sum);
}

/* Computes the sum of a sector that begins with `size` bytes and continues with zeros. */
static void sum_sector(char *at, const char *bytes, size_t size)
{
    char padded[REDO_SECTOR];

    if (size == REDO_SECTOR) {
        sum_whole_sector(at, bytes);
        return;
    }
    memcpy(padded, bytes, size);
    memset(padded + size, 0, REDO_SECTOR - size);
    sum_whole_sector(at, padded);
}

/* Adds the part of a piece that lies behind `start` to a sum. Pieces begin where sectors begin, and
 * so does `start`. */
static void sum_far(uint32_t far[2], uint64_t start, uint64_t offset, const char *bytes, size_t size)
{
    uint64_t skip = offset < start ? minimum(start - offset, size) : 0;

    crc32c_pair(far, bytes + skip, size - skip);
}

void redo_sums_begin(struct redo_sums *sums, char *body, uint64_t size, uint64_t old_size, size_t body_size)
{
    uint64_t count = near_count(size, body_size);

    *sums = (struct redo_sums){.sums = body + size,
                               .size = size,
                               .old_size = old_size,
                               .near_size = minimum(old_size, count * REDO_SECTOR)};
    sum_sector(sums->sums + count * REDO_SUM, "", 0);
}

void redo_sums_feed(struct redo_sums *sums, const char *bytes, size_t size)
{
    uint64_t cut_sector = sums->size / REDO_SECTOR;
    uint64_t count = count_sectors(sums->near_size);

    for (size_t at = 0; at < size; at += REDO_SECTOR) {
        uint64_t sector = (sums->offset + at) / REDO_SECTOR;
        size_t n = (size_t)minimum(REDO_SECTOR, size - at);

        if (sector < count)
            sum_sector(sums->sums + sector * REDO_SUM, bytes + at, n);
        if (sector == cut_sector)
            sum_sector(sums->sums + count * REDO_SUM, bytes + at,
                       (size_t)minimum(n, sums->size - cut_sector * REDO_SECTOR));
    }
    sum_far(sums->far, sums->near_size < sums->old_size ? sums->near_size : UINT64_MAX, sums->offset, bytes,
            size);
    sums->offset += size;
}

void redo_sums_end(struct redo_sums *sums)
{
    put_sum(sums->sums + (count_sectors(sums->near_size) + 1) * REDO_SUM, sums->far);
}

void redo_look_begin(struct redo_look *look, const struct record *record, uint64_t file_size)
{
    uint64_t count = near_count(record->size, record->body_size);

    *look = (struct redo_look){.record = record,
                               .file_size = file_size,
                               .near_size = minimum(record->other, count * REDO_SECTOR),
                               .is_new = file_size == record->size,
                               .untouched = file_size == record->other};
    /* no step of a commit leaves any other size */
    look->possible = file_size >= minimum(record->size, record->other) &&
                     (file_size <= record->size || file_size == record->other);
}

/* True if the sector at `offset`, padded with zeros, equals the first `limit` bytes of the new
 * content at that offset. */
static bool is_of_new(const struct record *record, const char *padded, uint64_t offset, uint64_t limit)
{
    uint64_t end = minimum(limit, record->size);
    size_t n = end > offset ? (size_t)minimum(end - offset, REDO_SECTOR) : 0;

    if (memcmp(padded, record->body + offset, n) != 0)
        return false;
    for (; n < REDO_SECTOR; n++)
        if (padded[n] != 0)
            return false;
    return true;
}

static void look_at_sector(struct redo_look *look, const char *bytes, size_t size, uint64_t offset)
{
    const struct record *record = look->record;
    const char *sums = record->body + record->size;
    uint64_t count = count_sectors(look->near_size);
    char padded[REDO_SECTOR] = {0};
    char sum[REDO_SUM];
    bool was;

    memcpy(padded, bytes, size);
    sum_sector(sum, padded, REDO_SECTOR);
    if (offset / REDO_SECTOR < count)
        was = memcmp(sum, sums + offset / REDO_SECTOR * REDO_SUM, REDO_SUM) == 0;
    else
        was = is_of_new(record, padded, offset, 0); /* all zeros: the file was shorter */
    if (was)
        return;
    look->untouched = false;
    /* a flush has failed: the disk may have the size of what was written, and nothing else of it */
    if (record->word == RECORD_BACK && is_of_new(record, padded, offset, 0))
        return;
    /* the bytes were written; or the bytes but not the new size reached the disk; or the file was
     * cut, and not yet written */
    if (!is_of_new(record, padded, offset, look->file_size) &&
        !is_of_new(record, padded, offset, record->other) &&
        !(offset / REDO_SECTOR == record->size / REDO_SECTOR &&
          memcmp(sum, sums + count * REDO_SUM, REDO_SUM) == 0))
        look->possible = false;
}

void redo_look_feed(struct redo_look *look, const char *bytes, size_t size)
{
    const struct record *record = look->record;
    uint64_t near_end = look->near_size < record->other ? look->near_size : UINT64_MAX;

    if (look->is_new)
        look->is_new = memcmp(bytes, record->body + look->offset, size) == 0;
    for (size_t at = 0; look->possible && at < size && look->offset + at < near_end; at += REDO_SECTOR)
        look_at_sector(look, bytes + at, (size_t)minimum(REDO_SECTOR, size - at), look->offset + at);
    sum_far(look->far, near_end, look->offset, bytes, size);
    look->offset += size;
}

enum redo_state redo_look_end(const struct redo_look *look)
{
    const struct record *record = look->record;
    char far[REDO_SUM];

    if (look->is_new)
        return REDO_NEW;
    put_sum(far, look->far);
    if (!look->possible || (look->file_size > record->size &&
                            memcmp(far, record->body + record->body_size - REDO_SUM, sizeof far) != 0))
        return REDO_FOREIGN;
    return look->untouched && record->word == RECORD_REDO ? REDO_OLD : REDO_PARTLY;
}
