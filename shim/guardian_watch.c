/* The process that a guardian is: whom it watches, and what it decides. */
#include "guardian.h"

#include "descriptor.h"
#include "holders.h"
#include "log.h"
#include "mapping.h"
#include "process.h"
#include "rendezvous.h"
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>

enum {
    EVENTS_SIZE = 512,
    SHORT_PAUSE =
        20 * 1000 * 1000, /* nanoseconds, in place of a second: to look again, or for what nothing tells of */
    SURE = 2,             /* looks in a row that say that nobody without the shim is left: descriptors move */
    ANCESTORS_MAX = 8,
    WATCHED_MAX = 256,
    FIXED_POLLS = 3,
    LARGE = 16 * 1024 * 1024, /* bytes: nothing of ours is */
    ENDINGS_MAX = 200,
    ENDING_PAUSE = 500 * 1000, /* nanoseconds */
    DOUBT = 500 * 1000 * 1000, /* likewise */
};

/* A process that holds a session. */
struct watched {
    struct duty *duty;
    struct process process;
    bool covered;
    bool ended;  /* seen before the question whether the last is gone was put */
    bool holds;  /* as far as this can be seen */
    bool closed; /* it lives, and holds it no more */
};

/* What a session asks of its guardian. */
struct duty {
    struct session *session;
    bool kept;           /* the program gets a descriptor of it */
    bool stays;          /* who holds it cannot be seen: only the last close tells */
    bool covered_alone;  /* when it was looked at last, nobody without the shim had it any more */
    int clear;           /* looks in a row: see SURE */
    int64_t doubt_until; /* it cannot be told yet how one has ended; 0: not so */
    struct rendezvous place;
};

struct post {
    struct guardian_order order;
    int ready;
    int events;             /* of inotify, or -1 */
    bool tells;             /* of every session's end */
    int wakes;              /* a signalfd, or -1 */
    int proc;               /* for the rendezvous, or -1 */
    struct process program; /* order.process */
    bool sees;              /* /proc shows the processes */
    bool knows_all;         /* children without the shim of one with it have guardians, or are the program */
    int pending;            /* sessions that are to be looked at again soon */
    size_t watched_count;
    struct watched watched[WATCHED_MAX];
    struct pollfd polls[FIXED_POLLS + WATCHED_MAX];
    size_t duties_count;
    struct duty duties[SESSIONS_MAX];
};

static bool is_live(const struct duty *duty)
{
    return __atomic_load_n(&duty->session->state, __ATOMIC_ACQUIRE) == SESSION_LIVE;
}

/* ---- who is watched ---- */

/* Returns false if it is gone. */
static bool watch(struct post *post, struct duty *duty, int number, bool covered)
{
    struct watched watched = {.duty = duty, .covered = covered, .holds = true};

    if (post->watched_count == WATCHED_MAX) {
        duty->stays = true;
        return true;
    }
    if (!process_open(&watched.process, number))
        return false;
    post->watched[post->watched_count++] = watched;
    return true;
}

static bool is_of(const struct watched *watched, const struct duty *duty)
{
    return watched->duty == duty;
}

static bool is_uncovered(const struct watched *watched, const struct duty *duty)
{
    return is_of(watched, duty) && !watched->covered;
}

static bool has_closed(const struct watched *watched, const struct duty *duty)
{
    return is_of(watched, duty) && watched->covered && watched->closed;
}

static bool is_dead_and_covered(const struct watched *watched, const struct duty *duty)
{
    return is_of(watched, duty) && watched->covered && watched->ended;
}

/* Of the first `count` those that are so. */
static void unwatch(struct post *post, const struct duty *duty, size_t count,
                    bool (*is_so)(const struct watched *watched, const struct duty *duty))
{
    size_t left = 0;

    for (size_t i = 0; i < post->watched_count; i++)
        if (i < count && is_so(&post->watched[i], duty))
            process_close(&post->watched[i].process);
        else
            post->watched[left++] = post->watched[i];
    post->watched_count = left;
}

static bool is_ending(const struct process *process)
{
    struct process_stat stat;

    return process_has_ended(process) || (process_stat(process->number, &stat) == 0 && stat.exiting);
}

/* A process that ends closes one descriptor after the other: who saw one closed is not to come too early for the others. */
static bool has_ended(const struct watched *watched)
{
    struct process_stat stat;

    for (int i = 0; i < ENDINGS_MAX; i++) {
        if (process_has_ended(&watched->process))
            return true;
        if (process_stat(watched->process.number, &stat) != 0 || !stat.exiting)
            return false;
        sys_sleep(ENDING_PAUSE);
    }
    return false;
}

static void note_ends(struct post *post)
{
    for (size_t i = 0; i < post->watched_count; i++)
        post->watched[i].ended = has_ended(&post->watched[i]);
}

/*
 * The last descriptor is gone. It was not closed if all that had it without the shim were killed. Nor if one with the
 * shim was, as far as we know the last of all: had it lived, it would have committed, or seen that there are others.
 */
enum verdict { VERDICT_COMMIT, VERDICT_DROP, VERDICT_UNKNOWN };

