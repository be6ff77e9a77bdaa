/* Locks on ranges of a file, and handlers that jump out of a wait for one: no byte is lost, and no
 * lock is left behind. */
#include "expect.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>

enum { PROCESSES = 3, ROUNDS = 20, PAGE = 4096 };

static struct flock range(short type, off_t start, off_t length)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static bool is_free(const char *file, off_t start, off_t length)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct flock lock = range(F_WRLCK, start, length);

        _exit(fcntl(open(file, O_RDWR), F_SETLK, &lock) != 0);
    }
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status) == 0;
}

/* Adds one to a byte, under a lock of it. */
static void add_one(int fd, int set, off_t place)
{
    struct flock lock = range(F_WRLCK, place, 1);
    char byte;

    EXPECT(fcntl(fd, set, &lock) == 0);
    EXPECT(pread(fd, &byte, 1, place) == 1);
    byte++;
    EXPECT(pwrite(fd, &byte, 1, place) == 1);
    lock.l_type = F_UNLCK;
    EXPECT(fcntl(fd, set, &lock) == 0);
}

/* Each process counts in a byte of its own, and all of them in one, in a file of several pages. */
static void check_counting(const char *file, int set)
{
    int fd = open(file, O_RDWR | O_TRUNC);
    char bytes[PROCESSES + 1];

    EXPECT(ftruncate(fd, 20 * PAGE) == 0 && close(fd) == 0);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            fd = open(file, O_RDWR);
            for (int round = 0; round < ROUNDS; round++) {
                add_one(fd, set, i);
                add_one(fd, set, PROCESSES);
            }
            EXPECT(close(fd) == 0);
            _exit(0);
        }
    for (int i = 0; i < PROCESSES; i++) {
        int status;

        EXPECT(wait(&status) > 0 && status == 0);
    }
    fd = open(file, O_RDONLY);
    EXPECT(read(fd, bytes, sizeof bytes) == sizeof bytes && close(fd) == 0);
    for (int i = 0; i < PROCESSES; i++)
        EXPECT(bytes[i] == ROUNDS);
    EXPECT(bytes[PROCESSES] == PROCESSES * ROUNDS);
}

static void test_count(const char *file)
{
    check_counting(file, F_SETLKW);
    check_counting(file, F_OFD_SETLKW);
}

/* Two processes take turns: each holds a range while the other unlocks its own, for which no
 * process waits. */
static void test_two_ranges(const char *file)
{
    struct flock first = range(F_WRLCK, 0, 4);
    struct flock second = range(F_WRLCK, 4, 0);
    int held[2];
    int done[2];
    int fd = open(file, O_RDWR | O_TRUNC);
    char byte;
    pid_t child;

    EXPECT(write(fd, "aaaabbbb", 8) == 8 && close(fd) == 0);
    EXPECT(pipe(held) == 0 && pipe(done) == 0);
    child = fork();
    if (child == 0) {
        fd = open(file, O_RDWR);
        EXPECT(fcntl(fd, F_SETLK, &second) == 0 && pwrite(fd, "yyyycc", 6, 4) == 6);
        EXPECT(write(held[1], "", 1) == 1 && read(done[0], &byte, 1) == 1);
        second.l_type = F_UNLCK;
        EXPECT(fcntl(fd, F_SETLK, &second) == 0);
        EXPECT(pread(fd, &byte, 1, 0) == 1);
        EXPECT(close(fd) == 0);
        _exit(0);
    }
    fd = open(file, O_RDWR);
    EXPECT(fcntl(fd, F_SETLK, &first) == 0);
    EXPECT(read(held[0], &byte, 1) == 1);
    EXPECT(pwrite(fd, "xxxx", 4, 0) == 4);
    first.l_type = F_UNLCK;
    EXPECT(fcntl(fd, F_SETLK, &first) == 0);
    EXPECT(write(done[1], "", 1) == 1);
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
    expect_content(file, "xxxxyyyycc");
}

