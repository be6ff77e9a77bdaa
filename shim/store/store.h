/*
 * Loads and commits the content of an inode. The store knows files, not programs: no descriptor of
 * a program, no session, no configuration. image.h and record.h describe the two formats,
 * scripts/read_image.py the rules of a reader.
 *
 *   load.c, load_plain.c   find the content, without a lock; read.c moves the bytes
 *   record.c               the record of a plain file, and what the file's bytes are by it
 *   commit.c               commits to the sized format, with the steps in commit_steps.c
 *   first_commit.c         the first of them, to a plain file
 *   known.c                which image need not be verified before the next commit
 *   plain.c, journal.c     commits to the plain format, their recovery, and their journal files
 *   overwrite.c            the write of a plain commit, out of reach of a kill
 *   export.c               from the sized format back to the plain one
 *   restamp.c              undo and repair: another image of the file becomes the content
 *   filelock.c             the lock of a file, with a deadline
 *   rendezvous.c           makes openers wait for guardians
 *   calls.c                the system calls of all of these, which tests replace
 *
 * STATES of a file in the sized format, and the function in commit.c or first_commit.c that
 * performs each transition
 *
 *         footer            image            an empty header at 0
 *   PLAIN ------> PREPARED ------> ADOPTED ------> TWIN LIVE   store_commit_first; the last step,
 *                                       if the writer died: store_finish_adoption
 *
 *   TWIN LIVE --> HEAD LIVE   overwrite_place: the image goes into the head place
 *   HEAD LIVE --> TWIN LIVE   overwrite_place: the image goes into the twin place, which grows
 *   TWIN LIVE --> TWIN LIVE   relocate_twin: the image does not fit before the twin, or the file is
 *                             far too large: image into a new twin place, then an empty header at 0
 *
 *   PLAIN      no header at 0, no valid footer: the payload is all bytes; but a note may say that
 *              a power cut left zeros behind it
 *   PREPARED   no header at 0, footer valid, no valid image in the twin place: the payload is the
 *              plain bytes
 *   ADOPTED    no header at 0, footer valid, its sum of the first bytes right, and a valid image of
 *              generation 1 in the twin place: that image
 *   HEAD LIVE, TWIN LIVE   header at 0 valid; the valid image with the higher generation is live
 *
 *   A first commit sets a note (record.h) before its footer, and takes it away when that is on
 *   disk, or undone. A writer that dies in between leaves it; the next first commit cuts off the
 *   remains, and then overwrites the note. Before a place is overwritten, settle_live() sees to it
 *   that the live image is on disk. A commit that fails goes back (withdraw_image()), but never
 *   takes away what the disk may already lead to: if the way back may not be on disk, the new image
 *   stays, complete.
 *
 * STATES of a plain file, by its record, and the function in plain.c that performs each transition
 *
 *   none, IDLE, KEPT --> REDO, FILE --> IDLE, KEPT   commit_with_record: set_redo, apply_payload
 *   REDO, FILE --> BACK --> IDLE                     go_back: the disk failed
 *   none, IDLE, KEPT --> BUSY --> IDLE               the same, where no record has room
 *   REDO, FILE, BACK, BUSY --> IDLE                  settle_content: the next holder of the lock
 *
 *   A commit: the record, fsync; the cut and the write, fdatasync; IDLE. A reader looks at the
 *   record before and after it reads the bytes: with IDLE they are the content; with REDO they
 *   themselves tell (redo.h) which content they are, or will become.
 *
 * INVARIANTS, and the tests that guard each; tests name the numbers. I6 and I7 stand in session.h
 *
 *   I1  No byte of the live image is written while it is live (its mark excepted), and the other
 *       place is not overwritten before the live image is known to be on disk (with sync). Of a
 *       plain file no byte is written before its record is on disk.
 *       unit/store_crash_test, unit/store_disk_fault_test, fuzz/protocol, campaigns/power
 *   I2  Every reader gets exactly one committed image.
 *       unit/store_crash_test, unit/store_test, unit/record_test, unit/hostile_test, fuzz/reader,
 *       plain.bats, stress.bats, campaigns/history
 *   I3  The inode number and the link count never change by our doing.
 *       programs.bats, calls.bats, campaigns/kill, campaigns/power
 *   I4  A commit that returned success survives kill -9 at once, and power loss with sync.
 *       unit/store_fault_test, campaigns/kill, campaigns/power
 *   I5  A commit that failed or died changed nothing that a reader can see.
 *       unit/store_fault_test, unit/store_crash_test, failures.bats, campaigns/faults,
 *       campaigns/kill
 *
 * ASSUMED of the disk and the file system: 128 bytes inside one 512-byte sector are never torn;
 * where a file was made longer a power cut leaves the data that made it so (btrfs), or else zeros,
 * together with an extended attribute that was set before (ext4 with data=ordered; xfs, up to the
 * end of the block that the plain bytes end in). Of a plain file no sector is torn, and an
 * attribute is on disk after fsync (model/plain_model.py).
 */
