/* The process that a guardian is: how it gets to its post, and what it waits for there. */
#include "guardian/post.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/mapping.h"

#include <errno.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>

enum {
    EVENTS_SIZE = 512,
    SHORT_PAUSE =
        20 * 1000 * 1000, /* nanoseconds, in place of a second: to look again, or for what nothing tells of */
    LARGE = 16 * 1024 * 1024, /* bytes: nothing of ours is */
};

static bool is_live(const struct duty *duty)
{
    return __atomic_load_n(&duty->session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE;
}

/* ---- to the post ---- */

static int add_duty(struct session *session, void *context)
{
    struct post *post = context;

    if (!(session->flags & SESSION_WRITABLE))
        session_drop(session);
    else
        post->duties[post->duties_count++] = (struct duty){
            .session = session, .kept = !post->order.is_exec, .stays = post->order.stays || !post->sees};
    return 0;
}

static void keep_duty(struct post *post, const struct session *session)
{
    for (size_t i = 0; i < post->duties_count; i++)
        if (post->duties[i].session == session)
            post->duties[i].kept = true;
}

/* Descriptor 2 stays, for the log. */
static int keep_private(int fd, void *context)
{
    struct post *post = context;
    struct session_found found;
    enum session_role role;

    if (fd == post->order.expect || fd == post->ready || fd == post->proc || descriptor_is_private(fd))
        return 0;
    role = session_identify(fd, &found);
    if (role == SESSION_PROGRAM && !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
        keep_duty(post, found.session);
    if (fd != 2 || role != SESSION_NONE)
        (void)sys_close(fd);
    return 0;
}

static bool is_in(const struct mapping *mapping, const void *address)
{
    return mapping->start <= (uintptr_t)address && (uintptr_t)address < mapping->end;
}

/* What the program shares with others is not ours to hold, a mapping of a session's buffer is one that is not closed, and
 * of large buffers the program would have to copy every page that it writes to. */
static int unmap_programs(const struct mapping *mapping, void *context)
{
    const struct post *post = context;
    bool is_large = mapping->number == 0 && mapping->end - mapping->start > LARGE;

    if ((mapping->shared || mapping->is_buffer || is_large) && !is_in(mapping, &mapping) &&
        !is_in(mapping, post) && !is_in(mapping, post->order.entry))
        (void)sys_munmap((void *)mapping->start, mapping->end - mapping->start);
    return 0;
}

/* What we open must not get the number to which the log is written. */
static void fill_standard(void)
{
    int fd;

    do
        fd = sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0);
    while (fd >= 0 && fd < 2);
    if (fd > 2)
        (void)sys_close(fd);
}

static int above_standard(int fd)
{
    int moved = fd;

    if (fd >= 0 && fd < 3) {
        moved = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
        (void)sys_close(fd);
    }
    return moved;
}

/* Who reads from a pipe waits for its end: it is not kept open for longer than by the program, whose descriptor 2 it is. */
static void let_go_of_pipe(const struct post *post)
{
    struct stat own;
    struct stat its;

    if (sys_fstat(2, &own) != 0 || !(S_ISFIFO(own.st_mode) || S_ISSOCK(own.st_mode)))
        return;
    if (process_descriptor_stat(post->order.process != 0 ? post->order.process : post->order.starter, 2,
                                &its) == 0 &&
        its.st_dev == own.st_dev && its.st_ino == own.st_ino)
        return;
    (void)sys_close(2);
    fill_standard();
}

/* Not by prctl(), for which a seccomp filter may kill. */
static void set_name(void)
{
    int fd = sys_openat(AT_FDCWD, "/proc/self/comm", O_WRONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return;
    (void)sys_write(fd, GUARDIAN_NAME, sizeof GUARDIAN_NAME - 1);
    (void)sys_close(fd);
}

/* Closes and reads of the buffer are what it is there for; a read of the inode is somebody who waits. */
static void watch_memory(struct post *post, struct duty *duty)
{
    const struct session *session = duty->session;
    char path[PROC_PATH_SIZE];

    if (post->events >= 0) {
        post->tells &= SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->buffer),
                                IN_CLOSE, 0, 0, 0) >= 0;
        (void)SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->inode),
                       IN_OPEN | IN_ACCESS, 0, 0, 0);
    }
    if (post->proc >= 0)
        rendezvous_begin(&duty->place, post->proc, session->device, session->number);
}

static void warn_first_process(const struct post *post)
{
    for (size_t i = 0; i < post->duties_count; i++)
        if (post->duties[i].kept) {
            log_line(
                LOG_ERROR,
                "a program without the shim takes the place of the first process: guardians end with it, and "
                "what it writes to managed files is not committed");
            return;
        }
}

