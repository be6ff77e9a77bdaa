/*
 * SIGKILL at random instants of programs that overwrite a file under the shim.
 *
 *   kill LIBRARY FILE KILLS SIZE [OPTION...]
 *
 * After each kill the file must hold one complete image: the last one whose close() had returned,
 * or a later one (I4, I5), in the same inode (I3); and the next writer starts on top of it. Prints
 * "KILLS kills, N torn, N lost, N old, N new": what there was after the kills that hit a commit.
 * Many kills that find only one of old and new prove nothing: then up to four times as many are
 * made. Exits 1 if anything was torn or lost, 2 if even they find only one. Options:
 *
 *   first          the kill hits the first commit into a plain file; another writer, which is
 *                  killed, too, commits on top of its remains
 *   sizes          images of four sizes take turns: commits grow and shrink the file
 *   plain          the file has no header (ATOMSHIM_FORMAT=plain); it is read under the lock, which
 *                  whoever writes for the dead program still holds
 *   record         as plain, but it is read as under the shim, without the lock; then the commit
 *                  that died is ended (store_recover), after which a reader without the shim must
 *                  find the same
 *   rename         the program replaces the file by rename(2); a kill before the new file is gone
 *                  leaves it
 *   naked          the program itself overwrites the file by one pwrite: a control, with
 *                  ATOMSHIM_DISABLE=1
 *   group          the kill goes to the program's process group
 *   cgroup=DIR     to the cgroup DIR (cgroup.kill), which the program has joined
 *   namespace      the program is process 1 of a pid namespace, which dies with it
 */
#include "store/filelock.h"
#include "store/store.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* An image is its own check: every 16 bytes are the line "ROUND SEQUENCE\n". */
enum { LINE = 16, ARGUMENTS_MAX = 16, MANY = 100 };

struct campaign {
    char **argv;
    int argc;
    const char *file;
    size_t size;
    /* the options of the same names */
    bool first, sizes, plain, record, naked, rename, group, namespace;
    const char *cgroup;
    char *image;
    char *expected;
    long window; /* nanoseconds: as long as a few commits take; with `first`, one */
    unsigned torn, lost, old, new;
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void fill_image(char *image, size_t size, unsigned round, unsigned sequence)
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

static size_t image_size(const struct campaign *campaign, unsigned sequence)
{
    return campaign->sizes ? campaign->size - campaign->size / 4 * (sequence % 4) : campaign->size;
}

/* Tells the parent: 'r' ready, 'b' a commit begins, 'c' it has returned. */
static bool tell_parent(char what)
{
    return write(STDOUT_FILENO, &what, 1) == 1;
}

/* One pwrite of the whole image, as a program would that wants to be safe without the shim. */
static bool overwrite_in_place(const char *file, const char *image, size_t size)
{
    int fd = open(file, O_WRONLY);

    return fd >= 0 && tell_parent('b') && pwrite(fd, image, size, 0) == (ssize_t)size &&
           ftruncate(fd, (off_t)size) == 0 && close(fd) == 0;
}

static bool overwrite_file(const char *file, const char *image, size_t size)
{
    int fd = open(file, O_WRONLY | O_TRUNC);

    return fd >= 0 && write(fd, image, size / 2) >= 0 && write(fd, image + size / 2, size - size / 2) >= 0 &&
           tell_parent('b') && close(fd) == 0;
}

/* Replaces the file as editors do, by a temporary file that is not managed. */
static bool replace_file(const char *file, const char *image, size_t size)
{
    char temporary[PATH_MAX];
    int fd;

    (void)snprintf(temporary, sizeof temporary, "%s.new", file);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return fd >= 0 && write(fd, image, size) == (ssize_t)size && close(fd) == 0 && tell_parent('b') &&
           rename(temporary, file) == 0;
}

static void join_cgroup(const char *directory)
{
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        fail(path);
    (void)close(fd);
}

/* The program that is killed: an ordinary one, which knows nothing of the shim. */
static _Noreturn void write_for_ever(const struct campaign *campaign, unsigned round)
{
    const char *file = campaign->file;
    char *image = malloc(campaign->size);

    if (image == NULL || !tell_parent('r'))
        fail("writer");
    for (unsigned sequence = 1;; sequence++) {
        size_t size = image_size(campaign, sequence);

        fill_image(image, size, round, sequence);
        if (!(campaign->naked    ? overwrite_in_place
              : campaign->rename ? replace_file
                                 : overwrite_file)(file, image, size))
            fail(file);
        if (!tell_parent('c'))
            fail("writer");
    }
}

/* Runs this program again, as "kill --write ROUND ARGUMENT...", under the shim. */
static pid_t start_writer(const struct campaign *campaign, const char *round, int output)
{
    char *arguments[ARGUMENTS_MAX + 3] = {campaign->argv[0], "--write", (char *)round};
    pid_t child =
        campaign->namespace ? (pid_t)SYS_CALL(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0, 0) : fork();

    if (child != 0)
        return child;
    memcpy(arguments + 3, campaign->argv + 1, sizeof *arguments * (size_t)campaign->argc);
    if (campaign->group)
        (void)setpgid(0, 0);
    if (campaign->cgroup != NULL)
        join_cgroup(campaign->cgroup);
    (void)dup2(output, STDOUT_FILENO);
    (void)setenv("LD_PRELOAD", campaign->argv[1], 1);
    (void)setenv("ATOMSHIM_PATHS", campaign->file, 1);
    if (campaign->plain || campaign->record)
        (void)setenv("ATOMSHIM_FORMAT", "plain", 1);
    (void)execv("/proc/self/exe", arguments);
    _exit(127);
}

static void kill_writer(const struct campaign *campaign, pid_t child)
{
    char path[PATH_MAX];
    int fd;

    if (campaign->cgroup == NULL) {
        (void)kill(campaign->group ? -child : child, SIGKILL);
        return;
    }
    (void)snprintf(path, sizeof path, "%s/cgroup.kill", campaign->cgroup);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "1", 1) != 1)
        fail(path);
    (void)close(fd);
}

