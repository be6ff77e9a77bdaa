/*
 * Sessions: open -> buffer -> last close -> commit.
 *
 * On open of a managed file the payload is loaded into a buffer, and the program gets a descriptor
 * of that memfd. One session is one such memfd. It lasts until the kernel says that no description
 * of the buffer but ours is left in any process; then what changed is committed into the real
 * inode.
 *
 * STATES of a table slot, and the function that performs each transition
 *
 *   FREE    --session_take_slot-> OPENING
 *   OPENING --session_publish---> LIVE
 *   OPENING --session_drop------> FREE
 *   LIVE    --session_settle----> ENDING
 *   ENDING  --session_drop------> FREE
 *
 *   OPENING  its private descriptors exist, the program's not yet: nobody may think that the last
 *            one is gone
 *   LIVE     the program has, or had, descriptors. Found by session_identify()
 *   ENDING   exactly one thread closes the private descriptors
 *
 * WHO KNOWS WHAT
 *
 *   - The kernel tells which descriptors belong to a session: st_dev and st_ino of the buffer.
 *     dup(), F_DUPFD, fork() and SCM_RIGHTS need no table.
 *   - The table is this process's cache of its private descriptors. After exec it is rebuilt from
 *     /proc/self/fd: the buffer's name carries the flags and the real inode's identity
 *     (session_adopt). Without /proc there is a short form of them in the file offset of the
 *     private buffer description.
 *   - The content at open, or at the last commit, is described in the file offsets of the two
 *     private descriptions, which all processes of the session share (session_base).
 *   - A vfork() child runs here in its parent's memory. It reads the table and writes nothing but
 *     `wants_guardian`, `is_shared` and `shown_time`: `stray` sessions live in its descriptors and
 *     on its stack alone.
 *   - A program without the shim knows nothing of the session: a guardian (guardian.h) acts for it.
 *
 * THE OPENER DECIDES what a death means. The opener is the process that opened the file; the kernel
 * keeps it with the private description of the inode (descriptor_opener).
 *
 *   OPENED --(a) its last close, (b) its proper end, or (c) the proper end of a program without the
 *            shim that it became by exec--> RELEASED
 *     OPENED    the opener may be in the middle of a write. The process that closes last commits if
 *               it has the shim; a guardian does not, because then the opener was killed
 *     RELEASED  the writes count: they are committed at the opener's end, and again at the last
 *               close
 *
 *   A process that may not ask the kernel for the last close (it changed its user) commits at its
 *   own last close if it is the opener, or the session is RELEASED; else it commits nothing, for
 *   the opener will.
 *
 * INVARIANTS, besides those of store.h
 *
 *   I6  Files that are not managed cost nothing: no extra system call on any call but open, where a
 *       name that no pattern could match costs one, one that could two, or four to write by a path
 *       of several components, less if the folder was judged in the same tick of the coarse clock,
 *       and one look at start. calls.bats, folders.bats, bench.bats
 *   I7  No session's bytes are dropped silently: they are committed, or reported, or the program
 *       died before its close. calls.bats (programs/calls_exit, situations, trouble),
 *       failures.bats, neighbours.bats, campaigns/faults
 *
 * Everything here is async-signal-safe and takes no lock: slots change state by compare-and-swap,
 * and processes exclude each other by flock() on a fresh description of the buffer.
 */
#ifndef ATOMSHIM_SESSION_H
#define ATOMSHIM_SESSION_H

#include "config/config.h"
#include "os/sys.h"
#include "store/store.h"

enum session_flag {
    SESSION_WRITABLE = 1,
    SESSION_APPEND = 2,    /* opened with O_APPEND: a commit merges the appended bytes */
    SESSION_CREATED = 4,   /* the open created the file: the first commit syncs its directory */
    SESSION_LOCKED = 8,    /* ATOMSHIM_ISOLATION=session: locked until the session ends */
    SESSION_STRAY = 16,    /* not in the table: see vfork above */
    SESSION_REPLACES = 32, /* replace.h: after a failed commit the renamed file has the content */
};

