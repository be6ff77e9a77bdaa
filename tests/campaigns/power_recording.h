/* power_disk.c writes this recording and power.c replays it: all writes to the disk, in their
 * order. A recording is a sequence of records, each followed by its bytes if it has any. */
#ifndef POWER_RECORDING_H
#define POWER_RECORDING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum recorded_kind {
    RECORDED_WRITE = 1, /* followed by `size` bytes */
    RECORDED_ZEROES,    /* a discard, or a range of zeroes */
    RECORDED_FLUSH,
    RECORDED_MARK, /* followed by `size` bytes of text, see power.c */
};

struct recorded {
    uint32_t kind;
    /* answered with EIO: a write that did not reach the disk, a flush that did not happen */
    uint32_t failed;
    uint64_t offset;
    uint64_t size;
};

enum { POWER_BLOCK = 4096 };

/*
 * Every line of a payload begins so. Lines have a length that divides 128, so every block begins a
 * line.
 */
#define PAYLOAD_LINE "=payload= "

/*
 * Tells a block of a managed file from a block of the file system: the payload's lines and the
 * headers of atomshim begin at multiples of what divides a block, and no file system's block begins
 * like that.
 */
static inline bool power_is_data(const char *block, uint64_t size)
{
    static const char header[] = "#atomshim/1";

    return size >= POWER_BLOCK / 8 && (memcmp(block, PAYLOAD_LINE, sizeof PAYLOAD_LINE - 1) == 0 ||
                                       memcmp(block, header, sizeof header - 1) == 0);
}

#endif
