/* These situations once lost or mixed up content: full tables, handlers that leave, threads that
 * fork, numbers that move at exec. */
#include "expect.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>

static void check_fork(pid_t (*make)(void), const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    pid_t child;

    write_text(fd, "parent");
    child = make();
    if (child == 0) {
        pid_t grandchild = vfork(); /* its first call must not take the table for its own */

        if (grandchild == 0) {
            (void)close(0);
            _exit(0);
        }
        expect_exit(grandchild, 0);
        write_text(fd, " child");
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    EXPECT(close(fd) == 0);
    expect_exit(child, 0);
    expect_content(file, "parent child");
}

static void test_fork(const char *file)
{
    check_fork(fork, file);
}

extern pid_t _Fork(void);
extern pid_t other_fork(void) __asm__("__fork") __attribute__((weak)); /* not in musl */

static void test___fork(const char *file)
{
    check_fork(other_fork != NULL ? other_fork : fork, file);
}

static void test__Fork(const char *file)
{
    check_fork(_Fork, file);
}

static void append(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_APPEND);

    write_text(fd, text);
    EXPECT(close(fd) == 0);
}

/* The exit commits though no descriptor is free to look into /proc/self/fd. */
static void test_full_table(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        struct rlimit limit = {64, 64};
        int fd = open(file, O_WRONLY | O_TRUNC);

        EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        write_text(fd, "full");
        while (dup(0) >= 0)
            continue;
        limit = (struct rlimit){0, 0};
        EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "full");
}

static void use_one_number(const char *file, const char *created)
{
    struct rlimit limit = {64, 1024};
    struct stat status;
    int last = 0;
    int fd;
    pid_t writer;

    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (fd = dup(0); fd >= 0; fd = dup(0))
        last = fd;
    EXPECT_ERROR(open(created, O_WRONLY | O_CREAT, 0600), EMFILE);
    EXPECT_ERROR(stat(created, &status), ENOENT);
    EXPECT_ERROR(open(file, O_RDONLY), EMFILE);
    EXPECT(close(last) == 0);

    fd = open(file, O_WRONLY | O_APPEND);
    EXPECT(fd == last);
    writer = fork();
    if (writer == 0) {
        EXPECT(close(0) == 0);
        append(file, " other");
        _exit(0);
    }
    expect_exit(writer, 0);
    EXPECT(stat(file, &status) == 0 && status.st_size == 9);
    write_text(fd, " appended");
    EXPECT(close(fd) == 0);
    expect_content(file, "old other appended");

    fd = open(created, O_WRONLY | O_CREAT | O_EXCL, 0600);
    EXPECT(fd == last);
    write_text(fd, "new");
    EXPECT(close(fd) == 0);
    expect_content(created, "new");
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 64);
}

/* One number is free, and one open takes it; the shim must find its own numbers elsewhere. */
static void test_one_number_left(const char *file)
{
    const char *created = sibling(file, ".created");
    pid_t child = fork();

    if (child == 0) {
        use_one_number(file, created);
        _exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "old other appended");
    EXPECT(unlink(created) == 0);
}

static int count_free(void)
{
    int taken[64];
    int count = 0;

    while ((taken[count] = dup(0)) >= 0)
        count++;
    EXPECT(errno == EMFILE);
    for (int i = 0; i < count; i++)
        EXPECT(close(taken[i]) == 0);
    return count;
}

/* Files that are open take one number each, as without the shim. */
static void test_all_numbers_left(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        struct rlimit limit = {64, 1024};
        int before;

        EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        before = count_free();
        for (int i = 0; i < 20; i++)
            EXPECT(open(file, O_RDWR) >= 0);
        EXPECT(count_free() == before - 20);
        EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 64);
        _exit(0);
    }
    expect_exit(child, 0);
}

/* ---- a handler leaves close() for good, while it waits for another process's lock ---- */

static int release_pipe[2];

static void leave_by_exit(int signal)
{
    (void)signal;
    (void)close(release_pipe[1]); /* the other process ends, and its lock */
    _exit(7);
}

static void test_handler_exits(const char *file)
{
    int ready[2];
    char byte;
    pid_t holder;
    pid_t child;

    EXPECT(pipe(release_pipe) == 0 && pipe(ready) == 0);
    holder = fork();
    if (holder == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(file, O_RDWR);

        (void)close(release_pipe[1]);
        EXPECT(fcntl(fd, F_OFD_SETLK, &lock) == 0 && write(ready[1], "", 1) == 1);
        (void)read(release_pipe[0], &byte, 1); /* until the other end is closed */
        _exit(0);
    }
    EXPECT(read(ready[0], &byte, 1) == 1);
    child = fork();
    if (child == 0) {
        struct itimerval soon = {.it_value = {.tv_usec = 100000}};
        int fd = open(file, O_WRONLY | O_TRUNC);

        write_text(fd, "left");
        EXPECT(signal(SIGALRM, leave_by_exit) != SIG_ERR && setitimer(ITIMER_REAL, &soon, NULL) == 0);
        (void)close(fd);
        (void)pause();
    }
    (void)close(release_pipe[1]);
    expect_exit(child, 7);
    expect_exit(holder, 0);
    expect_content(file, "left");
}

