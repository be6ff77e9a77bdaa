/*
 * These calls run another program with a managed descriptor: exec*, posix_spawn*, system, popen,
 * sendmsg. Each is tried with a program that loads the shim, and with one that cannot
 * (static_writer): the next reader sees the writes of that program.
 */
#include "expect.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

extern char **environ;

static const char *writer(void)
{
    static char path[PATH_MAX];

    EXPECT(strlen(program_invocation_name) < sizeof path - sizeof "static_writer");
    strcpy(path, program_invocation_name);
    strcpy(strrchr(path, '/') + 1, "static_writer");
    return path;
}

static int open_for_child(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);

    EXPECT(fd >= 0);
    return fd;
}

/* Runs `run` in a child whose descriptor 1 is `file`, opened there or before: the reader sees
 * `expected`. */
static void in_child(const char *file, void (*run)(bool covered), const char *expected)
{
    for (int covered = 0; covered < 2; covered++)
        for (int before = 0; before < 2; before++) {
            int fd = before ? open_for_child(file) : -1;
            pid_t child = fork();

            if (child == 0) {
                if (!before)
                    fd = open_for_child(file);
                EXPECT(dup2(fd, 1) == 1 && close(fd) == 0);
                run(covered);
                _exit(127);
            }
            if (before)
                EXPECT(close(fd) == 0);
            expect_exit(child, 0);
            expect_content(file, expected);
        }
}

static char *covered_arguments[] = {"echo", "-n", "new", NULL};
static char *static_arguments[] = {"static_writer", "1", "write", "new", NULL};

static void run_execve(bool covered)
{
    (void)execve(covered ? "/bin/echo" : writer(), covered ? covered_arguments : static_arguments, environ);
}

static void run_execv(bool covered)
{
    (void)execv(covered ? "/bin/echo" : writer(), covered ? covered_arguments : static_arguments);
}

static void run_execvp(bool covered)
{
    (void)execvp(covered ? "echo" : writer(), covered ? covered_arguments : static_arguments);
}

static void run_execvpe(bool covered)
{
    (void)execvpe(covered ? "echo" : writer(), covered ? covered_arguments : static_arguments, environ);
}

static void run_execl(bool covered)
{
    if (covered)
        (void)execl("/bin/echo", "echo", "-n", "new", (char *)NULL);
    (void)execl(writer(), "static_writer", "1", "write", "new", (char *)NULL);
}

static void run_execlp(bool covered)
{
    if (covered)
        (void)execlp("echo", "echo", "-n", "new", (char *)NULL);
    (void)execlp(writer(), "static_writer", "1", "write", "new", (char *)NULL);
}

/* With an environment that has no preload any program is one without the shim. */
static void run_execle(bool covered)
{
    char *none[] = {"NOTHING=1", NULL};

    (void)execle("/bin/echo", "echo", "-n", "new", (char *)NULL, covered ? environ : none);
}

static void run_fexecve(bool covered)
{
    int fd = open(covered ? "/bin/echo" : writer(), O_RDONLY | O_CLOEXEC);

    (void)fexecve(fd, covered ? covered_arguments : static_arguments, environ);
}

static void run_execveat(bool covered)
{
    (void)execveat(AT_FDCWD, covered ? "/bin/echo" : writer(), covered ? covered_arguments : static_arguments,
                   environ, 0);
}

static void test_execve(const char *file)
{
    in_child(file, run_execve, "new");
}

static void test_execv(const char *file)
{
    in_child(file, run_execv, "new");
}

static void test_execvp(const char *file)
{
    in_child(file, run_execvp, "new");
}

static void test_execvpe(const char *file)
{
    in_child(file, run_execvpe, "new");
}

static void test_execl(const char *file)
{
    in_child(file, run_execl, "new");
}

static void test_execlp(const char *file)
{
    in_child(file, run_execlp, "new");
}

static void test_execle(const char *file)
{
    in_child(file, run_execle, "new");
}

static void test_fexecve(const char *file)
{
    in_child(file, run_fexecve, "new");
}

