/*
 * The actors of a history: an ordinary program, which knows nothing of the shim. It overwrites,
 * appends to, increments and reads one file with many processes and threads at once, and logs its
 * operations.
 *
 *   history run KIND FILE LOGS SECONDS PROCESS...
 *
 * KIND is image, append or counter. PROCESS is "READERS+WRITERS", its threads: "2+1". A process
 * with a single thread also forks and execs in the middle of its writes, and replaces itself by
 * exec now and then. (Where there are more threads, a forked child would hold the others'
 * descriptors too, and their close() would not be the last.) FILE must hold what `history first
 * KIND FILE` writes. Every thread logs to its own file in the folder LOGS; see history.h.
 */
#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LARGEST = 1 << 22,
    READ_MAX = 1 << 27,  /* a file that appenders made */
    THREADS_MAX = 16,    /* in one process */
    PROCESSES_MAX = 32,  /* in one history */
    LINES_MAX = 8,       /* in one append */
    EXEC_AFTER = 50,     /* operations */
    NUMBER_SIZE = 24,    /* digits of a counter */
    OTHERS_PIECE = 1000, /* bytes that stdio writes at once */
};

/* Shared by all processes, in the file LOGS/shared. */
struct shared {
    uint64_t tiny[TINY + 1]; /* how many images of 1 to TINY bytes there were */
};

struct actor {
    char **argv;
    const char *kind;
    const char *file;
    struct shared *shared;
    uint64_t sequence;
    int64_t deadline;
    uint64_t random;
    char *bytes; /* room for an image and for a read */
    size_t room;
    pthread_t thread;
    unsigned id;
    int log;
    bool writes;
    bool alone; /* the only thread of its process */
};