/* Listens to a writer until it sends `last`, or with 0 to its end; returns the number of commits
 * that have returned. */
static unsigned listen_to(int input, char last)
{
    unsigned count = 0;
    char told = 1;

    while (told != last && read(input, &told, 1) == 1)
        count += told == 'c';
    if (last != 0 && told != last)
        fail("the writer");
    return count;
}

/* Reads the bytes of the file, up to one more than an image has; returns false if the engine finds
 * no content. */
static bool read_sized(const struct campaign *campaign, int fd, size_t *size)
{
    struct store_image found;
    int memory = memfd_create("image", MFD_CLOEXEC);
    bool good =
        memory >= 0 && store_load(fd, memory, (struct store_wait){.timeout = 1000000000}, &found) == 0 &&
        found.size <= campaign->size && pread(memory, campaign->image, found.size, 0) == (ssize_t)found.size;

    *size = good ? (size_t)found.size : 0;
    if (memory >= 0)
        (void)close(memory);
    return good;
}

static bool read_plain(const struct campaign *campaign, int fd, size_t *size)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    ssize_t n = fcntl(fd, F_OFD_SETLKW, &lock) == 0 ? pread(fd, campaign->image, campaign->size + 1, 0) : -1;

    *size = n < 0 ? 0 : (size_t)n;
    return n >= 0;
}

static bool read_recovered(const struct campaign *campaign, int fd, size_t *size)
{
    bool good = read_sized(campaign, fd, size);
    struct filelock lock;
    char *bare = malloc(campaign->size + 1);
    ssize_t n = -1;

    if (bare == NULL)
        fail("memory");
    if (filelock_acquire(&lock, fd, F_WRLCK, (int64_t)10 * 1000000000) == 0) {
        good = store_recover(fd, true) == 0 && good;
        n = pread(fd, bare, campaign->size + 1, 0);
        filelock_release(&lock);
    }
    good = good && n == (ssize_t)*size && memcmp(bare, campaign->image, *size) == 0;
    free(bare);
    return good;
}

