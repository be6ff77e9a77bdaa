/* The calls of interpose/lock.c: a program's own locks exclude other processes, and do not keep
 * its commit out. */
#include "expect.h"

#include <sys/file.h>

enum { ROUNDS = 25, PROCESSES = 4 };

static struct flock range(short type, off_t start, off_t length)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

/* Tells whether another process could lock `path`. Without the shim it asks the same inode. */
static bool is_free(const char *path, short type, off_t start, off_t length)
{
    pid_t child = fork();
    int status;

    EXPECT(child >= 0);
    if (child == 0) {
        int fd = open(path, O_RDWR);
        struct flock lock = range(type, start, length);

        if (fd < 0)
            _exit(2);
        _exit(fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 3);
    }
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

/* Reads the file in another process: closing any descriptor of it here would drop our POSIX locks,
 * fcntl(2). */
static void expect_content_elsewhere(const char *file, const char *content)
{
    pid_t child = fork();

    if (child == 0) {
        expect_content(file, content);
        _exit(0);
    }
    expect_exit(child, 0);
}

typedef int fcntl_function(int fd, int command, ...);

static void check_fcntl_ranges(fcntl_function *control, const char *file, int set, int get)
{
    int fd = open(file, O_RDWR);
    struct flock lock = range(F_WRLCK, 0, 0);

    EXPECT(control(fd, set, &lock) == 0);
    EXPECT(!is_free(file, F_WRLCK, 0, 0) && !is_free(file, F_RDLCK, 7, 1));
    EXPECT(pwrite(fd, "locked", 6, 0) == 6);
    EXPECT(fsync(fd) == 0); /* a commit while the lock is held */
    expect_content_elsewhere(file, "locked");
    EXPECT(!is_free(file, F_WRLCK, 0, 0));
    lock = range(F_RDLCK, 0, 0);
    EXPECT(control(fd, get, &lock) == 0 && lock.l_type == F_UNLCK); /* not our own */
    lock = range(F_UNLCK, 0, 0);
    EXPECT(control(fd, set, &lock) == 0);
    EXPECT(is_free(file, F_WRLCK, 0, 0));

    /* two ranges, one for reading, are the same after a commit */
    lock = range(F_WRLCK, 10, 5);
    EXPECT(control(fd, set, &lock) == 0);
    lock = range(F_RDLCK, 100, 10);
    EXPECT(control(fd, set, &lock) == 0);
    EXPECT(pwrite(fd, "RANGES", 6, 0) == 6 && fsync(fd) == 0);
    expect_content_elsewhere(file, "RANGES");
    EXPECT(is_free(file, F_WRLCK, 0, 10) && !is_free(file, F_RDLCK, 14, 1) && is_free(file, F_WRLCK, 15, 85));
    EXPECT(is_free(file, F_RDLCK, 100, 10) && !is_free(file, F_WRLCK, 109, 1) &&
           is_free(file, F_WRLCK, 110, 0));
    EXPECT(pwrite(fd, "closed", 6, 0) == 6);
    EXPECT(close(fd) == 0);
    expect_content_elsewhere(file, "closed");
    EXPECT(is_free(file, F_WRLCK, 0, 0));
}

static void check_fcntl_origins(fcntl_function *control, const char *file, int set)
{
    int fd = open(file, O_RDWR);
    struct flock lock;

    EXPECT(lseek(fd, 2, SEEK_SET) == 2);
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 1, .l_len = 1};
    EXPECT(control(fd, set, &lock) == 0 && lock.l_start == 1 && lock.l_whence == SEEK_CUR);
    EXPECT(!is_free(file, F_WRLCK, 3, 1) && is_free(file, F_WRLCK, 4, 1));
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -1, .l_len = 1};
    EXPECT(control(fd, set, &lock) == 0);
    EXPECT(!is_free(file, F_WRLCK, 5, 1) && is_free(file, F_WRLCK, 4, 1) && is_free(file, F_WRLCK, 6, 1));
    EXPECT(close(fd) == 0);
}