/* For fields that other threads read while the slot may change hands: a reader relies on them only
 * in a turn of its own, session_in_turn(). */
#define SESSION_GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SESSION_SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

enum session_state { SESSION_FREE, SESSION_OPENING, SESSION_LIVE, SESSION_ENDING };

/* Descriptions of one session that have locks of their own. */
enum { SESSION_DESCRIPTIONS = 16 };

struct session {
    /* every open and close reads these of every slot: they lie in one line of the CPU's cache */
    _Alignas(64) int state; /* atomic: enum session_state */
    unsigned flags;         /* enum session_flag */
    dev_t device;           /* st_dev and st_ino of the real inode */
    ino_t number;
    dev_t buffer_device; /* st_dev and st_ino of the buffer */
    ino_t buffer_number;
    int inode;  /* private descriptor of the real inode */
    int buffer; /* private descriptor of the buffer */
    /* atomic: session_this_thread() of the thread that opened it for writing, or 0 */
    unsigned writer_thread;
    bool closed_here; /* a descriptor was closed, but not the last: session_settle_closed() */
    int committer;    /* atomic: a thread is at a commit, with all signals blocked */
    int commit_again; /* atomic: another thread wanted one meanwhile, and did not wait */
    int commit_lock;  /* the descriptor that keeps other processes' committers out, or -1 */
    int ended_error;  /* atomic: of the commit that ended `ended_number`, if nobody was told yet */
    ino_t ended_number;
    bool linked;         /* the directory of a file that the session created is synced */
    bool wants_guardian; /* atomic, never reset: the next guardian that starts looks after it */
    bool is_shared;      /* atomic: others may have it, by a fork, an exec or a message */
    unsigned order;      /* the number of the open, in this process */
    /* A second open got a description of the buffer. Only the committer changes this and the next
     * three. */
    bool several_opens;
    int writers; /* descriptors to write with that were counted at the last close */
    int counted;
    int descriptions;                      /* second opens, each of which has a mark */
    int lock_inodes[SESSION_DESCRIPTIONS]; /* atomic: real inodes, for their locks; or 0 */
    bool has_posix_lock;                   /* atomic: the program may have one on the file */
    bool locks;                            /* atomic: it may have locked the file through `inode` */
    bool has_privilege;                    /* atomic: it has given the file capabilities */
    bool takes_turns;   /* atomic: the program has locked the file: it knows that others write it */
    bool emptied;       /* atomic: by ftruncate(), and not committed since */
    int syncs;          /* atomic: claim.c */
    int kept;           /* a memfd with the content at the begin of the session (merge.c), or -1 */
    ino_t kept_number;  /* st_ino of that file */
    uint64_t kept_size; /* the session's base when the file was made */
    uint32_t kept_crc;
    mode_t pending_mode; /* atomic: for the next commit, with S_IFREG, or 0: session_set_mode() */
    mode_t pending_over; /* the mode that the file has until then */
    int64_t shown_time;  /* atomic: st_mtim that the program has seen or set; nanoseconds */
    bool is_snapshot;    /* the buffer is sealed and holds `image`: snapshot.c may keep it */
    struct store_image image;
    struct timespec changed; /* st_ctim of the real inode before the image was found */
    bool is_settled;         /* and any later change has another st_ctim */
    int early;               /* OPENING: the program's description, early (buffer.h); or -1 */
};

/* Sessions that this process may have. A larger number costs address space, no memory. */
#define SESSIONS_MAX 8192

/*
 * A session that was looked up or begun, or none. In a vfork() child it is not in the table, and
 * the struct holds it: so the struct lies on the caller's stack, is not copied, and lives as long
 * as `session` is used.
 */
struct session_found {
    struct session *session; /* in the table, or &stray, or NULL */
    ino_t buffer_number;     /* the session's: its slot may get another session meanwhile */
    struct session stray;
};