/* An unlock does not swallow the failure of its commit. */
static void test_unlock_fails(const char *file)
{
    struct rlimit limit = {.rlim_cur = 200, .rlim_max = RLIM_INFINITY};
    struct flock lock = range(F_WRLCK, 0, 1);
    int fd = open(file, O_RDWR);

    EXPECT(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && pwrite(fd, "new", 3, 0) == 3);
    if (is_wrapped()) {
        EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        lock.l_type = F_UNLCK;
        EXPECT_ERROR(fcntl(fd, F_SETLK, &lock), EFBIG);
        EXPECT(is_free(file, 0, 0));
        lock.l_type = F_WRLCK;
        EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
        EXPECT_ERROR(lockf(fd, F_ULOCK, 0), EFBIG);
        EXPECT(flock(fd, LOCK_EX) == 0);
        EXPECT_ERROR(flock(fd, LOCK_UN), EFBIG);
        limit.rlim_cur = RLIM_INFINITY;
        EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    }
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

/* A struct that the kernel could not read, or not write. */
static void test_bad_pointers(const char *file)
{
    static const int commands[] = {F_SETLK, F_SETLKW, F_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK};
    int fd = open(file, O_RDWR);
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct flock *half = (struct flock *)(pages + PAGE - 16);

    EXPECT(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        EXPECT_ERROR(fcntl(fd, commands[i], NULL), EFAULT);
        EXPECT_ERROR(fcntl(fd, commands[i], (void *)8), EFAULT);
        EXPECT_ERROR(fcntl(fd, commands[i], half), EFAULT);
    }
    *(struct flock *)pages = range(F_WRLCK, 0, 0);
    EXPECT(mprotect(pages, PAGE, PROT_READ) == 0);
    EXPECT_ERROR(fcntl(fd, F_GETLK, pages), EFAULT);
    EXPECT(fcntl(fd, F_SETLK, pages) == 0);
    EXPECT(close(fd) == 0);
}

/* A struct whose end only cannot be written. */
static void test_half_writable(const char *file)
{
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct flock *half = (struct flock *)(pages + PAGE - 16);
    int fd = open(file, O_RDWR);

    EXPECT(pages != MAP_FAILED);
    *half = range(F_WRLCK, 2, 3);
    EXPECT(mprotect(pages + PAGE, PAGE, PROT_READ) == 0);
    EXPECT_ERROR(fcntl(fd, F_GETLK, half), EFAULT);
    EXPECT(half->l_len == 3);
    half->l_type = F_WRLCK;
    half->l_start = 2;
    EXPECT(fcntl(fd, F_SETLK, half) == 0 && !is_free(file, 4, 1) && is_free(file, 5, 1));
    EXPECT(close(fd) == 0);
}

/* A negative length is the range before the start; a start beyond all files is none (fcntl(2)). */
static void test_ends(const char *file)
{
    struct flock before = range(F_WRLCK, 2, -1);
    struct flock beyond = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = INT64_MAX};
    struct flock negative = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -1};
    struct flock last = range(F_WRLCK, INT64_MAX - 1, 1);
    int fd = open(file, O_RDWR);

    EXPECT(fcntl(fd, F_SETLK, &before) == 0);
    EXPECT(is_free(file, 0, 1) && !is_free(file, 1, 1) && is_free(file, 2, 0));
    EXPECT_ERROR(fcntl(fd, F_SETLK, &beyond), EOVERFLOW);
    EXPECT_ERROR(fcntl(fd, F_SETLK, &negative), EINVAL);
    if (is_wrapped()) /* the last bytes are for commits */
        EXPECT_ERROR(fcntl(fd, F_SETLK, &last), EOVERFLOW);
    EXPECT(close(fd) == 0);
    expect_content(file, "old");
}

/* A program that wrote before it took its first lock: what another one has committed since cannot
 * be merged, and the close commits the program's own content, as ever. */
