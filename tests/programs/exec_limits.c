/* Programs that run others where numbers, objects or processes run out: as calls_exec.c, the next
 * reader sees the writes of the other program. */
#include "expect.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>

extern char **environ;

enum { FIRST = 760, LAST = 800, OBJECTS = 300 };

static char *covered_arguments[] = {"echo", "-n", "new", NULL};
static char *static_arguments[] = {"static_writer", "1", "write", "new", NULL};

/* Returns the program that the arguments are for: one that loads the shim, or one that cannot. */
static const char *program(bool covered)
{
    static char path[PATH_MAX];

    EXPECT(strlen(program_invocation_name) < sizeof path - sizeof "static_writer");
    strcpy(path, program_invocation_name);
    strcpy(strrchr(path, '/') + 1, "static_writer");
    return covered ? "/bin/echo" : path;
}

/* The next round finds nothing of what this one wrote. */
static void expect_new(const char *file)
{
    expect_content(file, "new");
    EXPECT(truncate(file, 0) == 0);
}

/* Spawns the program from a process that ends before the program writes: then this process cannot
 * commit for it. The one that loads the shim reads from a pipe what it writes. */
static void expect_spawn(posix_spawn_file_actions_t *actions, bool covered, const char *file)
{
    static char *cat_arguments[] = {"cat", NULL};
    int ends[2];
    pid_t parent;
    pid_t child;

    EXPECT(pipe2(ends, O_CLOEXEC) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    parent = fork();
    if (parent == 0) {
        EXPECT(posix_spawn_file_actions_adddup2(actions, ends[0], 0) == 0);
        EXPECT(posix_spawn_file_actions_adddup2(actions, open(file, O_WRONLY | O_TRUNC), 1) == 0);
        errno = posix_spawn(&child, covered ? "/bin/cat" : program(false), actions, NULL,
                            covered ? cat_arguments : static_arguments, environ);
        EXPECT(errno == 0);
        exit(0);
    }
    expect_exit(parent, 0);
    write_text(ends[1], "new");
    EXPECT(close(ends[0]) == 0 && close(ends[1]) == 0);
    while (wait(NULL) > 0) {
    }
    expect_new(file);
}

/* Takes the numbers around those that the shim shows the next program its descriptors by. */
static void take_numbers(int flags)
{
    int null = open("/dev/null", O_WRONLY);

    for (int number = FIRST; number < LAST; number++)
        EXPECT(dup3(null, number, flags) == number);
}

static void test_exec_numbers(const char *file)
{
    for (int covered = 0; covered < 2; covered++) {
        pid_t child = fork();

        if (child == 0) {
            EXPECT(dup2(open(file, O_WRONLY | O_TRUNC), 1) == 1);
            take_numbers(O_CLOEXEC);
            (void)execv(program(covered), covered ? covered_arguments : static_arguments);
            _exit(127);
        }
        expect_exit(child, 0);
        expect_new(file);
    }
}

/* The actions close the numbers, but the parent has them. */
static void test_spawn_taken(const char *file)
{
    posix_spawn_file_actions_t actions;

    take_numbers(0);
    for (int covered = 0; covered < 2; covered++) {
        EXPECT(posix_spawn_file_actions_init(&actions) == 0);
        for (int number = FIRST; number < LAST; number++)
            EXPECT(posix_spawn_file_actions_addclose(&actions, number) == 0);
        expect_spawn(&actions, covered, file);
        EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    }
}

/* More objects than the shim records. */
static void test_spawn_objects(const char *file)
{
    static posix_spawn_file_actions_t objects[OBJECTS];

    for (int i = 0; i < OBJECTS; i++) {
        EXPECT(posix_spawn_file_actions_init(&objects[i]) == 0);
        EXPECT(posix_spawn_file_actions_addclose(&objects[i], 20) == 0);
    }
    for (int covered = 0; covered < 2; covered++)
        expect_spawn(&objects[OBJECTS - 1 - covered], covered, file);
    for (int i = 0; i < OBJECTS; i++)
        EXPECT(posix_spawn_file_actions_destroy(&objects[i]) == 0);
}

/* A caller that does not want the number of the child. */
static void test_spawn_without_number(const char *file)
{
    posix_spawn_file_actions_t actions;
    int status;

    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    EXPECT(posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY | O_TRUNC, 0) == 0);
    errno = posix_spawn(NULL, "/bin/echo", &actions, NULL, covered_arguments, environ);
    EXPECT(errno == 0 && wait(&status) > 0 && status == 0);
    EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    expect_content(file, "new");
}

/* A child in its parent's memory opens a file while its parent has another one open. */
static void test_exec_of_vfork(const char *file)
{
    const char *other = sibling(file, ".other");
    int kept = open(other, O_RDWR | O_CREAT, 0600);

    write_text(kept, "kept");
    for (int covered = 0; covered < 2; covered++) {
        const char *name = program(covered);
        pid_t child = vfork();

        if (child == 0) {
            /* NOLINTNEXTLINE(clang-analyzer-unix.Vfork) */
            if (dup2(open(file, O_WRONLY | O_TRUNC | O_CLOEXEC), 1) == 1)
                (void)execv(name, covered ? covered_arguments : static_arguments);
            _exit(127);
        }
        expect_exit(child, 0);
        expect_new(file);
    }
    EXPECT(close(kept) == 0);
    expect_content(other, "kept");
    EXPECT(unlink(other) == 0);
}

/* No process can be made that would look after the file for the other program: what that program
 * writes is lost, and the old content stays. */
static void test_exec_alone(const char *file)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof code[0], code};
    pid_t child = fork();

    if (child == 0) {
        EXPECT(dup2(open(file, O_WRONLY | O_TRUNC), 1) == 1);
        EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0);
        (void)execv(program(false), static_arguments);
        _exit(127);
    }
    expect_exit(child, 0);
    expect_content(file, is_wrapped() ? "old" : "new");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"exec-numbers", test_exec_numbers},
        {"spawn-taken", test_spawn_taken},
        {"spawn-objects", test_spawn_objects},
        {"spawn-without-number", test_spawn_without_number},
        {"exec-of-vfork", test_exec_of_vfork},
        {"exec-alone", test_exec_alone},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
