/*
 * A random sequence of file calls, logged: exercise SEED STEPS FOLDER. The driver runs it once with
 * the shim, the folder managed, and once without; the logs must be the same, every result, errno
 * and byte.
 *
 * Two rules, and no others, leave out the differences that libatomshim(7) names:
 *   - While a description that can write to a file is open nothing else looks at that file by its
 *     name, or opens it: each open has an image of its own until its close.
 *   - A mapping is of a file that is open, and is gone before that is closed.
 * The comparison leaves out times, inode numbers and block counts, and errnos that depend on the
 * file system alone (fallocate's rarer modes, O_DIRECT). F_GETFL does not tell of O_NOFOLLOW.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

enum { FILES = 4, SLOTS = 6, BUFFER = 20000 };

struct slot {
    FILE *stream;
    int fd; /* -1: free */
    int file;
    int group; /* descriptors of one description */
    bool writable;
};

static uint64_t state;
static int step;
static int groups;
static struct slot slots[SLOTS];
static char bytes[BUFFER];
static char text[64]; /* further output of a call */

static unsigned random_below(unsigned limit)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % limit;
}

static uint32_t sum_of(const void *data, size_t size)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 16777619u;
    return hash;
}

static void note(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
}

static const char *name_of(int file)
{
    static const char *const names[FILES] = {"one", "two.cfg", "three", "four.txt"};

    return names[file];
}

static size_t fill_bytes(void)
{
    size_t size = random_below(4) == 0 ? random_below(BUFFER) : random_below(200);

    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + (i + (size_t)step) % 26);
    return size;
}

static bool is_written(int file)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].fd >= 0 && slots[i].file == file && slots[i].writable)
            return true;
    return false;
}

static bool is_open(int file)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].fd >= 0 && slots[i].file == file)
            return true;
    return false;
}

static struct slot *free_slot(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].fd < 0)
            return &slots[i];
    return NULL;
}

/* Returns a slot that is open, or NULL. */
static struct slot *any_slot(void)
{
    struct slot *slot = &slots[random_below(SLOTS)];

    return slot->fd >= 0 ? slot : NULL;
}

/* Returns a file that may be used by its name, or -1. */
static int quiet_file(void)
{
    int file = (int)random_below(FILES);

    return is_written(file) ? -1 : file;
}

enum { NOTHING = -1000 };

/* Fills a slot, unless the open failed. A slot without a group begins a new one. */
static long keep_slot(struct slot *slot, struct slot content)
{
    if (content.fd < 0)
        return -1;
    *slot = content;
    if (slot->group == 0)
        slot->group = ++groups;
    return slot->fd;
}

/* ---- opening and closing ---- */

static long do_open(int way)
{
    static const int flags[] = {O_CREAT,    O_TRUNC,    O_APPEND, O_CLOEXEC,  O_EXCL,
                                O_NOFOLLOW, O_NONBLOCK, O_SYNC,   O_DIRECTORY};
    int file = quiet_file();
    struct slot *slot = free_slot();
    int mode = (int)random_below(3);
    int all = mode;
    int fd;

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (random_below(i < 2 ? 2 : 8) == 0)
            all |= flags[i];
    if (file < 0 || slot == NULL || ((mode != O_RDONLY || (all & O_TRUNC)) && is_open(file)))
        return NOTHING;
    note("%s %o", name_of(file), (unsigned)all);
    if (way == 0)
        fd = open(name_of(file), all, 0640);
    else if (way == 1)
        fd = openat(AT_FDCWD, name_of(file), all, 0600);
    else if (way == 2)
        fd = open64(name_of(file), all, 0666);
    else if (way == 3) {
        if (is_open(file))
            return NOTHING;
        mode = O_WRONLY;
        fd = creat(name_of(file), 0644);
    } else {
        char path[PATH_MAX];

        fd = getcwd(path, sizeof path) == NULL
                 ? -1
                 : open(strcat(strcat(path, "/./"), name_of(file)), all & ~O_DIRECTORY, 0640);
    }
    return keep_slot(slot,
                     (struct slot){.fd = fd, .file = file, .writable = mode != O_RDONLY || (all & O_TRUNC)});
}

