/*
 * SIGKILL at random instants of programs that overwrite a file under the shim.
 *
 *   kill LIBRARY FILE KILLS SIZE [first]
 *
 * After each kill the file, read by the engine itself, must hold one complete image: the last one whose
 * close() had returned, or a later one (I4, I5), in the same inode (I3); and the next writer starts on top of
 * it. With "first" each round begins with a plain file, so that the kill hits its first commit. Prints "KILLS
 * kills, N torn, N lost, N old, N new" and exits 1 if anything was torn or lost.
 */
#include "store.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* An image is its own check: every 16 bytes are the line "ROUND SEQUENCE\n". */
enum { LINE = 16 };

static void fill(char *image, size_t size, unsigned round, unsigned sequence)
{
    char line[LINE + 1];
    size_t done = size < LINE ? size : LINE;

    (void)snprintf(line, sizeof line, "%07u %07u\n", round % 10000000, sequence % 10000000);
    memcpy(image, line, done);
    for (size_t piece; done < size; done += piece) {
        piece = done < size - done ? done : size - done;
        memcpy(image + done, image, piece);
    }
}

/* The program that is killed: an ordinary one, which knows nothing of the shim. */
static int write_for_ever(const char *file, size_t size, unsigned round)
{
    char *image = malloc(size);

    if (image == NULL || write(STDOUT_FILENO, "r", 1) != 1)
        return 1;
    for (unsigned sequence = 1;; sequence++) {
        int fd = open(file, O_WRONLY | O_TRUNC);

        fill(image, size, round, sequence);
        if (fd < 0 || write(fd, image, size / 2) < 0 || write(fd, image + size / 2, size - size / 2) < 0 ||
            close(fd) != 0) {
            perror(file);
            return 1;
        }
        if (write(STDOUT_FILENO, "c", 1) != 1)
            return 1;
    }
}

static pid_t start_writer(char *const argv[], const char *round, int output)
{
    pid_t child = fork();

    if (child == 0) {
        char *arguments[] = {argv[0], "--write", argv[2], argv[4], (char *)round, NULL};

        (void)dup2(output, STDOUT_FILENO);
        (void)setenv("LD_PRELOAD", argv[1], 1);
        (void)setenv("ATOMSHIM_PATHS", argv[2], 1);
        (void)execv("/proc/self/exe", arguments);
        _exit(127);
    }
    return child;
}

static unsigned count_acknowledged(int input)
{
    char buffer[4096];
    unsigned count = 0;
    ssize_t n;

    while ((n = read(input, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++)
            count += buffer[i] == 'c';
    return count;
}

/* The round and sequence of the image in the file, or false if it is not a complete one. */
static bool read_image(const char *file, size_t size, char *image, char *expected, unsigned *round,
                       unsigned *sequence)
{
    struct store_image found;
    int memory = memfd_create("image", MFD_CLOEXEC);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    bool complete = false;

    if (fd >= 0 && memory >= 0 &&
        store_load(fd, memory, (struct store_wait){.timeout = 1000000000}, &found) == 0 &&
        found.size == size && pread(memory, image, size, 0) == (ssize_t)size &&
        sscanf(image, "%7u %7u\n", round, sequence) == 2) {
        fill(expected, size, *round, *sequence);
        complete = memcmp(image, expected, size) == 0;
    }
    (void)close(fd);
    (void)close(memory);
    return complete;
}

static int make_plain(const char *file, const char *image, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd < 0 || write(fd, image, size) != (ssize_t)size || close(fd) != 0;
}

int main(int argc, char *argv[])
{
    if (argc == 5 && strcmp(argv[1], "--write") == 0)
        return write_for_ever(argv[2], strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
    if (argc < 5 || strlen(argv[4]) == 0) {
        fprintf(stderr, "usage: kill LIBRARY FILE KILLS SIZE [first]\n");
        return 2;
    }

    const char *file = argv[2];
    unsigned kills = (unsigned)strtoul(argv[3], NULL, 10);
    size_t size = strtoul(argv[4], NULL, 10);
    bool first = argc > 5;
    char *image = malloc(size);
    char *expected = malloc(size);
    unsigned torn = 0;
    unsigned lost = 0;
    unsigned old = 0;
    struct stat before;
    struct stat after;

    if (image == NULL || expected == NULL)
        return 2;
    fill(image, size, 0, 0);
    if (make_plain(file, image, size) != 0 || stat(file, &before) != 0) {
        perror(file);
        return 2;
    }
    srandom((unsigned)getpid());
    for (unsigned round = 1; round <= kills; round++) {
        char text[16];
        char byte = 0;
        int pipes[2];
        int status;
        unsigned acknowledged = 0;
        unsigned found_round = 0;
        unsigned found_sequence = 0;

        if (pipe2(pipes, O_CLOEXEC) != 0)
            return 2;
        if (first) {
            fill(image, size, round - 1, 0);
            if (make_plain(file, image, size) != 0)
                return 2;
        }
        (void)snprintf(text, sizeof text, "%u", round);
        pid_t child = start_writer(argv, text, pipes[1]);
        (void)close(pipes[1]);
        if (child < 0 || read(pipes[0], &byte, 1) != 1)
            return 2;
        if (!first && read(pipes[0], &byte, 1) == 1)
            acknowledged++;
        /* not to wait for something, but to hit any instant of the next few commits */
        sys_sleep(random() % (4000000 + (long)size * 5));
        (void)kill(child, SIGKILL);
        (void)waitpid(child, &status, 0);
        acknowledged += count_acknowledged(pipes[0]);
        (void)close(pipes[0]);
        if (!WIFSIGNALED(status)) {
            fprintf(stderr, "kill: the writer ended by itself\n");
            return 2;
        }
        if (!read_image(file, size, image, expected, &found_round, &found_sequence)) {
            torn++;
            continue;
        }
        if (acknowledged == 0
                ? !(found_round == round && found_sequence == 1) && found_round != round - 1
                : found_round != round || found_sequence < acknowledged || found_sequence > acknowledged + 1)
            lost++;
        old += found_round != round || found_sequence == acknowledged;
    }
    if (stat(file, &after) != 0 || before.st_ino != after.st_ino)
        lost++;
    printf("%s bytes%s: %u kills, %u torn, %u lost, %u old, %u new\n", argv[4], first ? ", first commit" : "",
           kills, torn, lost, old, kills - torn - lost - old);
    return torn + lost != 0;
}