/* Called once, before the first session. The struct stays the caller's. */
void session_configure(const struct config *config);

/* The settings that the caller gave to session_configure(). */
extern const struct config *session_config;

/* True in a process that may change the table: not in a vfork child. */
bool session_table_is_ours(void);

/* Returns the number of the calling thread, from 1 on; no other thread of this process ever has it.
 * A vfork() child has its parent's, but no session in the table. Makes no system call. */
unsigned session_this_thread(void);

/* Returns the number of this process, without a call for a session of its table. */
int session_process(const struct session *session);

extern int session_count; /* atomic: how many sessions the table has */
/* Atomic: a vfork() child that shares our memory had a session, which is not in the table. */
extern int session_strays_seen;

/* False as long as this process has no session: then every wrapper is its libc call and nothing
 * else. */
static inline bool session_any(void)
{
    return __atomic_load_n(&session_count, __ATOMIC_ACQUIRE) != 0 ||
           __atomic_load_n(&session_strays_seen, __ATOMIC_RELAXED) != 0;
}

/*
 * Begins a session on `inode`, a descriptor of a managed regular file, readable, and writable if
 * `flags` ask for writing. `known` is its status, of a moment ago, or NULL. `flags` are those of
 * open(2). Takes `inode` over, also on failure. Returns 0
 * and in found->session a session in state OPENING, or a negative errno: of store_load(), -EMFILE,
 * -ENFILE, -ENOMEM, -ETIMEDOUT for the lock of ATOMSHIM_ISOLATION=session.
 */
enum session_origin {
    SESSION_OPENED,
    SESSION_NEW,    /* this open created the file */
    SESSION_COPIED, /* `inode` comes from descriptor_copy_private() */
};
int session_begin(int inode, const struct stat *known, int flags, enum session_origin origin,
                  struct session_found *found);

/* True if this process has a session that it writes. */
bool session_any_writable(void);

/*
 * Opens a file that this process is writing, without truncation and not exclusively: a descriptor
 * of the buffer that has the program's changes, as open(2) with `flags` would. To read, only the
 * thread that opened the file for writing gets it. From then on each close of a descriptor for
 * writing commits. Permissions are the caller's business. Returns the descriptor; -ENOENT if there
 * is no such session, so that the open is an ordinary one; or a negative errno.
 */
int session_open_again(dev_t device, ino_t number, int flags);

/*
 * Returns the descriptor of the real inode that has the locks of the program's descriptor `fd`, but
 * not its POSIX locks: one for each description, fcntl(2), flock(2). Returns -EBADF if another
 * thread has ended the session; -ENOLCK in a vfork() child, for a description that has had no lock
 * yet.
 */
int session_lock_inode(struct session *session, int fd);

/* Returns the session of this process that writes the file with this identity, the last one opened,
 * or NULL. */
struct session *session_writer(dev_t device, ino_t number);

/* Returns the session that this very thread opened to write the file with this identity, and still
 * has open; *buffer is the status of its buffer. NULL if there is none. */
struct session *session_written_here(dev_t device, ino_t number, struct stat *buffer);

/* True if this process keeps a snapshot of the file with this status, which has not changed
 * since: it holds a whole image. */
bool session_has_snapshot(const struct stat *inode);

/* Makes the session LIVE. Call it when the program's first descriptor of it exists. */
void session_publish(struct session *session);

/* Opens a descriptor of the session's buffer as open(2) with `flags` would have; no other thread
 * knows of it yet. */
int session_open_descriptor(struct session *session, int flags);

/* Opens the program's first descriptor as open(2) with `flags` would have, and publishes the
 * session. Returns the lowest free descriptor; on a negative errno the session is gone. */
int session_hand_out(struct session *session, int flags);

