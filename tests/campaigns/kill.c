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

struct campaign {
    char **argv;
    const char *file;
    size_t size;
    bool first; /* every round begins with a plain file */
    char *image;
    char *expected;
    unsigned torn, lost, old, new;
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

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
static _Noreturn void write_for_ever(const char *file, size_t size, unsigned round)
{
    char *image = malloc(size);

    if (image == NULL || write(STDOUT_FILENO, "r", 1) != 1)
        fail("writer");
    for (unsigned sequence = 1;; sequence++) {
        int fd = open(file, O_WRONLY | O_TRUNC);

        fill(image, size, round, sequence);
        if (fd < 0 || write(fd, image, size / 2) < 0 || write(fd, image + size / 2, size - size / 2) < 0 ||
            close(fd) != 0)
            fail(file);
        if (write(STDOUT_FILENO, "c", 1) != 1)
            fail("writer");
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
static bool read_image(const struct campaign *campaign, unsigned *round, unsigned *sequence)
{
    struct store_image found;
    size_t size = campaign->size;
    int memory = memfd_create("image", MFD_CLOEXEC);
    int fd = open(campaign->file, O_RDONLY | O_CLOEXEC);
    bool complete = false;

    if (fd >= 0 && memory >= 0 &&
        store_load(fd, memory, (struct store_wait){.timeout = 1000000000}, &found) == 0 &&
        found.size == size && pread(memory, campaign->image, size, 0) == (ssize_t)size &&
        sscanf(campaign->image, "%7u %7u\n", round, sequence) == 2) {
        fill(campaign->expected, size, *round, *sequence);
        complete = memcmp(campaign->image, campaign->expected, size) == 0;
    }
    if (fd >= 0)
        (void)close(fd);
    if (memory >= 0)
        (void)close(memory);
    return complete;
}

static void make_plain(const char *file, const char *image, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, image, size) != (ssize_t)size || close(fd) != 0)
        fail(file);
}

/* Starts a writer and kills it; returns how many of its commits were acknowledged before it died. */
static unsigned kill_a_writer(const struct campaign *campaign, unsigned round)
{
    unsigned acknowledged = 0;
    char text[16];
    char byte = 0;
    int pipes[2];
    int status;
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) != 0)
        fail("pipe");
    (void)snprintf(text, sizeof text, "%u", round);
    child = start_writer(campaign->argv, text, pipes[1]);
    (void)close(pipes[1]);
    if (child < 0 || read(pipes[0], &byte, 1) != 1)
        fail("the writer");
    if (!campaign->first && read(pipes[0], &byte, 1) == 1)
        acknowledged++;
    /* not to wait for something, but to hit any instant of the next few commits */
    sys_sleep(random() % (4000000 + (long)campaign->size * 5));
    (void)kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        fail("the writer ended by itself");
    acknowledged += count_acknowledged(pipes[0]);
    (void)close(pipes[0]);
    return acknowledged;
}

static void run_round(struct campaign *campaign, unsigned round)
{
    unsigned acknowledged;
    unsigned found_round = 0;
    unsigned found = 0;

    if (campaign->first) {
        fill(campaign->image, campaign->size, round - 1, 0);
        make_plain(campaign->file, campaign->image, campaign->size);
    }
    acknowledged = kill_a_writer(campaign, round);
    if (!read_image(campaign, &found_round, &found)) {
        campaign->torn++;
        return;
    }
    if (found_round == round && found >= acknowledged && found <= acknowledged + 1)
        found > acknowledged ? campaign->new ++ : campaign->old++;
    else if (acknowledged == 0 && found_round == round - 1)
        campaign->old++;
    else
        campaign->lost++;
}

int main(int argc, char *argv[])
{
    struct campaign campaign = {.argv = argv};
    struct stat before;
    struct stat after;
    unsigned kills;

    if (argc == 5 && strcmp(argv[1], "--write") == 0)
        write_for_ever(argv[2], strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
    if (argc < 5 || strtoul(argv[4], NULL, 10) == 0) {
        fprintf(stderr, "usage: kill LIBRARY FILE KILLS SIZE [first]\n");
        return 2;
    }
    campaign.file = argv[2];
    kills = (unsigned)strtoul(argv[3], NULL, 10);
    campaign.size = strtoul(argv[4], NULL, 10);
    campaign.first = argc > 5;
    campaign.image = malloc(campaign.size);
    campaign.expected = malloc(campaign.size);
    if (campaign.image == NULL || campaign.expected == NULL)
        fail("memory");
    fill(campaign.image, campaign.size, 0, 0);
    make_plain(campaign.file, campaign.image, campaign.size);
    if (stat(campaign.file, &before) != 0)
        fail(campaign.file);

    srandom((unsigned)getpid());
    for (unsigned round = 1; round <= kills; round++)
        run_round(&campaign, round);
    if (stat(campaign.file, &after) != 0 || before.st_ino != after.st_ino)
        campaign.lost++;
    printf("%zu bytes%s: %u kills, %u torn, %u lost, %u old, %u new\n", campaign.size,
           campaign.first ? ", first commit" : "", kills, campaign.torn, campaign.lost, campaign.old,
           campaign.new);
    free(campaign.image);
    free(campaign.expected);
    return campaign.torn + campaign.lost != 0;
}
