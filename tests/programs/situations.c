/* The places that calls come from: forks, handlers, threads, small stacks, other processes. */
#include "expect.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#ifdef __GLIBC__ /* musl has no coroutines */
#include <ucontext.h>
#endif

extern char **environ;

/* Opens, writes, closes; async-signal-safe. */
static void overwrite(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_TRUNC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0)
        _exit(3);
}

/* ---- process trees ---- */

static void test_fork(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    pid_t child = fork();

    if (child == 0) {
        write_text(fd, "child");
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, is_wrapped() ? "old" : "child"); /* the parent has it open still */
    write_text(fd, " parent");
    EXPECT(close(fd) == 0);
    expect_content(file, "child parent");
}

/* Tells whether these bytes are anywhere in the inode. Goes past the shim, whose calls might
 * commit. */
static bool raw_file_holds(const char *file, const char *text)
{
    static char bytes[1 << 16];
    int fd = sys_openat(AT_FDCWD, file, O_RDONLY, 0);
    ssize_t n = read(fd, bytes, sizeof bytes);

    EXPECT(sys_close(fd) == 0);
    return n > 0 && memmem(bytes, (size_t)n, text, strlen(text)) != NULL;
}

/* The parent closes first; the child is the last. */
static void test_fork_last(const char *file)
{
    int go[2];
    int done[2];
    char byte;
    pid_t child;
    int fd = open(file, O_WRONLY | O_TRUNC);

    EXPECT(pipe(go) == 0 && pipe(done) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(read(go[0], &byte, 1) == 1);
        write_text(fd, "by the child");
        EXPECT(close(fd) == 0);
        /* the child has committed itself, and did not leave it to its parent */
        EXPECT(raw_file_holds(file, "by the child"));
        EXPECT(write(done[1], "", 1) == 1);
        EXPECT(read(go[0], &byte, 1) == 1);
        _exit(0);
    }
    EXPECT(close(fd) == 0);
    expect_content(file, is_wrapped() ? "old" : "");
    EXPECT(write(go[1], "", 1) == 1);
    EXPECT(read(done[0], &byte, 1) == 1);
    expect_content(file, "by the child"); /* its close returned, though it goes on living */
    EXPECT(write(go[1], "", 1) == 1);
    expect_exit(child, 0);
}

/* The child commits, and the parent executes another program: the session does not come along, and
 * no lock either. */