static void test_execveat(const char *file)
{
    in_child(file, run_execveat, "new");
}

/* An exec that fails leaves all as it was, and a later one still has the session. */
static void test_exec_fails(const char *file)
{
    int fd = open_for_child(file);
    pid_t child;

    write_text(fd, "before ");
    EXPECT_ERROR(execl("/nonexistent/program", "program", (char *)NULL), ENOENT);
    EXPECT_ERROR(execv(file, covered_arguments), EACCES);
    write_text(fd, "after ");
    child = fork();
    if (child == 0) {
        EXPECT(dup2(fd, 1) == 1);
        run_execve(true);
        _exit(127);
    }
    EXPECT(close(fd) == 0);
    expect_exit(child, 0);
    expect_content(file, "before after new");
}

/* A killed program has closed nothing: its writes are no content. */
static void test_exec_killed(const char *file)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_WRONLY);

        EXPECT(dup2(fd, 1) == 1 && close(fd) == 0);
        (void)execl(writer(), "static_writer", "1", "die", "half", (char *)NULL);
        _exit(127);
    }
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    expect_content(file, is_wrapped() ? "old" : "half");
}

/* Waits for the end of a process that is no child: then all its descriptors are closed. */
static void wait_for_end(pid_t process)
{
    int fd = (int)SYS_CALL(SYS_pidfd_open, process, 0, 0, 0, 0, 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    if (fd == -ESRCH)
        return;
    EXPECT(fd >= 0 && poll(&poll_fd, 1, -1) == 1 && sys_close(fd) == 0);
}

static pid_t read_pid(int fd)
{
    pid_t process;

    EXPECT(read(fd, &process, sizeof process) == sizeof process);
    return process;
}

/* A daemon outlives every process that has the shim: its writes are content when it ends. The
 * program that opened the file has truncated it, and ended properly. */
static void test_exec_daemon(const char *file)
{
    int ends[2];
    int out[2];
    pid_t daemon;
    pid_t child;

    EXPECT(pipe2(ends, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    child = fork();
    if (child == 0) {
        int fd = open_for_child(file);

        EXPECT(dup2(ends[0], 0) == 0 && dup2(fd, 1) == 1 && close(fd) == 0 && dup2(out[1], 9) == 9);
        (void)execl(writer(), "static_writer", "1", "daemon", "by the daemon", (char *)NULL);
        _exit(127);
    }
    expect_exit(child, 0);
    daemon = read_pid(out[0]);
    expect_content(file, "");
    EXPECT(close(ends[1]) == 0 && close(ends[0]) == 0 && close(out[0]) == 0 && close(out[1]) == 0);
    wait_for_end(daemon);
    expect_content(file, "by the daemon");
}

/* The parent has it open, too: its close is the last one. */
static void test_exec_shared(const char *file)
{
    int fd = open_for_child(file);
    pid_t child;

    write_text(fd, "parent, ");
    child = fork();
    if (child == 0) {
        EXPECT(dup2(fd, 1) == 1);
        run_execve(false);
        _exit(127);
    }
    expect_exit(child, 0);
    expect_content(file, is_wrapped() ? "old" : "parent, new");
    write_text(fd, ", parent");
    EXPECT(close(fd) == 0);
    expect_content(file, "parent, new, parent");
}

/* Many in a row, each seen by the next open: guardians come and go. */
static void test_exec_often(const char *file)
{
    char text[16];

    for (int i = 0; i < 100; i++) {
        pid_t child = fork();

        (void)snprintf(text, sizeof text, "turn %d", i);
        if (child == 0) {
            int fd = open_for_child(file);

            EXPECT(dup2(fd, 1) == 1 && close(fd) == 0);
            (void)execl(writer(), "static_writer", "1", "write", text, (char *)NULL);
            _exit(127);
        }
        expect_exit(child, 0);
        expect_content(file, text);
    }
}

/* The file is the program's descriptor 2, too, and mapped by the process that the guardian is
 * made from. */
static void test_exec_mapped(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_RDWR);
        char *bytes = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        const char *private = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

        EXPECT(bytes != MAP_FAILED && private != MAP_FAILED);
        bytes[0] = 'O';
        EXPECT(dup2(fd, 1) == 1 && dup2(fd, 2) == 2 && close(fd) == 0 && lseek(1, 0, SEEK_END) == 3);
        (void)execl(writer(), "static_writer", "2", "write", " and new", (char *)NULL);
        _exit(127);
    }
    expect_exit(child, 0);
    expect_content(file, "Old and new");
}

/* The descriptor of the child is closed by the exec: that may have been the last. */
static void test_exec_cloexec(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);

        write_text(fd, "before exec");
        (void)execl(writer(), "static_writer", "2", "write", "", (char *)NULL);
        _exit(127);
    }
    expect_exit(child, 0);
    expect_content(file, "before exec");
}

