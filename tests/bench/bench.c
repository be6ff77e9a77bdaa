/*
 * bench LIBRARY FOLDER: open-write-close of a whole image in several ways, and the cost of a program's start.
 *
 * The ways take turns, so that whatever else the machine does hits all alike. Each runs in a process of its own
 * that gets an order, an image size, and answers with the nanoseconds that it took; the first orders are not
 * counted. What is printed are medians and their ratio to the rename way.
 */
#include "format/crc32c.h"
#include "store/filelock.h"
#include "store/store.h"

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WARM_UP = 5, ROUNDS_MAX = 2000, ROUNDS_MIN = 20, STARTS = 400, LARGEST = 1 << 20 };

static const int64_t BUDGET = INT64_C(9000000000); /* nanoseconds for one size */

static char image[LARGEST];

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static void write_all(int fd, size_t size)
{
    if (fd < 0 || write(fd, image, size) != (ssize_t)size)
        fail("write");
}

/* ---- the ways ---- */

static void rewrite(const char *file, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    write_all(fd, size);
    if (close(fd) != 0)
        fail(file);
}

static void in_place(const char *file, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0 || pwrite(fd, image, size, 0) != (ssize_t)size || fdatasync(fd) != 0 || close(fd) != 0)
        fail(file);
}

static void by_rename(const char *file, size_t size)
{
    char name[PATH_MAX];
    int fd;
    int directory;

    (void)snprintf(name, sizeof name, "%s.tmp", file);
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    write_all(fd, size);
    if (fsync(fd) != 0 || close(fd) != 0 || rename(name, file) != 0)
        fail(name);
    *strrchr(name, '/') = '\0';
    directory = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fsync(directory) != 0 || close(directory) != 0)
        fail(name);
}

/* The store alone: the image is in memory already, no program is involved. */
static void by_protocol(const char *file, size_t size)
{
    struct store_payload payload = {image, size, crc32c_mixed(0, image, size)};
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int error = fd < 0 ? -errno : filelock_keep(fd, 1000000000);

    if (error == 0)
        error = store_commit(fd, &payload, true);
    if (error != 0 || close(fd) != 0)
        fail(file);
}

static const struct way {
    const char *name;
    void (*overwrite)(const char *file, size_t size);
    const char *sync; /* under the shim, with this ATOMSHIM_SYNC */
} ways[] = {
    {"temp + fsync + rename + fsync(dir)", by_rename, NULL},
    {"under the shim", rewrite, "1"},
    {"the protocol alone", by_protocol, NULL},
    {"in place: pwrite + fdatasync", in_place, NULL},
    {"O_TRUNC rewrite, not synced", rewrite, NULL},
    {"under the shim, ATOMSHIM_SYNC=0", rewrite, "0"},
};

enum { WAYS = sizeof ways / sizeof ways[0] };

/* ---- a process for each way ---- */

static void serve(const struct way *way, const char *file)
{
    size_t size;
    unsigned count = 0;

    while (read(STDIN_FILENO, &size, sizeof size) == (ssize_t)sizeof size) {
        int64_t took;

        memset(image, (int)(++count % 251), size);
        took = sys_now();
        way->overwrite(file, size);
        took = sys_now() - took;
        if (write(STDOUT_FILENO, &took, sizeof took) != (ssize_t)sizeof took)
            break;
    }
}

struct server {
    int orders;
    int answers;
    pid_t process;
};

static struct server start_server(char *argv[], int index)
{
    int orders[2];
    int answers[2];
    struct server server;