static void take_post(struct post *post, int ready)
{
    const uint64_t wakes = (uint64_t)1 << (RENDEZVOUS_SIGNAL - 1);

    (void)session_table_is_ours();
    session_adopt_strays();
    post->proc = above_standard(rendezvous_open());
    post->sees = post->proc >= 0 && process_proc_is_ours();
    (void)session_for_each(add_duty, post);
    post->ready = ready;
    (void)descriptor_for_each(keep_private, post);
    (void)mapping_for_each(0, unmap_programs, post);
    fill_standard();
    (void)SYS_CALL(SYS_chdir, "/", 0, 0, 0, 0, 0);
    set_name();
    if (post->order.expect >= 0)
        (void)sys_fcntl(post->order.expect, F_SETFL, O_NONBLOCK);
    post->events = (int)SYS_CALL(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC, 0, 0, 0, 0, 0);
    post->tells = post->events >= 0;
    post->wakes = (int)SYS_CALL(SYS_signalfd4, -1, &wakes, sizeof wakes, SFD_NONBLOCK | SFD_CLOEXEC, 0, 0);
    if (post->order.process != 0 && !process_open(&post->program, post->order.process))
        post->order.process = 0;
    post->knows_all =
        post->order.process != 0 && (post->order.is_exec || post->order.process != post->order.starter);
    if (post->order.is_exec && post->order.process == 1)
        warn_first_process(post);
    for (size_t i = 0; i < post->duties_count; i++) {
        watch_memory(post, &post->duties[i]);
        guardian_watch_first(post, &post->duties[i]);
    }
    if (post->order.entry != NULL)
        __atomic_store_n(&post->order.entry->process, sys_getpid(), __ATOMIC_RELEASE);
    (void)sys_write(ready, "", 1);
    (void)sys_close(ready);
}

/* ---- at the post ---- */

static _Noreturn void leave_post(struct post *post)
{
    if (post->order.entry != NULL)
        __atomic_store_n(&post->order.entry->process, 0, __ATOMIC_RELEASE);
    sys_exit_group(0);
}

/* May the program still come, or be about to lose what is close-on-exec? */
static bool is_expected(struct post *post)
{
    char byte;
    ssize_t n;

    if (post->order.expect < 0)
        return false;
    n = sys_read(post->order.expect, &byte, 1);
    if (n > 0)
        leave_post(post); /* the exec failed: who asked for us goes on, and commits itself */
    if (n == -EAGAIN && (post->order.process == 0 || !process_has_ended(&post->program)))
        return true;
    (void)sys_close(post->order.expect);
    post->order.expect = -1;
    return false;
}

static bool look_round(struct post *post)
{
    bool expected = is_expected(post);
    bool all_sure = true;
    bool any = false;

    post->pending = 0;
    guardian_note_ends(post);
    for (size_t i = 0; i < post->duties_count; i++) {
        for (int j = 0; j < GUARDIAN_ENDINGS_MAX && is_live(&post->duties[i]); j++) {
            if (!guardian_look_after(post, &post->duties[i], expected))
                break;
            sys_sleep(GUARDIAN_ENDING_PAUSE);
        }
        any |= is_live(&post->duties[i]);
    }
    if (!expected && post->pending == 0)
        let_go_of_pipe(post);
    for (size_t i = 0; i < post->duties_count; i++) {
        bool doubt = is_live(&post->duties[i]) && post->duties[i].doubt_until != 0;

        all_sure &= !doubt;
        if (post->proc >= 0 && !doubt)
            rendezvous_looked(&post->duties[i].place, post->proc);
    }
    if (post->order.entry != NULL && all_sure)
        (void)__atomic_add_fetch(&post->order.entry->looks, 1, __ATOMIC_RELEASE);
    return any;
}

static void wait_for_events(struct post *post)
{
    _Alignas(uint64_t) char events[EVENTS_SIZE];
    bool by_time = !post->tells || post->pending != 0;
    struct timespec time;
    size_t count = 0;

    post->polls[count++] = (struct pollfd){.fd = post->events, .events = POLLIN};
    post->polls[count++] = (struct pollfd){.fd = post->wakes, .events = POLLIN};
    post->polls[count++] = (struct pollfd){.fd = post->order.expect, .events = POLLIN};
    for (size_t i = 0; i < post->watched_count; i++)
        if (!post->watched[i].ended) {
            by_time |= post->watched[i].process.pidfd < 0;
            post->polls[count++] = (struct pollfd){.fd = post->watched[i].process.pidfd, .events = POLLIN};
        }
    time = (struct timespec){by_time ? 0 : 1, by_time ? SHORT_PAUSE : 0};
    (void)SYS_CALL(SYS_ppoll, post->polls, count, &time, 0, 0, 0);
    while (sys_read(post->events, events, sizeof events) > 0 ||
           sys_read(post->wakes, events, sizeof events) > 0)
        continue;
}

_Noreturn void guardian_main(const struct guardian_order *order, int ready)
{
    struct post *post =
        sys_mmap(NULL, sizeof *post, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (sys_is_error(post))
        sys_exit_group(1);
    post->order = *order;
    if (order->told >= 0)
        (void)sys_close(order->told);
    take_post(post, ready);
    while (look_round(post))
        wait_for_events(post);
    leave_post(post);
}