/* A program that cannot adopt a session gets no descriptors of it but the two that the program
 * gave it. */
static void test_exec_no_more(const char *file)
{
    char *none[] = {NULL};
    int out[2];
    char count[8] = "";
    int fd = open_for_child(file);
    pid_t child;

    EXPECT(pipe2(out, O_CLOEXEC) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(dup2(fd, 9) == 9 && dup2(out[1], 1) == 1);
        (void)execle(
            "/bin/sh", "sh", "-c",
            "for fd in /proc/$$/fd/*; do readlink $fd; done | grep -c -e \"^$0\\$\" -e /memfd:atomshim", file,
            (char *)NULL, none);
        _exit(127);
    }
    EXPECT(close(out[1]) == 0 && read(out[0], count, sizeof count - 1) > 0);
    expect_exit(child, 0);
    EXPECT(strcmp(count, "2\n") == 0);
    EXPECT(close(fd) == 0);
    expect_content(file, "");
}

static void test_system(const char *file)
{
    char command[2 * PATH_MAX];

    (void)snprintf(command, sizeof command, "echo -n new >%s", file);
    EXPECT(system(command) == 0);
    expect_content(file, "new");
    (void)snprintf(command, sizeof command, "%s 1 write static >%s", writer(), file);
    EXPECT(system(command) == 0);
    expect_content(file, "static");
    EXPECT(setenv("LD_PRELOAD", "", 1) == 0); /* the shell has none */
    int fd = open_for_child(file);
    EXPECT(dup2(fd, 7) == 7 && close(fd) == 0);
    EXPECT(system("echo -n without >&7") == 0);
    EXPECT(close(7) == 0);
    expect_content(file, "without");
    EXPECT(system(NULL) != 0);
}

static void test_popen(const char *file)
{
    char command[2 * PATH_MAX];
    FILE *stream;

    (void)snprintf(command, sizeof command, "cat >%s", file);
    stream = popen(command, "w");
    EXPECT(stream != NULL && fputs("new", stream) >= 0 && pclose(stream) == 0);
    expect_content(file, "new");
    (void)snprintf(command, sizeof command, "%s 1 write static >%s", writer(), file);
    stream = popen(command, "r");
    EXPECT(stream != NULL && pclose(stream) == 0);
    expect_content(file, "static");
}

static void expect_spawn(int error, const pid_t *child)
{
    errno = error;
    EXPECT(error == 0);
    expect_exit(*child, 0);
}

static void test_spawn(const char *file)
{
    posix_spawn_file_actions_t actions;
    pid_t child;

    for (int covered = 0; covered < 2; covered++) {
        const char *program = covered ? "/bin/echo" : writer();
        char **arguments = covered ? covered_arguments : static_arguments;

        EXPECT(posix_spawn_file_actions_init(&actions) == 0);
        EXPECT(posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY | O_TRUNC, 0) == 0);
        expect_spawn(posix_spawn(&child, program, &actions, NULL, arguments, environ), &child);
        expect_content(file, "new");

        int fd = open_for_child(file);
        EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
        EXPECT(posix_spawn_file_actions_init(&actions) == 0);
        EXPECT(posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
        EXPECT(posix_spawn_file_actions_addclose(&actions, fd) == 0);
        expect_spawn(posix_spawnp(&child, covered ? "echo" : program, &actions, NULL, arguments, environ),
                     &child);
        EXPECT(close(fd) == 0);
        expect_content(file, "new");
        EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    }
}