#ifndef ATOMSHIM_STORE_H
#define ATOMSHIM_STORE_H

#include "format/image.h"
#include "os/sys.h"

enum store_kind { STORE_PLAIN, STORE_SIZED };

/* The state of the bytes of a plain file, as a program without the shim reads them. Only
 * store_load() finds it. */
enum store_bytes {
    STORE_UNRECORDED, /* no record tells */
    STORE_CONTENT,    /* the content, as its commit left it, or a commit is about to overwrite it */
    STORE_EDITED,     /* another program has written the bytes since: they are the content */
    /* a mixture that a commit has left, or is writing; the record has the content, complete */
    STORE_CUT_SHORT,
    /* an unprotected commit was interrupted, or another program wrote them: nothing tells which */
    STORE_TORN,
};

/* The image that is the content of a file. */
struct store_image {
    enum store_kind kind;
    uint64_t size;       /* payload bytes */
    uint64_t file_size;  /* the whole file's; store_load() and store_look() set it */
    uint64_t generation; /* 0 for a plain file without a record */
    uint64_t place;      /* file offset of the image; for a plain file 0 */
    /* file offset of the twin place; for a plain file the one its footer names, or 0 */
    uint64_t twin;
    /* crc32c_mixed(); not set if no byte of a plain file that is not blank was read */
    uint32_t payload_crc;
    bool flushed; /* the image's mark: it is known to be on disk */
    bool adopted; /* ADOPTED: the last step of a first commit is still to be done */
    /* Sized: another program has, or may have, damaged or cut off a later complete image. */
    bool edited;
    bool scratched; /* the content is the latest, but another program has changed its mark */
    /* sized, but not of a size that we give a file: another program appended, or cut it */
    bool resized;
    bool blank;     /* plain, and behind it zeros that a power cut left of a first commit */
    bool unsettled; /* plain: a commit is under way, or died; store_recover() ends it */
    /* Plain: a process has kept a journal for the next commit, or died. */
    bool has_journal;
    enum store_bytes bytes;
};

/* Says how a reader gets past writers. */
struct store_wait {
    bool locked;     /* the caller holds the exclusive lock: no other writer is active */
    int64_t timeout; /* nanoseconds to wait for the shared lock when retries do not help */
};

/*
 * Finds the live image of `inode` (readable) and, with target >= 0, makes `target` (any seekable,
 * writable file, from offset 0) an exact copy of its payload; with target < 0 the payload is only
 * verified. Takes no lock unless writers lap it again and again. Returns 0 and fills *image. -EIO:
 * no place holds a valid image, or the file goes on looking torn though no process holds its lock.
 * -ETIMEDOUT: writers kept the lock. Else the negative errno of read, write, ftruncate or getxattr.
 * After an error *image and target hold nothing of use.
 */
int store_load(int inode, int target, struct store_wait wait, struct store_image *image);

/*
 * Like store_load() without a target, but reads a payload only where a header alone cannot tell: an
 * image that is marked as flushed is complete. The CRC of a plain file is not computed.
 */
int store_look(int inode, struct store_wait wait, struct store_image *image);

/*
 * Tells whether `image`, of a sized file and found by store_load(), is still the content of
 * `inode`. Reads and verifies all of it, as store_load() without a target; only the headers if
 * `is_unchanged` says that no program has written to the file since. Returns false also where
 * store_load() would try again, or would report something.
 */
bool store_is_current(int inode, const struct store_image *image, bool is_unchanged);

/*
 * Finds the size of the content: of the image that is live by its headers; a payload of up to 1 MiB
 * that is not known to be complete is verified. Reads a bounded number of bytes, whatever the file
 * is, and takes no lock. Returns 0, or a negative errno: -EIO if there is no such image, or if a
 * writer was at the header in each of a few attempts.
 */
int store_size(int inode, uint64_t *size);

/*
 * Tells whether a file is whole in the sized format: it has an image by the rules of store_size(),
 * or a first commit has begun. Returns 1 or 0, or the negative errno of read or fstat. Costs as
 * little as store_size().
 */
int store_is_whole(int inode);

/*
 * True if a file with this status can be in the sized format: it has such a size, or a larger one
 * and a hole, which each commit leaves behind the twin's image: by it the file is still known when
 * another program has appended to it or cut it. xfs gives a file that grows blocks behind its end
 * (speculative preallocation), and they count as the hole's: so a file with more than its bytes, an
 * attribute's block and the rest of the last block need can have one, too. Makes no system call.
 */