static void test_written_before(const char *file)
{
    struct flock lock = range(F_WRLCK, 2, 1);
    int fd = open(file, O_RDWR);
    pid_t child;

    EXPECT(pwrite(fd, "a", 1, 0) == 1);
    child = fork();
    if (child == 0) {
        int own;

        EXPECT(close(fd) == 0); /* its image would be this open's, too */
        own = open(file, O_RDWR);
        EXPECT(pwrite(own, "x", 1, 1) == 1 && close(own) == 0);
        _exit(0);
    }
    expect_exit(child, 0);
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && pwrite(fd, "c", 1, 2) == 1);
    EXPECT(close(fd) == 0);
    expect_content(file, is_wrapped() ? "alc" : "axc");
}

/* fcntl(2), F_GETLK: if the lock is free only the type changes; else the call describes the
 * conflicting lock. */
static void test_get(const char *file)
{
    static const int kinds[] = {SEEK_SET, SEEK_CUR, SEEK_END};
    struct flock found = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -1, .l_len = 0};
    int fd = open(file, O_RDWR);
    int held[2];
    int done[2];
    char byte;
    pid_t child;

    EXPECT(lseek(fd, 2, SEEK_SET) == 2);
    for (int i = 0; i < 3; i++) {
        struct flock lock = {
            .l_type = F_WRLCK, .l_whence = (short)kinds[i], .l_start = i == 0 ? 1 : -1, .l_len = 5};

        EXPECT(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK && lock.l_whence == kinds[i]);
        EXPECT(lock.l_start == (i == 0 ? 1 : -1) && lock.l_len == 5);
    }
    EXPECT(pipe(held) == 0 && pipe(done) == 0);
    child = fork();
    if (child == 0) {
        struct flock lock = range(F_WRLCK, 2, 0);

        EXPECT(fcntl(open(file, O_RDWR), F_SETLK, &lock) == 0 && write(held[1], "", 1) == 1);
        EXPECT(read(done[0], &byte, 1) == 1);
        _exit(0);
    }
    EXPECT(read(held[0], &byte, 1) == 1);
    EXPECT(fcntl(fd, F_GETLK, &found) == 0 && found.l_type == F_WRLCK && found.l_whence == SEEK_SET);
    EXPECT(found.l_start == 2 && found.l_len == 0 && found.l_pid == child);
    EXPECT(write(done[1], "", 1) == 1);
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
}

/* fcntl(2): the close of any descriptor of the file drops POSIX locks; locks of a description
 * stay. */
static void test_first_close(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 0);
    int fd = open(file, O_RDWR);
    FILE *stream;

    EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && !is_free(file, 0, 0));
    EXPECT(pwrite(fd, "one", 3, 0) == 3);
    EXPECT(close(dup(fd)) == 0 && is_free(file, 0, 0));
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && !is_free(file, 0, 0));
    EXPECT(dup2(0, dup(fd)) >= 0 && is_free(file, 0, 0));
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
    stream = open_stream(file, "r");
    EXPECT(fclose(stream) == 0 && is_free(file, 0, 0));
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
    EXPECT(close(open(file, O_RDONLY)) == 0 && is_free(file, 0, 0));
    EXPECT(fcntl(fd, F_OFD_SETLK, &lock) == 0);
    EXPECT(close(dup(fd)) == 0 && !is_free(file, 0, 0));
    EXPECT(close(fd) == 0 && is_free(file, 0, 0));
    expect_content(file, "one");
}

/* ---- a handler that jumps out of a wait ---- */

static sigjmp_buf out;

