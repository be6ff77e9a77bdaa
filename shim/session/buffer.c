#include "session/buffer.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/memory.h"
#include "os/proc.h"
#include "os/scratch.h"
#include "store/store.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/vfs.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

enum { ATTEMPTS = 100 };

bool buffer_is_proc_missing(int error)
{
    return error == -ENOENT || error == -ENOTDIR;
}

/* ---- memfd_create() where a seccomp filter is in force ---- */

/* Returns how many seccomp filters are in force on a process, or on this thread; -1 if they
 * cannot be counted. */
static int count_filters(int process)
{
    struct scratch scratch;
    uint64_t mode = 1;
    uint64_t count = 0;
    bool counted = false;

    if (scratch_take(&scratch, SCRATCH_CHUNK) != 0)
        return -1;
    if (proc_read(process, "status", scratch.bytes, SCRATCH_CHUNK) > 0) {
        counted = proc_find_field(scratch.bytes, "Seccomp_filters", 10, &count); /* Linux 5.9 */
        (void)proc_find_field(scratch.bytes, "Seccomp", 10, &mode);
    }
    scratch_give(&scratch);
    return counted ? (int)count : mode == 0 ? 0 : -1;
}

/* The program has set up a filter of its own, or is about to. */
static bool expecting_filters; /* atomic */

static bool may_close_ranges; /* atomic: no filter is in force, and the kernel knows the call */

void buffer_expect_filters(void)
{
    __atomic_store_n(&expecting_filters, true, __ATOMIC_RELAXED);
}

