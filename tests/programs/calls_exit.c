/* Every way to end commits the open sessions. Each runs in a child; `leave` does not return. */
#include "expect.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>

static void check(void (*leave)(int status), bool buffered, const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        FILE *stream = open_stream(file, "w");

        EXPECT(fputs("written", stream) >= 0);
        if (!buffered)
            EXPECT(fflush(stream) == 0);
        leave(7);
        abort();
    }
    expect_exit(child, 7);
}

static void test__exit(const char *file)
{
    check(_exit, false, file);
    expect_content(file, "written");
    check(_exit, true, file); /* no exit flushes the stream, and O_TRUNC has emptied the file */
    expect_content(file, "");
}

static void test__Exit(const char *file)
{
    check(_Exit, false, file);
    expect_content(file, "written");
}

static void test_exit(const char *file)
{
    check(exit, true, file);
    expect_content(file, "written");
}

static void test_quick_exit(const char *file)
{
    check(quick_exit, false, file);
    expect_content(file, "written");
}

static void write_late(void)
{
    FILE *stream = open_stream(getenv("late"), "w");

    EXPECT(fputs("at exit", stream) >= 0);
}

/* A handler of the program opens and writes while the exit is under way. */
static void test_atexit(const char *file)
{
    pid_t child = fork();

    EXPECT(setenv("late", file, 1) == 0);
    if (child == 0) {
        EXPECT(atexit(write_late) == 0);
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "at exit");
}

/* A private mapping outlives the close and hides that no other process has the file open. */
static void test_private_mapping(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_RDWR | O_TRUNC);

        write_text(fd, "mapped");
        EXPECT(mmap(NULL, 6, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
        EXPECT(close(fd) == 0);
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "mapped");
}

/* The shim commits a mapping that is left at exit, too. */
static void test_shared_mapping(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_RDWR);
        char *bytes = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        EXPECT(bytes != MAP_FAILED && close(fd) == 0);
        bytes[0] = 'X';
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "Xld");
}

/* main() returns with the file open; the caller looks. */
static void test_return(const char *file)
{
    FILE *stream = open_stream(file, "w");

    EXPECT(fputs("returned", stream) >= 0);
}

static void test_signal(const char *file)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        int fd = open(file, O_WRONLY);

        write_text(fd, "half");
        (void)kill(getpid(), SIGKILL);
    }
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    expect_content(file, is_wrapped() ? "old" : "half");
}

static void *wait_for_the_end(void *unused)
{
    (void)pause();
    return unused;
}

/* With a thread the process shares its descriptor table at least with that. */
static int leave_at_once(void *with_thread)
{
    pthread_t thread;

    if (with_thread != NULL)
        EXPECT(pthread_create(&thread, NULL, wait_for_the_end, NULL) == 0);
    _exit(0);
}

/* A process that shares the parent's descriptor table closes nothing in it when it ends. */
static void test_clone(const char *file)
{
    static const struct {
        int flags;
        bool thread;
    } ways[] = {{0, false},
                {0, true},
                {CLONE_FILES, false},
                {CLONE_FILES, true},
                {CLONE_FILES | CLONE_VM, false},
                {CLONE_VM, false},
                {CLONE_VM | CLONE_VFORK, false}};
    static _Alignas(16) char stack[1 << 16];

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int fd = open(file, O_WRONLY | O_TRUNC);
        char text[32];
        pid_t child;

        write_text(fd, "before and ");
        child = clone(leave_at_once, stack + sizeof stack, ways[i].flags | SIGCHLD,
                      ways[i].thread ? stack : NULL);
        expect_exit(child, 0);
        (void)snprintf(text, sizeof text, "after %zu", i);
        write_text(fd, text);
        if (is_wrapped() && i == 0)
            expect_content(file, "old"); /* nor does it publish anything */
        EXPECT(close(fd) == 0);
        (void)snprintf(text, sizeof text, "before and after %zu", i);
        expect_content(file, text);
    }
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"_exit", test__exit},
        {"_Exit", test__Exit},
        {"exit", test_exit},
        {"quick_exit", test_quick_exit},
        {"atexit", test_atexit},
        {"private_mapping", test_private_mapping},
        {"shared_mapping", test_shared_mapping},
        {"return", test_return},
        {"signal", test_signal},
        {"clone", test_clone},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