static void check_fcntl_errors(fcntl_function *control, const char *file, int set, int get)
{
    int fd = open(file, O_RDONLY);
    struct flock lock = range(F_WRLCK, 0, 0);

    EXPECT_ERROR(control(fd, set, &lock), EBADF);
    lock = range(F_RDLCK, 0, 0);
    EXPECT(control(fd, set, &lock) == 0 && close(fd) == 0);
    fd = open(file, O_WRONLY);
    lock = range(F_RDLCK, 0, 0);
    EXPECT_ERROR(control(fd, set, &lock), EBADF);
    lock.l_whence = 9;
    EXPECT_ERROR(control(fd, get, &lock), EINVAL);
    EXPECT(control(fd, F_GETFL) == (O_WRONLY | (control(fd, F_GETFL) & ~O_ACCMODE)));
    EXPECT(close(fd) == 0);
    EXPECT_ERROR(control(fd, set, &lock), EBADF);
}

/* `set` is F_SETLK or F_OFD_SETLK, and `get` the command that goes with it. */
static void check_fcntl(fcntl_function *control, const char *file, int set, int get)
{
    check_fcntl_ranges(control, file, set, get);
    check_fcntl_origins(control, file, set);
    check_fcntl_errors(control, file, set, get);
}

static void test_fcntl(const char *file)
{
    check_fcntl(fcntl, file, F_SETLK, F_GETLK);
}

static void test_fcntl64(const char *file)
{
    check_fcntl(fcntl64, file, F_SETLKW, F_GETLK);
}

static void test_ofd(const char *file)
{
    check_fcntl(fcntl, file, F_OFD_SETLK, F_OFD_GETLK);
}

/* A managed file has no seals, and no lease while others have it open. */
static void test_other_commands(const char *file)
{
    int one = open(file, O_RDWR);
    int two = open(file, O_RDONLY);
    int ends[2]; /* they are not managed */

    EXPECT(pipe(ends) == 0);
    EXPECT_ERROR(fcntl(ends[0], F_GET_SEALS), EINVAL);
    EXPECT_ERROR(fcntl(ends[0], F_SETLEASE, F_RDLCK), EINVAL);
    EXPECT(close(ends[0]) == 0 && close(ends[1]) == 0);
    if (!is_bare_tmpfs(file)) {
        EXPECT_ERROR(fcntl(one, F_GET_SEALS), EINVAL);
        EXPECT_ERROR(fcntl(one, F_ADD_SEALS, F_SEAL_WRITE), EINVAL);
    }
    EXPECT_ERROR(fcntl(one, F_SETLEASE, F_WRLCK), EAGAIN);
    EXPECT_ERROR(fcntl(two, F_SETLEASE, F_RDLCK), EAGAIN);
    EXPECT(fcntl(one, F_GETLEASE) == F_UNLCK);
    write_text(one, "new");
    EXPECT(close(one) == 0 && close(two) == 0);
    expect_content(file, "new");
}

static void check_lockf(int (*lock)(int fd, int command, off64_t size), const char *file)
{
    int fd = open(file, O_RDWR);
    pid_t child;

    EXPECT(lock(fd, F_LOCK, 0) == 0 && lock(fd, F_TEST, 0) == 0);
    child = fork();
    if (child == 0) {
        int own = open(file, O_RDWR);

        EXPECT_ERROR(lock(own, F_TLOCK, 1), EAGAIN);
        EXPECT_ERROR(lock(own, F_TEST, 1), EACCES);
        _exit(0);
    }
    expect_exit(child, 0);
    write_text(fd, "new");
    EXPECT(lseek(fd, 0, SEEK_SET) == 0);
    EXPECT(lock(fd, F_ULOCK, 0) == 0);
    expect_content(file, "new"); /* the unlock commits */
    EXPECT(is_free(file, F_WRLCK, 0, 0));
    EXPECT_ERROR(lock(fd, 9, 0), EINVAL);
    EXPECT(close(fd) == 0);
    EXPECT_ERROR(lock(fd, F_TLOCK, 0), EBADF);
}