static inline bool store_may_be_sized(const struct stat *status)
{
    uint64_t size = (uint64_t)status->st_size;
    uint64_t allocated = (uint64_t)status->st_blocks * 512;

    return image_size_possible(size) ||
           (size > IMAGE_SMALLEST_FILE && (allocated < size || allocated >= size + (uint64_t)2 * IMAGE_PAGE));
}

/* Tells whether the file at `path` may have a record of a commit that is not over (getxattr(2)).
 * Makes one system call; an error counts as no. */
bool store_record_is_open(const char *path);

/* Computes the checksum (crc32c_mixed) of the first `size` bytes of any file; its holes cost
 * nothing. Returns 0, -EIO if it has fewer bytes, or the negative errno of read. */
int store_sum(int fd, uint64_t size, uint32_t *crc);

/* The content to commit. The bytes are the caller's and must not change until the commit has
 * returned. */
struct store_payload {
    const void *bytes;
    uint64_t size;
    uint32_t crc; /* crc32c_mixed() of the bytes */
};

/*
 * Makes `payload` the content of `inode` (readable and writable), whose exclusive lock (filelock.h)
 * the caller holds. With `sync` the image is on disk when this returns 0, without it a power cut
 * may lose it. Returns 0, or a negative errno: then the old image is still the content, on disk and
 * in the page cache, unless the disk failed twice in a row: then it may be the new one, complete.
 * -EFBIG: the payload or the generation is beyond IMAGE_NUMBER_MAX, or RLIMIT_FSIZE is too low;
 * -EIO: the file holds no valid image to protect (see store_load) or the disk failed; else the
 * negative errno of pwrite, fdatasync or ftruncate.
 */
int store_commit(int inode, const struct store_payload *payload, bool sync);

/* A file in the sized format behind a commit. */
struct store_left {
    struct stat status;       /* st_ino is 0 if it is not known */
    struct store_image image; /* generation is 0 if the commit has not succeeded */
};

/* Does what store_commit() does, and fills *left if that is not NULL. A status that is there
 * already was looked at under the lock. */
int store_commit_and_tell(int inode, const struct store_payload *payload, bool sync, struct store_left *left);

/* Does the same for a file in the sized format. Returns STORE_NOT_SIZED for any other file, and
 * leaves it alone. */
enum { STORE_NOT_SIZED = 1000 };
int store_commit_sized(int inode, const struct store_payload *payload, bool sync, struct store_left *left);

/*
 * To be called under the lock, behind a commit that left the file so and what else was to be set on
 * `inode`; the status must be the latest. The next commit by this process does not read the live
 * image or a header to find it if the file has not changed since. Does nothing where the times of
 * the file system cannot tell. Decision 1 says why that is as safe.
 */
void store_note_left(int inode, const struct store_left *left);

/* True if the file with this status is as this process's last commit in the sized format has left
 * it: then it holds a whole image. Makes no system call. */
bool store_has_left(const struct stat *status);

/*
 * Commits in the plain format: writes the payload alone, without a header, under the protection of
 * a record (record.h) where the file system has room for one. Works as store_commit(), but: the old
 * content comes back from a failure of the disk in the middle of the write only if it is of at most
 * 64 KiB; else the content is the new one, complete, though its commit is reported as failed. A
 * program without the shim may see a mixture meanwhile, and for good if this commit dies without a
 * record. Returns STORE_NOT_PLAIN for a file in the sized format, and leaves it alone.
 */
enum { STORE_NOT_PLAIN = 1001 };
int store_commit_plain(int inode, const struct store_payload *payload, bool sync);

/*
 * Ends a commit to a plain file that died: makes the bytes of `inode` (readable and writable),
 * whose exclusive lock the caller holds, equal to its content, on disk with `sync`, and its record
 * say so. Does nothing to a settled file. Returns 0, or the negative errno of a system call; then
 * the content is unchanged.
 */
int store_recover(int inode, bool sync);

/*
 * Makes a file in the sized format plain, in place: the content of `inode` (readable and writable),
 * whose exclusive lock the caller holds, stays the same for every reader at every moment, even
 * after a kill, and with `sync` after a power cut. Of a plain file it only cuts off the remains of
 * a first commit. Returns 0, or a negative errno; the content is the same then, but the file may be
 * in either format. -EINVAL: the content looks like a file in the sized format, and would be read
 * as one. -EIO: there is no valid image; else the negative errno of a system call.
 */
int store_export(int inode, bool sync);

/* Reads `size` bytes at `offset`; fewer only at the end of the file. Returns the count or a
 * negative errno. */
ssize_t store_read_at(int inode, void *buffer, size_t size, uint64_t offset);
/* Writes all `size` bytes to `target`, a buffer or another file in memory. Returns 0 or a negative
 * errno. */
int store_write_target(int target, const char *bytes, size_t size, uint64_t offset);

#endif
