/*
 * race FILE WRITERS READERS READS: writers overwrite FILE with images of 1 B to 1 MiB, readers read
 * it READS times in all. Each image describes itself, so a read that mixes two is found; and no
 * reader goes back in time. At the end the readers print "READS reads of N images, N bad".
 */
#include "expect.h"

#include <sys/mman.h>

enum { LARGEST = 1 << 20, TEXT = 48 };

/* Shared by all processes. */
struct shared {
    int stop;
    long written, bad;
};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 16;
}

/* The image of a writer, a sequence number and a size; small ones have room for nothing but their
 * size. */
static void make_image(char *bytes, size_t size, int writer, long sequence)
{
    uint64_t state = (uint64_t)writer * 1000003 + (uint64_t)sequence;

    if (size < TEXT) {
        memset(bytes, (int)size, size);
        return;
    }
    memset(bytes, 0, TEXT);
    (void)snprintf(bytes, TEXT, "%d %ld %zu", writer, sequence, size);
    for (size_t i = TEXT; i < size; i++)
        bytes[i] = (char)(i % 64 == 0 ? (next_random(&state), (char)state) : bytes[i - 1] + 1);
}

static size_t random_size(uint64_t *state)
{
    return 1 + next_random(state) % ((size_t)1 << (next_random(state) % 21));
}

static void write_images(const char *file, int writer, struct shared *shared)
{
    static char bytes[LARGEST];
    uint64_t state = (uint64_t)writer;

    for (long sequence = 1; !__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE); sequence++) {
        size_t size = random_size(&state);
        int fd = open(file, O_WRONLY | O_TRUNC);

        make_image(bytes, size, writer, sequence);
        EXPECT(fd >= 0);
        for (size_t done = 0; done < size;) { /* as programs do, in pieces */
            size_t piece = size - done < 65536 ? size - done : 65536;

            EXPECT(write(fd, bytes + done, piece) == (ssize_t)piece);
            done += piece;
        }
        EXPECT(close(fd) == 0);
        (void)__atomic_add_fetch(&shared->written, 1, __ATOMIC_RELAXED);
    }
    _exit(0);
}

static bool is_image(const char *bytes, size_t size, long *seen)
{
    static char expected[LARGEST];
    int writer = 0;
    long sequence = 0;
    size_t said;

    if (size >= TEXT) {
        if (sscanf(bytes, "%d %ld %zu", &writer, &sequence, &said) != 3 || said != size || writer > 9)
            return false;
        if (sequence < seen[writer])
            return false;
        seen[writer] = sequence;
    }
    make_image(expected, size, writer, sequence);
    return size > 0 && memcmp(bytes, expected, size) == 0;
}

static void read_images(const char *file, long reads, struct shared *shared)
{
    static char bytes[LARGEST + 1];
    long seen[10] = {0};

    for (long i = 0; i < reads; i++) {
        int fd = open(file, O_RDONLY);
        ssize_t n;

        EXPECT(fd >= 0);
        n = read(fd, bytes, sizeof bytes);
        EXPECT(n >= 0 && close(fd) == 0);
        if (!is_image(bytes, (size_t)n, seen))
            (void)__atomic_add_fetch(&shared->bad, 1, __ATOMIC_RELAXED);
    }
    _exit(0);
}

int main(int argc, char *argv[])
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static char first[TEXT];
    int writers = argc == 5 ? (int)strtol(argv[2], NULL, 10) : 0;
    int readers = argc == 5 ? (int)strtol(argv[3], NULL, 10) : 0;
    long reads = argc == 5 ? strtol(argv[4], NULL, 10) : 0;
    pid_t children[20];
    int fd;

    EXPECT(writers > 0 && readers > 0 && writers + readers <= 20 && shared != MAP_FAILED);
    make_image(first, TEXT, 9, 1);
    fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    EXPECT(fd >= 0 && write(fd, first, TEXT) == TEXT && close(fd) == 0);
    for (int i = 0; i < writers + readers; i++) {
        children[i] = fork();
        if (children[i] == 0 && i < writers)
            write_images(argv[1], i + 1, shared);
        else if (children[i] == 0)
            read_images(argv[1], reads / readers, shared);
    }
    for (int i = writers; i < writers + readers; i++)
        expect_exit(children[i], 0);
    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < writers; i++)
        expect_exit(children[i], 0);
    (void)printf("%ld reads of %ld images, %ld bad\n", reads, shared->written, shared->bad);
    return shared->bad == 0 ? 0 : 1;
}
