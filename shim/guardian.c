/* How guardians are started, and waited for; guardian_watch.c is what they do. */
#include "guardian.h"

#include "descriptor.h"
#include "log.h"
#include "process.h"
#include "rendezvous.h"
#include "session.h"
#include "signals.h"

#include <errno.h>
#include <sys/wait.h>

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

static int is_writable(struct session *session, void *context)
{
    (void)context;
    return (SESSION_GET(session->flags) & SESSION_WRITABLE) != 0;
}

static int needs_one_that_stays(struct session *session, void *context)
{
    return is_writable(session, context) && !__atomic_load_n(&session->guarded, __ATOMIC_ACQUIRE);
}

static int set_guarded(struct session *session, void *context)
{
    (void)context;
    __atomic_store_n(&session->guarded, true, __ATOMIC_RELEASE);
    return 0;
}

/* Returns 0 when it is at its post, or a negative errno. */
static int start(const struct guardian_order *order, int ends[2])
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;
    char byte;
    ssize_t n = 0;
    int child;

    (void)sys_sigprocmask(&all, &mask); /* none of the program's handlers runs in it */
    child = sys_fork_silently();
    if (child == 0) {
        (void)sys_close(ends[0]);
        (void)SYS_CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
        child = sys_fork_silently();
        if (child == 0)
            guardian_main(order, ends[1]);
        sys_exit_group(0);
    }
    (void)sys_sigprocmask(&mask, NULL);
    (void)sys_close(ends[1]);
    ends[1] = -1;
    if (child < 0)
        return child;
    while (sys_wait(child, __WALL) == -EINTR)
        continue;
    do
        n = sys_read(ends[0], &byte, 1);
    while (n == -EINTR);
    return n == 1 ? 0 : -EAGAIN;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        (void)sys_close(fd);
}

/* Puts the end of a pipe whose other end the guardian has into *told, unless that is NULL. Returns false if it failed. */
static bool start_and_tell(struct guardian_order order, int *told)
{
    int ready[2] = {-1, -1};
    int expect[2] = {-1, -1};
    int error = -EPERM;

    order.starter = sys_getpid();
    /* a guardian would be the first process of a new pid namespace, and end it */
    if (!process_children_are_elsewhere())
        error = DESCRIPTOR_INSIST(sys_pipe(ready));
    if (error == 0 && told != NULL)
        error = DESCRIPTOR_INSIST(sys_pipe(expect));
    order.expect = expect[0];
    order.told = expect[1];
    if (error == 0)
        error = start(&order, ready);
    close_if_open(ready[0]);
    close_if_open(ready[1]);
    close_if_open(expect[0]);
    if (error == 0) {
        set_started();
        if (told != NULL)
            *told = expect[1];
        return true;
    }
    close_if_open(expect[1]);
    log_line(LOG_ERROR,
             "no process to look after a program without the shim: %s; if it is the last to close a managed "
             "file, what was written is lost",
             log_errno(error));
    return false;
}

static bool has_any(int (*is_one)(struct session *session, void *context))
{
    return session_for_each(is_one, NULL) != 0 || session_any_stray();
}

int guardian_expect(int process)
{
    int told = -1;

    if (has_any(is_writable))
        (void)start_and_tell((struct guardian_order){.process = process, .is_exec = process != 0}, &told);
    return told;
}

void guardian_done(int expect)
{
    close_if_open(expect);
}

void guardian_not_needed(int expect)
{
    struct signals_held held;

    if (expect < 0)
        return;
    held = signals_hold(SIGPIPE);
    (void)sys_write(expect, "", 1);
    signals_release(&held);
    (void)sys_close(expect);
}

void guardian_watch(int process)
{
    if (has_any(is_writable))
        (void)start_and_tell((struct guardian_order){.process = process}, NULL);
}

void guardian_stay(bool to_the_last)
{
    if (has_any(needs_one_that_stays) &&
        start_and_tell((struct guardian_order){.process = sys_getpid(), .stays = to_the_last}, NULL))
        (void)session_for_each(set_guarded, NULL);
}