static void jump(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

/* Has another process lock the file until a byte is written to the descriptor that this returns. */
static int hold_elsewhere(const char *file, pid_t *child)
{
    struct flock lock = range(F_WRLCK, 0, 0);
    int held[2];
    int done[2];
    char byte;

    EXPECT(pipe(held) == 0 && pipe(done) == 0);
    *child = fork();
    if (*child == 0) {
        EXPECT(fcntl(open(file, O_RDWR), F_SETLK, &lock) == 0 && write(held[1], "", 1) == 1);
        EXPECT(read(done[0], &byte, 1) == 1);
        _exit(0);
    }
    EXPECT(read(held[0], &byte, 1) == 1);
    return done[1];
}

/* Makes the call; a timer jumps out of it, if it waits. */
static void jump_out_of(int (*call)(int fd), int fd)
{
    struct itimerval timer = {.it_value = {.tv_usec = 20000}, .it_interval = {.tv_usec = 20000}};

    EXPECT(signal(SIGALRM, jump) != SIG_ERR);
    if (sigsetjmp(out, 1) == 0) {
        EXPECT(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        (void)call(fd);
    }
    EXPECT(signal(SIGALRM, SIG_IGN) != SIG_ERR);
}

static void test_jump_out_of_fsync(const char *file)
{
    pid_t child;
    int fd = open(file, O_RDWR | O_TRUNC);
    int done = hold_elsewhere(file, &child);

    write_text(fd, "first");
    jump_out_of(fsync, fd);
    EXPECT(write(done, "", 1) == 1);
    expect_exit(child, 0);
    write_text(fd, "second");
    EXPECT(fsync(fd) == 0);
    child = fork(); /* nobody here shall commit that later */
    if (child == 0) {
        expect_content(file, "firstsecond");
        _exit(0);
    }
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
}

static void test_jump_out_of_close(const char *file)
{
    pid_t program = fork();

    if (program == 0) {
        pid_t child;
        int fd = open(file, O_RDWR | O_TRUNC);
        int done = hold_elsewhere(file, &child);

        write_text(fd, "written");
        jump_out_of(close, fd);
        EXPECT(write(done, "", 1) == 1);
        expect_exit(child, 0);
        exit(0); /* this is the last chance */
    }
    expect_exit(program, 0);
    expect_content(file, "written");
}

/* A lock shows what others have committed since, and keeps what this program has written under
 * another one. */
static void test_later_lock(const char *file)
{
    struct flock first = range(F_WRLCK, 0, 1);
    struct flock second = range(F_RDLCK, 1, 2);
    int fd = open(file, O_RDWR);
    char text[4] = "";
    pid_t child;

    EXPECT(fcntl(fd, F_SETLK, &first) == 0 && pwrite(fd, "a", 1, 0) == 1);
    child = fork();
    if (child == 0) {
        EXPECT(close(fd) == 0);
        fd = open(file, O_RDWR);
        second.l_type = F_WRLCK;
        EXPECT(fcntl(fd, F_SETLK, &second) == 0 && pwrite(fd, "xy", 2, 1) == 2);
        second.l_type = F_UNLCK;
        EXPECT(fcntl(fd, F_SETLK, &second) == 0);
        _exit(0);
    }
    expect_exit(child, 0);
    EXPECT(pread(fd, text, 3, 0) == 3 && strcmp(text, is_wrapped() ? "ald" : "axy") == 0);
    EXPECT(fcntl(fd, F_SETLK, &second) == 0);
    EXPECT(pread(fd, text, 3, 0) == 3 && strcmp(text, "axy") == 0);
    EXPECT(pwrite(fd, "b", 1, 0) == 1);
    EXPECT(close(fd) == 0);
    expect_content(file, "bxy");
}

/* A lock through a second open keeps those that the process has already. */
static void test_second_open(const char *file)
{
    struct flock first = range(F_WRLCK, 0, 1);
    struct flock second = range(F_WRLCK, 2, 1);
    int fd = open(file, O_RDWR);
    int again = open(file, O_RDWR);

    EXPECT(fcntl(fd, F_SETLK, &first) == 0 && fcntl(again, F_SETLK, &second) == 0);
    EXPECT(!is_free(file, 0, 1) && is_free(file, 1, 1) && !is_free(file, 2, 1));
    EXPECT(close(again) == 0 && close(fd) == 0);
}

/* A file that may be executed becomes plain by another descriptor: its close drops no lock. */
static void test_executable(const char *file)
{
    struct flock lock = range(F_RDLCK, 0, 1);
    int fd = open(file, O_WRONLY | O_TRUNC);
    int again = open(file, O_RDONLY);

    write_text(fd, "new");
    EXPECT(close(fd) == 0);
    fd = open(file, O_RDONLY);
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && !is_free(file, 0, 1));
    EXPECT(fchmod(again, 0755) == 0 && !is_free(file, 0, 1));
    EXPECT(chmod(file, 0700) == 0 && !is_free(file, 0, 1));
    EXPECT(close(again) == 0 && close(fd) == 0);
}

/* The first lock through a second open is one that a vfork() child takes. */
static void test_second_open_of_vfork(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 1);
    int fd = open(file, O_RDWR);
    int again = open(file, O_RDWR);
    pid_t child = vfork();

    if (child == 0)
        _exit(fcntl(again, F_SETLK, &lock) != 0);
    expect_exit(child, 0);
    EXPECT(fcntl(again, F_SETLK, &lock) == 0);
    EXPECT(!is_free(file, 0, 1));
    EXPECT(close(again) == 0 && close(fd) == 0);
}

