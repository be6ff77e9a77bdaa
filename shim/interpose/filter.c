/*
 * Handles a program that gives itself a seccomp filter, by prctl(2) or, as the C library has no
 * function for it, by seccomp(2) through syscall(2), which calls shim_before_filter() as well.
 * Filters that the process was started with, as in a container, do not come here.
 *
 * Most filters forbid a few calls, and the shim goes on. One that kills for a call that a managed
 * file needs, or lets those fail that tell which file is managed, makes the shim quiet, for good:
 * from then on it makes no call besides the program's own. It has committed the open sessions
 * before, and a guardian commits later writes. From then on no managed file can be opened, or
 * replaced by a rename, which the log tells; the shim tells files by the path that the program
 * gives.
 */
#include "interpose/interpose.h"

#include "config/pattern_index.h"
#include "guardian/guardian.h"
#include "manage/folders.h"
#include "os/log.h"
#include "os/path_without_proc.h"
#include "os/scratch.h"
#include "os/seccomp.h"
#include "session/buffer.h"

#include <limits.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>

static int quiet;
static bool was_on;                             /* shim_is_on before */
static SYS_LARGE char current_folder[PATH_MAX]; /* when the shim went quiet; "" if it was removed */

/* The calls without which there is no session: they open, read, write, lock and commit. */
static const int needed_calls[] = {
    SYS_openat,         SYS_close,           SYS_read,
    SYS_write,          SYS_pread64,         SYS_pwrite64,
    SYS_pwritev,        SYS_lseek,           SYS_ftruncate,
    SYS_fstat,          SYS_newfstatat,      SYS_fstatfs,
    SYS_fcntl,          SYS_flock,           SYS_fdatasync,
    SYS_fsync,          SYS_getxattr,        SYS_fgetxattr,
    SYS_fsetxattr,      SYS_fremovexattr,    SYS_dup3,
    SYS_mmap,           SYS_munmap,          SYS_utimensat,
    SYS_readlinkat,     SYS_getcwd,          SYS_getdents64,
    SYS_getpid,         SYS_gettid,          SYS_rt_sigpending,
    SYS_rt_sigprocmask, SYS_rt_sigtimedwait, SYS_nanosleep,
    SYS_clock_gettime,  SYS_sync_file_range,
};

/* The calls that tell which file is managed: if one fails, a managed file would be written raw. */
static const int telling_calls[] = {SYS_readlinkat, SYS_newfstatat, SYS_fstat, SYS_fstatfs};

bool shim_is_quiet(void)
{
    return __atomic_load_n(&quiet, __ATOMIC_ACQUIRE) != 0;
}

static bool is_in_the_way(const struct sock_fprog *filter)
{
    if (!seccomp_is_readable(filter)) /* the kernel refuses it */
        return false;
    for (size_t i = 0; i < sizeof needed_calls / sizeof needed_calls[0]; i++)
        if (seccomp_kills(filter, needed_calls[i]))
            return true;
    for (size_t i = 0; i < sizeof telling_calls / sizeof telling_calls[0]; i++)
        if (seccomp_lets_fail(filter, telling_calls[i]))
            return true;
    return false;
}

static int want_guardian(struct session *session, void *context)
{
    *(bool *)context |= session_want_guardian(session);
    return 0;
}

/* Commits the sessions, and leaves later writes to a guardian. */
static void leave_sessions(void)
{
    bool needs_guardian = false;

    if (!session_any())
        return;
    (void)session_sync_all();
    (void)session_for_each(want_guardian, &needs_guardian);
    if (needs_guardian)
        (void)guardian_start(sys_getpid());
}

/*
 * The C library's first stream makes calls (getrandom(2), for its allocator) that later ones do
 * not.
 */
static void open_first_stream(void)
{
    int saved = errno;
    FILE *stream = REAL(fopen)("/dev/null", "re");

    if (stream != NULL)
        (void)REAL(fclose)(stream);
    errno = saved;
}

bool shim_before_filter(bool is_strict, const struct sock_fprog *filter)
{
    struct scratch scratch;

    buffer_expect_filters();
    folders_stop();
    if (!shim_is_at_work() || shim_is_quiet() || !session_table_is_ours() ||
        (!is_strict && !is_in_the_way(filter)))
        return false;
    leave_sessions();
    *current_folder = '\0';
    (void)SYS_CALL(SYS_getcwd, current_folder, PATH_MAX, 0, 0, 0, 0);
    open_first_stream();
    if (scratch_take(&scratch, PATH_MAX) == 0)
        scratch_give(&scratch); /* one buffer is kept now: the next taker needs no call */
    log_go_quiet();
    was_on = __atomic_exchange_n(&shim_is_on, false, __ATOMIC_ACQ_REL);
    __atomic_store_n(&quiet, 1, __ATOMIC_RELEASE);
    return true;
}

void shim_after_filter(bool was_quieted, bool is_in_force)
{
    if (!was_quieted || is_in_force)
        return;
    __atomic_store_n(&quiet, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&shim_is_on, was_on, __ATOMIC_RELEASE);
    log_be_loud();
}

EXPORT int prctl(int option, ...)
{
    PRCTL_WORDS(words, option);
    bool quieted = option == PR_SET_SECCOMP &&
                   (words[0] == SECCOMP_MODE_STRICT || words[0] == SECCOMP_MODE_FILTER) &&
                   shim_before_filter(words[0] == SECCOMP_MODE_STRICT, (const struct sock_fprog *)words[1]);
    int result = REAL(prctl)(option, words[0], words[1], words[2], words[3]);

    shim_after_filter(quieted, result == 0);
    return result;
}

/* ---- tells whether a file is managed by its name alone ---- */

/* A path relative to a descriptor of a folder matches nothing. */
static bool is_named(int directory, const char *path)
{
    struct scratch scratch;
    bool matches;

    if (path == NULL || (*path != '/' && (directory != AT_FDCWD || *current_folder != '/')) ||
        !pattern_index_may_name(&shim_config.index, shim_config.paths, path) ||
        scratch_take(&scratch, PATH_MAX) != 0)
        return false;
    *(char *)scratch.bytes = '\0';
    matches = (*path == '/' || path_append(scratch.bytes, current_folder)) &&
              path_append(scratch.bytes, path) &&
              pattern_index_match(&shim_config.index, shim_config.paths, scratch.bytes);
    scratch_give(&scratch);
    return matches;
}

int shim_refuse(int directory, const char *path)
{
    if (!shim_is_quiet() || !is_named(directory, path))
        return SHIM_PASS;
    log_line(LOG_ERROR,
             "%s: cannot be opened or replaced: this program has a seccomp filter of its own that forbids "
             "what a managed file needs (EPERM)",
             path);
    return -EPERM;
}