/* Finds the round and sequence of the image in the file; returns false if the image is not
 * complete. */
static bool read_image(const struct campaign *campaign, unsigned *round, unsigned *sequence)
{
    int fd = open(campaign->file, O_RDWR | O_CLOEXEC);
    size_t size = 0;
    bool complete = false;

    if (fd >= 0 &&
        (campaign->record                     ? read_recovered
         : campaign->plain || campaign->naked ? read_plain
                                              : read_sized)(campaign, fd, &size) &&
        size >= LINE && sscanf(campaign->image, "%7u %7u\n", round, sequence) == 2 &&
        size == image_size(campaign, *sequence)) {
        fill_image(campaign->expected, size, *round, *sequence);
        complete = memcmp(campaign->image, campaign->expected, size) == 0;
    }
    if (fd >= 0)
        (void)close(fd);
    return complete;
}

static void make_plain(const char *file, const char *image, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, image, size) != (ssize_t)size || close(fd) != 0)
        fail(file);
}

/* Starts a writer and kills it `delay` nanoseconds after it began its first commit or, else, a
 * later one; returns how many of its commits were acknowledged before it died. */
static unsigned kill_a_writer(const struct campaign *campaign, unsigned round, bool first, long delay)
{
    unsigned acknowledged = 0;
    char text[16];
    int pipes[2];
    int status;
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) != 0)
        fail("pipe");
    (void)snprintf(text, sizeof text, "%u", round);
    child = start_writer(campaign, text, pipes[1]);
    (void)close(pipes[1]);
    if (child < 0)
        fail("the writer");
    if (!first)
        acknowledged = listen_to(pipes[0], 'c');
    (void)listen_to(pipes[0], 'b');
    sys_sleep(delay); /* not a wait for an event, but a random instant */
    kill_writer(campaign, child);
    if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        fail("the writer ended by itself");
    acknowledged += listen_to(pipes[0], 0);
    (void)close(pipes[0]);
    return acknowledged;
}

/*
 * Returns the outcome of the kill in this round; `counts` if that is one of the campaign's
 * outcomes. False: no image.
 */
static bool check_file(struct campaign *campaign, unsigned round, unsigned acknowledged, bool counts)
{
    unsigned found_round = 0;
    unsigned found = 0;

    if (!read_image(campaign, &found_round, &found)) {
        campaign->torn++;
        return false;
    }
    if (found_round == round && found == acknowledged + 1)
        campaign->new += counts;
    else if (acknowledged == 0 ? found_round == round - 1 : found_round == round && found == acknowledged)
        campaign->old += counts;
    else
        campaign->lost++;
    return true;
}

/* Kills a writer in its second commit. The window follows the time that a commit takes on this
 * machine now, or the kills would all come before the new image is written. */
static void run_round(struct campaign *campaign, unsigned round, bool counts)
{
    long window = campaign->window;
    unsigned acknowledged = kill_a_writer(campaign, round, false, random() % window);

    if (counts && acknowledged > 1)
        campaign->window = window > 20000 ? window - window / 4 : window;
    else if (counts)
        campaign->window += window / 8;
    (void)check_file(campaign, round, acknowledged, counts);
}

/*
 * Makes a plain file, kills the first commit into it, and lets a writer continue on the remains.
 * Every other kill comes at about the end of the commit: the time between the new image and the
 * return of close() is short.
 */
static void run_first(struct campaign *campaign, unsigned round)
{
    bool at_end = round % 4 == 0;
    long window = campaign->window;
    long delay = at_end ? window - window / 8 + random() % (window / 4) : random() % window;
    unsigned acknowledged;

    fill_image(campaign->image, campaign->size, round - 1, 0);
    make_plain(campaign->file, campaign->image, campaign->size);
    acknowledged = kill_a_writer(campaign, round, true, delay);
    if (acknowledged > 0)
        campaign->window -= window / 4;
    else if (at_end)
        campaign->window += window / 8;
    if (check_file(campaign, round, acknowledged, acknowledged == 0))
        run_round(campaign, round + 1, false);
}