/* Starts a process that overwrites the file when a byte comes; ends[0] has its answer, ends[1] is
 * for the byte. */
static pid_t start_overwriter(const char *file, int ends[2])
{
    int to[2];
    int from[2];
    char byte;
    int fd;
    pid_t child;

    EXPECT(pipe(to) == 0 && pipe(from) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(read(to[0], &byte, 1) == 1);
        fd = open(file, O_WRONLY | O_TRUNC);
        write_text(fd, "new");
        EXPECT(close(fd) == 0 && write(from[1], "", 1) == 1);
        _exit(0);
    }
    EXPECT(close(to[0]) == 0 && close(from[1]) == 0);
    ends[0] = from[0];
    ends[1] = to[1];
    return child;
}

/* A vfork() child opens the file, and another process overwrites it: behind a lock the child reads
 * what is there then, and may lock a range. */
static void check_lock_of_vfork(const char *file, int flags)
{
    struct flock lock = range(flags == O_RDWR ? F_WRLCK : F_RDLCK, 0, 1);
    int ends[2];
    pid_t other = start_overwriter(file, ends);
    pid_t child = vfork();

    if (child == 0) {
        int fd = open(file, flags);
        char text[4] = "";

        if (write(ends[1], "", 1) != 1 || read(ends[0], text, 1) != 1 || fcntl(fd, F_SETLK, &lock) != 0)
            _exit(1);
        _exit(read(fd, text, 3) != 3 || strcmp(text, "new") != 0 || close(fd) != 0);
    }
    expect_exit(child, 0);
    expect_exit(other, 0);
    expect_content(file, "new");
}

static void test_lock_of_vfork_reader(const char *file)
{
    check_lock_of_vfork(file, O_RDONLY);
}

static void test_lock_of_vfork_writer(const char *file)
{
    check_lock_of_vfork(file, O_RDWR);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"count", test_count},
        {"two_ranges", test_two_ranges},
        {"unlock_fails", test_unlock_fails},
        {"bad_pointers", test_bad_pointers},
        {"half_writable", test_half_writable},
        {"ends", test_ends},
        {"written_before", test_written_before},
        {"later_lock", test_later_lock},
        {"second_open", test_second_open},
        {"executable", test_executable},
        {"second_open_of_vfork", test_second_open_of_vfork},
        {"lock_of_vfork_reader", test_lock_of_vfork_reader},
        {"lock_of_vfork_writer", test_lock_of_vfork_writer},
        {"get", test_get},
        {"first_close", test_first_close},
        {"jump_out_of_fsync", test_jump_out_of_fsync},
        {"jump_out_of_close", test_jump_out_of_close},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
