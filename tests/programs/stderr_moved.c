/*
 * stderr_moved HOW FILE ELSEWHERE: makes a commit of FILE fail, which the shim reports at
 * descriptor 2, after HOW has changed that descriptor. Descriptor 9 is FILE, opened without the
 * shim: a lock on it keeps the commit out.
 */
#include "expect.h"

#include <sys/wait.h>

static void fail_commit(const char *file)
{
    struct flock lock = {.l_type = F_WRLCK};
    int fd;

    EXPECT(fcntl(9, F_OFD_SETLK, &lock) == 0);
    fd = open(file, O_WRONLY | O_TRUNC);
    write_text(fd, "new");
    EXPECT(close(fd) == -1);
}

/*
 * Descriptor 2 is the program's own file or pipe, which got the number because nothing else had it.
 */
static void take_number_2(const char *how, const char *file, const char *elsewhere)
{
    char data[256];
    int ends[2];
    ssize_t size;

    (void)close(2);
    if (strcmp(how, "database") == 0) {
        EXPECT(open(elsewhere, O_RDWR) == 2);
        EXPECT(pwrite(2, "RECORD 1\nRECORD 2\n", 18, 0) == 18);
        EXPECT(lseek(2, 9, SEEK_SET) == 9);
        fail_commit(file);
        return;
    }
    EXPECT(close(0) == 0);
    EXPECT(pipe(ends) == 0 && ends[0] == 0 && ends[1] == 2);
    EXPECT(write(2, "RECORD 1\nRECORD 2\n", 18) == 18);
    fail_commit(file);
    EXPECT(close(2) == 0);
    size = read(0, data, sizeof data);
    EXPECT(write(open(elsewhere, O_WRONLY), data, (size_t)size) == size);
}

int main(int argc, char *argv[])
{
    const char *how = argv[1];
    int log;

    EXPECT(argc == 4);
    if (strcmp(how, "database") == 0 || strcmp(how, "pipe") == 0) {
        take_number_2(how, argv[2], argv[3]);
        return 0;
    }
    log = open(argv[3], O_WRONLY); /* no O_APPEND: the test sees the place of each line */
    EXPECT(log >= 0);
    if (strcmp(how, "dup2") == 0 || strcmp(how, "vfork") == 0)
        EXPECT(dup2(log, 2) == 2);
    if (strcmp(how, "dup3") == 0)
        EXPECT(dup3(log, 2, 0) == 2);
    if (strcmp(how, "freopen") == 0)
        EXPECT(freopen(argv[3], "w", stderr) == stderr);
    if (strcmp(how, "child") == 0) { /* as a daemon begins */
        pid_t child = fork();

        if (child != 0) {
            expect_exit(child, 0);
            return 0;
        }
        EXPECT(dup2(log, 2) == 2);
    }
    for (int i = 0; i < 3 && strcmp(how, "vfork") == 0;
         i++) { /* the parent's own stderr stays what it declared */
        int ends[2];
        pid_t child;

        EXPECT(pipe(ends) == 0);
        child = vfork();
        if (child == 0) {
            (void)dup2(ends[1], 2);
            _exit(0);
        }
        expect_exit(child, 0);
    }
    fail_commit(argv[2]);
    return 0;
}
