/*
 * Declarations for the exported functions. REAL(x) is the libc's call, shim_x is ours, and the bare
 * x is an export of a few lines. Errors are negative inside and become -1 and errno once, at the
 * export.
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

/* A shim_ function returns SHIM_PASS when the export must make the libc's call, as without us. */
enum { SHIM_PASS = -100000, SHIM_ASK };

extern struct config shim_config;

/* Atomic: shim_enabled() is true. Spares most calls the functions that look. */
extern bool shim_is_on;
bool shim_look_enabled(void);
bool shim_look_for_sessions(void);

/*
 * True if the shim is set up, not disabled and not quiet. Sets up on the first call, which may come
 * before our constructor ran; false while the set-up itself calls us.
 */
static inline bool shim_enabled(void)
{
    return __atomic_load_n(&shim_is_on, __ATOMIC_ACQUIRE) || shim_look_enabled();
}

/* True if this process has sessions, and is not quiet. Sets up, like shim_enabled(). */
static inline bool shim_has_sessions(void)
{
    return __atomic_load_n(&shim_is_on, __ATOMIC_ACQUIRE) ? session_any() : shim_look_for_sessions();
}

/* True if shim_enabled() or shim_has_sessions() is true in a process that is set up. Sets nothing
 * up: an allocator or the dynamic linker may call the caller during their own set-up. */
bool shim_is_at_work(void);

/*
 * Makes the request if it is for a managed file. Returns a descriptor, SHIM_PASS, or a negative
 * errno; or, with request->may_ask, SHIM_ASK: the export must make the libc's call, and give its
 * result to shim_opened().
 */
int shim_openat(const struct managed_request *request);

/*
 * `fd` is what the libc's call returned for the request, or -1 with errno. If its file is managed,
 * a descriptor of a session takes its number. Returns it, or -1 with errno; `fd` is closed then.
 */
int shim_opened(int fd, const struct managed_request *request);

/* Does the same for an open descriptor. Returns `fd`, or a negative errno with `fd` still open. */
int shim_cover(int fd, const struct managed_request *request);

/*
 * Begins a session for the request. Returns 0 and found->session in state OPENING if it is for a
 * managed file; SHIM_PASS, SHIM_ASK with request->may_ask, or a negative errno: then no file was
 * created.
 */
int shim_begin(const struct managed_request *request, struct session_found *found);

/* Ends a session that shim_begin() began and that can get no descriptor; removes a file that it
 * created. */
void shim_drop(const struct managed_request *request, struct session *session);

/* Opens a file that this process is writing; to be read, one that this thread is writing. Returns a
 * descriptor of the same buffer, or a negative errno; SHIM_PASS if this open is an ordinary one. */
int shim_share(const struct managed_request *request);

/* session_identify(), without a system call in a process that has no sessions. */
enum session_role shim_identify(int fd, struct session_found *found);

/* Call them before and after the libc makes a child that runs the program at `path`. They see to it
 * that the child's writes are committed. */
struct shim_child {
    struct session_heir heir;
    int beacon; /* the result of session_hand_over(), or SHIM_NO_CHILD: there was nothing to do */
};
enum { SHIM_NO_CHILD = -2 };
struct shim_child shim_before_child(const char *path, char *const environment[]);
void shim_after_child(struct shim_child child);

/*
 * Arguments for a call that takes a directory, a path and the flags of fstatat(2). shim_aim() fills
 * them in: with the given ones; or with the real inode's, if the given ones lead to the program's
 * descriptor of a session, by /proc/self/fd/N, /dev/stdin or a link to one, or by the directory
 * alone, with a path that is NULL or empty. found.session is that session, or NULL. AIM_FOLLOW
 * stands for a call without flags. Costs one system call (fstatat) in a process that has sessions,
 * else none.
 */
struct aim {
    int directory;
    const char *path;
    struct session_found found;
    char buffer[PROC_PATH_SIZE];
};
enum { AIM_FOLLOW = 0 };
void shim_aim(struct aim *aim, int directory, const char *path, int flags);

/*
 * shim_aim() for a call that takes a path alone and follows links. Returns the path for it. The
 * buffer of SHIM_PATH lasts as long as the function in which it stands.
 */
#define SHIM_PATH(path) shim_path((char[PROC_PATH_SIZE]){""}, path)
const char *shim_path(char buffer[PROC_PATH_SIZE], const char *path);

/*
 * Returns the descriptor for a call on `fd`: the real inode's if `fd` is the program's descriptor
 * of a session, -1 for a private one, which the program does not know of, else `fd`.
 */
int shim_target(int fd);

/*
 * Puts a session in place of `fd`, which the libc has just opened inside itself, or which is an
 * O_PATH descriptor of the file at `path`. If the file is managed, a descriptor of the session,
 * opened with `flags`, takes fd's number. `created` says that this open made the file. Returns 0;
 * SHIM_PASS if the file is not managed, with fd as it was; else a negative errno, with fd closed.
 */
int shim_take_over(int fd, const char *path, int flags, bool created);

/* Called when `fd` has got O_APPEND after its open: if it belongs to a session, appended bytes are
 * merged as if it had been opened so. */
void shim_note_append(int fd);

/*
 * To be called before the file of this process at `path` gets the name `new_path`. In another
 * folder others may reach it who could not before: what is written to it is committed first, so
 * that they do not get the old content. Returns 0, or the negative errno of the commit.
 */
int shim_before_name(int directory, const char *path, int new_directory, const char *new_path);

/* Acts on a request to cancel this thread, as the libc's call would, which is a cancellation point
 * (pthreads(7)). Call it while the thread holds nothing. */
void shim_testcancel(void);

/*
 * Flushes the streams that may sit on managed descriptors. exit() needs that before its last
 * commits.
 */
void shim_flush_streams(void);

/* Hides a parameter from the compiler: the libc's header promises that it is not NULL, but the
 * kernel takes NULL in some places, and programs pass it. */
#define SHIM_MAY_BE_NULL(parameter) __asm__("" : "+r"(parameter))

/*
 * True once this process has a seccomp filter that kills for the shim's calls: the shim makes none
 * any more. See filter.c.
 */
bool shim_is_quiet(void);

/*
 * Called before the process gives itself a seccomp filter, or the strict mode: makes the shim quiet
 * if the filter forbids its calls. Returns true if so. The caller hands this result on to
 * shim_after_filter(), with whether the kernel took the filter.
 */
struct sock_fprog;
bool shim_before_filter(bool is_strict, const struct sock_fprog *filter);
void shim_after_filter(bool was_quieted, bool is_in_force);

/* Returns -EPERM, and tells the log, if this process is quiet and the path names a managed file;
 * else SHIM_PASS. Makes only the system calls that log_go_quiet() allows. */
int shim_refuse(int directory, const char *path);

/*
 * Turns the result of a shim_ function into that of an export: -1 and errno for a negative errno.
 */
static inline int shim_result(long result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

#endif
