/*
 * What the exported functions share. real_x is the libc's call, shim_x is ours, and the bare x is an export
 * of a few lines. Errors are negative inside and become -1 and errno once, at the export.
 */
#ifndef ATOMSHIM_INTERPOSE_H
#define ATOMSHIM_INTERPOSE_H

#include "config/config.h"
#include "interpose/real.h"
#include "manage/managed.h"
#include "os/descriptor.h"
#include "session/session.h"

#include <errno.h>

#define EXPORT __attribute__((visibility("default")))

/* What a shim_ function returns when the call is to be made as if the shim were not there. */
enum { SHIM_PASS = -100000, SHIM_ASK };

extern struct config shim_config;

/* True if files may be managed here: set up, not disabled, patterns given. Sets up on the first call, which
 * may come before our constructor ran; false while the set-up itself calls us. */
bool shim_enabled(void);

/* True if this process has sessions, which it may have inherited though it manages no files itself. */
bool shim_has_sessions(void);

/* True if either is so, in a process that is set up. Sets nothing up: what calls this may be at its own set-up. */
bool shim_is_at_work(void);

/*
 * Makes the request if it is for a managed file. Returns a descriptor, SHIM_PASS, or a negative errno; or with
 * request->may_ask SHIM_ASK: make the call as without us, and give its result to shim_opened().
 */
int shim_openat(const struct managed_request *request);

/* `fd` is what the libc's call returned for the request, or -1 with errno. If its file is managed, a descriptor of a
 * session takes its number. Returns it, or -1 with errno; `fd` is closed then. */
int shim_opened(int fd, const struct managed_request *request);

/* The same for an open descriptor. Returns `fd`, or a negative errno with `fd` still open. */
int shim_cover(int fd, const struct managed_request *request);

/*
 * Begins a session for the request. Returns 0 and found->session in state OPENING if it is for a managed file; SHIM_PASS,
 * SHIM_ASK with request->may_ask, or a negative errno: then no file was created.
 */
int shim_begin(const struct managed_request *request, struct session_found *found);

/* Ends a session that shim_begin() began and that can get no descriptor; a file that it created goes with it. */
void shim_drop(const struct managed_request *request, struct session *session);

/* Opens a file that this process, or to read this thread, is writing. Returns a descriptor of the same buffer, or a negative
 * errno; SHIM_PASS if this open is an ordinary one. */
int shim_share(const struct managed_request *request);

/* The role of `fd`, SESSION_NONE without a system call in a process that has no sessions. */
enum session_role shim_identify(int fd, struct session_found *found);

/* Before and after the libc makes a child that runs the program at `path`: see to it that what that writes is committed. */
struct shim_child {
    struct session_heir heir;
    int beacon; /* session_hand_over()'s, or SHIM_NO_CHILD: there was nothing to do */
};
enum { SHIM_NO_CHILD = -2 };
struct shim_child shim_before_child(const char *path, char *const environment[]);
void shim_after_child(struct shim_child child);

/*
 * Where a call that takes a directory, a path and the flags of fstatat(2) has to go: to the real inode where they lead to
 * the program's descriptor of a session, be it by /proc/self/fd/N, /dev/stdin or a link to one, or by the directory alone,
 * with a path that is NULL or empty. Costs one system call (fstatat) in a process that has sessions. AIM_FOLLOW as flags
 * means that the call has none. found.session: the one that it is, or NULL.
 */
struct aim {
    int directory;
    const char *path;
    struct session_found found;
    char buffer[PROC_PATH_SIZE];
};
enum { AIM_FOLLOW = 0 };
void shim_aim(struct aim *aim, int directory, const char *path, int flags);

/* The path for a call that takes no more than that, and follows links: the real inode's where shim_aim() would go there, else
 * `path`. SHIM_PATH brings the buffer, which lasts as long as the function that it stands in. */
#define SHIM_PATH(path) shim_path((char[PROC_PATH_SIZE]){""}, path)
const char *shim_path(char buffer[PROC_PATH_SIZE], const char *path);

/* The descriptor for a call on `fd`: the real inode's for the program's descriptor of a session; for a private one -1,
 * as good as none. */
int shim_target(int fd);

/*
 * `fd`, of the file at `path`, was just opened inside the libc, or is an O_PATH descriptor: if the file is managed, a
 * descriptor of it, opened with `flags`, takes fd's number. Returns 0; SHIM_PASS if it is not managed, with fd as it was;
 * else a negative errno, with fd closed. `created`: by this open.
 */
int shim_take_over(int fd, const char *path, int flags, bool created);

/* `fd` has got O_APPEND since it was opened: if it is a session's, what is appended is merged as if it had been opened so. */
void shim_note_append(int fd);

/* Acts on a request to cancel this thread, as calls do that are cancellation points without us. To be called while nothing
 * is held. */
void shim_testcancel(void);

/* Flushes the streams that may sit on managed descriptors; before the last commits of exit(). */
void shim_flush_streams(void);

/* The libc's header promises that this parameter is not NULL, the compiler believes it; the kernel takes NULL in
 * some places, and so do programs. */
#define SHIM_MAY_BE_NULL(parameter) __asm__("" : "+r"(parameter))

/* True once this process has a seccomp filter that kills for the shim's calls: it makes none any more. See filter.c. */
bool shim_is_quiet(void);

/*
 * To be called before the process gives itself a seccomp filter (or the strict mode): makes the shim quiet if that is in
 * the way. Then shim_after_filter() is told what the kernel said.
 */
struct sock_fprog;
bool shim_before_filter(bool is_strict, const struct sock_fprog *filter);
void shim_after_filter(bool was_quieted, bool is_in_force);

/* In a quiet process: -EPERM, which the log tells, if the path names a managed file. SHIM_PASS otherwise. No system call. */
int shim_refuse(int directory, const char *path);

/* The exported boundary. */
static inline int shim_result(long result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

#endif
