/*
 * A program that cannot load the shim: linked statically (see Makefile).
 * static_writer FD COMMAND ARGUMENT...
 *   write TEXT        writes it and ends
 *   die TEXT          writes it and kills itself
 *   wait-write TEXT   waits for the end of file on descriptor 0 first
 *   daemon TEXT       a grandchild tells its pid on descriptor 9 and does wait-write; this process
 *                     ends at once
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
    char byte;
    pid_t self;
    int fd = argc > 3 ? atoi(argv[1]) : -1;
    const char *command = argc > 3 ? argv[2] : "";

    if (strcmp(command, "daemon") == 0) {
        if (fork() != 0)
            _exit(0);
        (void)setsid();
        if (fork() != 0)
            _exit(0);
        self = getpid();
        if (write(9, &self, sizeof self) != sizeof self)
            return 1;
    }
    if (strcmp(command, "daemon") == 0 || strcmp(command, "wait-write") == 0)
        while (read(0, &byte, 1) > 0)
            continue;
    for (int i = 3; i < argc; i++)
        if (write(fd, argv[i], strlen(argv[i])) != (ssize_t)strlen(argv[i]))
            return 1;
    if (strcmp(command, "die") == 0)
        (void)kill(getpid(), SIGKILL);
    return 0;
}