static int create_memfd(const char *name)
{
    int fd = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    return fd == -EINVAL ? sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

/*
 * Tells whether the filters let a child live that calls memfd_create(). The child does not share
 * our memory: if it dumps core, older kernels kill every process that does. It has no exit signal:
 * the program never hears of it.
 */
static bool survives_memfd(void)
{
    int status = -1;
    uint64_t mask = ~UINT64_C(0);
    uint64_t before = 0;
    long child;

    (void)sys_sigprocmask(&mask, &before);
    child = SYS_CALL(SYS_clone, 0, 0, 0, 0, 0, 0);
    if (child == 0) {
        (void)SYS_CALL(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
        sys_exit_group(create_memfd("atomshim-probe") < 0);
    }
    if (child > 0)
        (void)sys_wait((int)child, &status);
    (void)sys_sigprocmask(&before, NULL);
    return child > 0 && status == 0;
}

/*
 * A filter may kill for a call that it does not know, and the program, which never made this call,
 * cannot prevent it. So where filters are in force this tries them out in a child, unless the
 * program, or a program before it in this process, may have set them up: such filters forbid
 * children, too. Containers have theirs from the first process on; a first process that has more
 * than one has set up the second. The look costs a sixth of a small rewrite. One look is enough
 * until the program sets up a filter, by a call that is interposed; after an exec all of this
 * begins anew.
 */
static bool may_use_memfd(void)
{
    static bool settled;   /* the call was good, and the filters are the same */
    static int good_count; /* the child survived so many filters */
    static int bad_count;
    int count;
    bool good;

    if (__atomic_load_n(&settled, __ATOMIC_RELAXED) && !__atomic_load_n(&expecting_filters, __ATOMIC_RELAXED))
        return true;
    count = count_filters(PROC_THREAD);
    if (count < 0 || (count > 0 && count == __atomic_load_n(&bad_count, __ATOMIC_RELAXED)))
        return false;
    good = count == 0 || count == __atomic_load_n(&good_count, __ATOMIC_RELAXED);
    if (!good) {
        good = count == (sys_getpid() == 1 ? 1 : count_filters(1)) && survives_memfd();
        __atomic_store_n(good ? &good_count : &bad_count, count, __ATOMIC_RELAXED);
    }
    if (good)
        __atomic_store_n(&settled, true, __ATOMIC_RELAXED);
    __atomic_store_n(&may_close_ranges, count == 0, __ATOMIC_RELAXED);
    return good;
}

/* A filter may kill for close_range(2), as for memfd_create(). */
static bool close_consecutive(unsigned lowest, unsigned highest)
{
    if (!__atomic_load_n(&may_close_ranges, __ATOMIC_RELAXED) ||
        __atomic_load_n(&expecting_filters, __ATOMIC_RELAXED))
        return false;
    if (sys_close_range(lowest, highest, 0) == 0)
        return true;
    __atomic_store_n(&may_close_ranges, false, __ATOMIC_RELAXED); /* before Linux 5.9 */
    return false;
}

void buffer_close_all(const int *numbers, int count)
{
    unsigned lowest = ~0u;
    unsigned highest = 0;
    unsigned open = 0;

    for (int i = 0; i < count; i++)
        if (numbers[i] >= 0) {
            lowest = (unsigned)numbers[i] < lowest ? (unsigned)numbers[i] : lowest;
            highest = (unsigned)numbers[i] > highest ? (unsigned)numbers[i] : highest;
            open++;
        }
    if (open > 1 && highest - lowest == open - 1 && close_consecutive(lowest, highest))
        return;
    for (int i = 0; i < count; i++)
        descriptor_close_if_open(numbers[i]);
}

/* ---- files ---- */

/* Creates DIRECTORY/.NAME:UNIQUE and writes its path. */
static int create_named(const char *directory, const char *name, mode_t mode, char path[BUFFER_PATH_SIZE])
{
    static unsigned counter;
    int fd = -EEXIST;

    if (strlen(directory) + strlen(name) > BUFFER_PATH_SIZE - 64)
        return -ENAMETOOLONG;
    for (int i = 0; i < ATTEMPTS && fd == -EEXIST; i++) {
        (void)log_format(path, BUFFER_PATH_SIZE, "%s/.%s:%x%x%x", directory, name, (unsigned)sys_gettid(),
                         (unsigned)sys_now(), __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED));
        fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    }
    return fd;
}

/* Opens the descriptions of the file that the program wants, and removes its name. */
static int open_unlinked(const char *directory, const char *name, mode_t mode, const int *flags,
                         struct buffer *buffer)
{
    char path[BUFFER_PATH_SIZE];
    int fd = create_named(directory, name, mode, path);
    int answer = 0;
    int error;

    buffer->program = -1;
    if (fd < 0)
        return fd;
    buffer->fd = buffer->filler = fd;
    descriptor_mark_buffer(fd); /* a broken lease must not kill */
    if (flags != NULL) {
        answer = descriptor_is_last(fd);
        if (answer == 1)
            buffer->program =
                sys_openat(AT_FDCWD, path,
                           (*flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY)) | O_CLOEXEC | O_NOFOLLOW, 0);
    }
    error = sys_unlinkat(AT_FDCWD, path, 0);
    if (error == 0 && (flags == NULL || buffer->program >= 0))
        return 0;
    (void)sys_close(fd);
    if (error != 0) { /* no buffer has a name (session_of()) */
        descriptor_close_if_open(buffer->program);
        return error;
    }
    return answer == 1 ? buffer->program : answer == 0 ? -EAGAIN : answer;
}

/* In the order of preference: folders in memory that belong to no program come first. */
static const char *const directories[] = {"/dev/shm", "/run", "/tmp", "/var/tmp", ""};
enum { DIRECTORIES = sizeof directories / sizeof directories[0] };

static bool is_full(int error)
{
    return error == -EMFILE || error == -ENFILE;
}

/* Calls `attempt` with each directory until it succeeds. */
#define IN_SOME_DIRECTORY(result, directory, last_directory, attempt)                                        \
    for (int place = 0; place <= DIRECTORIES && (result) < 0 && !is_full(result); place++) {                 \
        const char *directory = place < DIRECTORIES ? directories[place] : (last_directory);                 \
                                                                                                             \
        if (directory != NULL)                                                                               \
            (result) = (attempt);                                                                            \
    }

static int no_place(int error)
{
    if (is_full(error))
        return error;
    log_line(
        LOG_ERROR,
        "no memory for a managed file, which cannot be opened: memfd_create() or /proc is missing, and none "
        "of %s, %s, %s, %s, / and ATOMSHIM_RESCUE_DIR is writable",
        directories[0], directories[1], directories[2], directories[3]);
    return -ENOMEM;
}