static long op_open(void)
{
    return do_open(0);
}

static long op_openat(void)
{
    return do_open(1);
}

static long op_open64(void)
{
    return do_open(2);
}

static long op_creat(void)
{
    return do_open(3);
}

static long op_open_absolute(void)
{
    return do_open(4);
}

static long op_fopen(void)
{
    static const char *const modes[] = {"r", "w", "a", "r+", "w+", "a+", "re", "wx", "rb", "w+b"};
    const char *mode = modes[random_below(10)];
    int file = quiet_file();
    struct slot *slot = free_slot();
    bool writable = strcmp(mode, "r") != 0 && strcmp(mode, "re") != 0 && strcmp(mode, "rb") != 0;
    FILE *stream;

    if (file < 0 || slot == NULL || (writable && is_open(file)))
        return NOTHING;
    note("%s %s", name_of(file), mode);
    stream = fopen(name_of(file), mode);
    return keep_slot(slot, (struct slot){stream, stream != NULL ? fileno(stream) : -1, file, 0, writable});
}

static long op_close(void)
{
    struct slot *slot = any_slot();
    long result;

    if (slot == NULL)
        return NOTHING;
    result = slot->stream != NULL ? fclose(slot->stream) : close(slot->fd);
    slot->fd = -1;
    return result;
}

static long op_dup(void)
{
    struct slot *from = any_slot();
    struct slot *to = free_slot();
    int fd;

    if (from == NULL || to == NULL || from->stream != NULL)
        return NOTHING;
    switch (random_below(4)) {
    case 0:
        fd = dup(from->fd);
        break;
    case 1:
        fd = fcntl(from->fd, F_DUPFD, 20);
        break;
    case 2:
        fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
        break;
    default:
        fd = dup3(from->fd, 40 + (int)random_below(8), O_CLOEXEC);
    }
    for (int i = 0; i < SLOTS; i++) /* dup3() may have closed one */
        if (slots[i].fd == fd && fd >= 0) {
            slots[i].fd = -1;
            to = &slots[i];
        }
    return keep_slot(to, (struct slot){NULL, fd, from->file, from->group, from->writable});
}

static long op_dup2(void)
{
    struct slot *from = any_slot();
    struct slot *to = any_slot();
    long fd;

    if (from == NULL || to == NULL || to->stream != NULL || from->stream != NULL)
        return NOTHING;
    fd = dup2(from->fd, to->fd);
    to->file = from->file;
    to->writable = from->writable;
    to->group = from->group;
    return fd;
}

static long op_reopen(void)
{
    struct slot *from = any_slot();
    struct slot *to = free_slot();
    char path[64];

    if (from == NULL || to == NULL || from->stream != NULL || from->writable)
        return NOTHING;
    (void)snprintf(path, sizeof path, random_below(2) ? "/proc/self/fd/%d" : "/dev/fd/%d", from->fd);
    return keep_slot(to, (struct slot){.fd = open(path, O_RDONLY), .file = from->file});
}

static long op_fdopen(void)
{
    struct slot *slot = any_slot();

    if (slot == NULL || slot->stream != NULL)
        return NOTHING;
    slot->stream = fdopen(slot->fd, slot->writable ? "w" : "r");
    return slot->stream == NULL ? -1 : 0;
}

static long op_close_bad(void)
{
    return close(999) + close(-1);
}

static long op_freopen(void)
{
    struct slot *slot = any_slot();
    int file = quiet_file();

    if (slot == NULL || slot->stream == NULL || file < 0 || is_open(file))
        return NOTHING;
    slot->stream = freopen(name_of(file), "a+", slot->stream);
    slot->file = file;
    slot->writable = true;
    slot->group = ++groups;
    slot->fd = slot->stream != NULL ? fileno(slot->stream) : -1;
    return slot->fd;
}

/* ---- reading and writing ---- */

static long op_write(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream != NULL ? NOTHING : write(slot->fd, bytes, fill_bytes());
}