static enum verdict judge(const struct post *post, const struct duty *duty)
{
    size_t uncovered = 0;
    size_t killed = 0;
    size_t unknown = 0;

    for (size_t i = 0; i < post->watched_count; i++) {
        const struct watched *watched = &post->watched[i];
        enum process_end end;

        if (watched->duty != duty)
            continue;
        end = process_how_ended(&watched->process);
        /* one that was not killed has committed what it closed as the last */
        if (watched->covered && (end == PROCESS_KILLED || (end == PROCESS_UNKNOWN && duty->covered_alone)))
            return VERDICT_DROP;
        uncovered += !watched->covered;
        killed += !watched->covered && end == PROCESS_KILLED;
        unknown += !watched->covered && end == PROCESS_UNKNOWN;
    }
    if (uncovered != 0 && killed == uncovered)
        return VERDICT_DROP;
    return unknown != 0 && killed + unknown == uncovered ? VERDICT_UNKNOWN : VERDICT_COMMIT;
}

/* Looks who of those that are watched holds it still. Returns whether one does. */
static bool look_at_watched(struct post *post, struct duty *duty)
{
    bool any = false;

    for (size_t i = 0; i < post->watched_count; i++) {
        struct watched *watched = &post->watched[i];
        enum holder holder = HOLDER_UNCOVERED;

        if (watched->duty != duty)
            continue;
        if (!watched->ended && post->sees)
            holder = holders_look(watched->process.number, duty->session, !watched->covered);
        duty->stays |= holder == HOLDER_HIDDEN && !watched->covered;
        watched->holds = !watched->ended && holder != HOLDER_NONE && holder != HOLDER_KEEPER;
        watched->closed = !watched->holds && !is_ending(&watched->process);
        any |= watched->holds;
    }
    return any;
}

/* Does one without the shim still hold it, of those that did? */
static bool is_one_left(const struct post *post, const struct duty *duty)
{
    for (size_t i = 0; i < post->watched_count; i++)
        if (is_uncovered(&post->watched[i], duty) && post->watched[i].holds)
            return true;
    return false;
}

/* ---- the decision ---- */

struct found {
    struct post *post;
    struct duty *duty;
    enum holders_scope scope;
    size_t covered;
    size_t uncovered;
    size_t hidden;
    size_t dying;
};

static bool is_watched(const struct post *post, const struct duty *duty, int number, bool covered_only)
{
    for (size_t i = 0; i < post->watched_count; i++)
        if (is_of(&post->watched[i], duty) && post->watched[i].process.number == number &&
            (post->watched[i].covered || !covered_only))
            return true;
    return false;
}

/* Processes of other users come and go, and are none of ours but by descent. */
static bool is_relative(const struct post *post, const struct duty *duty, int number)
{
    struct process_stat stat;

    for (int i = 0; i < ANCESTORS_MAX && number > 1; i++) {
        if (is_watched(post, duty, number, false))
            return true;
        number = process_stat(number, &stat) == 0 ? stat.parent : 0;
    }
    return false;
}

static void note_holder(int process, enum holder holder, void *context)
{
    struct found *found = context;
    struct process_stat stat;

    if (holder == HOLDER_HIDDEN)
        found->hidden += is_relative(found->post, found->duty, process);
    found->dying += holder == HOLDER_DYING;
    if (holder != HOLDER_COVERED && holder != HOLDER_UNCOVERED)
        return;
    /* what is about to end was known before, and is to be asked how; a child of one with the shim has its own guardian */
    if (process_stat(process, &stat) != 0 || stat.exiting ||
        (holder == HOLDER_UNCOVERED && found->post->knows_all &&
         is_watched(found->post, found->duty, stat.parent, true)))
        return;
    if (holder == HOLDER_COVERED && found->scope == HOLDERS_NEW &&
        is_watched(found->post, found->duty, process, true)) {
        found->covered++;
        return;
    }
    if (!watch(found->post, found->duty, process, holder == HOLDER_COVERED))
        return;
    if (holder == HOLDER_COVERED)
        found->covered++;
    else
        found->uncovered++;
}

/* Those that are found are watched from now on, in place of those that were; but all that are covered are only known if all
 * processes were looked at. */
static struct found find_holders(struct post *post, struct duty *duty, enum holders_scope scope)
{
    struct found found = {.post = post, .duty = duty, .scope = scope};
    size_t before = post->watched_count;

    holders_for_each(post->proc, duty->session, scope, note_holder, &found);
    if (found.covered + found.uncovered != 0)
        unwatch(post, duty, before, scope == HOLDERS_ALL ? is_of : is_uncovered);
    return found;
}

/* The kernel gives no lease to a user who is not the memory's, who went over to another after the open: then nobody is left
 * if nobody can be seen. */
static bool is_last_gone(struct post *post, struct duty *duty)
{
    int answer = descriptor_is_last(duty->session->memory);
    struct found found;

    if (answer >= 0 || !post->sees)
        return answer != 0;
    if (look_at_watched(post, duty))
        return false;
    found = find_holders(post, duty, HOLDERS_ALL);
    return found.covered + found.uncovered + found.hidden == 0;
}

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