/*
 * Puts this process's descriptors of the inode with this identity, which may be another session's
 * buffer, on the session's buffer: at the same number and position, with the same flags. Returns
 * 0 or a negative errno.
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

/* Returns a session of this process on the real inode with this identity, or NULL. */
struct session *session_find_on(dev_t device, ino_t number);
static inline struct session *session_on(dev_t device, ino_t number)
{
    return __atomic_load_n(&session_count, __ATOMIC_ACQUIRE) != 0 ? session_find_on(device, number) : NULL;
}

/*
 * Called after the program closed a descriptor of the session, whose `buffer_number` was read
 * before: if it was the last anywhere, commits the changes and ends the session. Returns 0, or the
 * negative errno with which the commit failed, here or in a thread that came first.
 */
int session_settle(struct session *session, ino_t buffer_number);

/*
 * Calls session_settle() for every session of this process of which a descriptor was closed before:
 * a close by another process since, or an munmap(2), may have been the last. Without `wait` it
 * leaves sessions to a thread that is committing them. Returns the first error.
 */
int session_settle_closed(bool wait);

/* Calls session_settle() for every session of this process, after a call that may have closed any.
 * Returns the first error. */
int session_settle_all(void);

/* Commits the changes now, whoever has the session open: fsync(2). Does nothing if the slot has
 * another `buffer_number` by now: that session, which the caller has never looked at, may be half
 * written. Returns as session_settle() does. */
int session_sync(struct session *session, ino_t buffer_number);

/*
 * Called when the program has taken a lock: loads the content that others have committed since into
 * the session's buffer, unless it has changes of its own. Returns 0, or a negative errno of
 * store_load(); then the buffer is unchanged.
 */
int session_refresh(struct session *session);

/*
 * Called when the program has locked a range of the file for writing: keeps the session's first
 * content, so that the commit can tell the program's bytes from the bytes of others, which have
 * locked other ranges. Returns 0, or -ENOMEM, -EMFILE, -ENFILE.
 */
int session_keep_base(struct session *session);

/* Called when the program has got a POSIX lock through the session's inode: session_settle() will
 * give it back, as the close(2) of any descriptor of the file does, fcntl(2). */
void session_note_posix_lock(struct session *session);

/* True if this process may have a POSIX lock on the file: the close of any descriptor of the real
 * inode would drop it, fcntl(2). */
bool session_has_posix_lock(dev_t device, ino_t number);

/* True if this process has a POSIX lock on the file now: `inode`, a descriptor of it, cannot be
 * moved to another number, as the close of the first would drop the lock. */
bool session_must_stay(int inode, dev_t device, ino_t number);

/*
 * Called when the program asks for fsync(2), before session_sync(). A program that syncs a file
 * more than once while it has it open for writing, and neither locks it nor appends to it, counts
 * as a database: it expects others to see its writes at once, which they do not. So it claims the
 * file: until it closes the file, other processes may open it for writing, or commit, only if they
 * truncate, append, or lock. And a session that was synced does not overwrite the content that
 * another process has committed before the claim: its commit fails with -EBUSY. Returns 0, or after
 * one second, and a line in the log, -EBUSY: another process has claimed the file.
 */
int session_claim_file(struct session *session);

/* Called when the program has emptied the file by ftruncate(2): the next commit is independent of
 * the live image, as after an open that truncates. Gives the claim back. */
void session_note_emptied(struct session *session);

/* Called when the program has got a lock on the file: it agrees with others by locks, and never
 * claims the file. */
void session_note_lock(struct session *session);

/* Calls session_sync() for every session. */
int session_sync_all(void);

/* Called after exec: finds inherited sessions, if there is a beacon, and takes them over; gives up
 * a session of which this process has no descriptor, with a commit if this process was the last. */
void session_adopt(void);

/* Puts the sessions that vfork() children began into the table of this process, which looks after
 * them from now on. */
void session_adopt_strays(void);

/* Tells whether there may be sessions that are not in the table. */
bool session_any_stray(void);