static long op_pwrite(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream != NULL
               ? NOTHING
               : pwrite(slot->fd, bytes, fill_bytes(), (off_t)random_below(30000));
}

static long op_writev(void)
{
    struct slot *slot = any_slot();
    struct iovec pieces[2] = {{bytes, fill_bytes() / 2}, {bytes + 7, 50}};

    return slot == NULL || slot->stream != NULL ? NOTHING
           : random_below(2)                    ? writev(slot->fd, pieces, 2)
                                                : pwritev(slot->fd, pieces, 2, (off_t)random_below(5000));
}

static long seen(ssize_t n)
{
    if (n > 0)
        note("%08x", sum_of(bytes, (size_t)n));
    return n;
}

static long op_read(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream != NULL ? NOTHING : seen(read(slot->fd, bytes, random_below(BUFFER)));
}

static long op_pread(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING
                        : seen(pread(slot->fd, bytes, random_below(BUFFER), (off_t)random_below(20000)));
}

static long op_readv(void)
{
    struct slot *slot = any_slot();
    struct iovec pieces[2] = {{bytes, 100}, {bytes + 100, random_below(500)}};

    return slot == NULL || slot->stream != NULL ? NOTHING
           : random_below(2)                    ? seen(readv(slot->fd, pieces, 2))
                             : seen(preadv(slot->fd, pieces, 2, (off_t)random_below(5000)));
}

static long op_lseek(void)
{
    static const int whence[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_HOLE + 9, 99};
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream != NULL
               ? NOTHING
               : lseek(slot->fd, (off_t)random_below(3000) - 500, whence[random_below(5)]);
}

static long op_fputs(void)
{
    struct slot *slot = any_slot();

    if (slot == NULL || slot->stream == NULL)
        return NOTHING;
    bytes[fill_bytes()] = '\0';
    return fputs(bytes, slot->stream) >= 0 ? 0 : -1;
}

static long op_fprintf(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream == NULL ? NOTHING : fprintf(slot->stream, "%d lines\n", step);
}

static long op_fgets(void)
{
    struct slot *slot = any_slot();

    if (slot == NULL || slot->stream == NULL)
        return NOTHING;
    (void)fseek(slot->stream, 0, SEEK_CUR);
    return fgets(bytes, 300, slot->stream) != NULL ? seen((ssize_t)strlen(bytes)) : -1;
}

static long op_fflush(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream == NULL ? NOTHING : fflush(slot->stream);
}

static long op_fseek(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream == NULL
               ? NOTHING
               : fseek(slot->stream, (long)random_below(500), SEEK_SET) + ftell(slot->stream);
}

static long op_ftruncate(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : ftruncate(slot->fd, (off_t)random_below(9000));
}

static long op_fallocate(void)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING
                        : fallocate(slot->fd, modes[random_below(3)], (off_t)random_below(5000),
                                    1 + (off_t)random_below(5000));
}

static long op_posix_fallocate(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING
                        : posix_fallocate(slot->fd, (off_t)random_below(5000), 1 + (off_t)random_below(5000));
}

static long op_fsync(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : random_below(2) ? fsync(slot->fd) : fdatasync(slot->fd);
}

static long op_sync_file_range(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : sync_file_range(slot->fd, 0, 0, SYNC_FILE_RANGE_WRITE) + syncfs(slot->fd);
}

static long op_fadvise(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING
                        : posix_fadvise(slot->fd, 0, 0, POSIX_FADV_DONTNEED) + readahead(slot->fd, 0, 100);
}

static long op_copy(void)
{
    struct slot *from = any_slot();
    struct slot *to = any_slot();

    if (from == NULL || to == NULL || from->file == to->file || from->stream != NULL || to->stream != NULL)
        return NOTHING;
    return random_below(2) ? copy_file_range(from->fd, NULL, to->fd, NULL, random_below(9000), 0)
                           : sendfile(to->fd, from->fd, NULL, random_below(9000));
}

