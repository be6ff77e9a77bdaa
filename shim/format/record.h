/*
 * The record of a file that is not in the sized format (yet): the value of its extended attribute
 * `user.atomshim`. Pure functions over bytes. A record is a line of printable ASCII, and behind
 * it, for some words, a body; by its first word:
 *
 *   IDLE 0000000042 000000000001234 1c291ca3 5f0e21aa 6a7d9e51
 *   BUSY as IDLE
 *   REDO 0000000042 000000000001234 000000000001230 1c291ca3 5f0e21aa 6a7d9e51
 *   BACK as REDO
 *   FILE as REDO
 *   KEPT as REDO
 *   NOTE 000000000000017 000000000032896 1c291ca3 5f0e21aa 7ce9af25
 *
 *   IDLE  no commit is under way: the file's bytes are the content. The body, if there is one, is
 *         spaces: ext4 frees the attribute's block when the value fits into the inode again, and
 *         the next commit would have to allocate another one
 *   KEPT  the same, and a journal file is left in the folder that the body names
 *   BUSY  a commit is under way, or died, that nothing protects
 *   REDO  a commit is under way, or died: the body is what it writes, and sums of what it
 *         overwrites (redo.h). A journal file holds such a record, too
 *   BACK  a commit failed, and the content before it, which the body holds, is written back
 *   FILE  as REDO, which lies in a journal file in the folder that the body names
 *   NOTE  the first commit to the sized format is under way, or died
 *
 * The numbers of a line: the generation; the size of the content; the size of the file before; the
 * content's checksum (crc32c_mixed); the identity of the inode that the record belongs to
 * (record_identity), because a copy of the file may carry the attribute along, where it means
 * nothing; the CRC-32C of all bytes before it and of the body. A NOTE has the size of the plain
 * bytes, the file's size with the footer, and the plain bytes' checksum. A note of an older version
 * has no word and no identity, and numbers of 19 digits: 0000000000000000017 0000000000000016512
 * 1c291ca3 7ce9af25.
 *
 * IDLE without spaces, BUSY and NOTE fit into an inode of 256 bytes, ext4's default.
 */
#ifndef ATOMSHIM_RECORD_H
#define ATOMSHIM_RECORD_H

#include "format/line.h"

#define RECORD_NAME "user.atomshim"

enum {
    RECORD_SIZE_MAX = 1 << 16, /* the largest extended attribute, xattr(7) */
    RECORD_LINE_MAX = 74,
    RECORD_NOTE_SIZE = 63,
    RECORD_OLD_NOTE_SIZE = 57,
    RECORD_IDLE_MAX = 512, /* an IDLE with its spaces */
};

/* The largest generation, behind which they begin at 1 again, and size: 10 and 15 digits. */
#define RECORD_GENERATION_MAX UINT64_C(9999999999)
#define RECORD_NUMBER_MAX UINT64_C(999999999999999)

enum record_word {
    RECORD_NONE,
    RECORD_IDLE,
    RECORD_KEPT,
    RECORD_BUSY,
    RECORD_REDO,
    RECORD_BACK,
    RECORD_FILE,
    RECORD_NOTE
};

struct record {
    enum record_word word;
    uint64_t generation; /* not in a note */
    uint64_t size;       /* bytes of the content; in a note: plain bytes */
    uint64_t other;      /* bytes of the file before the commit; in a note: with the footer */
    uint32_t crc;        /* crc32c_mixed() of the content; in a note: of the plain bytes */
    uint32_t identity;
    bool has_identity; /* false for an old note */
    const char *body;  /* lies in the bytes that were decoded */
    size_t body_size;
};

/* Returns the size of the line that begins a record with this word. */
size_t record_line_size(enum record_word word);

/*
 * Writes the line of *record to `bytes`, which has room for record_line_size(), and is followed by
 * the body (record->body says where it is, to be summed; it is not copied). Returns the line's
 * size, or 0 if a number is too large.
 */
size_t record_encode(char *bytes, const struct record *record);

/*
 * Reads a record from `size` bytes. Fills *record only if it is IMAGE_VALID: the CRC holds, and the
 * body is one that the word can have. The body is not copied.
 */
enum image_kind record_decode(const char *bytes, size_t size, struct record *record);

/* Returns a checksum that tells an inode from others, its copies on other file systems included. It
 * is made of the inode's number and the time of its creation. */
uint32_t record_identity(uint64_t number, int64_t seconds, uint32_t nanoseconds);

#endif