/*
 * Called before this process runs another program (exec), or the libc does in a child of its own
 * (`is_libcs`): hands over the sessions of which the program inherits a descriptor, if it `adopts`,
 * which means that it loads the shim, and this process has the ids of the session's opener. The
 * program finds them by a beacon (descriptor.h). All other private descriptors are close-on-exec.
 * session_take_back(), after an exec that failed or once the libc's child runs, undoes that;
 * `beacon` is the result. needs_guardian: a session is left that a guardian must commit
 * (guardian_start()). A session that the exec closes needs none as long as this process's parent
 * waits for this process or for the libc's child: it settles the session when it goes on.
 */
struct session_heir {
    bool adopts;
    bool is_libcs;
};
struct session_hand_over {
    int beacon; /* a descriptor, or -1 */
    bool needs_guardian;
};
struct session_hand_over session_hand_over(struct session_heir heir);
void session_take_back(struct session_heir heir, int beacon);

/* True if this process has the ids of the session's opener, all of them. */
bool session_may_hand_over(const struct session *session);

/* Notes that every session may be open in other processes from now on: before a fork, or a
 * message that carries one. */
void session_share(void);

/* ---- the opener, and guardians: see THE OPENER DECIDES ---- */

/* True if this process opened the file. */
bool session_is_opener(const struct session *session);

/* Notes for all processes that the opener has closed its last descriptor, or ends properly. */
void session_release(const struct session *session);
bool session_is_released(const struct session *session);

/*
 * Asks the next guardian to look after the session, if it is writable. Returns true if a guardian
 * must be started: there is none yet in this pid namespace, or this process is the opener, whose
 * end the guardian has to see.
 */
bool session_want_guardian(struct session *session);

/* session_become_guardian() makes this process a guardian of the session, until its end. The others
 * ask whether there is a guardian, anywhere or in the same pid namespace. A commit in this process
 * removes the note: call session_become_guardian() again. */
void session_become_guardian(const struct session *session);
bool session_has_guardian(const struct session *session);
bool session_has_guardian_here(const struct session *session);

/*
 * Logs one line: the session's opener was killed, and what was written is not committed. With
 * `is_over`, for a session without a descriptor left, only if something was written.
 */
void session_tell_killed(const struct session *session, bool is_over);

/* Starts a guardian for the sessions that asked for one. NULL: this build has no guardians. */
extern void (*session_start_guardian)(void);

/* Called at the end of this process: closes the program's descriptors, commits if they were the
 * last, and closes the private ones. The program must not use its descriptors afterwards. */
void session_finish(void);

/* Called before a fork: returns what session_after_fork() needs. It stays the same as long as no
 * thread commits. */
unsigned session_commit_locks(void);

/* Called in the child of a fork: the table belongs to this process from now on. */
void session_after_fork(unsigned commit_locks);

/*
 * Makes room where the program wants a descriptor of its own: if `number` is a private descriptor
 * of the session, gives the session another number, from `lowest` on if there is one, and returns
 * 1; `number` stays open, for the caller to replace or close. Else returns 0, or -EMFILE.
 */
int session_move_private(struct session *session, int number, int lowest);

/* Calls `visit` for each session of this process, until it returns non-zero; returns that. */
int session_for_each(int (*visit)(struct session *session, void *context), void *context);

/* Finds the session whose buffer is mapped at `address`; found->session is NULL if there is none.
 * Returns 0, or a negative errno where that cannot be told. */
int session_mapped_at(const void *address, struct session_found *found);

/*
 * Clears what a program has stored through a mapping behind the end of the file, in the page that
 * it ends in: mmap(2) says that it is no content, and tmpfs would show it as soon as the file
 * grows. session_clear_tails() does it for every session that is written.
 */
void session_clear_tail(struct session *session);
void session_clear_tails(void);

/* Checks whether the session can hold `size` bytes. Returns 0, or -EFBIG if that is beyond
 * IMAGE_NUMBER_MAX or the memory (buffer_is_beyond_memory()). */