/* These are of glibc 2.39. Under the shim an older libc's program finds the shim's, which fail with
 * ENOSYS. */
typedef int pidfd_function(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[],
                           char *const environment[]);
pidfd_function pidfd_spawn;
pidfd_function pidfd_spawnp;
#pragma weak pidfd_spawn
#pragma weak pidfd_spawnp

static void expect_pidfd(int error, int pidfd, int code, int status)
{
    siginfo_t info;

    errno = error;
    EXPECT(error == 0);
    EXPECT(waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED) == 0 && close(pidfd) == 0);
    EXPECT(info.si_code == code && info.si_status == status);
}

/* The file is one that the action opens, or that this process has open. A killed program's writes
 * are no content: the guardian knows the program by the pidfd. */
static void check_pidfd_spawn(pidfd_function *spawn, const char *file, bool by_action)
{
    char *killed[] = {"static_writer", "1", "die", "half", NULL};
    char *const *arguments[] = {covered_arguments, static_arguments, killed};
    posix_spawn_file_actions_t actions;
    int pidfd = -1;

    for (int i = 0; i < 3; i++) {
        int fd = by_action ? -1 : open_for_child(file);

        EXPECT(posix_spawn_file_actions_init(&actions) == 0);
        if (by_action)
            EXPECT(posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY | O_TRUNC, 0) == 0);
        else
            EXPECT(posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
        int error = spawn(&pidfd, i == 0 ? "/bin/echo" : writer(), &actions, NULL, arguments[i], environ);
        expect_pidfd(error, pidfd, i < 2 ? CLD_EXITED : CLD_KILLED, i < 2 ? 0 : SIGKILL);
        EXPECT(by_action || close(fd) == 0);
        EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
        expect_content(file, i < 2 ? "new" : by_action && is_wrapped() ? "new" : "half");
    }
}

static void test_pidfd(pidfd_function *spawn, const char *file)
{
    int pidfd = -1;

    if (spawn == NULL || spawn(&pidfd, "/bin/true", NULL, NULL, covered_arguments, environ) == ENOSYS) {
        (void)puts("skipped: needs glibc 2.39");
        return;
    }
    expect_pidfd(0, pidfd, CLD_EXITED, 0);
    check_pidfd_spawn(spawn, file, true);
    check_pidfd_spawn(spawn, file, false);
}

static void test_pidfd_spawn(const char *file)
{
    test_pidfd(pidfd_spawn, file);
}

static void test_pidfd_spawnp(const char *file)
{
    test_pidfd(pidfd_spawnp, file);
}

/* The cgroup of the attributes reaches the kernel, which refuses a descriptor of something else. */
int posix_spawnattr_setcgroup_np(posix_spawnattr_t *attributes, int cgroup);
#pragma weak posix_spawnattr_setcgroup_np

static void test_spawn_cgroup(const char *file)
{
    posix_spawnattr_t attributes;
    int fd = open_for_child(file);
    int pidfd = -1;
    pid_t child;

    if (posix_spawnattr_setcgroup_np == NULL) {
        (void)puts("skipped: needs glibc 2.39");
        return;
    }
    write_text(fd, "new");
    EXPECT(posix_spawnattr_init(&attributes) == 0 && posix_spawnattr_setcgroup_np(&attributes, fd) == 0);
    EXPECT(posix_spawnattr_setflags(&attributes, 0x100 /* POSIX_SPAWN_SETCGROUP */) == 0);
    EXPECT(posix_spawn(&child, "/bin/echo", NULL, &attributes, covered_arguments, environ) == EBADF);
    EXPECT(pidfd_spawn(&pidfd, "/bin/echo", NULL, &attributes, covered_arguments, environ) == EBADF);
    EXPECT(pidfd == -1 && close(fd) == 0);
    expect_content(file, "new");
}