static int make_file(const char *name, mode_t mode, const int *flags, const char *last_directory,
                     struct buffer *buffer)
{
    int error = -ENOENT;

    IN_SOME_DIRECTORY(error, directory, last_directory, open_unlinked(directory, name, mode, flags, buffer))
    return error == 0 ? 0 : no_place(error);
}

static int make_memfd(const char *name, bool writable, struct buffer *buffer)
{
    char path[PROC_PATH_SIZE];
    int created = create_memfd(name);
    int fd;

    if (created < 0)
        return created;
    fd = sys_openat(AT_FDCWD, descriptor_path(path, created), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC, 0);
    if (fd < 0) {
        (void)sys_close(created);
        return fd;
    }
    *buffer = (struct buffer){.fd = fd, .filler = created, .program = -1};
    return 0;
}

/* True for errors that a file would meet as well, or that are not memfd_create()'s own. */
static bool is_lasting(int error)
{
    return error < 0 && !is_full(error) && error != -ENOMEM;
}

int buffer_make(const char *name, bool writable, int flags, const char *last_directory, struct buffer *buffer)
{
    int error = may_use_memfd() ? make_memfd(name, writable, buffer) : -ENOSYS;

    if (!is_lasting(error))
        return error;
    return make_file(name, writable ? 0600 : 0400, &flags, last_directory, buffer);
}

void buffer_seal(const struct buffer *buffer)
{
    /* a new description for writing, through /proc/self/fd, would take bytes that nobody commits; a
     * file's mode prevents that */
    (void)sys_fcntl(buffer->filler, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
}

int buffer_scratch(const char *last_directory)
{
    struct buffer buffer;
    int fd = may_use_memfd() ? create_memfd("atomshim-scratch") : -ENOSYS;

    if (!is_lasting(fd))
        return fd;
    fd = make_file("atomshim-scratch", 0600, NULL, last_directory, &buffer);
    return fd == 0 ? buffer.fd : fd;
}

bool buffer_is_beyond_memory(int buffer, uint64_t size)
{
    enum { LARGE_BIT = 26, BLOCK = 512 };
    struct statfs system;
    struct stat status;

    if (size >> LARGE_BIT == 0 || sys_fstat(buffer, &status) != 0 || sys_fstatfs(buffer, &system) != 0 ||
        (unsigned)system.f_type != TMPFS_MAGIC || size <= (uint64_t)status.st_blocks * BLOCK)
        return false;
    return size - (uint64_t)status.st_blocks * BLOCK > memory_available();
}

/* Returns how many of the file's bytes are no hole: lseek(2), SEEK_DATA. The blocks of st_blocks
 * may be compressed. */
static uint64_t count_data(int inode, uint64_t size)
{
    int64_t hole = 0;
    uint64_t count = 0;

    for (int64_t data; (data = sys_lseek(inode, hole, SEEK_DATA)) != -ENXIO;
         count += (uint64_t)(hole - data)) {
        hole = data < 0 ? data : sys_lseek(inode, data, SEEK_HOLE);
        if (hole < 0)
            return size;
    }
    return count;
}

bool buffer_is_too_small(int buffer, int inode, uint64_t file_size)
{
    uint64_t size;

    return buffer_is_beyond_memory(buffer, file_size) && store_size(inode, &size) == 0 &&
           buffer_is_beyond_memory(buffer, size) && buffer_is_beyond_memory(buffer, count_data(inode, size));
}

int buffer_stand_in(char path[BUFFER_PATH_SIZE], const char *last_directory)
{
    int fd = -ENOENT;

    IN_SOME_DIRECTORY(fd, directory, last_directory, create_named(directory, "atomshim-stand-in", 0600, path))
    if (fd < 0)
        return no_place(fd);
    (void)sys_close(fd);
    return 0;
}

void buffer_remove_stand_in(const char *path)
{
    (void)SYS_CALL(SYS_unlinkat, AT_FDCWD, path, 0, 0, 0, 0);
}
