#include "guardian.h"

#include "descriptor.h"
#include "log.h"
#include "rendezvous.h"
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum {
    EVENTS_SIZE = 512,
    LONG_PAUSE = 1000, /* milliseconds: for what inotify does not tell */
    SHORT_PAUSE = 20,  /* where there is no inotify */
    PLACES_MAX = 64,   /* inodes that others can wait for; more are committed as well */
};

struct post {
    int events;  /* of inotify, or -1 */
    bool tells;  /* of every session's end */
    int wakes;   /* a signalfd, or -1 */
    int proc;    /* for the rendezvous, or -1 */
    int process; /* whose death by a signal is looked for, or 0 */
    int pidfd;   /* of it */
    int places_used;
    struct rendezvous places[PLACES_MAX];
    bool any;
};

/* Descriptor 2 stays, for the log, unless it is one that the end of is waited for. */
static int keep_private(int fd, void *context)
{
    struct session stray;
    struct session *session;

    if (fd != *(int *)context && !descriptor_is_private(fd) &&
        (fd != 2 || session_identify(fd, &stray, &session) != SESSION_NONE))
        (void)sys_close(fd);
    return 0;
}

/* What we open must not get the number to which the log is written. */
static void fill_standard(void)
{
    int fd;

    do
        fd = sys_openat(AT_FDCWD, "/", O_PATH, 0);
    while (fd >= 0 && fd < 2);
    if (fd > 2)
        (void)sys_close(fd);
}

/* Not by prctl(), for which a seccomp filter may kill. */
static void set_name(void)
{
    static const char name[] = "atomshim-guard";
    int fd = sys_openat(AT_FDCWD, "/proc/self/comm", O_WRONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return;
    (void)sys_write(fd, name, sizeof name - 1);
    (void)sys_close(fd);
}

static int drop_readers(struct session *session, void *context)
{
    (void)context;
    if (!(session->flags & SESSION_WRITABLE))
        session_drop(session);
    return 0;
}

/* Closes and reads of the memory are what it is there for; a read of the inode is somebody who waits. */
static int watch_one(struct session *session, void *context)
{
    struct post *post = context;
    char path[PROC_PATH_SIZE];

    if (post->events >= 0) {
        post->tells &= SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->memory),
                                IN_CLOSE, 0, 0, 0) >= 0;
        (void)SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->inode),
                       IN_OPEN | IN_ACCESS, 0, 0, 0);
    }
    if (post->proc >= 0 && post->places_used < PLACES_MAX)
        rendezvous_begin(&post->places[post->places_used++], post->proc, session->device, session->number);
    return 0;
}

/* ---- how did the process end? ---- */

/* Of <linux/pidfd.h> since Linux 6.15, which tells of a process that was waited for. */
struct process_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
#define GET_PROCESS_INFO _IOWR(0xff, 11, struct process_info)
enum { INFO_EXIT = 1 << 3 };

enum { LOOKS_MAX = 20, LOOK_PAUSE = 500 * 1000 /* nanoseconds */ };
enum { FLAGS_FIELD = 9, EXIT_CODE_FIELD = 52, FLAG_EXITING = 4 };