/* A spawn whose actions name all numbers that the shim may have descriptors at. */
struct numbers {
    const char *text; /* the parent writes it before the spawn */
    int in;           /* the child reads from it */
    int told;         /* the pid of the child goes there */
    bool covered;     /* the child loads the shim */
    bool replace;     /* dup2 onto the numbers; else close them */
};

/* Spawns, and ends this process. */
static void spawn_and_end(const char *file, const struct numbers *numbers)
{
    char *cat[] = {"cat", NULL};
    char *wait[] = {"static_writer", "1", "wait-write", "new", NULL};
    posix_spawn_file_actions_t actions;
    int fd = open_for_child(file);
    pid_t child;

    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
    EXPECT(posix_spawn_file_actions_adddup2(&actions, numbers->in, 0) == 0);
    for (int number = 3; number < 1024; number++)
        if (numbers->replace && number > 100)
            EXPECT(posix_spawn_file_actions_adddup2(&actions, 2, number) == 0);
        else
            EXPECT(posix_spawn_file_actions_addclose(&actions, number) == 0);
    write_text(fd, numbers->text);
    errno = posix_spawn(&child, numbers->covered ? "/bin/cat" : writer(), &actions, NULL,
                        numbers->covered ? cat : wait, environ);
    EXPECT(errno == 0);
    EXPECT(write(numbers->told, &child, sizeof child) == sizeof child);
    _exit(0);
}

static void test_spawn_numbers(const char *file)
{
    char text[] = "turn 0: new";
    int in[2];
    int told[2];
    pid_t child;

    for (int turn = 0; turn < 4; turn++) {
        bool covered = turn % 2 != 0;

        text[5] = (char)('0' + turn);
        text[8] = '\0';
        EXPECT(pipe2(in, O_CLOEXEC) == 0 && pipe2(told, O_CLOEXEC) == 0);
        child = fork();
        if (child == 0)
            spawn_and_end(file, &(struct numbers){text, in[0], told[1], covered, turn / 2 != 0});
        expect_exit(child, 0);
        child = read_pid(told[0]);
        EXPECT(close(told[0]) == 0 && close(told[1]) == 0 && close(in[0]) == 0);
        if (covered)
            write_text(in[1], "new");
        EXPECT(close(in[1]) == 0);
        wait_for_end(child);
        text[8] = 'n';
        expect_content(file, text);
    }
}

/*
 * Spawns a child that has another file at the first `count` of the numbers at which the shim would
 * tell it of the session, DESCRIPTOR_BEACONS in shim/os/descriptor.h.
 */
static void check_taken_numbers(const char *file, int count)
{
    enum { BEACONS = 8 };
    const char script[] =
        "for number; do [ \"$(readlink /proc/self/fd/$number)\" = /dev/zero ] || exit 1; done; echo new";
    char numbers[BEACONS][12];
    char *arguments[4 + BEACONS + 1] = {"sh", "-c", (char *)script, "sh"};
    posix_spawn_file_actions_t actions;
    struct rlimit limit;
    int fd = open_for_child(file);
    pid_t child;

    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
    for (int i = 0; i < count; i++) {
        int number = i + (limit.rlim_cur < 1024 ? (int)limit.rlim_cur / 4 * 3 : 768);

        (void)snprintf(numbers[i], sizeof numbers[i], "%d", number);
        arguments[4 + i] = numbers[i];
        EXPECT(posix_spawn_file_actions_addopen(&actions, number, "/dev/zero", O_RDONLY, 0) == 0);
    }
    expect_spawn(posix_spawn(&child, "/bin/sh", &actions, NULL, arguments, environ), &child);
    EXPECT(posix_spawn_file_actions_destroy(&actions) == 0 && close(fd) == 0);
    expect_content(file, "new\n");
}

static void test_spawn_taken_numbers(const char *file)
{
    check_taken_numbers(file, 1);
    check_taken_numbers(file, 8);
}

