/*
 * two_forks OTHER GO: forks in two threads. The second begins when it has read from the FIFO OTHER,
 * and writes to GO when it is done. Both children, and the parent in the end, print the inodes of
 * their shared memory.
 */
#include "expect.h"

static void print_shared(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long number;
    char line[PATH_MAX];

    EXPECT(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "/dev/zero") != NULL && sscanf(line, "%*s %*s %*s %*s %lu", &number) == 1)
            dprintf(1, "%lu ", number);
    dprintf(1, "\n");
    (void)fclose(maps);
}

static void fork_once(void)
{
    pid_t child = fork();

    if (child == 0) {
        print_shared();
        _exit(0);
    }
    expect_exit(child, 0);
}

static void *fork_meanwhile(void *arguments)
{
    char **names = arguments;
    char byte;
    int other = open(names[1], O_RDONLY);
    int go;

    EXPECT(other >= 0 && read(other, &byte, 1) == 1);
    fork_once();
    go = open(names[2], O_WRONLY);
    write_text(go, "\n");
    EXPECT(close(go) == 0 && close(other) == 0);
    return NULL;
}

int main(int argc, char *argv[])
{
    pthread_t thread;

    (void)alarm(60);
    EXPECT(argc == 3 && pthread_create(&thread, NULL, fork_meanwhile, argv) == 0);
    fork_once();
    EXPECT(pthread_join(thread, NULL) == 0);
    print_shared();
    return 0;
}