static long field(const char *text, int number)
{
    long value = 0;

    for (int i = 3; i < number && text != NULL; i++) /* `text` begins at the third */
        text = strchr(text + 1, ' ');
    for (text = text != NULL ? text + 1 : ""; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    return value;
}

/* The wait status of a process that is about to end, or has ended and was not waited for yet: proc(5), /proc/PID/stat. 0 if
 * it lives, -1 if it is gone. */
static int status_of(const struct post *post)
{
    char path[PROC_PATH_SIZE];
    char text[1024];
    const char *end;
    int folder = sys_openat(AT_FDCWD, descriptor_process_path(path, post->process), O_PATH | O_CLOEXEC, 0);
    int fd = folder < 0 ? folder : sys_openat(folder, "stat", O_RDONLY | O_CLOEXEC, 0);
    ssize_t n = fd < 0 ? fd : sys_read(fd, text, sizeof text - 1);

    if (folder >= 0)
        (void)sys_close(folder);
    if (fd >= 0)
        (void)sys_close(fd);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    end = strrchr(text, ')'); /* the second field is a name */
    if (end == NULL || (field(end + 1, FLAGS_FIELD) & FLAG_EXITING) == 0)
        return 0;
    return (int)field(end + 1, EXIT_CODE_FIELD);
}

/* It may be waited for between the two questions: then the first one is answered, soon. */
static bool was_killed(const struct post *post)
{
    struct process_info info;
    int status;

    for (int look = 0; post->process != 0 && look < LOOKS_MAX; look++) {
        info = (struct process_info){.mask = INFO_EXIT};
        if (SYS_CALL(SYS_ioctl, post->pidfd, GET_PROCESS_INFO, &info, 0, 0, 0) == 0 &&
            (info.mask & INFO_EXIT) != 0)
            return WIFSIGNALED(info.exit_code);
        status = status_of(post);
        if (status >= 0)
            return WIFSIGNALED(status);
        sys_sleep(LOOK_PAUSE);
    }
    return false;
}

static bool has_ended(const struct post *post)
{
    const struct timespec at_once = {0, 0};
    struct pollfd poll = {.fd = post->pidfd, .events = POLLIN};

    return SYS_CALL(SYS_ppoll, &poll, 1, &at_once, 0, 0, 0) == 1;
}

/* ---- the watch ---- */

static int look_after(struct session *session, void *context)
{
    const struct post *post = context;

    if (descriptor_is_last(session->memory) == 1 && was_killed(post))
        session_drop(session);
    else
        (void)session_settle(session, session->memory_number);
    return 0;
}

static int is_any(struct session *session, void *context)
{
    (void)session;
    ((struct post *)context)->any = true;
    return 1;
}

static void wait_for_events(const struct post *post)
{
    _Alignas(uint64_t) char events[EVENTS_SIZE];
    struct pollfd polls[] = {{.fd = post->events, .events = POLLIN},
                             {.fd = post->wakes, .events = POLLIN},
                             {.fd = post->process != 0 ? post->pidfd : -1, .events = POLLIN}};
    const int pause = post->tells ? LONG_PAUSE : SHORT_PAUSE;
    const struct timespec time = {pause / 1000, pause % 1000 * 1000000L};

    (void)SYS_CALL(SYS_ppoll, polls, 3, &time, 0, 0, 0);
    while (sys_read(post->events, events, sizeof events) > 0 ||
           sys_read(post->wakes, events, sizeof events) > 0)
        continue;
}

/* All that the guardian is. One byte goes to `ready` once it is at its post. */
static _Noreturn void guard(int ready, int process)
{
    static struct post post;
    const uint64_t wakes = (uint64_t)1 << (RENDEZVOUS_SIGNAL - 1);
    bool ended;

    (void)session_table_is_ours();
    (void)descriptor_for_each(keep_private, &ready);
    session_unmap();
    fill_standard();
    session_adopt_strays();
    (void)session_for_each(drop_readers, NULL);
    (void)SYS_CALL(SYS_chdir, "/", 0, 0, 0, 0, 0);
    set_name();
    post.events = (int)SYS_CALL(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC, 0, 0, 0, 0, 0);
    post.tells = post.events >= 0;
    post.wakes = (int)SYS_CALL(SYS_signalfd4, -1, &wakes, sizeof wakes, SFD_NONBLOCK | SFD_CLOEXEC, 0, 0);
    post.proc = rendezvous_open();
    (void)session_for_each(watch_one, &post);
    (void)sys_write(ready, "", 1);
    (void)sys_close(ready);
    post.process = process;
    post.pidfd = process != 0 ? (int)SYS_CALL(SYS_pidfd_open, process, 0, 0, 0, 0, 0) : -1;
    if (post.pidfd < 0)
        post.process = 0;
    for (;;) {
        ended = post.process != 0 && has_ended(&post);
        (void)session_for_each(look_after, &post);
        if (ended) /* others have it, and will close it themselves */
            post.process = 0;
        post.any = false;
        (void)session_for_each(is_any, &post);
        if (!post.any)
            sys_exit_group(0);
        for (int i = 0; i < post.places_used; i++)
            rendezvous_looked(&post.places[i], post.proc);
        wait_for_events(&post);
    }
}

/* A guardian was started: here, or in a vfork() child, which shares our memory; or by a forked one, which shares a page. */
static int started_here;
static int *started_by_any;
static int64_t wait_timeout;

void guardian_configure(int64_t timeout)
{
    wait_timeout = timeout;
}

void guardian_before_fork(void)
{
    int *page = __atomic_load_n(&started_by_any, __ATOMIC_ACQUIRE);

    if (page != NULL)
        return;
    page = sys_mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!sys_is_error(page))
        __atomic_store_n(&started_by_any, page, __ATOMIC_RELEASE);
}

static void set_started(void)
{
    int *page = __atomic_load_n(&started_by_any, __ATOMIC_ACQUIRE);

    __atomic_store_n(&started_here, 1, __ATOMIC_RELEASE);
    if (page != NULL)
        __atomic_store_n(page, 1, __ATOMIC_RELEASE);
}

void guardian_wait(void)
{
    const int *page = __atomic_load_n(&started_by_any, __ATOMIC_ACQUIRE);

    if (__atomic_load_n(&started_here, __ATOMIC_ACQUIRE) != 0 ||
        (page != NULL && __atomic_load_n(page, __ATOMIC_ACQUIRE) != 0))
        rendezvous_wait_for_all(wait_timeout);
}

static int needs_guardian(struct session *session, void *context)
{
    (void)context;
    return (SESSION_GET(session->flags) & SESSION_WRITABLE) &&
           !__atomic_load_n(&session->guarded, __ATOMIC_ACQUIRE);
}

static int set_guarded(struct session *session, void *context)
{
    __atomic_store_n(&session->guarded, *(bool *)context, __ATOMIC_RELEASE);
    return 0;
}

static int start(int process)
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;
    int ends[2];
    char byte;
    ssize_t n = 0;
    int child;
    int error = DESCRIPTOR_INSIST(sys_pipe(ends));

    if (error != 0)
        return error;
    (void)sys_sigprocmask(&all, &mask); /* none of the program's handlers runs in it */
    child = sys_fork_silently();
    if (child == 0) {
        (void)sys_close(ends[0]);
        (void)SYS_CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
        child = sys_fork_silently();
        if (child == 0)
            guard(ends[1], process);
        sys_exit_group(0);
    }
    (void)sys_sigprocmask(&mask, NULL);
    (void)sys_close(ends[1]);
    if (child > 0) {
        while (sys_wait(child, __WALL) == -EINTR)
            continue;
        do
            n = sys_read(ends[0], &byte, 1);
        while (n == -EINTR);
    }
    (void)sys_close(ends[0]);
    return child < 0 ? child : n == 1 ? 0 : -EAGAIN;
}

void guardian_start(int process)
{
    bool guarded = true;
    int error;

    if (session_for_each(needs_guardian, NULL) == 0 && !session_any_stray())
        return;
    error = start(process);
    if (error == 0) {
        (void)session_for_each(set_guarded, &guarded);
        set_started();
    } else
        log_line(
            LOG_ERROR,
            "no process to look after a program without the shim: %s; if it is the last to close a managed "
            "file, what was written is lost",
            log_errno(error));
}