/* Spawns from the directory in which the child is by then; all else is closed before and after. */
static void test_spawn_elsewhere(const char *file)
{
    posix_spawn_file_actions_t actions;
    const char *name;
    int directory = split(file, &name);
    char *folder = strndup(file, strlen(file) - strlen(name));
    pid_t child;

    for (int covered = 0; covered < 2; covered++)
        for (int by_fd = 0; by_fd < 2; by_fd++) {
            EXPECT(posix_spawn_file_actions_init(&actions) == 0);
            if (by_fd)
                EXPECT(posix_spawn_file_actions_addfchdir_np(&actions, directory) == 0);
            else
                EXPECT(posix_spawn_file_actions_addchdir_np(&actions, folder) == 0);
#ifdef POSIX_SPAWN_SETSID
            EXPECT(posix_spawn_file_actions_addclosefrom_np(&actions, 3) == 0);
#endif
            EXPECT(posix_spawn_file_actions_addopen(&actions, 5, name, O_WRONLY | O_TRUNC, 0) == 0);
            EXPECT(posix_spawn_file_actions_adddup2(&actions, 5, 1) == 0);
#ifdef POSIX_SPAWN_SETSID
            EXPECT(posix_spawn_file_actions_addclosefrom_np(&actions, 3) == 0);
#endif
            expect_spawn(posix_spawn(&child, covered ? "/bin/echo" : writer(), &actions, NULL,
                                     covered ? covered_arguments : static_arguments, environ),
                         &child);
            expect_content(file, "new");
            EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
        }
    EXPECT(close(directory) == 0);
}

/* Errors are the call's result; no descriptor stays open. */
static void test_spawn_fails(const char *file)
{
    posix_spawn_file_actions_t actions;
    int free_number = lowest_free();
    char *missing = sibling(file, ".missing");
    pid_t child;

    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_addopen(&actions, 1, missing, O_WRONLY, 0) == 0);
    EXPECT(posix_spawn(&child, "/bin/echo", &actions, NULL, covered_arguments, environ) == ENOENT);
    EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY, 0) == 0);
    EXPECT(posix_spawn(&child, "/nonexistent/program", &actions, NULL, covered_arguments, environ) == ENOENT);
    EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    EXPECT(lowest_free() == free_number);
    expect_content(file, "old");
}

#if defined(__GLIBC__) && __GLIBC_MINOR__ >= 35
static void test_spawn_group(const char *file)
{
    posix_spawn_file_actions_t actions;

    /* there is no terminal to set the group of: the action is recorded, and fails as it must */
    pid_t child;
    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY, 0) == 0);
    EXPECT(posix_spawn_file_actions_addtcsetpgrp_np(&actions, 1) == 0);
    EXPECT(posix_spawn(&child, "/bin/echo", &actions, NULL, covered_arguments, environ) == ENOTTY);
    EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    expect_content(file, "old");
}
#endif

/* A process that was started without the shim gets the descriptor over a socket, writes and
 * ends. */
static void test_passed(const char *file, bool many)
{
    struct mmsghdr message = {0};
    char byte = 'x';
    struct iovec piece = {&byte, 1};
    const struct ucred self = {getpid(), getuid(), getgid()};
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof self) + CMSG_SPACE(sizeof(int))] = {0};
    struct cmsghdr *part;
    int ends[2];
    int fd;
    pid_t child;

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    child = fork();
    if (child == 0) {
        char *none[] = {NULL};

        EXPECT(dup2(ends[1], 0) == 0);
        (void)execle("/usr/bin/python3", "python3", "-c",
                     "import socket, os\n"
                     "s = socket.socket(fileno=0)\n"
                     "_, (fd,), *_ = socket.recv_fds(s, 1, 1)\n"
                     "s.recv(1)\n"
                     "os.write(fd, b'by the stranger')\n",
                     (char *)NULL, none);
        _exit(127);
    }
    fd = open_for_child(file);
    message.msg_hdr = (struct msghdr){
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    part = CMSG_FIRSTHDR(&message.msg_hdr);
    *part = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof self)};
    memcpy(CMSG_DATA(part), &self, sizeof self);
    part = CMSG_NXTHDR(&message.msg_hdr, part); /* the second part has the descriptor */
    *part =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(part), &fd, sizeof fd);
    EXPECT(many ? sendmmsg(ends[0], &message, 1, 0) == 1 : sendmsg(ends[0], &message.msg_hdr, 0) == 1);
    EXPECT(close(fd) == 0);
    EXPECT(write(ends[0], "x", 1) == 1);
    expect_exit(child, 0);
    expect_content(file, "by the stranger");
}