static void test_lockf(const char *file)
{
    check_lockf(lockf, file);
}

static void test_lockf64(const char *file)
{
    check_lockf(lockf64, file);
}

static void test_flock(const char *file)
{
    int one = open(file, O_RDWR);
    int two = open(file, O_RDONLY);

    EXPECT(flock(one, LOCK_EX) == 0);
    EXPECT_ERROR(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    write_text(one, "new");
    EXPECT(flock(one, LOCK_UN) == 0);
    EXPECT(flock(two, LOCK_SH | LOCK_NB) == 0);
    {
        char bytes[4] = "";

        /* though it was opened before */
        EXPECT(read(two, bytes, 3) == 3 && strcmp(bytes, "new") == 0);
    }
    EXPECT_ERROR(flock(one, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    EXPECT(close(two) == 0);
    EXPECT(flock(one, LOCK_EX | LOCK_NB) == 0);
    EXPECT_ERROR(flock(one, 77), EINVAL);
    EXPECT(close(one) == 0);
    EXPECT_ERROR(flock(one, LOCK_EX), EBADF);
}

/* Tells whether another process is kept from flock(2) by an exclusive lock. */
static bool is_flocked(const char *file)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(flock(open(file, O_RDONLY), LOCK_SH | LOCK_NB) != 0);
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status) != 0;
}

/* Under the shim a vfork() child gets no lock through an open that has had none: it cannot open a
 * description for it that its parent has, too. */
static bool is_refused_to_vfork(int result)
{
    return result == -1 && errno == (is_wrapped() ? ENOLCK : EAGAIN);
}

/* I7: a vfork() child neither gets nor drops the lock of another open of its parent's. */
static void test_locks_of_vfork(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 10);
    struct flock unlock = range(F_UNLCK, 0, 10);
    int one = open(file, O_RDWR);
    int two = open(file, O_RDWR);
    pid_t child;

    EXPECT(flock(one, LOCK_EX) == 0 && fcntl(one, F_OFD_SETLK, &lock) == 0);
    child = vfork();
    if (child == 0) {
        if (!is_refused_to_vfork(flock(two, LOCK_EX | LOCK_NB)) ||
            !is_refused_to_vfork(fcntl(two, F_OFD_SETLK, &lock)))
            _exit(1);
        (void)flock(two, LOCK_UN);
        (void)fcntl(two, F_OFD_SETLK, &unlock);
        _exit(0);
    }
    expect_exit(child, 0);
    EXPECT(is_flocked(file) && !is_free(file, F_WRLCK, 0, 10));
    EXPECT(close(two) == 0 && close(one) == 0);
    EXPECT(!is_flocked(file) && is_free(file, F_WRLCK, 0, 10));
}

/* The program may use any number: the shim's own descriptors, which stay low beside a POSIX lock,
 * make room, and the lock by flock(2) is not lost. */
static void test_flock_and_numbers(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 10);
    int one = open(file, O_RDWR);
    int two = open(file, O_RDWR);

    EXPECT(fcntl(one, F_SETLK, &lock) == 0 && flock(two, LOCK_EX) == 0);
    for (int number = two + 1; number < two + 20; number++)
        EXPECT(dup2(1, number) == number);
    EXPECT(is_flocked(file) && flock(two, LOCK_EX | LOCK_NB) == 0);
    EXPECT(flock(two, LOCK_UN) == 0 && !is_flocked(file));
    EXPECT(close(one) == 0 && close(two) == 0);
}

/* The same with number 0 free, as in a daemon: it stays free, and a lock is found again. */
static void test_flock_without_stdin(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 10);
    int one = open(file, O_RDWR);
    int two = open(file, O_RDWR);

    EXPECT(fcntl(one, F_SETLK, &lock) == 0 && close(0) == 0);
    for (int i = 0; i < 3; i++)
        EXPECT(flock(two, LOCK_EX | LOCK_NB) == 0);
    EXPECT_ERROR(fcntl(0, F_GETFD), EBADF);
    EXPECT_ERROR(close(0), EBADF);
    EXPECT(open("/dev/null", O_RDONLY) == 0);
    EXPECT(is_flocked(file) && !is_free(file, F_WRLCK, 0, 10));
    EXPECT(flock(two, LOCK_UN) == 0 && !is_flocked(file));
    EXPECT(close(one) == 0 && close(two) == 0);
}