/* Each line of the log names one of these behind the times. */
struct record {
    int64_t start;
    char kind;
    char text[100];
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

static int64_t now(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void log_record(const struct actor *actor, const struct record *record)
{
    int64_t end = now();

    if (dprintf(actor->log, "%c %" PRId64 " %" PRId64 " %s\n", record->kind, record->start, end,
                record->text) < 0)
        fail("log");
}

static void log_failure(const struct actor *actor, struct record *record, const char *call)
{
    record->kind = 'x';
    (void)snprintf(record->text, sizeof record->text, "%s:%s", call, strerrorname_np(errno));
    log_record(actor, record);
}

static uint64_t below(struct actor *actor, uint64_t limit)
{
    return next_random(&actor->random) % limit;
}

/* ---- ways to write ---- */

static bool write_all(int fd, const char *bytes, size_t size)
{
    size_t piece = size > 262144 ? 65536 : size / 3 + 1; /* as programs do */

    for (size_t done = 0; done < size; done += piece) {
        if (piece > size - done)
            piece = size - done;
        if (write(fd, bytes + done, piece) != (ssize_t)piece)
            return false;
    }
    return true;
}

/* history finish FD KIND: copies standard input to FD, an inherited descriptor, and ends. */
static int finish(int fd)
{
    static char bytes[65536];
    ssize_t n;

    while ((n = read(STDIN_FILENO, bytes, sizeof bytes)) > 0)
        if (write(fd, bytes, (size_t)n) != n)
            return 1;
    return n == 0 && close(fd) == 0 ? 0 : 1;
}

/* A child that has become another program writes the bytes. */
static bool write_by_exec(int fd, const char *bytes, size_t size)
{
    char number[16];
    int pipes[2];
    int status;
    pid_t child;
    bool sent;

    (void)snprintf(number, sizeof number, "%d", fd);
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return false;
    child = fork();
    if (child == 0) {
        (void)dup2(pipes[0], STDIN_FILENO);
        (void)execl("/proc/self/exe", "history", "finish", number, (char *)NULL);
        _exit(127);
    }
    (void)close(pipes[0]);
    sent = write_all(pipes[1], bytes, size);
    (void)close(pipes[1]);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 && sent;
}

/* A forked child writes the bytes; the parent closes its descriptor first or last. */
static bool write_by_fork(int *fd, const char *bytes, size_t size, bool close_first)
{
    int status;
    pid_t child = fork();
    bool closed = true;

    if (child == 0)
        _exit(write_all(*fd, bytes, size) && close(*fd) == 0 ? 0 : 1);
    if (close_first) {
        closed = close(*fd) == 0;
        *fd = -1;
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 && closed;
}

static bool write_by_mapping(int fd, const char *bytes, size_t size)
{
    void *mapped;

    if (ftruncate(fd, (off_t)size) != 0)
        return false;
    mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return false;
    memcpy(mapped, bytes, size);
    return munmap(mapped, size) == 0;
}

static bool write_by_stdio(const char *file, const char *mode, const char *bytes, size_t size)
{
    FILE *stream = fopen(file, mode);
    bool done = stream != NULL;

    for (size_t at = 0, piece = OTHERS_PIECE; done && at < size; at += piece) {
        if (piece > size - at)
            piece = size - at;
        done = fwrite(bytes + at, 1, piece, stream) == piece;
    }
    return stream != NULL && fclose(stream) == 0 && done;
}

/* Writes the image or the lines through *fd; closes it, and sets it to -1, in some ways. */
static bool write_somehow(struct actor *actor, int *fd, const char *bytes, size_t size)
{
    size_t half = size / 2;

    switch (below(actor, actor->alone ? 8 : 3)) {
    case 0: /* committed at fsync: the close finds nothing to do */
        return write_all(*fd, bytes, size) && fsync(*fd) == 0;
    case 3:
        return write_all(*fd, bytes, half) && write_by_exec(*fd, bytes + half, size - half);
    case 4:
        return write_all(*fd, bytes, half) && write_by_fork(fd, bytes + half, size - half, false);
    case 5:
        return write_all(*fd, bytes, half) && write_by_fork(fd, bytes + half, size - half, true);
    default:
        return write_all(*fd, bytes, size);
    }
}

static bool open_and_write(struct actor *actor, int flags, const char *bytes, size_t size)
{
    int fd = open(actor->file, flags);
    bool done = fd >= 0 && write_somehow(actor, &fd, bytes, size);

    return (fd < 0 || close(fd) == 0) && done;
}

/* ---- images ---- */

static size_t random_size(struct actor *actor)
{
    size_t size;

    if (below(actor, 16) == 0)
        return 1 + below(actor, TINY);
    size = sizeof(struct image_start) << below(actor, 18);
    size += below(actor, size);
    return size < LARGEST ? size : LARGEST;
}

/* Fixes the size where the numbers for tiny images are used up. */
static uint64_t new_name(struct actor *actor, size_t *size)
{
    if (*size <= TINY) {
        uint64_t number = __atomic_fetch_add(&actor->shared->tiny[*size], 1, __ATOMIC_RELAXED);

        if (number >> (8 * *size) == 0)
            return name_of_tiny(*size, number);
        *size += sizeof(struct image_start);
    }
    return name_of(actor->id, ++actor->sequence);
}

static bool overwrite(struct actor *actor, size_t size)
{
    bool done;
    int fd;

    unsigned way = (unsigned)below(actor, 6);

    /* Two threads that open without truncation share one image: without a lock they would mix their
     * bytes, as they do without the shim. */
    if (!actor->alone && (way == 1 || way == 2))
        way = 3;
    switch (way) {
    case 0:
        return write_by_stdio(actor->file, "w", actor->bytes, size);
    case 1: /* the old bytes are loaded, and all are replaced */
        fd = open(actor->file, O_RDWR);
        done = fd >= 0 && ftruncate(fd, 0) == 0 && write_somehow(actor, &fd, actor->bytes, size);
        return (fd < 0 || close(fd) == 0) && done;
    case 2:
        fd = open(actor->file, O_RDWR);
        done = fd >= 0 && write_by_mapping(fd, actor->bytes, size);
        return (fd < 0 || close(fd) == 0) && done;
    default:
        return open_and_write(actor, O_WRONLY | O_TRUNC, actor->bytes, size);
    }
}

static void write_image(struct actor *actor)
{
    size_t size = random_size(actor);
    uint64_t name = new_name(actor, &size);
    struct record record = {.kind = 'w'};

    make_image(actor->bytes, size, name);
    (void)snprintf(record.text, sizeof record.text, "%" PRIu64, name);
    record.start = now();
    if (overwrite(actor, size))
        log_record(actor, &record);
    else
        log_failure(actor, &record, "overwrite");
}

/* Reads the whole content; returns its length, or -1. */
static ssize_t read_content(struct actor *actor)
{
    int fd = open(actor->file, O_RDONLY | O_CLOEXEC);
    size_t done = 0;
    ssize_t n = -1;

    if (fd < 0)
        return -1;
    while (done < actor->room && (n = read(fd, actor->bytes + done, actor->room - done)) > 0)
        done += (size_t)n;
    if (close(fd) != 0 || n < 0)
        return -1;
    return (ssize_t)done;
}

static void read_image(struct actor *actor)
{
    struct record record = {.kind = 'r', .start = now()};
    ssize_t size = read_content(actor);
    uint64_t name;

    if (size < 0) {
        log_failure(actor, &record, "read");
        return;
    }
    int64_t end = now(); /* the check below is no part of the read */
    if (image_name(actor->bytes, (size_t)size, &name))
        (void)dprintf(actor->log, "r %" PRId64 " %" PRId64 " %" PRIu64 "\n", record.start, end, name);
    else
        (void)dprintf(actor->log, "r %" PRId64 " %" PRId64 " torn\n", record.start, end);
}

/* ---- lines ---- */

static size_t make_lines(struct actor *actor, uint64_t count)
{
    size_t size = 0;

    for (uint64_t i = 0; i < count; i++)
        size += make_line(actor->bytes + size, actor->id, actor->sequence + i);
    return size;
}

static void log_lines(struct actor *actor, struct record *record, uint64_t count, bool done)
{
    (void)snprintf(record->text, sizeof record->text, "%u %" PRIu64 " %" PRIu64, actor->id, actor->sequence,
                   actor->sequence + count - 1);
    if (done)
        log_record(actor, record);
    else
        log_failure(actor, record, "append");
    actor->sequence += count;
}

/* Makes two commits by one descriptor: bytes that others append in between stay in between. */
static void append_twice(struct actor *actor)
{
    struct record record = {.kind = 'w', .start = now()};
    int fd = open(actor->file, O_WRONLY | O_APPEND | O_CLOEXEC);
    size_t size = make_lines(actor, 2);

    log_lines(actor, &record, 2, fd >= 0 && write_all(fd, actor->bytes, size) && fsync(fd) == 0);
    record = (struct record){.kind = 'w', .start = now()};
    size = make_lines(actor, 3);
    log_lines(actor, &record, 3, fd >= 0 && write_all(fd, actor->bytes, size) && close(fd) == 0);
}

static void append_lines(struct actor *actor)
{
    uint64_t count = 1 + below(actor, LINES_MAX);
    struct record record = {.kind = 'w'};
    uint64_t way = below(actor, 6);
    size_t size;
    bool done;

    if (way == 0) {
        append_twice(actor);
        return;
    }
    size = make_lines(actor, count);
    record.start = now();
    if (way == 1)
        done = write_by_stdio(actor->file, "a", actor->bytes, size);
    else
        done = open_and_write(actor, way == 2 ? O_RDWR | O_APPEND : O_WRONLY | O_APPEND, actor->bytes, size);
    log_lines(actor, &record, count, done);
}

static void read_lines(struct actor *actor)
{
    struct record record = {.kind = 'r', .start = now()};
    ssize_t size = read_content(actor);
    int64_t end = now();

    if (size < 0)
        log_failure(actor, &record, "read");
    else
        (void)dprintf(actor->log, "r %" PRId64 " %" PRId64 " %zd %" PRIu64 "\n", record.start, end, size,
                      hash_bytes(HASH_START, actor->bytes, (size_t)size));
}

/* ---- a counter ---- */

/* A counter is a number of fixed width and then filler, so that the file has many sizes. */
static size_t make_counter(struct actor *actor, uint64_t value)
{
    size_t filler = below(actor, UINT64_C(1) << below(actor, 16));

    (void)snprintf(actor->bytes, NUMBER_SIZE + 1, "%0*" PRIu64 "\n", NUMBER_SIZE - 1, value);
    memset(actor->bytes + NUMBER_SIZE, '.', filler);
    return NUMBER_SIZE + filler;
}

static bool parse_counter(const char *bytes, size_t size, uint64_t *value)
{
    for (size_t i = NUMBER_SIZE; i < size; i++)
        if (bytes[i] != '.')
            return false;
    return size >= NUMBER_SIZE && bytes[NUMBER_SIZE - 1] == '\n' && sscanf(bytes, "%" SCNu64, value) == 1;
}

static void increment(struct actor *actor)
{
    struct record record = {.kind = 'w', .start = now()};
    int fd = open(actor->file, O_RDWR);
    ssize_t n = fd < 0 ? -1 : read(fd, actor->bytes, actor->room);
    uint64_t value = 0;
    bool done = n >= 0 && parse_counter(actor->bytes, (size_t)n, &value);

    if (n >= 0 && !done)
        errno = EBADMSG;
    if (done) {
        size_t size = make_counter(actor, value + 1);

        done = lseek(fd, 0, SEEK_SET) == 0 && ftruncate(fd, (off_t)size) == 0 &&
               write_somehow(actor, &fd, actor->bytes, size);
        (void)snprintf(record.text, sizeof record.text, "%" PRIu64, value + 1);
    }
    if ((fd < 0 || close(fd) == 0) && done)
        log_record(actor, &record);
    else
        log_failure(actor, &record, "increment");
}

static void read_counter(struct actor *actor)
{
    struct record record = {.kind = 'r', .start = now()};
    ssize_t size = read_content(actor);
    uint64_t value;

    if (size < 0) {
        log_failure(actor, &record, "read");
        return;
    }
    if (parse_counter(actor->bytes, (size_t)size, &value))
        (void)snprintf(record.text, sizeof record.text, "%" PRIu64, value);
    else
        (void)snprintf(record.text, sizeof record.text, "torn");
    log_record(actor, &record);
}

/* ---- actors and processes ---- */

/* Continues the same actor in a new program, which loads the shim anew. */
static void replace_by_exec(const struct actor *actor)
{
    char id[16];
    char sequence[32];
    char deadline[32];

    (void)snprintf(id, sizeof id, "%u", actor->id);
    (void)snprintf(sequence, sizeof sequence, "%" PRIu64, actor->sequence);
    (void)snprintf(deadline, sizeof deadline, "%" PRId64, actor->deadline);
    (void)execl("/proc/self/exe", "history", "process", actor->kind, actor->file, actor->argv[4], id,
                actor->writes ? "0+1" : "1+0", deadline, sequence, (char *)NULL);
    fail("exec");
}

static void act(struct actor *actor)
{
    if (strcmp(actor->kind, "image") == 0)
        actor->writes ? write_image(actor) : read_image(actor);
    else if (strcmp(actor->kind, "append") == 0)
        actor->writes ? append_lines(actor) : read_lines(actor);
    else
        actor->writes ? increment(actor) : read_counter(actor);
}

static void *run_actor(void *argument)
{
    struct actor *actor = argument;

    for (unsigned count = 1; now() < actor->deadline; count++) {
        act(actor);
        if (actor->alone && count == EXEC_AFTER)
            replace_by_exec(actor);
    }
    return NULL;
}

static void prepare(struct actor *actor, const char *logs)
{
    char path[4096];
    int fd;

    (void)snprintf(path, sizeof path, "%s/shared", logs);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct shared)) != 0)
        fail(path);
    actor->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    (void)snprintf(path, sizeof path, "%s/%u.log", logs, actor->id);
    actor->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    actor->room = strcmp(actor->kind, "append") == 0 && !actor->writes ? READ_MAX : LARGEST + 1;
    /* untouched pages cost nothing */
    actor->bytes = mmap(NULL, actor->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (actor->shared == MAP_FAILED || actor->log < 0 || actor->bytes == MAP_FAILED)
        fail(path);
    actor->random = (uint64_t)now() * 1000003 + actor->id + 1;
}

/* history process KIND FILE LOGS FIRST_ID READERS+WRITERS DEADLINE SEQUENCE */
static int run_process(char *argv[])
{
    static struct actor actors[THREADS_MAX];
    unsigned first = (unsigned)strtoul(argv[5], NULL, 10);
    char *rest;
    unsigned readers = (unsigned)strtoul(argv[6], &rest, 10);
    unsigned count = readers + (unsigned)strtoul(rest + 1, NULL, 10);

    if (count == 0 || count > THREADS_MAX)
        return 2;
    for (unsigned i = 0; i < count; i++) {
        actors[i] = (struct actor){
            .argv = argv,
            .kind = argv[2],
            .file = argv[3],
            .id = first + i,
            .writes = i >= readers,
            .alone = count == 1,
            .deadline = strtoll(argv[7], NULL, 10),
            .sequence = strtoull(argv[8], NULL, 10),
        };
        prepare(&actors[i], argv[4]);
        if (i != 0 && pthread_create(&actors[i].thread, NULL, run_actor, &actors[i]) != 0)
            fail("thread");
    }
    (void)run_actor(&actors[0]);
    for (unsigned i = 1; i < count; i++)
        (void)pthread_join(actors[i].thread, NULL);
    return 0;
}

/* Writes the first content of a history, as a plain file. */
static int write_first(const char *kind, const char *file)
{
    struct actor actor = {.random = 1};
    char bytes[4096];
    size_t size = sizeof bytes;
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    actor.bytes = bytes;
    if (strcmp(kind, "image") == 0)
        make_image(bytes, sizeof bytes, name_of(0, 0));
    else if (strcmp(kind, "append") == 0)
        size = 0;
    else
        size = make_counter(&actor, 0);
    return fd >= 0 && write(fd, bytes, size) == (ssize_t)size && close(fd) == 0 ? 0 : 1;
}

/* Logs the content after all processes have ended, and before they begin. */
static void log_ends(char *argv[], bool begin)
{
    struct actor actor = {.argv = argv, .kind = argv[2], .file = argv[3]};

    prepare(&actor, argv[4]);
    if (!begin)
        act(&actor);
    else if (strcmp(actor.kind, "append") != 0)
        (void)dprintf(actor.log, "w 0 0 0\n");
    (void)close(actor.log);
}

static int run(int argc, char *argv[])
{
    pid_t children[PROCESSES_MAX];
    unsigned id = 1;
    char deadline[32];
    int failed = 0;

    log_ends(argv, true);
    (void)snprintf(deadline, sizeof deadline, "%" PRId64,
                   now() + (int64_t)(strtod(argv[5], NULL) * 1000000000));
    for (int i = 6; i < argc && i - 6 < PROCESSES_MAX; i++) {
        char first[16];
        char *rest;

        (void)snprintf(first, sizeof first, "%u", id);
        id += (unsigned)strtoul(argv[i], &rest, 10);
        id += (unsigned)strtoul(rest + 1, NULL, 10);
        children[i - 6] = fork();
        if (children[i - 6] == 0) {
            (void)execl("/proc/self/exe", "history", "process", argv[2], argv[3], argv[4], first, argv[i],
                        deadline, "0", (char *)NULL);
            _exit(127);
        }
    }
    for (int i = 6; i < argc && i - 6 < PROCESSES_MAX; i++) {
        int status;

        if (children[i - 6] < 0 || waitpid(children[i - 6], &status, 0) < 0 || status != 0)
            failed = 2;
    }
    log_ends(argv, false);
    return failed;
}

int main(int argc, char *argv[])
{
    if (argc == 4 && strcmp(argv[1], "first") == 0)
        return write_first(argv[2], argv[3]);
    if (argc > 6 && strcmp(argv[1], "run") == 0)
        return run(argc, argv);
    if (argc == 9 && strcmp(argv[1], "process") == 0)
        return run_process(argv);
    if (argc == 3 && strcmp(argv[1], "finish") == 0)
        return finish((int)strtol(argv[2], NULL, 10));
    fprintf(stderr, "usage: history first KIND FILE\n"
                    "       history run KIND FILE LOGS SECONDS READERS+WRITERS...\n");
    return 2;
}
