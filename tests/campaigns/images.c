/*
 * Programs that write and read images which describe themselves; they know nothing of the shim. The
 * campaigns say what they use them for.
 *
 *   images write FILE WRITER COUNT LEAST MOST
 *                                      overwrites FILE with COUNT images of four sizes from LEAST
 *                                      to MOST, each of which tells writer, sequence and size; a
 *                                      line for each close() that returned 0
 *   images read FILE READS [locked]    reads FILE READS times: each must be one whole image (I2),
 *                                      and no writer's sequence may go back; ends with "READS
 *                                      reads, N torn, N back, N failed". locked: holds a shared
 *                                      lock (fcntl) meanwhile
 *   images count FILE COUNT            adds 1 to the number in FILE, COUNT times
 *   images append FILE WRITER COUNT    appends COUNT lines "WRITER SEQUENCE"
 *
 * write, count and append exit 1 if a call failed; their output lists the commits that succeeded.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST = 1 << 24, LINE = 32, WRITERS = 10 };

static char image[LARGEST];
static char expected[LARGEST];

/* Every LINE bytes are the line "WRITER SEQUENCE SIZE". */
static void fill_image(char *bytes, size_t size, unsigned writer, unsigned long sequence)
{
    char line[64];

    (void)snprintf(line, sizeof line, "%u %015lu %013zu\n", writer % WRITERS, sequence, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = line[i % LINE];
}

static bool store_image(int fd, const char *bytes, size_t size)
{
    bool stored = fd >= 0 && write(fd, bytes, size / 2) == (ssize_t)(size / 2) &&
                  write(fd, bytes + size / 2, size - size / 2) == (ssize_t)(size - size / 2);

    if (fd >= 0 && close(fd) != 0)
        stored = false;
    return stored;
}

static int write_images(const char *file, unsigned writer, unsigned long count, size_t least, size_t most)
{
    for (unsigned long sequence = 1; sequence <= count; sequence++) {
        /* sizes differ: places grow and move */
        size_t now = most - (most - least) / 3 * (sequence % 4);

        fill_image(image, now, writer, sequence);
        if (!store_image(open(file, O_WRONLY | O_TRUNC), image, now)) {
            perror(file);
            return 1;
        }
        (void)printf("%lu\n", sequence);
        (void)fflush(stdout);
    }
    return 0;
}

static ssize_t load_image(const char *file, bool locked)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(file, O_RDONLY);
    ssize_t done = 0;
    ssize_t n = fd < 0 || (locked && fcntl(fd, F_OFD_SETLKW, &lock) != 0) ? -1 : 0;

    while (n >= 0 && (n = read(fd, image + done, sizeof image - (size_t)done)) > 0)
        done += n;
    if (fd >= 0)
        (void)close(fd);
    return n < 0 ? n : done;
}

static int read_images(const char *file, unsigned long reads, bool locked)
{
    unsigned long seen[WRITERS] = {0};
    unsigned long torn = 0;
    unsigned long back = 0;
    unsigned long failed = 0;

    for (unsigned long i = 0; i < reads; i++) {
        ssize_t size = load_image(file, locked);
        unsigned writer = 0;
        unsigned long sequence = 0;

        if (size < 0) {
            failed++;
            continue;
        }
        if (size < LINE || sscanf(image, "%1u %15lu", &writer, &sequence) != 2 || writer >= WRITERS) {
            torn++;
            continue;
        }
        fill_image(expected, (size_t)size, writer, sequence);
        if (memcmp(image, expected, (size_t)size) != 0)
            torn++;
        else if (sequence < seen[writer])
            back++;
        else
            seen[writer] = sequence;
    }
    (void)printf("%lu reads, %lu torn, %lu back, %lu failed\n", reads, torn, back, failed);
    return torn + back + failed != 0;
}

static int count_up(const char *file, unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        char text[LINE] = {0};
        int fd = open(file, O_RDWR);
        unsigned long value;

        if (fd < 0 || read(fd, text, sizeof text - 1) < 0) {
            perror(file);
            return 1;
        }
        value = strtoul(text, NULL, 10) + 1;
        (void)snprintf(text, sizeof text, "%lu\n", value);
        if (lseek(fd, 0, SEEK_SET) != 0 || !store_image(fd, text, strlen(text))) {
            perror(file);
            return 1;
        }
    }
    return 0;
}

static int append_lines(const char *file, unsigned writer, unsigned long count)
{
    for (unsigned long sequence = 1; sequence <= count; sequence++) {
        char line[LINE];

        (void)snprintf(line, sizeof line, "%u %lu\n", writer, sequence);
        if (!store_image(open(file, O_WRONLY | O_APPEND), line, strlen(line))) {
            perror(file);
            return 1;
        }
    }
    return 0;
}

int main(int argc, char *argv[])
{
    const char *what = argc > 3 ? argv[1] : "";
    unsigned long number = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    unsigned long count = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    size_t least = argc > 6 ? strtoul(argv[5], NULL, 10) : 0;
    size_t most = argc > 6 ? strtoul(argv[6], NULL, 10) : 0;

    if (strcmp(what, "write") == 0 && number < WRITERS && least >= LINE && least <= most && most <= LARGEST)
        return write_images(argv[2], (unsigned)number, count, least, most);
    if (strcmp(what, "read") == 0)
        return read_images(argv[2], number, argc > 4);
    if (strcmp(what, "count") == 0)
        return count_up(argv[2], number);
    if (strcmp(what, "append") == 0 && argc == 5)
        return append_lines(argv[2], (unsigned)number, count);
    fprintf(stderr, "usage: images write FILE WRITER COUNT LEAST MOST | read FILE READS [locked] |\n"
                    "       count FILE COUNT | append FILE WRITER COUNT\n");
    return 2;
}
