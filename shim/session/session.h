/*
 * Sessions: open -> buffer -> last close -> commit.
 *
 * On open of a managed file the payload is loaded into a buffer, and the program gets a descriptor of that
 * memfd. One session is one such memfd. It lasts until the kernel says that no description of the buffer but
 * ours is left in any process; then what changed is committed into the real inode.
 *
 * STATES of a table slot, and the function that performs each transition
 *
 *   FREE --claim--> OPENING --session_publish--> LIVE --session_settle--> ENDING --session_drop--> FREE
 *                     \---------------------session_drop----------------------------------------^
 *
 *   OPENING  its private descriptors exist, the program's not yet: nobody may think that the last one is gone
 *   LIVE     the program has, or had, descriptors. Found by session_identify()
 *   ENDING   exactly one thread closes the private descriptors
 *
 * WHO KNOWS WHAT
 *
 *   - Which descriptors are a session's is asked of the kernel: st_dev and st_ino of the buffer. dup(),
 *     F_DUPFD, fork() and SCM_RIGHTS need no table.
 *   - The table is this process's cache of its private descriptors. After exec it is rebuilt from
 *     /proc/self/fd: the buffer's name carries the flags and the real inode's identity (session_adopt). Without
 *     /proc there is a short form of them in the file offset of the private buffer description.
 *   - What the content was at open, or at the last commit, lies in the file offsets of the two private
 *     descriptions, which every process that shares the session shares (session_base).
 *   - A vfork() child runs here in its parent's memory. It reads the table and writes nothing but `has_guardian`:
 *     `stray` sessions live in its descriptors and on its stack alone.
 *   - A program without the shim knows nothing of it: a guardian (guardian.h) is there in its place.
 *
 * INVARIANTS, besides those of store.h
 *
 *   I6  What is not managed costs nothing: no extra system call on any call but open, where a name that no pattern could
 *       match costs one, one that could two, or four to write by a path of several components, and one look at start.
 *       calls.bats, folders.bats
 *   I7  No session's bytes are dropped silently: they are committed, or reported, or the program died before its close.
 *       calls.bats (programs/calls_exit, situations, trouble), failures.bats, neighbours.bats, campaigns/faults
 *
 * Everything here is async-signal-safe and takes no lock: slots change state by compare-and-swap, and
 * processes exclude each other by flock() on a fresh description of the buffer.
 */
#ifndef ATOMSHIM_SESSION_H
#define ATOMSHIM_SESSION_H

#include "config/config.h"
#include "os/sys.h"

enum session_flag {
    SESSION_WRITABLE = 1,
    SESSION_APPEND =
        2, /* opened with O_APPEND: what was appended is merged into what is live at the commit */
    SESSION_CREATED = 4, /* the open created the file: its directory is synced with the first commit */
    SESSION_LOCKED = 8,  /* ATOMSHIM_ISOLATION=session: the file is locked until the session ends */
    SESSION_STRAY = 16,  /* not in the table: see vfork above */
    SESSION_REPLACES =
        32, /* replace.h: should the commit fail, the new content is still in the file that it was in */
};

/* Other threads look at these while the slot changes hands; what they find counts only once enter() says so. */
#define SESSION_GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SESSION_SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

enum session_state { SESSION_FREE, SESSION_OPENING, SESSION_LIVE, SESSION_ENDING };

struct session {
    int state;        /* atomic: enum session_state */
    int committer;    /* atomic: the thread that is at a commit, or 0 */
    int commit_again; /* atomic: a signal handler in that thread wanted another one */
    int commit_lock;  /* the descriptor that keeps other processes' committers out, or -1 */
    int ended_error; /* atomic: of the commit that ended the session `ended_number`, if nobody was told yet */
    ino_t ended_number;
    bool
        closed_here; /* a descriptor was closed, and it was not the last one: settle_closed() has to look again */
    bool linked;     /* the directory of a file that the session created is synced */
    bool has_guardian; /* atomic: it has a guardian that stays: guardian.h */
    unsigned flags;    /* enum session_flag */
    int inode;         /* private descriptor of the real inode */
    int buffer;        /* private descriptor of the buffer */
    dev_t device;      /* st_dev and st_ino of the real inode */
    ino_t number;
    dev_t buffer_device; /* st_dev and st_ino of the buffer */
    ino_t buffer_number;
    int early; /* OPENING: the program's description, where it cannot be opened later (memory.h), or -1 */
};

