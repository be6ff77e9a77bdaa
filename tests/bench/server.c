/*
 * server WAY FILE [NUMBER]: overwrites, reads or starts something in one way, as often as it is
 * told, and prints the time.
 *
 * bench.py starts a server for each way, under the shim or not, and gives orders in turn, so that
 * other load on the machine hits all alike. An order is a line "SIZE COUNT MILLISECONDS": repeat
 * the way with images of SIZE bytes COUNT times, or until MILLISECONDS have passed, whichever comes
 * first (0: no limit). The answer is a line "OPERATIONS NANOSECONDS". NUMBER is the number of files
 * that a way takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST = 64 << 20 };

static char image[LARGEST];
static char *file;    /* the argument FILE */
static long number;   /* the argument NUMBER */
static uint64_t turn; /* operations so far; each image begins and ends with it */

static void fail(const char *what)
{
    (void)fprintf(stderr, "server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int open_to_write(const char *path, int flags)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);

    if (fd < 0)
        fail(path);
    return fd;
}

static void write_all(int fd, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, image + done, size - done);

        if (n <= 0)
            fail("write");
        done += (size_t)n;
    }
}

/* ---- the ways ---- */

static void rewrite_path(const char *path, size_t size)
{
    int fd = open_to_write(path, O_TRUNC);

    write_all(fd, size);
    if (close(fd) != 0)
        fail(path);
}

static void rewrite(size_t size)
{
    rewrite_path(file, size);
}

static void in_place(size_t size)
{
    int fd = open_to_write(file, 0);

    if (pwrite(fd, image, size, 0) != (ssize_t)size || fdatasync(fd) != 0 || close(fd) != 0)
        fail(file);
}

static void by_rename(size_t size)
{
    char name[PATH_MAX];
    int directory;
    int fd;

    (void)snprintf(name, sizeof name, "%s.tmp", file);
    fd = open_to_write(name, O_TRUNC);
    write_all(fd, size);
    if (fsync(fd) != 0 || close(fd) != 0 || rename(name, file) != 0)
        fail(name);
    *strrchr(name, '/') = '\0';
    directory = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fsync(directory) != 0 || close(directory) != 0)
        fail(name);
}

/* Makes *buffer for the program's writes, writes the image there, and locks the file. Returns the
 * buffer, mapped. */
static char *hold_image(int inode, size_t size, int *buffer)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *bytes;

    *buffer = memfd_create("floor", MFD_CLOEXEC);
    if (inode < 0 || *buffer < 0)
        fail(file);
    write_all(*buffer, size);
    bytes = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, *buffer, 0);
    if (bytes == MAP_FAILED || fcntl(inode, F_OFD_SETLK, &lock) != 0)
        fail(file);
    return bytes;
}

/*
 * Does the indispensable steps of a commit in the sized format, and no others: a buffer for the
 * program's writes, the lock, a look at both headers, one write of header and payload into the
 * place that is not live, and the mark. It computes no checksum, and does not look for faults.
 */
static void make_protocol_calls(size_t size, int durable)
{
    static char header[128]; /* IMAGE_HEADER_SIZE, shim/format/image.h */
    const off_t twin = (off_t)((size + sizeof header + 8191) / 4096 * 4096);
    const off_t place = turn % 2 == 0 ? 0 : twin;
    int inode = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int buffer;
    char *bytes = hold_image(inode, size, &buffer);

    if (pread(inode, header, sizeof header, 0) < 0 || pread(inode, header, sizeof header, twin) < 0)
        fail(file);
    if (pwritev(inode, (struct iovec[]){{header, sizeof header}, {bytes, size}}, 2, place) < (ssize_t)size ||
        (durable && fdatasync(inode) != 0) || pwrite(inode, "+", 1, place + (off_t)sizeof header - 2) != 1)
        fail(file);
    if (munmap(bytes, size) != 0 || close(buffer) != 0 || close(inode) != 0)
        fail(file);
}

static void protocol_durable(size_t size)
{
    make_protocol_calls(size, 1);
}

static void protocol_unsynced(size_t size)
{
    make_protocol_calls(size, 0);
}

/* Writes a record to a kept journal, which an fsync of the file flushes, and returns it, open. */
static int write_journal(const char *record, size_t size)
{
    char name[PATH_MAX];
    int journal;

    (void)snprintf(name, sizeof name, "%s.journal", file);
    journal = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (journal < 0 || pwrite(journal, record, size, 0) != (ssize_t)size ||
        sync_file_range(journal, 0, (off_t)size,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) !=
            0)
        fail(name);
    return journal;
}

/* Does the same for a durable commit in the plain format: a buffer, the lock, a look at the record
 * and at the old content, the new record, the write, and the record that tells of its end. */
