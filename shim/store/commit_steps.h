/*
 * The steps that commit.c and first_commit.c have in common. A step returns 0, a negative errno, or
 * UNDONE where its comment says so; the caller holds the exclusive lock throughout.
 */
#ifndef ATOMSHIM_STORE_COMMIT_STEPS_H
#define ATOMSHIM_STORE_COMMIT_STEPS_H

#include "store/internal.h"

enum {
    UNDONE = CHANGED, /* a program without the lock has overwritten what the commit wrote */
};

/* One commit: the image that is live, the new content, and the file's state before. */
struct commit {
    int inode;
    bool sync;
    const struct store_payload *payload;
    struct store_image live;
    uint64_t length;        /* the new image's */
    uint64_t file_size;     /* before the commit */
    bool undone;            /* the attempt before this one did not last */
    bool sized_only;        /* store_commit_sized() */
    struct store_left left; /* the latest status, if one is known; the image last checked */
};

/* Flushes the file's bytes (fdatasync(2)), if the commit is to be synced. */
int store_flush(const struct commit *commit);

/* Writes a header at `place`. It reaches the disk with the next flush. */
int store_write_header(const struct commit *commit, uint64_t place, const struct image_header *header);

/* Writes the header and the payload of the new image at `place`, and flushes them. */
int store_write_image(const struct commit *commit, uint64_t place, const struct image_header *header);

/* Writes a header at 0 that has no image of its own and leads to the twin place `twin`; flushes. */
int store_lead_to(const struct commit *commit, uint64_t twin);

/*
 * Puts the new image into the twin place `place`, and a header at 0 that leads to it, each flushed.
 * Returns UNDONE if the image does not last; then nothing leads to it. Sets *may_lead if the header
 * at 0 failed: it may be on disk or not.
 */
int store_write_twin(struct commit *commit, uint64_t place, const struct image_header *header,
                     bool *may_lead);

/* Returns UNDONE unless both headers that store_write_twin() wrote, and the size, are in place. */
int store_check_twin(struct commit *commit, uint64_t place, const struct image_header *header);

/* Writes one of image.h's IMAGE_MARK_* into the image at `place`, as far as the page cache. */
void store_set_mark(const struct commit *commit, uint64_t place, char mark);

/* Marks the new image, as flushed or as written. If the mark is lost the next commit flushes once
 * more. */
void store_mark_done(const struct commit *commit, uint64_t place);

/* Returns the header of the live image as it stands in its place, with the given twin. */
struct image_header store_live_header(const struct commit *commit, uint64_t twin);

/* True if the header at `place` still is what was written there, or cannot be read: it was
 * flushed. */
bool store_is_in_place(const struct commit *commit, uint64_t place, const struct image_header *header);

/*
 * True if a program that knows of no lock has overwritten the header at `place`, or has cut the
 * file off before the end of its image. Such a program may do so at any moment of a commit. Its
 * bytes are lost, like those of any program that another one overwrites, if ours are there in the
 * end: the commit looks before a header at 0 leads to them, and once more when all is done. Sets
 * commit->left.
 */
bool store_is_undone(struct commit *commit, uint64_t place, const struct image_header *header);

/* Makes one attempt at the first commit to a plain file. Returns UNDONE too. */
int store_commit_first(struct commit *commit);

/*
 * Makes the last step of a first commit whose writer died (ADOPTED -> TWIN LIVE), and updates
 * commit->live. Returns UNDONE too.
 */
int store_finish_adoption(struct commit *commit);

#endif