/* ---- threads at work while another one forks ---- */

enum { THREADS = 4, FORKS = 150, ROUND = 64 };

static int stop;

static void *rewrite(void *name)
{
    char text[ROUND + 1];

    for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        int fd = open(name, O_WRONLY | O_TRUNC);

        memset(text, 'a' + (int)(i % 26), ROUND);
        text[ROUND] = '\0';
        EXPECT(fd >= 0);
        write_text(fd, text);
        EXPECT(close(fd) == 0);
    }
    return NULL;
}

static void test_fork_of_threads(const char *file)
{
    pthread_t threads[THREADS];
    char *names[THREADS];

    for (int i = 0; i < THREADS; i++) {
        char suffix[] = ".0";
        int fd;

        suffix[1] = (char)('0' + i);
        names[i] = sibling(file, suffix);
        fd = open(names[i], O_WRONLY | O_CREAT, 0600);
        EXPECT(fd >= 0 && close(fd) == 0);
        EXPECT(pthread_create(&threads[i], NULL, rewrite, names[i]) == 0);
    }
    for (int i = 0; i < FORKS; i++) {
        int fd = open(file, O_WRONLY | O_TRUNC);
        pid_t child;

        write_text(fd, "from ");
        child = fork();
        if (child == 0) {
            write_text(fd, "child");
            EXPECT(fsync(fd) == 0);
            _exit(0);
        }
        EXPECT(close(fd) == 0);
        expect_exit(child, 0);
        expect_content(file, "from child");
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        char *found;

        EXPECT(pthread_join(threads[i], NULL) == 0);
        found = content_of(names[i]);
        EXPECT(strlen(found) == ROUND && strspn(found, (char[]){found[0], '\0'}) == ROUND);
        EXPECT(unlink(names[i]) == 0);
    }
}

/* ---- exec ---- */

/* Runs `echo -n new` with its output in `fd`, after `prepare`. */
static void run_echo(int fd, const char *text)
{
    EXPECT(dup2(fd, 1) == 1);
    (void)execlp("echo", "echo", "-n", text, (char *)NULL);
    _exit(127);
}

/* The program has a descriptor among the private numbers, and loses it at the exec. */
static void test_exec_high_numbers(const char *file)
{
    for (int high = 760; high < 776; high++) {
        pid_t child = fork();

        if (child == 0) {
            int fd = open(file, O_WRONLY | O_TRUNC);

            EXPECT(dup3(0, high, O_CLOEXEC) == high);
            run_echo(fd, "new");
        }
        expect_exit(child, 0);
        expect_content(file, "new");
        EXPECT(truncate(file, 0) == 0);
    }
}

/* Two sessions on one file go through an exec: each keeps its own base. */
static void test_exec_two_appenders(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int other = open(sibling(file, ".gone"), O_WRONLY | O_CREAT, 0600);
        int first = open(file, O_WRONLY | O_APPEND);
        int second;
        pid_t writer;

        EXPECT(close(other) == 0); /* a hole below */
        writer = fork();
        if (writer == 0) {
            append(file, "[other]");
            _exit(0);
        }
        expect_exit(writer, 0);
        second = open(file, O_RDWR | O_APPEND);
        EXPECT(second >= 0);
        run_echo(first, "[first]");
    }
    expect_exit(child, 0);
    EXPECT(unlink(sibling(file, ".gone")) == 0);
    expect_content(file, "old[other][first]");
}

/* ---- streams ---- */

static void test_freopen_itself(const char *file)
{
    FILE *stream = open_stream(file, "w");

    EXPECT(fputs("0123456789", stream) >= 0);
    stream = freopen(file, "r+", stream);
    EXPECT(stream != NULL && fseek(stream, 0, SEEK_END) == 0 && fputs("tail", stream) >= 0);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "0123456789tail");
}

/* A descriptor is put under a stream that was another file's; the exit flushes it. */
static void test_moved_under_a_stream(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        FILE *stream = fopen("/dev/null", "w");
        int fd = open(file, O_WRONLY | O_TRUNC);

        EXPECT(dup2(fd, fileno(stream)) >= 0 && close(fd) == 0);
        EXPECT(fputs("flushed at exit", stream) >= 0);
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "flushed at exit");
}

/* The program closes a stream's descriptor itself; the shim must not touch the stream at exit. */
static void test_closed_behind_a_stream(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        FILE *stream = open_stream(file, "w");
        int fd;

        EXPECT(close(fileno(stream)) == 0);
        EXPECT(fclose(stream) == EOF || true);
        fd = open(file, O_WRONLY | O_TRUNC);
        write_text(fd, "after");
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "after");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fork", test_fork},
        {"__fork", test___fork},
        {"_Fork", test__Fork},
        {"full_table", test_full_table},
        {"one_number_left", test_one_number_left},
        {"all_numbers_left", test_all_numbers_left},
        {"handler_exits", test_handler_exits},
        {"fork_of_threads", test_fork_of_threads},
        {"exec_high_numbers", test_exec_high_numbers},
        {"exec_two_appenders", test_exec_two_appenders},
        {"freopen_itself", test_freopen_itself},
        {"moved_under_a_stream", test_moved_under_a_stream},
        {"closed_behind_a_stream", test_closed_behind_a_stream},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