static void protocol_plain(size_t size)
{
    enum { LINE = 98, IDLE = 512 }; /* shim/format/record.h */
    static char record[LARGEST + LARGEST / 32];
    static char old[LARGEST];
    static size_t refused = SIZE_MAX; /* a record of so many bytes has no room in the attribute */
    const size_t record_size = LINE + size + (size / 512 + 3) * 8;
    int inode = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int journal = -1;
    int buffer;
    char *bytes = hold_image(inode, size, &buffer);

    (void)fgetxattr(inode, "user.floor", record, IDLE); /* there is none before the first commit */
    if (pread(inode, old, size, 0) < 0)
        fail(file);
    memcpy(record, &turn, sizeof turn);
    memcpy(record + LINE, bytes, size);
    if (record_size >= refused || fsetxattr(inode, "user.floor", record, record_size, 0) != 0) {
        refused = record_size;
        journal = write_journal(record, record_size);
        if (fsetxattr(inode, "user.floor", record, LINE, 0) != 0)
            fail(file);
    }
    record[0] ^= 1;
    if (fsync(inode) != 0 || pwrite(inode, bytes, size, 0) != (ssize_t)size || fdatasync(inode) != 0 ||
        fsetxattr(inode, "user.floor", record, journal < 0 ? IDLE : LINE, 0) != 0)
        fail(file);
    if (munmap(bytes, size) != 0 || close(buffer) != 0 || (journal >= 0 && close(journal) != 0) ||
        close(inode) != 0)
        fail(file);
}

static void read_whole(size_t size)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, image, size) != (ssize_t)size || close(fd) != 0)
        fail(file);
}

/* Returns a file in memory with the payload of `inode`, sealed, with a description that can only be
 * read: with others a write lease cannot tell which is the last. */
static int take_snapshot(int inode, size_t size)
{
    enum { PIECE = 1 << 17 };
    char path[sizeof "/proc/self/fd/-2147483648"];
    int filler = memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int snapshot;

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", filler);
    snapshot = open(path, O_RDONLY | O_CLOEXEC);
    for (size_t done = 0; done < size; done += PIECE) {
        size_t piece = size - done < PIECE ? size - done : PIECE;

        if (pread(inode, image, piece, (off_t)done) != (ssize_t)piece ||
            write(filler, image, piece) != (ssize_t)piece)
            fail(file);
    }
    if (fchmod(filler, 0444) != 0 ||
        fcntl(filler, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) != 0 || close(filler) != 0)
        fail(path);
    return snapshot;
}

/*
 * Does the indispensable steps of an open, read and close in the sized format, and no others: the
 * open, a look for guardians, a look at both headers, an open file description of its own with the
 * payload, and the question whether it is the last one that is closed. Takes a snapshot of the
 * payload if *snapshot is negative. It computes no checksum.
 */
static void read_by_protocol(size_t size, int *snapshot)
{
    struct flock guardian = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    char path[sizeof "/proc/self/fd/-2147483648"];
    int inode = open(file, O_RDONLY | O_CLOEXEC);
    int processes = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    char header[128]; /* IMAGE_HEADER_SIZE, shim/format/image.h */
    int fd;

    if (fstat(inode, &status) != 0 || fcntl(processes, F_GETLK, &guardian) != 0 || close(processes) != 0 ||
        pread(inode, header, sizeof header, 0) < 0 || pread(inode, header, sizeof header, 4096) < 0)
        fail(file);
    if (*snapshot < 0)
        *snapshot = take_snapshot(inode, size);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", *snapshot);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, image, size) != (ssize_t)size || close(fd) != 0)
        fail(path);
    (void)fcntl(*snapshot, F_SETLEASE, F_WRLCK);
    if (fcntl(*snapshot, F_SETLEASE, F_UNLCK) != 0)
        fail(path);
    if (close(inode) != 0)
        fail(file);
}

static void protocol_read_fresh(size_t size)
{
    int snapshot = -1;

    read_by_protocol(size, &snapshot);
    if (close(snapshot) != 0)
        fail(file);
}

static void protocol_read_again(size_t size)
{
    static int snapshot = -1;
    static size_t taken;

    if (taken != size && snapshot >= 0) {
        (void)close(snapshot);
        snapshot = -1;
    }
    taken = size;
    read_by_protocol(size, &snapshot);
}

static void open_only(size_t size)
{
    (void)size;
    if (close(open_to_write(file, O_TRUNC)) != 0)
        fail(file);
}

static void open_for_reading(size_t size)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    (void)size;
    if (fd < 0 || close(fd) != 0)
        fail(file);
}

/* Calls `overwrite` for the files FILE.0 to FILE.(NUMBER - 1) in turn, neighbours far apart. */
static void spread_over(void (*overwrite)(size_t size), size_t size)
{
    char name[PATH_MAX];
    char *base = file;

    (void)snprintf(name, sizeof name, "%s.%" PRIu64, file, turn * 7919 % (uint64_t)number);
    file = name;
    overwrite(size);
    file = base;
}

static void spread(size_t size)
{
    spread_over(rewrite, size);
}

