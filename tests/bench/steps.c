/*
 * steps MANAGED OTHER STEP...: does each step on files of the folders MANAGED and OTHER, first to
 * warm up, then in rounds between marks that a tracer sees: the thread has the step's name
 * meanwhile. check.py counts the system calls between the marks; two rounds with the same calls
 * prove a steady state. A round does its step twice: commits go to the two places of a file in
 * turn, which differ by a call.
 *
 * The shim keeps some answers for a tick of the kernel's coarse clock. So a managed file is opened
 * once in a tick; and a round of a step on another file does the step once, directly after a tick
 * and after a read of a file in that folder.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 4096, LARGE = 1 << 20, WARM_UP = 4, ROUNDS = 6, ROUNDS_IN_A_TICK = 30 };

static char bytes[LARGE];
static const char *managed;
static const char *other;

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void write_file(const char *path, int flags, size_t size)
{
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0644);

    bytes[0]++; /* an image that equals the live one is not committed */
    check(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && close(fd) == 0, path);
}

static void read_file(const char *path, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    check(fd >= 0 && read(fd, bytes, size) == (ssize_t)size && close(fd) == 0, path);
}

static void look_at(const char *path)
{
    struct stat status;

    check(stat(path, &status) == 0, path);
}

static void rewrite_4k(void)
{
    write_file(managed, O_WRONLY | O_TRUNC, SMALL);
}

static void rewrite_1m(void)
{
    write_file(managed, O_WRONLY | O_TRUNC, LARGE);
}

static void append_100(void)
{
    write_file(managed, O_WRONLY | O_APPEND, 100);
}

static void edit_100(void)
{
    write_file(managed, O_RDWR, 100);
}

static void stream_4k(void)
{
    FILE *file = fopen(managed, "we");

    bytes[0]++;
    check(file != NULL && fwrite(bytes, 1, SMALL, file) == SMALL && fclose(file) == 0, managed);
}

static void read_4k(void)
{
    read_file(managed, SMALL);
}

static void read_1m(void)
{
    read_file(managed, LARGE);
}

static void stat_managed(void)
{
    look_at(managed);
}

static void other_read(void)
{
    read_file(other, SMALL);
}

/* Reads two files of a folder, as grep -r does. */
static void other_walk(void)
{
    static int folder = -1;

    if (folder < 0)
        folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        int fd = openat(folder, "other", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        check(fd >= 0 && close(fd) == 0, other);
    }
}

static void other_write(void)
{
    write_file(other, O_WRONLY | O_TRUNC, SMALL);
}

static void other_write_here(void)
{
    write_file("other-here", O_WRONLY | O_TRUNC, SMALL);
}

static void other_create(void)
{
    int fd = open("other-new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    check(fd >= 0 && close(fd) == 0 && unlink("other-new") == 0, "other-new");
}

static void other_stat(void)
{
    look_at(other);
}

static void run_child(void)
{
    pid_t process = fork();

    if (process == 0)
        _exit(0);
    check(process > 0 && waitpid(process, NULL, 0) == process, "fork");
}

/* Waits for the next tick. */
static void wait_for_tick(void)
{
    struct timespec before;
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &before);
    do
        (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
}

static const struct step {
    const char *name; /* at most 15 bytes, or the kernel cuts it */
    size_t size;      /* bytes of the managed file before the step */
    void (*do_it)(void);
} steps[] = {
    {"rewrite-4k", SMALL, rewrite_4k},     {"rewrite-1m", LARGE, rewrite_1m},
    {"append-100", SMALL, append_100},     {"edit-100", SMALL, edit_100},
    {"stream-4k", SMALL, stream_4k},       {"read-4k", SMALL, read_4k},
    {"read-1m", LARGE, read_1m},           {"stat", SMALL, stat_managed},
    {"other-read", SMALL, other_read},     {"other-walk", SMALL, other_walk},
    {"other-write", SMALL, other_write},   {"other-write-here", SMALL, other_write_here},
    {"other-create", SMALL, other_create}, {"other-stat", SMALL, other_stat},
    {"child", SMALL, run_child},
};

/* A file that changed just now costs more calls to read: a later change may have the same time. */
static void let_time_pass(void)
{
    const struct timespec pause = {.tv_nsec = 50L * 1000 * 1000};

    check(nanosleep(&pause, NULL) == 0, "nanosleep");
}

static void run_step(const struct step *step)
{
    const int is_managed = strncmp(step->name, "other", 5) != 0;

    write_file(managed, O_WRONLY | O_TRUNC, step->size);
    write_file(other, O_WRONLY | O_TRUNC, SMALL);
    let_time_pass();
    for (int i = 0; i < WARM_UP; i++)
        step->do_it();
    for (int i = 0; i < (is_managed ? ROUNDS : ROUNDS_IN_A_TICK); i++) {
        wait_for_tick();
        if (!is_managed)
            other_read();
        check(prctl(PR_SET_NAME, step->name) == 0, "prctl");
        step->do_it();
        if (is_managed) {
            wait_for_tick();
            step->do_it();
        }
        check(prctl(PR_SET_NAME, "between") == 0, "prctl");
    }
}

static const struct step *find_step(const char *name)
{
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (strcmp(steps[i].name, name) == 0)
            return &steps[i];
    (void)fprintf(stderr, "steps: %s is none of its steps\n", name);
    exit(2);
}

int main(int argc, char *argv[])
{
    static char managed_path[4096];
    static char other_path[4096];

    if (argc < 4) {
        (void)fprintf(stderr, "usage: steps MANAGED OTHER STEP...\n");
        return 2;
    }
    (void)snprintf(managed_path, sizeof managed_path, "%s/file", argv[1]);
    (void)snprintf(other_path, sizeof other_path, "%s/other", argv[2]);
    managed = managed_path;
    other = other_path;
    check(chdir(argv[2]) == 0, argv[2]);
    for (int i = 3; i < argc; i++)
        run_step(find_step(argv[i]));
    return 0;
}
