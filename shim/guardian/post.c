/* The guardian's process: goes to its post, and waits for events there. */
#include "guardian/post.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/mapping.h"
#include "store/journal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>

enum {
    EVENTS_SIZE = 512,
    FIRST_PAUSE = 50 * 1000, /* nanoseconds between two looks; doubles until an event */
    LAST_PAUSE = 1000 * 1000 * 1000,
    LARGE = 16 * 1024 * 1024, /* bytes: no mapping of ours is so large */
};

static bool is_live(const struct duty *duty)
{
    return __atomic_load_n(&duty->session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE;
}

/* ---- to the post ---- */

/* Takes the sessions that want a guardian and have none, and the sessions whose opener's end only
 * this guardian will see. */
static int add_duty(struct session *session, void *context)
{
    struct post *post = context;
    int opener = descriptor_opener(session->inode);
    /* posix_spawn() opened it for the program that is now in its place */
    bool is_openers =
        post->order.opener != 0 && (opener == post->order.opener || opener == DESCRIPTOR_NO_OPENER);

    if (!(session->flags & SESSION_WRITABLE) ||
        !__atomic_load_n(&session->wants_guardian, __ATOMIC_ACQUIRE) ||
        (!is_openers && session_has_guardian_here(session)))
        session_drop(session);
    else
        post->duties[post->duties_count++] = (struct duty){.session = session, .is_openers = is_openers};
    return 0;
}

/* Descriptor 2 stays, for the log. */
static int close_programs(int fd, void *context)
{
    struct session_found found;

    if (fd == *(int *)context || descriptor_is_private(fd))
        return 0;
    if (session_identify(fd, &found) != SESSION_NONE || fd != 2)
        (void)sys_close(fd);
    return 0;
}

static bool is_in(const struct mapping *mapping, const void *address)
{
    return mapping->start <= (uintptr_t)address && (uintptr_t)address < mapping->end;
}

/*
 * Unmaps memory that the program shares with others, which is not ours to hold; mappings of
 * buffers, which would count as open; and large mappings, because the program would have to copy
 * every page that it writes to.
 */
static int unmap_programs(const struct mapping *mapping, void *context)
{
    const struct post *post = context;
    bool is_large = mapping->number == 0 && mapping->end - mapping->start > LARGE;

    if ((mapping->shared || mapping->is_buffer || is_large) && !is_in(mapping, &mapping) &&
        !is_in(mapping, post) && !is_in(mapping, post->order.entry))
        (void)sys_munmap((void *)mapping->start, mapping->end - mapping->start);
    return 0;
}

/* Keeps 0 to 2 open: no file that the guardian opens may get the number to which the log is
 * written. */
static void fill_standard(void)
{
    int fd;

    do
        fd = sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0);
    while (fd >= 0 && fd < 2);
    if (fd > 2)
        (void)sys_close(fd);
}

/* A reader of a pipe sees EOF only when every writer has closed it: so the guardian keeps
 * descriptor 2 only as long as the program has the same pipe. */
static void share_pipe(const struct post *post)
{
    struct stat own;
    struct stat programs;

    if (sys_fstat(2, &own) != 0 || !(S_ISFIFO(own.st_mode) || S_ISSOCK(own.st_mode)))
        return;
    if (process_descriptor_stat(post->program.number, 2, &programs) == 0 && programs.st_dev == own.st_dev &&
        programs.st_ino == own.st_ino)
        return;
    (void)sys_close(2);
    fill_standard();
}

/* Names the process by /proc: for prctl(2) a seccomp filter may kill. */
static void set_name(void)
{
    int fd = sys_openat(AT_FDCWD, "/proc/self/comm", O_WRONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return;
    (void)sys_write(fd, GUARDIAN_NAME, sizeof GUARDIAN_NAME - 1);
    (void)sys_close(fd);
}

/*
 * Wakes on closes of the buffer, and on reads and opens of the inode: openers read it to wake
 * guardians.
 */
static void watch_session(struct post *post, struct duty *duty)
{
    const struct session *session = duty->session;
    char path[PROC_PATH_SIZE];

    if (post->events >= 0) {
        (void)SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->buffer), IN_CLOSE,
                       0, 0, 0);
        (void)SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->inode),
                       IN_OPEN | IN_ACCESS, 0, 0, 0);
    }
    if (descriptor_is_last(session->buffer) >= 0)
        session_become_guardian(session);
    if (post->proc >= 0)
        rendezvous_begin(&duty->place, post->proc, session->device, session->number);
}