static bool parse_options(struct campaign *campaign)
{
    const struct {
        const char *name;
        bool *set;
    } options[] = {
        {"first", &campaign->first},   {"sizes", &campaign->sizes},         {"plain", &campaign->plain},
        {"record", &campaign->record}, {"naked", &campaign->naked},         {"rename", &campaign->rename},
        {"group", &campaign->group},   {"namespace", &campaign->namespace},
    };

    if (campaign->argc < 5 || campaign->argc > ARGUMENTS_MAX)
        return false;
    campaign->file = campaign->argv[2];
    campaign->size = strtoul(campaign->argv[4], NULL, 10);
    for (int i = 5; i < campaign->argc; i++) {
        const char *word = campaign->argv[i];
        bool known = strncmp(word, "cgroup=", 7) == 0;

        if (known)
            campaign->cgroup = word + 7;
        for (size_t k = 0; k < sizeof options / sizeof *options; k++)
            if (strcmp(word, options[k].name) == 0)
                known = *options[k].set = true;
        if (!known)
            return false;
    }
    return campaign->size >= LINE;
}

/* True if so many kills have found only one side of the commit. */
static bool is_one_sided(const struct campaign *campaign, unsigned kills)
{
    return kills >= MANY && !campaign->naked && (campaign->old == 0 || campaign->new == 0);
}

/* Makes the file, and kills as often as is asked for, or as it takes. Returns how often. */
static unsigned run_all(struct campaign *campaign, unsigned kills)
{
    unsigned round = 1;
    struct stat before;
    struct stat after;

    campaign->image = malloc(campaign->size + 1);
    campaign->expected = malloc(campaign->size);
    if (campaign->image == NULL || campaign->expected == NULL)
        fail("memory");
    fill_image(campaign->image, campaign->size, 0, 0);
    make_plain(campaign->file, campaign->image, campaign->size);
    if (stat(campaign->file, &before) != 0)
        fail(campaign->file);

    campaign->window = 4000000 + (long)campaign->size * 5;
    srandom((unsigned)getpid());
    for (; round <= kills || (round <= 16 * kills && is_one_sided(campaign, kills)); round++) {
        if (campaign->first)
            run_first(campaign, 2 * round);
        else
            run_round(campaign, round, true);
    }
    if (stat(campaign->file, &after) != 0 || before.st_ino != after.st_ino)
        campaign->lost++;
    free(campaign->image);
    free(campaign->expected);
    return round - 1;
}

int main(int argc, char *argv[])
{
    struct campaign campaign = {.argv = argv, .argc = argc};
    const char *round_to_write = NULL;
    unsigned kills;

    if (argc > 3 && strcmp(argv[1], "--write") == 0) {
        round_to_write = argv[2];
        campaign.argv = argv + 2;
        campaign.argc = argc - 2;
    }
    if (!parse_options(&campaign)) {
        fprintf(stderr, "usage: kill LIBRARY FILE KILLS SIZE [OPTION...]\n");
        return 2;
    }
    if (round_to_write != NULL)
        write_for_ever(&campaign, (unsigned)strtoul(round_to_write, NULL, 10));
    kills = (unsigned)strtoul(argv[3], NULL, 10);
    kills = run_all(&campaign, kills);
    printf("%zu bytes%s: %u kills, %u torn, %u lost, %u old, %u new\n", campaign.size,
           campaign.first ? ", first commit" : "", kills, campaign.torn, campaign.lost, campaign.old,
           campaign.new);
    if (campaign.torn + campaign.lost != 0)
        return 1;
    if (is_one_sided(&campaign, kills)) {
        fprintf(stderr, "kill: this proves nothing: all kills hit one side of the commit\n");
        return 2;
    }
    return 0;
}