static void end_duty(struct post *post, struct duty *duty)
{
    enum verdict verdict = judge(post, duty);

    if (verdict == VERDICT_UNKNOWN) {
        if (duty->doubt_until == 0)
            duty->doubt_until = sys_now() + DOUBT;
        if (sys_now() < duty->doubt_until) {
            post->pending++;
            return;
        }
    }
    if (verdict == VERDICT_DROP)
        session_drop(duty->session);
    else
        (void)session_settle(duty->session, duty->session->memory_number);
}

/* Returns true if the same is to be asked again, soon: somebody is giving up what it has, which who waits for us has seen. */
static bool look_after(struct post *post, struct duty *duty, bool expected)
{
    struct found found = {.post = post};
    bool any;

    if (is_last_gone(post, duty)) {
        end_duty(post, duty);
        return false;
    }
    duty->doubt_until = 0;
    any = look_at_watched(post, duty);
    if (any) /* whoever is dead was not the last */
        unwatch(post, duty, post->watched_count, is_dead_and_covered);
    duty->covered_alone = post->sees && any && !is_one_left(post, duty);
    unwatch(post, duty, post->watched_count, has_closed);
    if (expected || duty->stays)
        return false;
    if (!is_one_left(post, duty) && duty->kept)
        found = find_holders(post, duty, HOLDERS_NEW);
    if (found.uncovered != 0 || is_one_left(post, duty)) {
        duty->clear = 0;
        return false;
    }
    if (found.dying != 0)
        return true;
    if (++duty->clear < SURE) {
        post->pending++;
        return false;
    }
    duty->clear = 0;
    if (duty->kept) {
        found = find_holders(post, duty, HOLDERS_ALL);
        /* nobody at all: it is on its way in a message */
        if (found.uncovered + found.hidden != 0 || found.covered == 0)
            return false;
    }
    session_drop(duty->session);
    return false;
}

/* ---- the post ---- */

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
    struct session stray;
    struct session *session;
    enum session_role role;

    if (fd == post->order.expect || fd == post->ready || fd == post->proc || descriptor_is_private(fd))
        return 0;
    role = session_identify(fd, &stray, &session);
    if (role == SESSION_PROGRAM && !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
        keep_duty(post, session);
    if (fd != 2 || role != SESSION_NONE)
        (void)sys_close(fd);
    return 0;
}

static bool is_in(const struct mapping *mapping, const void *address)
{
    return mapping->start <= (uintptr_t)address && (uintptr_t)address < mapping->end;
}

/* What the program shares with others is not ours to hold, a mapping of a session's memory is one that is not closed, and
 * of large memories the program would have to copy every page that it writes to. */
static int unmap_programs(const struct mapping *mapping, void *context)
{
    const struct post *post = context;
    bool is_large = mapping->number == 0 && mapping->end - mapping->start > LARGE;

    if ((mapping->shared || mapping->is_memory || is_large) && !is_in(mapping, &mapping) &&
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

/* Closes and reads of the memory are what it is there for; a read of the inode is somebody who waits. */
static void watch_memory(struct post *post, struct duty *duty)
{
    const struct session *session = duty->session;
    char path[PROC_PATH_SIZE];

    if (post->events >= 0) {
        post->tells &= SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->memory),
                                IN_CLOSE, 0, 0, 0) >= 0;
        (void)SYS_CALL(SYS_inotify_add_watch, post->events, descriptor_path(path, session->inode),
                       IN_OPEN | IN_ACCESS, 0, 0, 0);
    }
    if (post->proc >= 0)
        rendezvous_begin(&duty->place, post->proc, session->device, session->number);
}

/* The program, and those with the shim that started it: if one of them is killed as the last, its content is none. */
static void watch_first(struct post *post, struct duty *duty)
{
    int process = post->order.starter;
    struct process_stat stat;

    if (post->order.process != 0)
        (void)watch(post, duty, post->order.process, false);
    if (!post->sees) { /* whether they hold it cannot be seen either */
        if (process != post->order.process)
            (void)watch(post, duty, process, true);
        (void)watch(post, duty, post->order.parent, true);
        return;
    }
    for (int i = 0; i < ANCESTORS_MAX && process > 1; i++) {
        if (process != post->order.process && holders_look(process, duty->session, false) == HOLDER_COVERED)
            (void)watch(post, duty, process, true);
        process = process_stat(process, &stat) == 0 ? stat.parent : 0;
    }
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
        watch_first(post, &post->duties[i]);
    }
    if (post->order.entry != NULL)
        __atomic_store_n(&post->order.entry->process, sys_getpid(), __ATOMIC_RELEASE);
    (void)sys_write(ready, "", 1);
    (void)sys_close(ready);
}

static bool look_round(struct post *post)
{
    bool expected = is_expected(post);
    bool all_sure = true;
    bool any = false;

    post->pending = 0;
    note_ends(post);
    for (size_t i = 0; i < post->duties_count; i++) {
        for (int j = 0; j < ENDINGS_MAX && is_live(&post->duties[i]); j++) {
            if (!look_after(post, &post->duties[i], expected))
                break;
            sys_sleep(ENDING_PAUSE);
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