/* /proc and the system calls use the same numbers only if both are of one pid namespace. */
static void watch_program(struct post *post)
{
    int number = post->order.opener != 0 ? post->order.opener : post->order.starter;

    post->is_watching = process_open(&post->program, number);
    if (!post->is_watching && SYS_CALL(SYS_kill, number, 0, 0, 0, 0, 0) == -ESRCH)
        post->end = PROCESS_UNKNOWN;
    if (!process_proc_is_ours())
        post->program.number = PROCESS_NOBODY;
}

static void warn_first_process(const struct post *post)
{
    if (post->order.opener == 1 && post->order.starter == 1 && post->duties_count != 0)
        log_line(
            LOG_ERROR,
            "the first process of this container runs a program without the shim: guardians end with it, so "
            "its writes to managed files are never committed");
}

static void take_post(struct post *post, int ready)
{
    const uint64_t wakes = (uint64_t)1 << (RENDEZVOUS_SIGNAL - 1);

    (void)session_table_is_ours();
    session_adopt_strays();
    (void)session_for_each(add_duty, post);
    (void)descriptor_for_each(close_programs, &ready);
    if (mapping_for_each(0, unmap_programs, post) < 0)
        mapping_for_each_shared(unmap_programs, post);
    fill_standard();
    (void)SYS_CALL(SYS_chdir, "/", 0, 0, 0, 0, 0);
    set_name();
    post->proc = rendezvous_open();
    post->events = (int)SYS_CALL(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC, 0, 0, 0, 0, 0);
    post->wakes = (int)SYS_CALL(SYS_signalfd4, -1, &wakes, sizeof wakes, SFD_NONBLOCK | SFD_CLOEXEC, 0, 0);
    watch_program(post);
    warn_first_process(post);
    for (size_t i = 0; i < post->duties_count; i++)
        watch_session(post, &post->duties[i]);
    if (post->order.entry != NULL) {
        post->order.entry->pid_namespace = process_namespace();
        __atomic_store_n(&post->order.entry->process, sys_getpid(), __ATOMIC_RELEASE);
    }
    (void)sys_write(ready, "", 1);
    (void)sys_close(ready);
}

/* ---- at the post ---- */

static _Noreturn void leave_post(struct post *post)
{
    if (post->order.entry != NULL)
        __atomic_store_n(&post->order.entry->process, 0, __ATOMIC_RELEASE);
    journal_end();
    sys_exit_group(0);
}

/* Looks at each session once, and tells the processes that wait. Returns false when there is none
 * left. */
static bool look_round(struct post *post)
{
    bool all_known = true;
    bool any = false;

    for (size_t i = 0; i < post->duties_count; i++) {
        struct duty *duty = &post->duties[i];
        bool is_known = !is_live(duty) || guardian_look_after(post, duty);

        all_known &= is_known;
        if (post->proc >= 0 && is_known)
            rendezvous_looked(&duty->place, post->proc);
        if (!is_live(duty))
            continue;
        any = true;
        if (duty->is_synced) /* the commit closed a descriptor of the buffer: the lock is gone */
            session_become_guardian(duty->session);
    }
    if (post->order.entry != NULL && all_known)
        (void)__atomic_add_fetch(&post->order.entry->looks, 1, __ATOMIC_RELEASE);
    return any;
}

/*
 * The kernel tells of a close a little before it counts: so guardians look several times after each
 * event.
 */
static void wait_for_events(const struct post *post, int64_t *pause)
{
    _Alignas(uint64_t) char events[EVENTS_SIZE];
    bool is_ended = post->end != PROCESS_LIVES || !post->is_watching;
    struct pollfd polls[] = {{.fd = post->events, .events = POLLIN},
                             {.fd = post->wakes, .events = POLLIN},
                             {.fd = is_ended ? -1 : post->program.pidfd, .events = POLLIN}};
    struct timespec time = {*pause / LAST_PAUSE, *pause % LAST_PAUSE};
    long ready = SYS_CALL(SYS_ppoll, polls, sizeof polls / sizeof *polls, &time, 0, 0, 0);

    *pause = ready > 0 ? FIRST_PAUSE : *pause * 2 < LAST_PAUSE ? *pause * 2 : LAST_PAUSE;
    while (sys_read(post->events, events, sizeof events) > 0 ||
           sys_read(post->wakes, events, sizeof events) > 0)
        continue;
}

_Noreturn void guardian_main(const struct guardian_order *order, int ready)
{
    int64_t pause = FIRST_PAUSE;
    struct post *post =
        sys_mmap(NULL, sizeof *post, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (sys_is_error(post))
        sys_exit_group(1);
    post->order = *order;
    take_post(post, ready);
    while (look_round(post)) {
        share_pipe(post);
        wait_for_events(post, &pause);
    }
    leave_post(post);
}
