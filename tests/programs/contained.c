/*
 * This program runs in containers without a shell. contained COMMAND FILE [TEXT]
 *   write    overwrites FILE with TEXT; exit status 7
 *   replace  the same by a new file in /tmp and rename
 *   read     prints FILE
 *   signal   prints "ready", waits for SIGTERM, then overwrites; exit status 7
 *   alone    fails if this process has a child, or descriptors that it was not given
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int overwrite(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0) {
        perror(file);
        return 1;
    }
    return 7;
}

static int replace(const char *file, const char *text)
{
    const char *name = "/tmp/new";
    int status = overwrite(name, text);

    if (status == 7 && rename(name, file) != 0) {
        perror("rename");
        return 1;
    }
    return status;
}

static int print(const char *file)
{
    char text[256];
    FILE *stream = fopen(file, "r");

    if (stream == NULL || fgets(text, sizeof text, stream) == NULL) {
        perror(file);
        return 1;
    }
    return fputs(text, stdout) < 0 || fclose(stream) != 0;
}

static int alone(void)
{
    if (waitpid(-1, NULL, WNOHANG | __WALL) != -1)
        return 2;
    for (int fd = 3; fd < 2048; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return 3;
    return 0;
}

int main(int argc, char *argv[])
{
    const char *text = argc > 3 ? argv[3] : "";
    sigset_t mask;
    int number;

    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "write") == 0)
        return overwrite(argv[2], text);
    if (strcmp(argv[1], "replace") == 0)
        return replace(argv[2], text);
    if (strcmp(argv[1], "read") == 0)
        return print(argv[2]);
    if (strcmp(argv[1], "alone") == 0)
        return alone();
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &mask, NULL);
    if (puts("ready") < 0 || fflush(stdout) != 0 || sigwait(&mask, &number) != 0)
        return 3;
    return overwrite(argv[2], text);
}
