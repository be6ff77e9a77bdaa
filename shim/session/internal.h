/* Declarations for the files of session/: the table of sessions, and their knowledge of the
 * content. */
#ifndef ATOMSHIM_SESSION_INTERNAL_H
#define ATOMSHIM_SESSION_INTERNAL_H

#include "os/log.h"
#include "os/scratch.h"
#include "session/session.h"

/* Returns a slot in state OPENING, or NULL if all are taken. */
struct session *session_take_slot(void);

/* Gives a session that has a slot, or is on its caller's stack, its inode, or a buffer in place of
 * the one that it has. */
void session_set_inode(struct session *session, dev_t device, ino_t number);
void session_set_buffer(struct session *session, dev_t device, ino_t number);

/* Notes that a descriptor of the session was closed: session_settle_closed() looks at it. */
void session_note_closed(struct session *session);

/* Takes the note back. */
void session_forget_closed(struct session *session);

/* True if there is a session of which session_note_closed() was told. */
bool session_any_closed(void);

/* ---- commit_lock.c ---- */

/*
 * Keeps other processes that share the session from committing it meanwhile. The session's
 * only committer in this process calls it, and lets them in by session_let_committers_in(), also
 * after an error. `exclusive`: the process has no descriptor of the buffer left but its private
 * one. Waits. Returns 0, -EMFILE or -ENFILE if no number is free, or the error of the lock.
 */
int session_keep_committers_out(struct session *session, bool exclusive);

/* Called in a forked child, with the answer of session_commit_locks(): closes the locks that other
 * threads of the parent held. */
void session_close_commit_locks(unsigned before);

/* With `is_over` the buffer is about to be closed, which gives back the lock of the process. */
void session_let_committers_in(struct session *session, bool is_over);

/* ---- index.c ---- */

enum session_index { SESSION_BY_INODE, SESSION_BY_BUFFER, SESSION_INDEXES };

/* The session in `slot` of the table has this inode number. To be removed once it is gone. */
void session_index_add(enum session_index index, ino_t number, unsigned slot);
void session_index_remove(enum session_index index, ino_t number);

/* False: no session of the table has this number. True: one may; *slot is the one to look at
 * first. */
bool session_index_find(enum session_index index, ino_t number, unsigned *slot);

/* True if another process may have this very descriptor table, as after clone(2) with
 * CLONE_FILES; a vfork() child says so, too. */
bool session_descriptors_may_be_shared(void);

/* Tells whether the session is not in the table. */
bool session_is_stray(const struct session *session);

/* True if another process may have the session. After a bare clone(2) this may be false in the
 * parent though the child has it. */
bool session_may_be_shared(const struct session *session);

/* The short form of a session's identity, in the file offset beside the base. After exec, a process
 * that cannot read the buffer's name (no /proc) has only this. */
struct session_record {
    unsigned flags;
    uint32_t identity; /* session_identity_sum(), or its low RECORD_LITTLE bits and nothing else */
};
enum { RECORD_LITTLE = 6 };

/* Called with the number of each private descriptor of a buffer, before the session gets it. */
void session_note_buffer(int number);

/* Sets the base of a session that no other thread or process has yet: session_set_base(). */
void session_begin_base(const struct session *session, struct session_base base);

/* Returns the record in the file offset of a session's private description `buffer`. */
struct session_record session_get_record(int buffer);

/* Returns a checksum of st_dev and st_ino, which tells a session's inode from others. */
uint32_t session_identity_sum(dev_t device, ino_t number);

/* Marks the buffer as one that no write(2) has changed since it was loaded:
 * session_was_written(). */
void session_set_unwritten(int buffer);

/*
 * Makes one attempt at session_commit(), for a caller that holds nothing between two attempts:
 * siglongjmp(3) may leave the wait. The caller has blocked all signals; patience->mask says which
 * were blocked before. Returns -EAGAIN, with nothing told, if a lock was in the way and *patience
 * is not over yet: filelock_wait() comes next.
 */
struct filelock_patience;
int session_try_commit(struct session *session, bool exclusive, const struct filelock_patience *patience);

/* The bytes of a buffer, either mapped or copied. */
struct view {
    void *bytes;
    uint64_t size;
    bool mapped;
    struct scratch scratch;
};

/*
 * Reads or maps `size` bytes, or as many as there are, of a buffer. `exclusive`: no program can
 * change them meanwhile. Returns 0; or -ENOMEM or the negative errno of read, and then the view
 * must not be closed.
 */
int view_open(struct view *view, int buffer, uint64_t size, bool exclusive);
void view_close(struct view *view);

/*
 * Commits the live content, followed by the bytes that the view has behind the session's first
 * content. Called under the lock. Returns 0, or a negative errno of store_commit(), of a read, or
 * of making a file in memory.
 */
int session_commit_appended(const struct session *session, const struct view *view, struct session_base base);

