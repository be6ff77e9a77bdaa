/* process.h, holders.h: how processes end, and who holds a memory. */
#include "check.h"

#include "guardian/holders.h"
#include "os/descriptor.h"
#include "os/process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* Of a memory, at an offset of its own; children close it. */
static int private_description = -1;

static int proc;

/* A child that has told by the pipe that it is there, and then does `what`. */
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
        (void)close(private_description);
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
    CHECK_EQUAL(own.parent, getppid());
    CHECK_EQUAL(stat.parent, getpid());
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
        process_close(&process);
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
    process_close(&process);
    CHECK(!process_open(&other, child));
}

static int make_buffer(struct stat *status)
{
    int fd = memfd_create("atomshim:1:2:3:4", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, PAGE) != 0 || fstat(fd, status) != 0)
        abort();
    return fd;
}

/* A new description. */
static int open_again(int memory, off_t offset)
{
    char path[PROC_PATH_SIZE];
    int fd = open(descriptor_path(path, memory), O_RDWR | O_CLOEXEC);

    if (fd < 0 || lseek(fd, offset, SEEK_SET) != offset)
        abort();
    return fd;
}

static void map_and_close(const void *fd)
{
    if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, *(const int *)fd, 0) == MAP_FAILED)
        abort();
    (void)close(*(const int *)fd);
}

static void close_it(const void *fd)
{
    (void)close(*(const int *)fd);
}

static void be_a_guardian(const void *context)
{
    (void)context;
    take_name("atomshim-guard");
}

struct found {
    pid_t process;
    enum holder holder;
    int count;
};

static void note(int process, enum holder holder, void *context)
{
    struct found *found = context;

    found->count += process == found->process;
    if (process == found->process)
        found->holder = holder;
}

/* One that does `what` with the memory is this, in all ways to ask. */
static void check_holder(void (*what)(const void *context), enum holder by_descriptor, enum holder holder)
{
    struct stat status;
    int memory = make_buffer(&status);
    int private = private_description = open_again(memory, 1234567);
    struct session session = {
        .buffer = private, .buffer_number = status.st_ino, .buffer_device = status.st_dev};
    struct session other = session;
    pid_t child = start(what, &memory);
    struct found found = {.process = child};
    struct found old = {.process = getppid()};

    other.buffer_number++;
    CHECK_EQUAL(holders_look(child, &session, false), by_descriptor);
    CHECK_EQUAL(holders_look(child, &session, true), holder);
    CHECK_EQUAL(holders_look(child, &other, true), HOLDER_NONE);
    holders_for_each(proc, &session, HOLDERS_NEW, note, &found);
    CHECK_EQUAL(found.count, holder != HOLDER_NONE);
    CHECK_EQUAL(found.holder, holder);
    holders_for_each(proc, &session, HOLDERS_ALL, note, &found);
    CHECK_EQUAL(found.count, 2 * (holder != HOLDER_NONE));
    holders_for_each(proc, &session, HOLDERS_NEW, note, &old);
    CHECK_EQUAL(old.count, 0);
    stop(child);
    CHECK_EQUAL(holders_look(child, &session, true), HOLDER_NONE);
    CHECK_EQUAL(close(memory), 0);
    CHECK_EQUAL(close(private), 0);
}

/* One that was there before: only a look at all finds it. */
static void ask_as_child(const struct session *session, pid_t older, int scope, int expected)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct found found = {.process = older};

        holders_for_each(proc, session, scope, note, &found);
        _exit(found.count);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, expected << 8);
}

static void test_older(void)
{
    struct stat status;
    int memory = make_buffer(&status);
    struct session session = {.buffer = open_again(memory, 1234567),
                              .buffer_number = status.st_ino,
                              .buffer_device = status.st_dev};
    pid_t child = start(nothing, NULL);

    ask_as_child(&session, child, HOLDERS_NEW, 0);
    ask_as_child(&session, child, HOLDERS_ALL, 1);
    stop(child);
    CHECK_EQUAL(close(memory), 0);
}

static void ignore(int process, enum holder holder, void *context)
{
    (void)process;
    (void)holder;
    (void)context;
}

/* Guardians have locks on /proc, which a close of it would drop. */
static void test_locks_stay(void)
{
    struct flock lock = {.l_type = F_RDLCK, .l_start = 7, .l_len = 1};
    struct session session = {.buffer = -1};
    int status;
    pid_t child;

    CHECK_EQUAL(fcntl(proc, F_SETLK, &lock), 0);
    holders_for_each(proc, &session, HOLDERS_ALL, ignore, NULL);
    child = fork();
    if (child == 0) {
        lock.l_type = F_WRLCK;
        _exit(fcntl(proc, F_GETLK, &lock) == 0 && lock.l_type == F_RDLCK ? 0 : 1);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

int main(void)
{
    proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_stat();
    check_end(nothing, SIGKILL, false, PROCESS_KILLED);
    check_end(nothing, SIGTERM, true, PROCESS_KILLED);
    check_end(exit_on_request, SIGUSR1, false, PROCESS_EXITED);
    check_end(exit_on_request, SIGUSR1, true, PROCESS_EXITED);
    check_holder(nothing, HOLDER_UNCOVERED, HOLDER_UNCOVERED);
    check_holder(map_and_close, HOLDER_NONE, HOLDER_UNCOVERED);
    check_holder(close_it, HOLDER_NONE, HOLDER_NONE);
    check_holder(be_a_guardian, HOLDER_NONE, HOLDER_NONE);
    test_older();
    test_locks_stay();
    return check_result();
}
