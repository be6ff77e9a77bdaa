/* Describes the bytes of a file: both places, whichever is live. For people who inspect it, not for
 * readers of its content. */
#ifndef ATOMSHIM_CLI_INSPECT_H
#define ATOMSHIM_CLI_INSPECT_H

#include "store/store.h"

/* One of the two places of a file in the sized format. */
struct inspect_place {
    enum image_kind kind;       /* the kind of the header found there */
    struct image_header header; /* if it is IMAGE_VALID */
    bool payload_good;          /* the payload's CRC is the one in the header */
    const char *fault;          /* why there is no complete image here, or NULL */
};

struct inspect_file {
    const char *name;
    int fd;
    uint64_t size;
    struct inspect_place head;
    struct inspect_place twin; /* IMAGE_ABSENT unless a header at 0 or a footer names the place */
    bool begun;                /* no header at 0, but a footer: a first commit has begun */
    uint64_t twin_offset;      /* 0 if nothing names it */
    time_t written;            /* st_mtime */
    struct store_image image;  /* the live image, if error is 0 */
    int error;                 /* the result of store_load(): 0, or a negative errno */
    bool damaged;              /* the error means: no complete image, though the file has had one */
};

/*
 * Opens the regular file `name` with O_RDONLY or O_RDWR, after guardians have committed it. Returns
 * a descriptor, or -1 after a complaint.
 */
int inspect_open(const char *name, int access);

/* Returns the words for a negative errno of the store, of a lock or of a system call. */
const char *inspect_error(int error);

/* Returns how to wait for writers: as long as ATOMSHIM_LOCK_TIMEOUT says. */
struct store_wait inspect_wait(void);

/*
 * Opens `name` and reads all of it: the live image as every reader finds it, and both places. Takes
 * no lock as long as writers leave a gap. Returns false after a complaint if the file cannot be
 * read; a damaged file can. End with inspect_end().
 */
bool inspect_begin(struct inspect_file *file, const char *name);
void inspect_end(struct inspect_file *file);

/* Returns the reason why the file is damaged, as one short text. */
void inspect_reason(const struct inspect_file *file, char *text, size_t size);

#endif