static long op_splice(void)
{
    struct slot *from = any_slot();
    struct slot *to = any_slot();
    int ends[2];
    long n;

    if (from == NULL || to == NULL || from->stream != NULL || to->stream != NULL || pipe(ends) != 0)
        return NOTHING;
    n = splice(from->fd, NULL, ends[1], NULL, 2000, 0);
    if (n > 0)
        n = splice(ends[0], NULL, to->fd, NULL, (size_t)n, 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return n;
}

static long op_mmap(void)
{
    struct slot *slot = any_slot();
    struct stat status;
    char *map;
    int shared = random_below(2) ? MAP_SHARED : MAP_PRIVATE;
    long result;

    if (slot == NULL || fstat(slot->fd, &status) != 0 || status.st_size == 0)
        return NOTHING;
    map = mmap(NULL, (size_t)status.st_size, PROT_READ | (random_below(2) ? PROT_WRITE : 0), shared, slot->fd,
               0);
    if (map == MAP_FAILED)
        return -1;
    note("%08x", sum_of(map, (size_t)status.st_size));
    if (mprotect(map, (size_t)status.st_size, PROT_READ | PROT_WRITE) == 0)
        map[random_below((unsigned)status.st_size)] = 'M';
    result = msync(map, (size_t)status.st_size, MS_SYNC);
    return result + munmap(map, (size_t)status.st_size);
}

/* ---- status and metadata ---- */

static long status(long result, const struct stat *found)
{
    if (result == 0)
        note("%lld %o %u %u", (long long)found->st_size, found->st_mode, (unsigned)found->st_nlink,
             found->st_uid);
    return result;
}

static long op_fstat(void)
{
    struct slot *slot = any_slot();
    struct stat found;

    return slot == NULL ? NOTHING : status(fstat(slot->fd, &found), &found);
}

static long op_stat(void)
{
    int file = quiet_file();
    struct stat found;

    if (file < 0)
        return NOTHING;
    switch (random_below(3)) {
    case 0:
        return status(stat(name_of(file), &found), &found);
    case 1:
        return status(lstat(name_of(file), &found), &found);
    default:
        return status(fstatat(AT_FDCWD, name_of(file), &found, 0), &found);
    }
}

static long op_statx(void)
{
    struct slot *slot = any_slot();
    struct statx found;
    long result;

    if (slot == NULL)
        return NOTHING;
    result = statx(slot->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &found);
    if (result == 0)
        note("%llu %o %u", (unsigned long long)found.stx_size, found.stx_mode, found.stx_nlink);
    return result;
}

static long op_access(void)
{
    int file = quiet_file();

    return file < 0 ? NOTHING : access(name_of(file), (int)random_below(8));
}

static long op_fchmod(void)
{
    static const mode_t modes[] = {0600, 0640, 0644, 0700, 0666};
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : fchmod(slot->fd, modes[random_below(5)]);
}

static long op_chmod(void)
{
    int file = quiet_file();

    return file < 0 ? NOTHING : chmod(name_of(file), random_below(2) ? 0600 : 0644);
}

static long op_fchown(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : fchown(slot->fd, getuid(), (gid_t)-1);
}

static long op_futimens(void)
{
    const struct timespec times[2] = {{1000, 1}, {2000 + step, 2}};
    struct slot *slot = any_slot();
    struct stat found;
    long result;

    if (slot == NULL)
        return NOTHING;
    result = futimens(slot->fd, times);
    if (result == 0 && fstat(slot->fd, &found) == 0)
        note("%lld", (long long)found.st_mtim.tv_sec);
    return result;
}

static long op_utimensat(void)
{
    const struct timespec times[2] = {{1000, 1}, {3000 + step, 2}};
    int file = quiet_file();
    struct stat found;
    long result;

    if (file < 0)
        return NOTHING;
    result = utimensat(AT_FDCWD, name_of(file), times, 0);
    if (result == 0 && stat(name_of(file), &found) == 0)
        note("%lld", (long long)found.st_mtim.tv_sec);
    return result;
}

static long op_fsetxattr(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : fsetxattr(slot->fd, "user.a", bytes, random_below(20), 0);
}

/* Counts the names in the list, without the shim's own, which a program sees (libatomshim(7)). */
static long count_names(const char *list, long size)
{
    long count = 0;

    for (long at = 0; at < size; at += (long)strlen(list + at) + 1)
        count += strcmp(list + at, "user.atomshim") != 0;
    return count;
}

static long op_fgetxattr(void)
{
    struct slot *slot = any_slot();
    char value[64];
    char names[256];

    return slot == NULL ? NOTHING
                        : fgetxattr(slot->fd, "user.a", value, sizeof value) +
                              count_names(names, flistxattr(slot->fd, names, sizeof names));
}

static long op_fremovexattr(void)
{
    struct slot *slot = any_slot();

    return slot == NULL ? NOTHING : fremovexattr(slot->fd, "user.a");
}

static long op_fcntl(void)
{
    struct slot *slot = any_slot();

    if (slot == NULL || slot->stream != NULL)
        return NOTHING;
    note("%d %o", fcntl(slot->fd, F_GETFD), (unsigned)fcntl(slot->fd, F_GETFL) & ~(unsigned)O_NOFOLLOW);
    return random_below(2) ? fcntl(slot->fd, F_SETFD, FD_CLOEXEC)
                           : fcntl(slot->fd, F_SETFL, random_below(2) ? O_NONBLOCK : 0);
}

static long op_lock(void)
{
    static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
    struct slot *slot = any_slot();
    struct flock lock = {.l_type = types[random_below(3)], .l_start = random_below(100), .l_len = 10};
    struct flock none = {.l_type = F_UNLCK};
    long result;

    /*
     * given back at once: another open of the file would have to leave the lock, and its own
     * number, in place
     */
    if (slot == NULL)
        return NOTHING;
    result = fcntl(slot->fd, random_below(4) ? F_SETLK : F_GETLK, &lock);
    return result + fcntl(slot->fd, F_SETLK, &none);
}

static long op_lockf(void)
{
    struct slot *slot = any_slot();

    return slot == NULL || slot->stream != NULL ? NOTHING
                                                : lockf(slot->fd, F_TLOCK, 5) + lockf(slot->fd, F_ULOCK, 5);
}

static long op_flock(void)
{
    struct slot *slot = any_slot();

    /* two descriptions of one file would conflict */
    return slot == NULL || !slot->writable ? NOTHING
                                           : flock(slot->fd, (random_below(2) ? LOCK_EX : LOCK_UN) | LOCK_NB);
}

static long op_statvfs(void)
{
    struct slot *slot = any_slot();
    struct statvfs found;
    int file = quiet_file();

    return slot == NULL || file < 0 ? NOTHING : statvfs(name_of(file), &found);
}

/* ---- names ---- */

static long op_truncate(void)
{
    int file = quiet_file();

    return file < 0 || is_open(file) ? NOTHING : truncate(name_of(file), (off_t)random_below(5000));
}

static long op_unlink(void)
{
    int file = (int)random_below(FILES);

    return is_open(file) || random_below(3) ? NOTHING
           : random_below(2)                ? unlink(name_of(file))
                                            : remove(name_of(file));
}

static long op_rename(void)
{
    int from = (int)random_below(FILES);
    int to = (int)random_below(FILES);

    if (is_open(from) || is_open(to))
        return NOTHING;
    (void)chmod(name_of(from), 0755);           /* a chosen mode, which a rename carries over */
    (void)removexattr(name_of(from), "user.a"); /* the old file's mode stays */
    (void)removexattr(name_of(to), "user.a");
    return random_below(2) ? rename(name_of(from), name_of(to))
                           : renameat(AT_FDCWD, name_of(from), AT_FDCWD, name_of(to));
}

static long op_mkstemp(void)
{
    char path[] = "tempXXXXXX";
    int fd = mkstemp(path);
    long result;

    if (fd < 0)
        return -1;
    result = write(fd, bytes, fill_bytes());
    (void)close(fd);
    fd = open(path, O_RDONLY);
    result += seen(read(fd, bytes, BUFFER));
    (void)close(fd);
    return result + unlink(path);
}

static long op_tmpfile(void)
{
    FILE *stream = tmpfile();
    long result = stream == NULL ? -1 : fprintf(stream, "%d", step);

    return stream == NULL ? -1 : result + fclose(stream);
}

/* ---- processes ---- */

static long op_fork(void)
{
    struct slot *slot = any_slot();
    int status = 0;
    pid_t child;

    if (slot == NULL || slot->stream != NULL)
        return NOTHING;
    child = fork();
    if (child == 0)
        _exit(write(slot->fd, "from the child", 14) == 14 ? 3 : 4);
    return waitpid(child, &status, 0) == child ? status : -1;
}

static long op_run(void)
{
    struct slot *slot = any_slot();
    int status = 0;
    pid_t child;

    if (slot == NULL || slot->stream != NULL || !slot->writable || random_below(4))
        return NOTHING;
    child = fork();
    if (child == 0) {
        (void)dup2(slot->fd, 1);
        (void)execl("/bin/echo", "echo", "by echo", (char *)NULL);
        _exit(127);
    }
    return waitpid(child, &status, 0) == child ? status : -1;
}

static long op_whole(void)
{
    int file = quiet_file();
    int fd = file < 0 ? -1 : open(name_of(file), O_RDONLY);
    long n;

    if (fd < 0)
        return NOTHING;
    n = pread(fd, bytes, BUFFER, 0);
    note("%s %08x", name_of(file), sum_of(bytes, n < 0 ? 0 : (size_t)n));
    (void)close(fd);
    return n;
}

static const struct {
    const char *name;
    long (*run)(void);
} ops[] = {
#define OP(name)                                                                                             \
    {                                                                                                        \
#name, op_##name                                                                                     \
    }
    OP(open),      OP(openat),          OP(open64),       OP(creat),     OP(open_absolute),
    OP(fopen),     OP(close),           OP(close),        OP(close),     OP(dup),
    OP(dup2),      OP(reopen),          OP(fdopen),       OP(close_bad), OP(freopen),
    OP(write),     OP(pwrite),          OP(writev),       OP(read),      OP(pread),
    OP(readv),     OP(lseek),           OP(fputs),        OP(fprintf),   OP(fgets),
    OP(fflush),    OP(fseek),           OP(ftruncate),    OP(fallocate), OP(posix_fallocate),
    OP(fsync),     OP(sync_file_range), OP(fadvise),      OP(copy),      OP(splice),
    OP(mmap),      OP(fstat),           OP(stat),         OP(statx),     OP(access),
    OP(fchmod),    OP(chmod),           OP(fchown),       OP(futimens),  OP(utimensat),
    OP(fsetxattr), OP(fgetxattr),       OP(fremovexattr), OP(fcntl),     OP(lock),
    OP(lockf),     OP(flock),           OP(statvfs),      OP(truncate),  OP(unlink),
    OP(rename),    OP(mkstemp),         OP(tmpfile),      OP(fork),      OP(run),
    OP(whole),
};

int main(int argc, char *argv[])
{
    int steps = argc > 3 ? atoi(argv[2]) : 0;

    if (steps == 0 || chdir(argv[3]) != 0)
        return 2;
    state = strtoull(argv[1], NULL, 10) * 2 + 1;
    for (int i = 0; i < SLOTS; i++)
        slots[i].fd = -1;
    for (step = 0; step < steps; step++) {
        unsigned i = random_below(sizeof ops / sizeof ops[0]);
        long result;

        text[0] = '\0';
        errno = 0;
        result = ops[i].run();
        if (result != NOTHING)
            printf("%d %s %ld %s %s\n", step, ops[i].name, result, result < 0 ? strerrorname_np(errno) : "",
                   text);
    }
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].fd >= 0)
            printf("end %d\n", slots[i].stream != NULL ? fclose(slots[i].stream) : close(slots[i].fd));
    for (int file = 0; file < FILES; file++) {
        struct stat found;
        int fd = open(name_of(file), O_RDONLY);

        text[0] = '\0';
        printf("end %s %ld ", name_of(file), fd < 0 ? -1 : seen(read(fd, bytes, BUFFER)));
        printf("%s ", text);
        printf("%ld %s\n", status(stat(name_of(file), &found), &found), text);
    }
    return 0;
}
