/*
 * The sized format: two images in one inode. Pure functions over bytes; store.h moves the bytes.
 *
 *   offset 0            head place:  header, payload
 *   offset `twin`       twin place:  header, payload     (last in the file, so it grows freely)
 *
 * A header is 128 bytes of printable ASCII that end in a newline:
 *
 *   #atomshim/1 generation=0000000000000000007 size=0000000000000000042 twin=0000000000000008192
 *   data=1c291ca3 head=6a7d9e51 mark=+
 *
 * generation  counts commits from 1; the highest one whose CRCs hold is the content. 0: no image
 * size        payload bytes that follow the header
 * twin        at offset 0: where the twin place is, a multiple of 4096. In the twin place: 0
 * data        the payload's checksum, crc32c_mixed()
 * head        CRC-32C of the header's bytes before " head="
 * mark        '+' once the image is known to be on disk; '=' once its writer, which syncs nothing,
 *             has written all of it; '-' before. The header's CRC does not cover it
 *
 * A footer is 128 bytes of the same kind at the end of a plain file whose first commit has begun:
 * it names how many plain bytes there are, where the twin place will be, and the CRC-32C of the
 * file's first 512 bytes as they are then (behind the plain bytes there are zeros). The footer
 * stays when the commit is done. Its CRC tells whether the bytes at 0 are the plain ones, or the
 * remains of a header that another program has overwritten. Older versions wrote dots in place of
 * the CRC.
 *
 *   #atomshim/1-first-commit plain=0000000000000000017 twin=0000000000000008192
 *   start=1c291ca3 .......................head=6a7d9e51
 *
 * The size of a file in the sized format is IMAGE_FILE_REMAINDER modulo IMAGE_PAGE. So st_size
 * alone excludes nearly every other file, without a system call.
 */
#ifndef ATOMSHIM_IMAGE_H
#define ATOMSHIM_IMAGE_H

#include "format/line.h"

enum {
    IMAGE_HEADER_SIZE = 128,
    IMAGE_START_SIZE = 512,
    IMAGE_MARK_OFFSET = 126,
    IMAGE_PAGE = 4096,
    IMAGE_FILE_REMAINDER = 128,
    IMAGE_MARK_NONE = '-',
    IMAGE_MARK_WRITTEN = '=',
    IMAGE_MARK_FLUSHED = '+',
};

/* Generations, sizes and offsets stay below this, so that no sum of two of them overflows. */
#define IMAGE_NUMBER_MAX ((uint64_t)1 << 61)

struct image_header {
    uint64_t generation; /* 0: no image in this place */
    uint64_t size;       /* payload bytes */
    uint64_t twin;       /* file offset of the twin place; 0 in the twin place itself */
    uint32_t payload_crc;
    bool flushed; /* the mark is '+' */
    /* The mark is '+' or '=': the writer completed the payload, so a fault in it came later. */
    bool complete;
    bool bad_mark; /* the mark is none of the three */
};

struct image_footer {
    uint64_t plain_size; /* bytes of the plain file before its first commit */
    uint64_t twin;
    uint32_t start_crc; /* CRC-32C of the file's first IMAGE_START_SIZE bytes */
    bool has_start;     /* false if an older version wrote it: there is no start_crc */
};

/* Writes the 128 bytes of a header. All numbers must be below IMAGE_NUMBER_MAX. */
void image_encode_header(char bytes[IMAGE_HEADER_SIZE], const struct image_header *header);

/*
 * Reads a header from the first `size` bytes found at its place. IMAGE_VALID only if the header's
 * CRC holds, every number is below IMAGE_NUMBER_MAX and twin is a multiple of IMAGE_PAGE. Fills
 * *header only then. IMAGE_TORN if it begins with a header's first word, or if that was
 * overwritten, but most of the words behind stand.
 */
enum image_kind image_decode_header(const char *bytes, size_t size, struct image_header *header);

/* Do the same two things for a footer. */
void image_encode_footer(char bytes[IMAGE_HEADER_SIZE], const struct image_footer *footer);
enum image_kind image_decode_footer(const char *bytes, size_t size, struct image_footer *footer);

/* True if a file of this size (st_size) can be in the sized format, or on its way there. */
static inline bool image_size_possible(uint64_t file_size)
{
    return file_size % IMAGE_PAGE == IMAGE_FILE_REMAINDER;
}

/* The size of the smallest file in the sized format: two places for images of no bytes (older
 * versions left no hole behind). */
#define IMAGE_SMALLEST_FILE ((uint64_t)4 * IMAGE_PAGE + IMAGE_FILE_REMAINDER)

/* Returns the bytes of an image whose payload has `size` bytes. */
static inline uint64_t image_length(uint64_t size)
{
    return IMAGE_HEADER_SIZE + size;
}

static inline uint64_t image_round_up(uint64_t n)
{
    return (n + IMAGE_PAGE - 1) / IMAGE_PAGE * IMAGE_PAGE;
}

/* Returns the room that a place gets for an image of `length` bytes: a quarter more, so that it may
 * grow a little. */
static inline uint64_t image_place_size(uint64_t length)
{
    return image_round_up(length + length / 4 + IMAGE_PAGE);
}

/*
 * Returns the file size that an image of `length` bytes in a twin place at `twin` asks for. Behind
 * the place there are IMAGE_TAIL bytes that no commit writes. This hole is larger than the space
 * that a file system counts as used besides the data.
 */
#define IMAGE_TAIL ((uint64_t)4 * IMAGE_PAGE)
static inline uint64_t image_file_size(uint64_t twin, uint64_t length)
{
    return twin + image_place_size(length) + IMAGE_TAIL + IMAGE_FILE_REMAINDER;
}

#endif