/* A close of the first open ends its locks, and not those of the second; and the other way round. */
static void test_close_of_one(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 10);

    for (int second = 0; second < 2; second++) {
        int fds[] = {open(file, O_RDWR), open(file, O_RDWR)};
        int locked = fds[second];
        int other = fds[1 - second];

        EXPECT(flock(locked, LOCK_EX) == 0 && fcntl(locked, F_OFD_SETLK, &lock) == 0);
        EXPECT_ERROR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
        EXPECT_ERROR(fcntl(other, F_OFD_SETLK, &lock), EAGAIN);
        EXPECT(close(locked) == 0);
        EXPECT(flock(other, LOCK_EX | LOCK_NB) == 0 && fcntl(other, F_OFD_SETLK, &lock) == 0);
        EXPECT(is_flocked(file) && close(other) == 0);
    }
}

static void lock_and_unlock(int fd, short type)
{
    struct flock lock = range(type, 0, 0);

    EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
    lock.l_type = F_UNLCK;
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
}

static int next_free(int number)
{
    while (fcntl(++number, F_GETFD) >= 0)
        continue;
    return number;
}

/* open(2) returns the lowest free number: once a POSIX lock is given back, no descriptor of the
 * shim's stays low for the sake of it. */
static void test_numbers_after_lock(const char *file)
{
    static const int flags[] = {O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_TRUNC};

    for (int first = 0; first < 2; first++)
        for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
            int fd = open(file, flags[first]);
            int next;
            int behind;
            int again;
            int last;

            lock_and_unlock(fd, flags[first] == O_RDONLY ? F_RDLCK : F_WRLCK);
            next = next_free(fd); /* a descriptor of the shim's makes way for fcntl() */
            behind = next_free(next);
            again = open(file, flags[i]);
            EXPECT(again == next && flock(again, LOCK_SH | LOCK_NB) == 0);
            last = open("/dev/null", O_RDONLY);
            EXPECT(last == behind && close(last) == 0 && close(again) == 0 && close(fd) == 0);
        }
}

/* ---- the purpose of locks ---- */

static void lock_by_fcntl(int fd, bool take)
{
    struct flock lock = range(take ? F_WRLCK : F_UNLCK, 0, 0);

    EXPECT(fcntl(fd, F_SETLKW, &lock) == 0);
}

static void lock_by_ofd(int fd, bool take)
{
    struct flock lock = range(take ? F_WRLCK : F_UNLCK, 0, 0);

    EXPECT(fcntl(fd, F_OFD_SETLKW, &lock) == 0);
}

static void lock_by_flock(int fd, bool take)
{
    EXPECT(flock(fd, take ? LOCK_EX : LOCK_UN) == 0);
}

/* Several processes keep the file open, and each locks, reads, adds one, writes and unlocks. */
static void count(const char *file, void (*lock)(int fd, bool take), bool reopen)
{
    char text[16];
    int fd = open(file, O_RDWR | O_TRUNC);

    write_text(fd, "0000");
    EXPECT(close(fd) == 0);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            fd = open(file, O_RDWR);
            for (int k = 0; k < ROUNDS; k++) {
                char digits[5] = "";

                lock(fd, true);
                EXPECT(pread(fd, digits, 4, 0) == 4);
                (void)snprintf(text, sizeof text, "%04d", atoi(digits) + 1);
                EXPECT(pwrite(fd, text, 4, 0) == 4);
                if (!reopen)
                    lock(fd, false);
                else {
                    EXPECT(close(fd) == 0);
                    fd = open(file, O_RDWR);
                }
            }
            EXPECT(close(fd) == 0);
            _exit(0);
        }
    for (int i = 0; i < PROCESSES; i++) {
        int status;

        EXPECT(wait(&status) > 0 && status == 0);
    }
    (void)snprintf(text, sizeof text, "%04d", PROCESSES * ROUNDS);
    expect_content(file, text);
}

