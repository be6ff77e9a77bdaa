/* process.h: facts about another process, and how it ended. */
#include "check.h"

#include "os/descriptor.h"
#include "os/process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts a child, which reports by the pipe that it runs, and then does `what`. */
static pid_t start(void (*what)(const void *context), const void *context)
{
    int ends[2];
    char byte;
    pid_t child;

    if (pipe(ends) != 0)
        abort();
    child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        what(context);
        (void)!write(ends[1], "x", 1);
        for (;;)
            (void)pause();
    }
    (void)close(ends[1]);
    CHECK_EQUAL(read(ends[0], &byte, 1), 1);
    (void)close(ends[0]);
    return child;
}

static void stop(pid_t child)
{
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
}

/* A name that looks like the fields behind it. */
static void take_name(const void *name)
{
    (void)prctl(PR_SET_NAME, name);
}

static void test_stat(void)
{
    struct process_stat stat;
    struct process_stat own;
    pid_t child = start(take_name, ") Z 7 8 9 (x");

    CHECK_EQUAL(process_stat(getpid(), &own), 0);
    CHECK_EQUAL(process_stat(child, &stat), 0);
    CHECK(!stat.exiting && stat.start >= own.start && own.start > 0);
    stop(child);
    CHECK_EQUAL(process_stat(child, &stat), -ENOENT);
    CHECK(process_proc_is_ours());
    CHECK(!process_children_are_elsewhere());
}

static void nothing(const void *context)
{
    (void)context;
}

static void end_at_signal(int signal)
{
    (void)signal;
    _exit(SIGKILL); /* a status that is no signal */
}

static void exit_on_request(const void *context)
{
    (void)context;
    (void)signal(SIGUSR1, end_at_signal);
}

/* Lives, has ended, was waited for. */
static void check_end(void (*what)(const void *context), int signal, bool without_pidfd,
                      enum process_end expected)
{
    pid_t child = start(what, NULL);
    struct process process;
    struct process other;
    siginfo_t info;

    CHECK(process_open(&process, child) && process.number == child);
    if (without_pidfd) {
        (void)close(process.pidfd);
        process.pidfd = -1;
    }
    CHECK(!process_has_ended(&process));
    CHECK_EQUAL(process_how_ended(&process), PROCESS_LIVES);
    CHECK_EQUAL(kill(child, signal), 0);
    CHECK_EQUAL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    CHECK(process_has_ended(&process));
    CHECK_EQUAL(process_how_ended(&process), expected);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK(process_has_ended(&process));
    if (without_pidfd || process_how_ended(&process) != PROCESS_UNKNOWN) /* before Linux 6.15 */
        CHECK_EQUAL(process_how_ended(&process), without_pidfd ? PROCESS_UNKNOWN : expected);
    if (process.pidfd >= 0)
        (void)close(process.pidfd);
    CHECK(!process_open(&other, child));
}

static void test_of_pidfd(void)
{
    pid_t child = start(nothing, NULL);
    int pidfd = (int)SYS_CALL(SYS_pidfd_open, child, 0, 0, 0, 0, 0);
    siginfo_t info;

    CHECK_EQUAL(process_of_pidfd(pidfd), child);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    CHECK_EQUAL(process_of_pidfd(pidfd), child);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK_EQUAL(process_of_pidfd(pidfd), PROCESS_NOBODY);
    (void)close(pidfd);
}

int main(void)
{
    test_stat();
    test_of_pidfd();
    check_end(nothing, SIGKILL, false, PROCESS_KILLED);
    check_end(nothing, SIGTERM, true, PROCESS_KILLED);
    check_end(exit_on_request, SIGUSR1, false, PROCESS_EXITED);
    check_end(exit_on_request, SIGUSR1, true, PROCESS_EXITED);
    return check_result();
}
