/*
 * failing FILE SIZE HOW: writes SIZE bytes over FILE and prints how HOW, one of close, fclose,
 * fsync, fdatasync, freopen or truncate, ended: "ok" or the errno's name.
 */
#include "expect.h"

static int overwrite(const char *file, size_t size)
{
    char piece[4096];
    int fd = open(file, O_WRONLY | O_TRUNC);

    memset(piece, 'n', sizeof piece);
    for (size_t done = 0; fd >= 0 && done < size; done += sizeof piece)
        if (write(fd, piece, sizeof piece) != (ssize_t)sizeof piece)
            return -1; /* without the shim a full disk is seen here */
    return fd;
}

static int try_how(const char *file, size_t size, const char *how)
{
    int fd = strcmp(how, "truncate") == 0 ? -2 : overwrite(file, size);
    int result = -1;

    if (fd == -1)
        return -1;
    if (strcmp(how, "close") == 0)
        result = close(fd);
    else if (strcmp(how, "fclose") == 0)
        result = fclose(fdopen(fd, "w"));
    else if (strcmp(how, "fsync") == 0)
        result = fsync(fd);
    else if (strcmp(how, "fdatasync") == 0)
        result = fdatasync(fd);
    else if (strcmp(how, "truncate") == 0)
        result = truncate(file, (off_t)size);
    return result;
}

int main(int argc, char *argv[])
{
    int result;

    EXPECT(argc == 4);
    errno = 0;
    result = try_how(argv[1], strtoul(argv[2], NULL, 10), argv[3]);
    (void)puts(result == 0 ? "ok" : strerrorname_np(errno));
    (void)fflush(stdout);
    _exit(0);
}
