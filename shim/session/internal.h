/* What the files of session/ share: the table of sessions, and what they keep of the content that was loaded. */
#ifndef ATOMSHIM_SESSION_INTERNAL_H
#define ATOMSHIM_SESSION_INTERNAL_H

#include "os/log.h"
#include "session/session.h"

/* A slot in state OPENING, or NULL if all are taken. */
struct session *session_claim(void);

/* True if another process may have this very descriptor table, as after clone(2) with CLONE_FILES; a vfork() child says so, too. */
bool session_descriptors_may_be_shared(void);

/* Is it none of the table's? */
bool session_is_stray(const struct session *session);

/* What lies there besides: an image after exec that cannot read the buffer's name (no /proc) has no more than this. */
struct session_record {
    unsigned flags;
    uint32_t identity; /* session_identity_sum(), or its low RECORD_LITTLE bits and nothing else */
};
enum { RECORD_LITTLE = 6 };

struct session_record session_get_record(int buffer);
uint32_t session_identity_sum(dev_t device, ino_t number);

/* Marks the buffer as one that no write(2) has changed since it was loaded: session_was_written(). */
void session_set_unwritten(int buffer);

/* session_refresh(), with every other committer kept out. */
int session_refresh_locked(struct session *session);

/* Gives a session for reading a new buffer with what is live now, and the program's descriptors to that. */
int session_refresh_reader(struct session *session);

/* Puts an inherited session into the table; NULL if the table is full. */
struct session *session_enter(const struct session *found);

/*
 * Fills *session from this process's descriptors: the private ones of the session whose buffer this is, or, with NULL,
 * of any whose private buffer descriptor is above *after, which is moved on.
 */
bool session_search(const struct stat *buffer, int *after, struct session *session);

/* The path of the real inode, for messages and for its directory; /proc says so if it has none any more. Returns its
 * length. */
size_t session_path(const struct session *session, char *path, size_t size);

/* Logs one line: the path of the session's file, and `what` happened to it. */
void session_tell(const struct session *session, enum log_level level, const char *what);

/*
 * Commits `payload` in the format that the file is to have. A file that is sized stays so, and bytes that
 * look like an image are always written in one. A file that may be executed is plain: one with an x bit, a
 * script (#!), an ELF file. For any other config_format_of() decides. The caller holds the exclusive lock.
 * Returns what store_look(), store_commit() and store_commit_plain() return.
 */
struct store_payload;
int session_store(const struct session *session, const struct store_payload *payload);

/* Log what programs without the shim did: to the file that the image was found in; to the name that it had. */
struct store_image;
void session_tell_edits(const struct session *session, const struct store_image *image);
void session_tell_nameless(const struct session *session);

/* Starts a guardian if the kernel itself seems to have the session open, as io_uring and loop devices do: it is open though this
 * process has closed it, and no other process ever got it. */
void session_watch_kernel(struct session *session);

/* True if this process has a mapping of the session's buffer. */
bool session_is_mapped(const struct session *session);

/* The process ends: takes the session from a commit of this very thread, which a signal handler left for good. */
void session_abandon_commit(struct session *session);

/* In a forked child: the parent's children by system(3) do not inherit from this process. */
void session_forget_systems(void);

/* Replaces this process's shared mappings of the session's buffer by ones through our private descriptor:
 * same pages, but no longer a hold on the program's description. Returns true if a private mapping is left.
 */
bool session_remap(const struct session *session);

#endif