static void test_fork_last_exec(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    int go[2];
    char byte;
    pid_t child;

    EXPECT(pipe2(go, O_CLOEXEC) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(read(go[0], &byte, 1) == 1);
        write_text(fd, "by the child");
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    EXPECT(close(fd) == 0 && write(go[1], "", 1) == 1);
    expect_exit(child, 0);
    /* no call in between that would find the session's end */
    (void)execl("/bin/sh", "sh", "-c",
                "for fd in /proc/$$/fd/*; do [ \"$(readlink $fd)\" != \"$0\" ] || exit 1; done", file,
                (char *)NULL);
    EXPECT(!"exec");
}

enum { SHARED_SIZE = 60000, SHARED_SYNCS = 60 };

/* Processes that share one open file description, and sync it at once: each commit is whole. */
static void test_fork_sync(const char *file)
{
    static char bytes[SHARED_SIZE];
    int fd = open(file, O_RDWR | O_TRUNC);
    pid_t children[3];

    memset(bytes, 'x', sizeof bytes);
    EXPECT(write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes && fsync(fd) == 0);
    for (int c = 0; c < 3; c++) {
        children[c] = fork();
        if (children[c] == 0) {
            for (int i = 0; i < SHARED_SYNCS; i++) {
                char letter = (char)('a' + i % 26);

                EXPECT(pwrite(fd, &letter, 1, i * 3 + c) == 1);
                EXPECT(fsync(fd) == 0);
                EXPECT(content_of(file)[i * 3 + c] == letter); /* I4 */
            }
            _exit(0);
        }
    }
    for (int alive = 3; alive > 0;) {
        EXPECT(strlen(content_of(file)) == SHARED_SIZE);
        while (alive > 0 && waitpid(children[alive - 1], NULL, WNOHANG) == children[alive - 1])
            alive--;
    }
    EXPECT(close(fd) == 0);
    for (int i = 0; i < SHARED_SYNCS * 3; i++)
        EXPECT(content_of(file)[i] == 'a' + i / 3 % 26);
}

static void *sync_descriptor(void *fd)
{
    EXPECT(fsync(*(int *)fd) == 0);
    return NULL;
}

static void fill_pipe(int fd)
{
    char bytes[4096] = "";

    EXPECT(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    while (write(fd, bytes, sizeof bytes) > 0 || write(fd, bytes, 1) > 0)
        continue;
    EXPECT(fcntl(fd, F_SETFL, 0) == 0);
}

/*
 * A child that is forked while another thread commits has none of the commit's descriptors (I7): it
 * closes its own and lives on, and the parent's close commits. The line that tells of the commit
 * stops it half-way: stderr is a pipe that is full.
 */
static void test_fork_at_commit(const char *file)
{
    static char bytes[1 << 16];
    int saved = dup(2);
    int log[2];
    int ends[2];
    pthread_t thread;
    pid_t child;
    int fd;

    if (getenv("ATOMSHIM_LOG") == NULL) {
        EXPECT(setenv("ATOMSHIM_LOG", "info", 1) == 0);
        (void)execl("/proc/self/exe", "situations", "fork_at_commit", file, (char *)NULL);
        _exit(127);
    }
    fd = open(file, O_WRONLY | O_TRUNC);
    write_text(fd, "synced");
    EXPECT(pipe(log) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && dup2(log[1], 2) == 2);
    fill_pipe(2);
    EXPECT(pthread_create(&thread, NULL, sync_descriptor, &fd) == 0);
    while (!raw_file_holds(file, "synced"))
        (void)sched_yield();
    child = fork();
    if (child == 0) {
        EXPECT(dup2(saved, 2) == 2);
        EXPECT(close(fd) == 0 && write(ends[1], "", 1) == 1 && read(ends[1], bytes, 1) == 1);
        _exit(0);
    }
    EXPECT(read(ends[0], bytes, 1) == 1);
    EXPECT(read(log[0], bytes, sizeof bytes) > 0 && pthread_join(thread, NULL) == 0 && dup2(saved, 2) == 2);
    write_text(fd, " and closed");
    EXPECT(close(fd) == 0);
    expect_stored(file, "synced and closed");
    EXPECT(write(ends[0], "", 1) == 1);
    expect_exit(child, 0);
}

/* Opens a new description of a file that was opened for reading only, by its name in /proc. */
static void test_reopened(const char *file)
{
    char name[64];
    int fd = open(file, O_RDONLY);
    int again;

    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    again = open(name, O_WRONLY);
    if (again >= 0 && write(again, "new", 3) == 3) {
        EXPECT(close(again) == 0 && close(fd) == 0);
        expect_content(file, "new");
        return;
    }
    EXPECT(is_wrapped()); /* refused aloud, not dropped silently */
    EXPECT(close(fd) == 0);
    expect_content(file, "old");
}

static void test_vfork(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    int status = 0;
    pid_t child;

    write_text(fd, "parent");
    child = vfork();
    if (child == 0) {
        if (dup2(fd, 30) != 30 || close(fd) != 0 || close(30) != 0)
            _exit(1);
        _exit(0);
    }
    expect_exit(child, 0);
    EXPECT(fcntl(fd, F_GETFD) == 0); /* the child's closes are its own */
    child = vfork();
    if (child == 0) {
        (void)dup2(fd, 1);
        (void)execl("/bin/echo", "echo", " and echo", (char *)NULL);
        _exit(127);
    }
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    write_text(fd, "end");
    EXPECT(close(fd) == 0);
    expect_content(file, "parent and echo\nend");
}

/* The calls of the child act as its own do without the shim; the session stays its parent's. */
static void test_vfork_calls(const char *file)
{
    int fd = open_new(file);
    pid_t child = vfork();

    if (child == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        _exit(fcntl(fd, F_SETLK, &lock) != 0 || ftruncate(fd, 2) != 0 || fcntl(fd, F_SETFL, O_APPEND) != 0 ||
              fsync(fd) != 0 || fchmod(fd, 0600) != 0);
    }
    expect_exit(child, 0);
    expect_content(file, "ne");
    write_text(fd, "xt");
    EXPECT(close(fd) == 0);
    expect_content(file, "next");
    EXPECT((status_of(file).st_mode & 07777) == 0600);
}

static void test_vfork_opens(const char *file)
{
    pid_t child = vfork();

    if (child == 0) {
        overwrite(file, "by the vfork child");
        _exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "by the vfork child");
    overwrite(file, "by the parent");
    expect_content(file, "by the parent");
}

static void test_posix_spawn(const char *file)
{
    char *arguments[] = {"echo", "spawned", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;

    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_addclose(&actions, 0) == 0);
    EXPECT(posix_spawn(&child, "/bin/echo", &actions, NULL, arguments, environ) == 0);
    expect_exit(child, 0);
    int fd = open(file, O_WRONLY | O_TRUNC);
    EXPECT(posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
    EXPECT(posix_spawn(&child, "/bin/echo", &actions, NULL, arguments, environ) == 0);
    EXPECT(close(fd) == 0);
    expect_exit(child, 0);
    expect_content(file, "spawned\n");
}

/* A descriptor that another process got over a socket, and closes last. */
static void test_passed(const char *file)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int pair[2];
    int fd = -1;
    pid_t child;

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    child = fork(); /* before the open: it inherits nothing */
    if (child == 0) {
        EXPECT(recvmsg(pair[1], &message, 0) == 1);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        write_text(fd, "passed");
        EXPECT(close(fd) == 0);
        EXPECT(write(pair[1], "", 1) == 1);
        _exit(0);
    }
    fd = open(file, O_WRONLY | O_TRUNC);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    EXPECT(sendmsg(pair[0], &message, 0) == 1);
    EXPECT(read(pair[0], &byte, 1) == 1);
    expect_exit(child, 0);
    write_text(fd, " and back");
    EXPECT(close(fd) == 0);
    expect_content(file, "passed and back");
}

static void test_daemon(const char *file)
{
    int done[2];
    char byte;
    int fd = open(file, O_WRONLY | O_TRUNC);

    EXPECT(pipe(done) == 0);
    if (fork() == 0) {
        if (fork() != 0)
            _exit(0);
        (void)setsid();
        EXPECT(close(done[0]) == 0);
        write_text(fd, "daemon");
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    EXPECT(close(done[1]) == 0);
    EXPECT(close(fd) == 0);
    EXPECT(read(done[0], &byte, 1) == 0); /* the last of them has ended */
    expect_content(file, "daemon");
}

/* Run again with "exec" as the case, the descriptor in the environment. */
static void test_exec(const char *file)
{
    const char *inherited = getenv("inherited");
    char number[16];
    int fd;

    if (inherited == NULL) {
        fd = open(file, O_WRONLY | O_TRUNC);
        write_text(fd, "before");
        (void)snprintf(number, sizeof number, "%d", fd);
        EXPECT(setenv("inherited", number, 1) == 0);
        (void)execl("/proc/self/exe", "situations", "exec", file, (char *)NULL);
        _exit(127);
    }
    fd = (int)strtol(inherited, NULL, 10);
    expect_content(file, is_wrapped() ? "old" : "before");
    write_text(fd, " and after");
    EXPECT(close(fd) == 0);
    expect_content(file, "before and after");
}

/* ---- threads, handlers, stacks ---- */

enum { THREADS = 8, ROUNDS = 60 };

static void *overwrite_file(void *name)
{
    char text[64];

    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(text, sizeof text, "round %d", i);
        overwrite(name, text);
    }
    return NULL;
}

/* Every thread on a file of its own, and all of them on one. */
static void test_threads(const char *file)
{
    pthread_t threads[2 * THREADS];
    char *names[THREADS];

    for (int i = 0; i < THREADS; i++) {
        names[i] = sibling(file, (char[]){'.', (char)('a' + i), '\0'});
        EXPECT(close(open(names[i], O_WRONLY | O_CREAT, 0600)) == 0);
        EXPECT(pthread_create(&threads[i], NULL, overwrite_file, names[i]) == 0);
        EXPECT(pthread_create(&threads[THREADS + i], NULL, overwrite_file, (void *)file) == 0);
    }
    for (int i = 0; i < 2 * THREADS; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
        expect_content(names[i], "round 59");
        EXPECT(unlink(names[i]) == 0);
    }
    EXPECT(!is_wrapped() || strncmp(content_of(file), "round ", 6) == 0);
}

static const char *handler_file;
static volatile sig_atomic_t handled;

static void handler(int signal)
{
    int error = errno;

    (void)signal;
    overwrite(handler_file, "by the handler");
    handled++;
    errno = error;
}

/* Sends one signal, some time into the next calls. One at a time: if a commit takes longer than the
 * interval of a periodic timer, the program would only handle signals. */
static void interrupt_soon(int turn)
{
    struct itimerval once = {{0, 0}, {0, 1 + turn * 37 % 500}};

    EXPECT(setitimer(ITIMER_REAL, &once, NULL) == 0);
}

static void interrupt_no_more(void)
{
    struct itimerval never = {{0, 0}, {0, 0}};

    EXPECT(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

/* A handler that opens, writes and closes while the program is inside open, write or close. */
static void test_handler(const char *file)
{
    const char *own = sibling(file, ".own");

    handler_file = file;
    EXPECT(close(open(own, O_WRONLY | O_CREAT, 0600)) == 0);
    EXPECT(signal(SIGALRM, handler) != SIG_ERR);
    for (int i = 0; i < 300 || handled < 20; i++) {
        interrupt_soon(i);
        overwrite(own, i % 2 == 0 ? "even" : "odd");
    }
    interrupt_no_more();
    expect_content(file, "by the handler");
    overwrite(own, "last");
    expect_content(own, "last");
    EXPECT(unlink(own) == 0);
}

/* In a handler while the program is inside calls on the very same file. */
static void test_handler_same_file(const char *file)
{
    handler_file = file;
    EXPECT(signal(SIGALRM, handler) != SIG_ERR);
    for (int i = 0; i < 300 || handled < 20; i++) {
        interrupt_soon(i);
        overwrite(file, i % 2 == 0 ? "even" : "odd");
    }
    interrupt_no_more();
    overwrite(file, "last");
    expect_content(file, "last");
}

#ifdef __GLIBC__
enum { SMALL_STACK = 8192 };

static ucontext_t main_context;
static const char *small_file;

static void on_small_stack(void)
{
    struct stat status;
    int fd;

    overwrite(small_file, "small stack");
    if (stat(small_file, &status) != 0 || status.st_size != 11)
        _exit(4);
    fd = open(small_file, O_RDWR);
    if (fd < 0 || write(fd, "S", 1) != 1 || fsync(fd) != 0 || close(fd) != 0)
        _exit(5);
}

/* The calls work on small stacks, as coroutines and Go's C calls have; below the stack lies a page
 * that must not be touched. */
static void test_small_stack(const char *file)
{
    static ucontext_t small;
    char *stack = mmap(NULL, SMALL_STACK + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(stack != MAP_FAILED);
    EXPECT(mprotect(stack + 4096, SMALL_STACK, PROT_READ | PROT_WRITE) == 0);
    small_file = file;
    EXPECT(getcontext(&small) == 0);
    small.uc_stack.ss_sp = stack + 4096;
    small.uc_stack.ss_size = SMALL_STACK;
    small.uc_link = &main_context;
    makecontext(&small, on_small_stack, 0);
    EXPECT(swapcontext(&main_context, &small) == 0);
    expect_content(file, "Small stack");
}
#endif

/* ---- writers at once ---- */

/* Overlapping O_APPEND sessions lose no byte. */
static void test_append(const char *file)
{
    int one = open(file, O_WRONLY | O_APPEND);
    int two = open(file, O_WRONLY | O_APPEND);

    write_text(one, " one");
    write_text(two, " two");
    EXPECT(close(one) == 0);
    EXPECT(close(two) == 0);
    expect_content(file, "old one two");
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            for (int k = 0; k < 25; k++) {
                int fd = open(file, O_WRONLY | O_APPEND);

                write_text(fd, "x");
                EXPECT(close(fd) == 0);
            }
            _exit(0);
        }
    for (int i = 0; i < 4; i++) {
        int status;

        EXPECT(wait(&status) > 0 && status == 0);
    }
    EXPECT(strlen(content_of(file)) == 11 + 100);
}

/* The kernel gives a user no lease on a file that another user opened: each process commits at its
 * own last close. */
static void change_user(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    int closed[2];
    char byte;
    pid_t child;

    write_text(fd, "by root");
    EXPECT(pipe(closed) == 0 && setuid(OTHER_USER) == 0);
    if (access(file, R_OK) != 0) { /* the folders above are closed to others */
        EXPECT(close(fd) == 0);
        _exit(77);
    }
    write_text(fd, ", by nobody");
    child = fork();
    if (child == 0) {
        EXPECT(read(closed[0], &byte, 1) == 1);
        write_text(fd, ", by a child");
        EXPECT(close(fd) == 0);
        expect_stored(file, "by root, by nobody, by a child");
        _exit(0);
    }
    EXPECT(close(fd) == 0);
    expect_stored(file, "by root, by nobody");
    EXPECT(write(closed[1], "", 1) == 1);
    expect_exit(child, 0);
    _exit(0);
}

static void test_changed_user(const char *file)
{
    int status;
    pid_t child;

    if (getuid() != 0)
        return;
    child = fork();
    if (child == 0)
        change_user(file);
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        return;
    EXPECT(WEXITSTATUS(status) == 0);
    expect_content(file, "by root, by nobody, by a child");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fork", test_fork},
        {"fork_last", test_fork_last},
        {"fork_last_exec", test_fork_last_exec},
        {"fork_sync", test_fork_sync},
        {"fork_at_commit", test_fork_at_commit},
        {"reopened", test_reopened},
        {"vfork", test_vfork},
        {"vfork_calls", test_vfork_calls},
        {"vfork_opens", test_vfork_opens},
        {"posix_spawn", test_posix_spawn},
        {"passed", test_passed},
        {"daemon", test_daemon},
        {"exec", test_exec},
        {"threads", test_threads},
        {"handler", test_handler},
        {"handler_same_file", test_handler_same_file},
#ifdef __GLIBC__
        {"small_stack", test_small_stack},
#endif
        {"append", test_append},
        {"changed_user", test_changed_user},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