/*
 * Calls try() as the session's only committer until it does not return -EAGAIN; holds nothing in
 * between. try() finds in *patience whether `timeout`, in nanoseconds, is over. Returns try()'s
 * answer; 0 if the session ended meanwhile.
 */
int session_insist(struct session *session, int64_t timeout,
                   int (*try)(struct session *session, const struct filelock_patience *patience));

/* Waits until no other process claims the file: 0; or -EBUSY, and a line in the log. */
int session_wait_for_claim(const struct session *session);

/* False if the session, which nobody truncated, must not commit: another process claims the file,
 * or has committed since the session began (`same` is false), session_claim_file(). */
bool session_may_commit(const struct session *session, bool same);

/* Notes that the session's bytes are the live content now. Called by the session's only
 * committer. */
void session_note_committed(struct session *session);

/* Makes one attempt at session_keep_base(). Returns 0, or a negative errno where there is no memory
 * for it. */
int session_try_keep(struct session *session, const struct filelock_patience *patience);

/* True if the content that `base` says is kept, so that a commit can merge. */
bool session_has_kept(const struct session *session, struct session_base base);
void session_forget_kept(struct session *session);

/* Keeps `file`, which is taken over, and holds the content that `base` says. */
void session_set_kept(struct session *session, int file, struct session_base base);

/* Called after the view was committed: it becomes the session's first content, and is kept if that
 * was. */
void session_keep_view(struct session *session, const struct view *view, uint32_t crc);

/* The three contents of a merge: the session's buffer, the first content (kept), and the live
 * content in a file of its own. */
struct session_merge {
    int live;
    uint64_t live_size;
    uint64_t ours_size;
    uint64_t size; /* the size of the result */
    bool conflict; /* a byte was changed on both sides: ours is taken */
};

/* Merges the three contents into `target`, which is merge->live or the session's buffer. Returns 0
 * or a negative errno. */
int session_merge(const struct session *session, struct session_merge *merge, int target);

/* Commits the merged content; *conflict as above. Called under the lock. Returns as
 * session_commit_appended() does. */
int session_commit_merged(const struct session *session, bool *conflict);

/* Makes one attempt at session_refresh(). Returns as session_try_commit() does. */
int session_try_refresh(struct session *session, const struct filelock_patience *patience);

/* Gives a session for reading a new buffer with the live content, and puts the program's
 * descriptors on it. Waits for no lock: -ETIMEDOUT. */
int session_refresh_reader(struct session *session);

/*
 * Calls use() as the session's only committer in this process, with all signals blocked. Returns
 * use()'s answer; or `otherwise`, if the session ended meanwhile, or if another thread is its
 * committer and `wait` is false. Then settles the session if another thread has closed it.
 */
int session_in_turn(struct session *session, bool wait, int (*use)(struct session *session, void *context),
                    void *context, int otherwise);

/* Does the work of session_begin_appending(). Only the session's committer calls it. */
void session_set_append(struct session *session);

/* True if a second open shares the session's buffer, and since the last call a descriptor was
 * closed that the program could write with. By the session's only committer. */
bool session_has_lost_writer(struct session *session);

/* True if the program has locked something through session_lock_inode() of a second open. */
bool session_holds_other_lock(const struct session *session);

/* Gives back the locks of descriptions that are closed by now, or of all with `all`; not those of
 * the first one where another process may have it. Called by the session's only committer. */
void session_give_up_locks(struct session *session, bool all);

/* For descriptor_for_each(), with a session as `context`: returns 1 if `fd` is a descriptor that
 * the program has of the session, else 0. */
int session_has_descriptor(int fd, void *context);

/* Sets the fields that are the same at the start of every session. */
void session_reset(struct session *session);

/* Puts an inherited session into the table. Returns NULL if the table is full. */
struct session *session_enter(const struct session *found);

/*
 * Finds sessions by this process's private descriptors: the one whose buffer this is; or, with
 * NULL, all, those of the table, too. Calls visit() for each private number of a buffer with a
 * session that is gone when visit() returns. Stops at a result that is not 0. Returns the last one.
 */
int session_search(const struct stat *buffer, int (*visit)(struct session *found, void *context),
                   void *context);

/* Returns the session of the table that has this buffer, or NULL. */
struct session *session_with_buffer(dev_t device, ino_t number);

/* Writes the path of the real inode, for messages and for its directory; a deleted one has the mark
 * of /proc. Returns its length. */
size_t session_path(const struct session *session, char *path, size_t size);

/* True if the session's buffer has other bytes than its first content, or the last commit. */
bool session_is_changed(const struct session *session);

/* Logs one line: the path of the session's file, and `what`. */
void session_tell(const struct session *session, enum log_level level, const char *what);

/*
 * Commits `payload` in the format that the file is to have. A file that is sized stays so, and
 * bytes that look like an image are always written in one. A file that may be executed is plain:
 * one with an x bit, a script (#!), an ELF file. For any other config_format_of() decides. `inode`
 * is a status of the real inode, a moment old at most. The caller holds the exclusive lock. Fills
 * *left as store_commit_and_tell() does if the file is sized then. Returns as store_look(),
 * store_commit() and store_commit_plain() do.
 */