/* Sessions that this process may have. A larger number costs address space, no memory. */
#define SESSIONS_MAX 8192

/*
 * A session that was looked up or begun, or none. In a vfork() child it is not in the table, and the struct holds it: so the
 * struct lies on the caller's stack, is not copied, and lives as long as `session` is used.
 */
struct session_found {
    struct session *session; /* in the table, or &stray, or NULL */
    struct session stray;
};

/* Once, before the first session. The struct stays the caller's. */
void session_configure(const struct config *config);

/* What session_configure() was given. */
extern const struct config *session_config;

/* True in a process that may change the table: not in a vfork child. */
bool session_table_is_ours(void);

/* False as long as this process has no session: then every wrapper is its libc call and nothing else. */
bool session_any(void);

/*
 * Begins a session on `inode`, a descriptor of a managed regular file, readable, and writable if `flags` ask
 * for writing. `flags` are those of open(2). `created`: this open created the file.
 * Takes `inode` over, also on failure. Returns 0 and in found->session a session in state OPENING, or a negative errno: what store_load() returns, -EMFILE, -ENFILE, -ENOMEM, -ETIMEDOUT for the lock
 * of ATOMSHIM_ISOLATION=session.
 */
int session_begin(int inode, int flags, bool created, struct session_found *found);

/* Makes the session LIVE: to be called when the program's first descriptor of it exists. */
void session_publish(struct session *session);

/* Opens a descriptor of the session's buffer as open(2) with `flags` would have; nobody knows of it yet. */
int session_open_descriptor(struct session *session, int flags);

/* Opens the program's first descriptor as open(2) with `flags` would have, and publishes the session. Returns
 * the lowest free descriptor; on a negative errno the session is gone. */
int session_hand_out(struct session *session, int flags);

/*
 * Puts this process's descriptors of the inode with this identity, which may be another session's buffer, on the
 * session's buffer: at the same number and position, with the same flags. Returns 0 or a negative errno.
 */
int session_take_over(const struct session *session, dev_t device, ino_t number);

/* Ends a session without a commit. */
void session_drop(struct session *session);

enum session_role {
    SESSION_NONE,    /* not ours */
    SESSION_PROGRAM, /* the program's descriptor of *session */
    SESSION_PRIVATE, /* a descriptor that the program does not know of */
};

/* Tells what `fd` is. found->session is its session, or NULL. */
enum session_role session_identify(int fd, struct session_found *found);

/* Looks for the session whose buffer has this status (fstat). Returns found->session, or NULL. */
struct session *session_of(const struct stat *status, struct session_found *found);

/* A session of this process on the real inode with this identity, or NULL. */
struct session *session_on(dev_t device, ino_t number);

/*
 * To be called after the program closed a descriptor of the session, whose `buffer_number` was read before: if it was
 * the last anywhere, commits what changed and ends the session. Returns 0, or the negative errno with which the commit
 * failed, here or in a thread that came first.
 */
int session_settle(struct session *session, ino_t buffer_number);

/* session_settle() for every session of this process of which a descriptor was closed before: what others closed since,
 * or a mapping, may have been the last of it. Without `wait` those that another thread is committing are left to it.
 * Returns the first error. */
int session_settle_closed(bool wait);

/* session_settle() for every session of this process, after a call that may have closed any. Returns the first error. */
int session_settle_all(void);

/* Commits what changed now, whoever has the session open: fsync(2). Errors as of session_settle(). */
int session_sync(struct session *session);

/*
 * Loads what others have committed since into the session's buffer, unless it holds changes of its own: to be called
 * when the program has taken a lock. Returns 0, or a negative errno as of store_load(); the buffer is as it was then.
 */