int session_check_size(const struct session *session, uint64_t size);

/* Called when the program sets O_APPEND on a descriptor of the session (fcntl(2), F_SETFL): from
 * now on the session merges like one that was opened so. */
void session_begin_appending(struct session *session);

/*
 * Tells when the session's buffer, which has this status, was written last. Returns false if no
 * write(2) or ftruncate(2) changed it since it was loaded. Stores through a mapping do not count:
 * tmpfs keeps no time of them.
 */
bool session_was_written(const struct session *session, const struct stat *buffer, struct timespec *when);

/* Called when the program has seen or set this time of the session's last write: a commit gives the
 * file the same time, to the nanosecond. */
void session_note_time(struct session *session, struct timespec shown);

/*
 * Gives the buffer the permission bits that the real inode has now, as far as its different owner
 * and group allow: through /proc/self/fd, another user who was passed a descriptor can open the
 * buffer only as it could open the file. The owner of the buffer, who made it, can open it as the
 * session does; nobody else can if the file has an access control list, since the mode then shows
 * the list's mask, not the rights of the group (acl(5)).
 */
void session_follow_mode(const struct session *session);

/*
 * chmod(2) for the file of a session that may be written to. Until what the session holds is
 * committed, the file has its old content, of which `mode` may give nobody but the owner more than
 * he had: what is wider the next commit sets, unless somebody else has changed the mode meanwhile.
 * A process that is not the opener commits first. Returns 0 or a negative errno; or 1: nothing is
 * in the way, and the caller makes the call itself.
 */
int session_set_mode(struct session *session, mode_t mode);

/* Returns the mode to show for the file: the one that waits for a commit, or `mode`, which the real
 * inode has. `buffer` is the status of the session's buffer. */
mode_t session_get_mode(const struct session *session, const struct stat *buffer, mode_t mode);

/*
 * The caller calls these for a file that has got an x bit, so that the kernel can run it.
 * session_make_plain() makes the file plain, unless the session's next commit does; a line in the
 * log says where that is not possible. session_export() does the same with a descriptor, to read
 * and write, of a managed file; it returns 0, also if the file is plain, or a negative errno of
 * store_export() or of waiting for the lock.
 */
void session_make_plain(struct session *session);
int session_export(int inode);

/*
 * Called before chown(2) or an access control list gives another user a right to the file: commits
 * what the session holds, so that this user does not get the old content. Returns 0, or a negative
 * errno as of session_sync().
 */
int session_settle_rights(struct session *session);

/* Tells whether this is the status of the session's buffer. */
bool session_is_buffer(const struct session *session, const struct stat *status);

/* ---- the parts of a commit, for replace.h ---- */

/* Describes the content at open or at the last commit: see WHO KNOWS WHAT. */
struct session_base {
    uint64_t size; /* 0 if it is to be forced: nothing is compared with it */
    uint32_t crc;
    bool force; /* O_TRUNC: commit though the bytes may be the same */
    /* SESSION_APPEND, also where another process set it; session_set_base() never takes it away */
    bool append;
};

/* Reads and writes the base in the file offsets of the private descriptions, which every process
 * that shares the session sees. */
struct session_base session_get_base(const struct session *session);
void session_set_base(const struct session *session, struct session_base base);

/*
 * Commits the changes, and keeps every other committer of the session out. `exclusive`: no program
 * can change the buffer meanwhile. Waits for locks as long as ATOMSHIM_LOCK_TIMEOUT says. Returns
 * 0, or a negative errno after the failure was logged and the content rescued.
 */
int session_commit(struct session *session, bool exclusive);

/*
 * Called after a commit failed with the negative errno `failure`: writes the session's buffer to
 * ATOMSHIM_RESCUE_DIR, unless it is SESSION_REPLACES or there is no such folder, and logs one line
 * about the outcome.
 */
void session_report(const struct session *session, int failure);

#endif