static void protocol_spread(size_t size)
{
    spread_over(protocol_unsynced, size);
}

/* Overwrites FILE while NUMBER others are open for writing. */
static void beside_open_files(size_t size)
{
    static long opened;
    char name[PATH_MAX];

    for (; opened < number; opened++) {
        (void)snprintf(name, sizeof name, "%s.%ld", file, opened);
        (void)open_to_write(name, O_TRUNC);
    }
    rewrite(size);
}

/* Starts /bin/true in an environment that holds START_PRELOAD as LD_PRELOAD and START_PATHS as
 * ATOMSHIM_PATHS. */
static void start(size_t size)
{
    static char preload[PATH_MAX];
    static char paths[PATH_MAX];
    char *arguments[] = {"true", NULL};
    char *environment[] = {"PATH=/bin", preload, paths, NULL};
    pid_t child;

    (void)size;
    (void)snprintf(preload, sizeof preload, "LD_PRELOAD=%s", getenv("START_PRELOAD"));
    (void)snprintf(paths, sizeof paths, "ATOMSHIM_PATHS=%s", getenv("START_PATHS"));
    if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environment) != 0 ||
        waitpid(child, NULL, 0) != child)
        fail("/bin/true");
}

static const struct way {
    const char *name;
    void (*go)(size_t size);
} ways[] = {
    {"rewrite", rewrite},
    {"in-place", in_place},
    {"rename", by_rename},
    {"protocol", protocol_durable},
    {"protocol-unsynced", protocol_unsynced},
    {"protocol-plain", protocol_plain},
    {"read", read_whole},
    {"protocol-read-fresh", protocol_read_fresh},
    {"protocol-read-again", protocol_read_again},
    {"open-to-write", open_only},
    {"open-to-read", open_for_reading},
    {"spread", spread},
    {"protocol-spread", protocol_spread},
    {"beside-open-files", beside_open_files},
    {"start", start},
};

/* ---- orders ---- */

/* Gives the first `size` bytes of the image values that are not zero: the shim leaves zeros out of
 * the memory file that it reads them into. */
static void fill_image(size_t size)
{
    static size_t filled;

    for (; filled < size; filled++)
        image[filled] = (char)(filled * 2654435761u >> 13 | 1);
}

static void serve(void (*go)(size_t size))
{
    unsigned long size;
    unsigned long count;
    unsigned long milliseconds;

    while (scanf("%lu %lu %lu", &size, &count, &milliseconds) == 3) {
        int64_t begin;
        int64_t took = 0;
        unsigned long operations = 0;

        if (size > LARGEST)
            fail("more than the largest image");
        fill_image(size);
        begin = now();
        while ((count == 0 || operations < count) &&
               (milliseconds == 0 || took < (int64_t)milliseconds * 1000000)) {
            turn++;
            if (size >= 2 * sizeof turn) {
                memcpy(image, &turn, sizeof turn);
                memcpy(image + size - sizeof turn, &turn, sizeof turn);
            }
            go(size);
            operations++;
            took = now() - begin;
        }
        (void)printf("%lu %" PRId64 "\n", operations, took);
        (void)fflush(stdout);
    }
}

/* ---- memory ---- */

static unsigned long private_memory(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long kibibytes = 0;

    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmData: %lu", &kibibytes) == 1)
            break;
    if (status == NULL || fclose(status) != 0 || kibibytes == 0)
        fail("/proc/self/status");
    return kibibytes << 10;
}

/*
 * Overwrites FILE once with the largest image, and may take NUMBER more bytes of private memory: an
 * mmap() beyond RLIMIT_DATA fails. Between the last write and close() prints a line and waits for
 * one, so that bench.py can look at the memory of the descriptors.
 */
static void overwrite_within_memory(void)
{
    rlim_t limit = private_memory() + (rlim_t)number;
    char line[16];
    int fd;

    (void)fgets(line, sizeof line, stdin); /* stdio takes its buffers before the limit is set */
    if (setrlimit(RLIMIT_DATA, &(struct rlimit){limit, limit}) != 0)
        fail("RLIMIT_DATA");
    fd = open_to_write(file, O_TRUNC);
    write_all(fd, LARGEST);
    (void)puts("written");
    (void)fflush(stdout);
    (void)fgets(line, sizeof line, stdin);
    if (close(fd) != 0)
        fail(file);
}

int main(int argc, char *argv[])
{
    if (argc != 3 && argc != 4) {
        (void)fprintf(stderr, "usage: server WAY FILE [NUMBER]\n");
        return 2;
    }
    file = argv[2];
    number = argc == 4 ? strtol(argv[3], NULL, 10) : 1;
    if (strcmp(argv[1], "memory") == 0) {
        overwrite_within_memory();
        return 0;
    }
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (strcmp(argv[1], ways[i].name) == 0) {
            serve(ways[i].go);
            return 0;
        }
    (void)fprintf(stderr, "server: %s is none of its ways\n", argv[1]);
    return 2;
}