int session_refresh(struct session *session);

/* session_sync() for every session. */
int session_sync_all(void);

/* After exec: finds inherited sessions, if there is a beacon, and takes them over; one of which this process has no descriptor is
 * given up, with a commit if it was the last. */
void session_adopt(void);

/* Puts the sessions that vfork() children began into the table, of a process that is to look after them. */
void session_adopt_strays(void);

/* May there be sessions that are not in the table? */
bool session_any_stray(void);

/*
 * Before a program is run that can adopt the sessions: makes sure that it finds the beacon (descriptor.h), or where that
 * cannot be says so. Returns a descriptor that is to be closed if this process goes on; -1 if none is needed; or
 * SESSION_NO_BEACON: the program will not find the sessions, and a guardian is to stay (guardian.h).
 */
enum { SESSION_NO_BEACON = -2 };
int session_light_beacon(void);

/* With `hide` the private descriptors do not outlive an exec: for a program that cannot adopt them. */
void session_hide_private(bool hide);

/* The end of this process: closes the program's descriptors, commits where they were the last, gives the
 * private ones back. Nothing of the program may use them afterwards. */
void session_finish(void);

/* In the child of a fork: the table is this process's from now on. */
void session_after_fork(void);

/*
 * Makes room where the program wants a descriptor of its own: if `number` is a private descriptor of the session, it
 * gets another number, from `lowest` on if there is one. Returns 1 if so: `number` is still open then, and the caller's to
 * replace or close; else 0, or -EMFILE.
 */
int session_move_private(struct session *session, int number, int lowest);

/* Calls `visit` for each session of this process, until it returns non-zero; returns that. */
int session_for_each(int (*visit)(struct session *session, void *context), void *context);

/* Finds the session whose buffer is mapped at `address`, or NULL. Returns 0, or a negative errno where that cannot be
 * told. */
int session_mapped_at(const void *address, struct session **session);

/*
 * The program sets O_APPEND on a descriptor of the session (fcntl(2), F_SETFL): from now on the session merges like one that
 * was opened so.
 */
void session_begin_appending(struct session *session);

/*
 * When was the session's buffer, which has this status, written last? False if no write(2) or ftruncate(2) changed it since
 * it was loaded. Stores through a mapping do not count: tmpfs keeps no time of them.
 */
bool session_was_written(const struct session *session, const struct stat *buffer, struct timespec *when);

/*
 * Gives the buffer the permission bits that the real inode has now, as far as its other owner and group allow: a descriptor
 * that was passed to another user opens again through /proc/self/fd no more than it would on the file itself. The owner
 * of the buffer, who made it, can open it as the session does.
 */
void session_follow_mode(const struct session *session);

/* Is this the status of the session's buffer? */
bool session_is_buffer(const struct session *session, const struct stat *status);

/* ---- the parts of a commit, for replace.h ---- */

/* What the content was at open or at the last commit: see WHO KNOWS WHAT. */
struct session_base {
    uint64_t size;
    uint32_t crc;
    bool force; /* O_TRUNC: commit though the bytes may be the same */
    bool
        append; /* SESSION_APPEND, also where another process set it; session_set_base() never takes it away */
};

struct session_base session_get_base(const struct session *session);
void session_set_base(const struct session *session, struct session_base base);

/*
 * Commits what changed, with every other committer of the session kept out. `exclusive`: nobody can change
 * the buffer meanwhile. Returns 0, or a negative errno after the failure was logged and the image rescued.
 */
int session_commit(struct session *session, bool exclusive);

/*
 * A commit failed with the negative errno `failure`: writes the image to ATOMSHIM_RESCUE_DIR, unless it is SESSION_REPLACES
 * or there is none, and one line to the log that says what became of it. `bytes` are the image's, and stay the caller's;
 * with NULL it is read from the session's buffer.
 */
void session_report(const struct session *session, const void *bytes, uint64_t size, int failure);

#endif