    if (pipe2(orders, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0)
        fail("pipe");
    server = (struct server){.orders = orders[1], .answers = answers[0], .process = fork()};
    if (server.process == 0) {
        char number[16];
        char *arguments[] = {argv[0], "--serve", number, argv[2], NULL};

        (void)snprintf(number, sizeof number, "%d", index);
        (void)dup2(orders[0], STDIN_FILENO);
        (void)dup2(answers[1], STDOUT_FILENO);
        if (ways[index].sync != NULL) {
            (void)setenv("LD_PRELOAD", argv[1], 1);
            (void)setenv("ATOMSHIM_PATHS", argv[2], 1);
            (void)setenv("ATOMSHIM_SYNC", ways[index].sync, 1);
        }
        (void)execv("/proc/self/exe", arguments);
        fail("exec");
    }
    (void)close(orders[0]);
    (void)close(answers[1]);
    return server;
}

static int64_t order(const struct server *server, size_t size)
{
    int64_t took;

    if (write(server->orders, &size, sizeof size) != (ssize_t)sizeof size ||
        read(server->answers, &took, sizeof took) != (ssize_t)sizeof took)
        fail("a way");
    return took;
}

/* ---- medians ---- */

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double median(int64_t *values, int count)
{
    int middle = count / 2;

    qsort(values, (size_t)count, sizeof *values, compare);
    return (double)values[middle] / 1000;
}

static void measure(const struct server *servers, size_t size)
{
    static int64_t took[WAYS][ROUNDS_MAX];
    int64_t end = sys_now() + BUDGET;
    int rounds = 0;
    double reference;

    for (int i = 0; i < WARM_UP; i++)
        for (int w = 0; w < WAYS; w++)
            (void)order(&servers[w], size);
    for (; rounds < ROUNDS_MAX && (rounds < ROUNDS_MIN || sys_now() < end); rounds++)
        for (int w = 0; w < WAYS; w++)
            took[w][rounds] = order(&servers[w], size);
    (void)printf("\n%zu KiB, %d rounds                    median   ratio\n", size / 1024, rounds);
    reference = median(took[0], rounds);
    for (int w = 0; w < WAYS; w++) {
        double middle = median(took[w], rounds);

        (void)printf("  %-36s %7.0f us  %5.2f\n", ways[w].name, middle, middle / reference);
    }
    (void)fflush(stdout);
}

/* ---- starts ---- */

static int64_t start_true(char *const environment[])
{
    char *arguments[] = {"true", NULL};
    int64_t took = sys_now();
    pid_t child;

    if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environment) != 0 ||
        waitpid(child, NULL, 0) != child)
        fail("/bin/true");
    return sys_now() - took;
}

static void measure_starts(const char *library)
{
    static int64_t took[3][STARTS];
    static const char *const names[] = {"/bin/true", "with the shim, no paths",
                                        "with the shim, ATOMSHIM_PATHS set"};
    char preload[PATH_MAX + 16];
    char *environments[3][4] = {{"PATH=/bin", NULL},
                                {"PATH=/bin", preload, NULL},
                                {"PATH=/bin", preload, "ATOMSHIM_PATHS=/data/:*.cfg", NULL}};
    double reference;

    (void)snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library);
    for (int i = -WARM_UP; i < STARTS; i++)
        for (int e = 0; e < 3; e++)
            took[e][i < 0 ? 0 : i] = start_true(environments[e]);
    (void)printf("\n%d starts of                          median   ratio\n", STARTS);
    reference = median(took[0], STARTS);
    for (int e = 0; e < 3; e++) {
        double middle = median(took[e], STARTS);

        (void)printf("  %-36s %7.0f us  %5.2f\n", names[e], middle, middle / reference);
    }
}

int main(int argc, char *argv[])
{
    static const size_t sizes[] = {4096, 65536, LARGEST};
    struct server servers[WAYS];
    char file[PATH_MAX];

    if (argc == 4 && strcmp(argv[1], "--serve") == 0) {
        int index = (int)strtol(argv[2], NULL, 10) % WAYS;

        (void)snprintf(file, sizeof file, "%sfile%d", argv[3], index);
        serve(&ways[index], file);
        return 0;
    }
    if (argc != 3) {
        (void)fprintf(stderr, "usage: bench LIBRARY FOLDER/\n");
        return 2;
    }
    for (int w = 0; w < WAYS; w++)
        servers[w] = start_server(argv, w);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        measure(servers, sizes[s]);
    for (int w = 0; w < WAYS; w++) {
        int status;

        (void)close(servers[w].orders);
        if (waitpid(servers[w].process, &status, 0) != servers[w].process || status != 0)
            return 1;
    }
    measure_starts(argv[1]);
    return 0;
}