static void test_count(const char *file)
{
    for (int reopen = 0; reopen < 2; reopen++) {
        count(file, lock_by_fcntl, reopen);
        count(file, lock_by_ofd, reopen);
        count(file, lock_by_flock, reopen);
    }
}

/* A program that did not get the lock, and unlocks all the same, does not wait for the holder. */
static void test_refused(const char *file)
{
    struct flock lock = range(F_WRLCK, 0, 0);
    struct flock unlock = range(F_UNLCK, 0, 0);
    int fd = open(file, O_RDWR);
    int held[2];
    int done[2];
    pid_t child;
    char byte;

    EXPECT(fd >= 0 && pipe(held) == 0 && pipe(done) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(close(fd) == 0 && close(done[1]) == 0);
        fd = open(file, O_RDWR);
        EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && write(held[1], "", 1) == 1);
        EXPECT(read(done[0], &byte, 1) == 1); /* nothing, if the parent gave up first */
        _exit(0);
    }
    EXPECT(close(done[0]) == 0 && read(held[0], &byte, 1) == 1);
    write_text(fd, "new");
    EXPECT_ERROR(fcntl(fd, F_SETLK, &lock), EAGAIN);
    /* a process that waited would log that its commit failed: calls.bats looks for the line */
    EXPECT(fcntl(fd, F_SETLK, &unlock) == 0 && fcntl(fd, F_OFD_SETLK, &unlock) == 0);
    EXPECT(lockf(fd, F_ULOCK, 0) == 0 && flock(fd, LOCK_UN) == 0);
    EXPECT(write(done[1], "", 1) == 1);
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
    expect_content(file, "new");
}

/* A second open of the file, a stat, a look at it: none of them drops a POSIX lock. */
static void test_still_locked(const char *file)
{
    int fd = open(file, O_RDWR);
    struct flock lock = range(F_WRLCK, 0, 0);
    struct stat status;
    int second;

    EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
    EXPECT(pwrite(fd, "new", 3, 0) == 3 && fsync(fd) == 0);
    second = open(file, O_RDONLY);
    EXPECT(second >= 0 && stat(file, &status) == 0 && status.st_size == 3);
    EXPECT(!is_free(file, F_WRLCK, 0, 0));
    EXPECT(close(second) == 0); /* this does: fcntl(2) */
    EXPECT(is_free(file, F_WRLCK, 0, 0));
    EXPECT(close(fd) == 0);
}

/* What makes an executed file plain opens it, and would drop a POSIX lock by the close: the file
 * stays as it is. */
static void test_executable(const char *file)
{
    int fd = open_new(file);
    struct flock lock = range(F_RDLCK, 0, 0);

    EXPECT(close(fd) == 0);
    fd = open(file, O_RDONLY);
    EXPECT(fcntl(fd, F_SETLK, &lock) == 0);
    EXPECT(chmod(file, 0755) == 0);
    EXPECT(!is_free(file, F_WRLCK, 0, 0));
    EXPECT(close(fd) == 0);
    EXPECT(is_free(file, F_WRLCK, 0, 0));
    expect_content(file, "new");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fcntl", test_fcntl},
        {"fcntl64", test_fcntl64},
        {"ofd", test_ofd},
        {"other_commands", test_other_commands},
        {"lockf", test_lockf},
        {"lockf64", test_lockf64},
        {"flock", test_flock},
        {"locks_of_vfork", test_locks_of_vfork},
        {"flock_and_numbers", test_flock_and_numbers},
        {"close_of_one", test_close_of_one},
        {"flock_without_stdin", test_flock_without_stdin},
        {"numbers_after_lock", test_numbers_after_lock},
        {"count", test_count},
        {"still_locked", test_still_locked},
        {"refused", test_refused},
        {"executable", test_executable},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