/* A message that the kernel refuses fails, and the shim follows no bad address. */
static void test_malformed_message(const char *file)
{
    char **volatile nowhere = (char **)8; /* the compiler, too, knows that these are none */
    char byte = 'x';
    struct iovec piece = {&byte, 1};
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    int fd = open_for_child(file);
    int ends[2];

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    *part = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = 1};
    EXPECT_ERROR(sendmsg(ends[0], &message, 0), EINVAL);
#ifdef __GLIBC__ /* musl looks at them itself */
    part->cmsg_len = (size_t)1 << 40;
    EXPECT_ERROR(sendmsg(ends[0], &message, 0), EINVAL);
    message.msg_control = (void *)nowhere;
    EXPECT_ERROR(sendmsg(ends[0], &message, 0), EFAULT);
    EXPECT_ERROR(sendmsg(ends[0], (void *)nowhere, 0), EFAULT);
#endif
    EXPECT_ERROR(execve("/bin/true", covered_arguments, nowhere), EFAULT);
    EXPECT_ERROR(execve("/bin/true", covered_arguments, (char *[]){(char *)nowhere, NULL}), EFAULT);
    write_text(fd, "new");
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

static void test_sendmsg(const char *file)
{
    test_passed(file, false);
}

static void test_sendmmsg(const char *file)
{
    test_passed(file, true);
}

static const struct test_case cases[] = {
    {"execve", test_execve},
    {"execv", test_execv},
    {"execvp", test_execvp},
    {"execvpe", test_execvpe},
    {"execl", test_execl},
    {"execlp", test_execlp},
    {"execle", test_execle},
    {"fexecve", test_fexecve},
    {"execveat", test_execveat},
    {"exec-fails", test_exec_fails},
    {"exec-killed", test_exec_killed},
    {"exec-daemon", test_exec_daemon},
    {"exec-shared", test_exec_shared},
    {"exec-often", test_exec_often},
    {"exec-cloexec", test_exec_cloexec},
    {"exec-no-more", test_exec_no_more},
    {"exec-mapped", test_exec_mapped},
    {"system", test_system},
    {"popen", test_popen},
    {"posix_spawn", test_spawn},
    {"posix_spawnp", test_spawn},
    {"posix_spawn_file_actions_init", test_spawn},
    {"posix_spawn_file_actions_destroy", test_spawn},
    {"posix_spawn_file_actions_addopen", test_spawn},
    {"posix_spawn_file_actions_addclose", test_spawn},
    {"posix_spawn_file_actions_adddup2", test_spawn},
    {"posix_spawn_file_actions_addchdir_np", test_spawn_elsewhere},
    {"posix_spawn_file_actions_addfchdir_np", test_spawn_elsewhere},
    {"posix_spawn_file_actions_addclosefrom_np", test_spawn_elsewhere},
#if defined(__GLIBC__) && __GLIBC_MINOR__ >= 35
    {"posix_spawn_file_actions_addtcsetpgrp_np", test_spawn_group},
#endif
    {"pidfd_spawn", test_pidfd_spawn},
    {"pidfd_spawnp", test_pidfd_spawnp},
    {"spawn-cgroup", test_spawn_cgroup},
    {"spawn-numbers", test_spawn_numbers},
    {"spawn-taken-numbers", test_spawn_taken_numbers},
    {"spawn-fails", test_spawn_fails},
    {"sendmsg", test_sendmsg},
    {"sendmmsg", test_sendmmsg},
    {"malformed", test_malformed_message},
    {NULL, NULL},
};

int main(int argc, char *argv[])
{
    return run_case(cases, argc, argv);
}