struct store_payload;
struct store_left;
int session_store(const struct session *session, const struct stat *inode,
                  const struct store_payload *payload, struct store_left *left);

/*
 * Log what programs without the shim did: edits of the session's file; a new file under its name.
 */
struct store_image;
void session_tell_edits(const struct session *session, const struct store_image *image);
/* Logs a commit at the level info, while its lock is held: `waited` and `stored` are the
 * nanoseconds for the lock, and for the write with its sync. */
void session_tell_commit(const struct session *session, int64_t waited, int64_t stored);

/* `inode` is the status of the real inode. */
void session_tell_nameless(const struct session *session, const struct stat *inode);

/*
 * Starts a guardian if the kernel itself seems to have the session open, as io_uring and loop
 * devices do: it is still open, though this process has closed it, and no other process ever got
 * it.
 */
void session_watch_kernel(struct session *session);

/* False without /proc: what holds a session may be a mapping of this process, which a guardian
 * would inherit, and hold for ever. */
bool session_knows_mappings(void);

/* True if this process has a mapping of the session's buffer. */
bool session_is_mapped(const struct session *session);

/* Called in a forked child: the parent's children by system(3) do not inherit from this process. */
void session_forget_systems(void);

/* Replaces this process's shared mappings of the session's buffer by ones through our private
 * descriptor: same pages, but no longer a hold on the program's description. Returns true if a
 * private mapping is left. */
bool session_remap(const struct session *session);

/* ---- snapshot.c: the buffer that an open to read finds again ---- */

/*
 * Gives a session that only reads, whose inode is at its private number, the snapshot that this
 * process keeps of the file, if that is still the file's content. `inode` is the status of the real
 * inode. False: the content is to be loaded.
 */
bool session_take_snapshot(struct session *session, const struct stat *inode);

/* Keeps the buffer of a session that is over, if it is small and no other process has it. */
void session_keep_snapshot(struct session *session);

/* Called in a forked child. Closes the kept buffer, unless the parent may share the descriptors. */
void session_forget_snapshot(bool close);

/* ---- attributes.c: the attributes of the inode that a commit keeps ---- */

/* Sets the mode that waits for a commit, after one that succeeded. Called by the session's only
 * committer. */
void session_apply_mode(struct session *session);

/*
 * Sets the inode's time of the last write to that of the session's last write, as without the shim,
 * and restores its access time from `inode`: the reads of a commit are no access. A time that the
 * program set itself (cp -p, touch) counts as well: the interposed calls set it on both inodes.
 * `buffer` is the status of the buffer.
 */
void session_carry_times(const struct session *session, const struct stat *buffer, const struct stat *inode);

/*
 * True if a commit that ends the session, before and after which the inode had these statuses, has
 * left times there that are as good as those of session_carry_times(): the program has neither seen
 * nor set the time of its last write, a tenth of a second ago at most. Each change of times costs
 * the next fdatasync(2) a write of the inode where the file system has no journal: utimensat(2)
 * sets I_DIRTY_DATASYNC, a write(2) does not (ext4_setattr(), fs/ext4/inode.c).
 */
bool session_has_right_times(const struct session *session, const struct stat *buffer,
                             const struct stat *before, const struct stat *after);

/* Does the same where only the time has changed, because the program wrote the same bytes. Never
 * sets an earlier time. */
void session_carry_newer_time(const struct session *session, const struct stat *buffer);

/* The set-id bits and capabilities of a file, which the kernel clears at a write. */
struct session_privileges {
    mode_t set_id;
    ssize_t size;          /* the capabilities' size; there are none unless it is positive */
    char capabilities[64]; /* struct vfs_ns_cap_data, and more */
};

/*
 * A write takes set-id bits from a file, unless its process has CAP_FSETID (capabilities(7)), and
 * file capabilities from every writer. The processes that write and the one that commits may be
 * different users. So a buffer that may be written to bears S_ISUID as a mark: the kernel takes it
 * away by the same rule. It stands for both bits.
 *
 * Called once the bytes to commit were read. Takes the set-id bits from the real inode if the mark
 * is gone, and capabilities that the program set before its last write. Otherwise notes them: the
 * commit's own write must not take them. `buffer` is the status of the buffer, or NULL if others
 * may change that meanwhile; `inode` that of the real inode, of a moment ago.
 */
void session_note_privileges(const struct session *session, const struct stat *buffer,
                             const struct stat *inode, struct session_privileges *set);

/* Notes all that the inode has: another format is no write of the program. */
void session_keep_privileges(int inode, struct session_privileges *set);

/* Gives the inode the noted privileges back. */
void session_restore_privileges(int inode, const struct session_privileges *set);

#endif
