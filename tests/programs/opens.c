/* opens WAY TURNS FOLDER: opens and closes a file in FOLDER, an existing one or each time a new
 * one, which `rename` puts over the existing one. Tests count its system calls. */
#include "expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_once(const char *way, int folder, const char *path, int turn)
{
    char name[300];

    if (strcmp(way, "read") == 0)
        return openat(folder, "file", O_RDONLY);
    if (strcmp(way, "write") == 0)
        return openat(folder, "file", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (strcmp(way, "directory") == 0)
        return openat(folder, ".", O_RDONLY | O_DIRECTORY);
    (void)snprintf(name, sizeof name, "new%d", turn);
    if (strcmp(way, "rename") == 0) {
        int fd = openat(folder, name, O_WRONLY | O_CREAT, 0644);

        return renameat(folder, name, folder, "file") == 0 ? fd : -1;
    }
    if (strcmp(way, "exclusive") == 0)
        return openat(folder, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    (void)snprintf(name, sizeof name, "%s/newXXXXXX", path);
    return mkstemp(name);
}

int main(int argc, char *argv[])
{
    int turns = argc == 4 ? atoi(argv[2]) : 0;
    int folder = argc == 4 ? open(argv[3], O_PATH | O_DIRECTORY) : -1;
    char path[300];
    int fd = openat(folder, "file", O_WRONLY | O_CREAT, 0644);

    EXPECT(folder >= 0 && fd >= 0 && close(fd) == 0);
    (void)snprintf(path, sizeof path, "%s/file", argv[3]);
    for (int turn = 0; turn < turns; turn++) {
        if (strcmp(argv[1], "stream") == 0) {
            FILE *stream = fopen(path, "w");

            EXPECT(stream != NULL && fclose(stream) == 0);
            continue;
        }
        fd = open_once(argv[1], folder, argv[3], turn);
        EXPECT(fd >= 0 && close(fd) == 0);
    }
    return 0;
}
