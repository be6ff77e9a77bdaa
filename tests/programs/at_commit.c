/*
 * at_commit FILE LOOK COMMAND [ARGUMENT...]: runs COMMAND, which overwrites FILE under the shim,
 * and the bash command LOOK while the first commit is due and cannot begin: COMMAND has written
 * everything by then. Exits with the status of COMMAND, or 1 if LOOK failed or no commit was due.
 *
 * COMMAND need not cooperate: at_commit locks the first byte of FILE, so the commit has to wait,
 * and a commit that has waited for a while locks the last possible byte (shim/store/filelock.c),
 * which at_commit sees. Run at_commit without the shim.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void lock_first_byte(int fd, int type)
{
    struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_len = 1};

    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        fail("the lock");
}

static bool commit_waits(int fd)
{
    struct flock turn = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LLONG_MAX - 1, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &turn) != 0)
        fail("whose turn it is");
    return turn.l_type != F_UNLCK;
}

static pid_t start(char *command[])
{
    pid_t child = fork();

    if (child == 0) {
        (void)execvp(command[0], command);
        _exit(127);
    }
    return child;
}

/* Returns the status of `child` as a shell has it; -1: it has not ended. */
static int status_of(pid_t child, int options)
{
    int status;
    pid_t ended = waitpid(child, &status, options);

    if (ended < 0)
        fail("waitpid");
    if (ended == 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char *argv[])
{
    int fd = argc < 4 ? -1 : open(argv[1], O_RDWR | O_CLOEXEC);
    pid_t child;
    struct pollfd end;
    int look;
    int status;

    if (fd < 0)
        fail("usage: at_commit FILE LOOK COMMAND [ARGUMENT...]");
    lock_first_byte(fd, F_WRLCK);
    child = start(argv + 3);
    end = (struct pollfd){.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
    while (!commit_waits(fd)) {
        status = status_of(child, WNOHANG);
        if (status >= 0) {
            fprintf(stderr, "at_commit: ended with status %d before a commit was due\n", status);
            return 1;
        }
        (void)poll(&end, 1, 1); /* nothing tells of a lock; the command's end does end the wait */
    }
    look = status_of(start((char *[]){"bash", "-c", argv[2], NULL}), 0);
    lock_first_byte(fd, F_UNLCK);
    status = status_of(child, 0);
    return look == 0 ? status : 1;
}
