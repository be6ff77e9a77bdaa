#include "kernel.h"

#include <errno.h>
#include <string.h>

enum { OURSELVES = 100, SOMEBODY_ELSE };

struct kernel kernel;

void kernel_reset(struct kernel_file *inode, struct kernel_file *target)
{
    kernel = (struct kernel){.inode = inode, .target = target, .lock = F_UNLCK};
}

long kernel_cut(struct kernel_file *file, uint64_t size)
{
    if (size > KERNEL_FILE_MAX)
        return -EFBIG;
    if (size > file->size)
        memset(file->bytes + file->size, 0, size - file->size);
    file->size = size;
    return 0;
}

long kernel_write(struct kernel_file *file, const char *bytes, uint64_t size, uint64_t offset)
{
    if (size == 0)
        return 0;
    if (offset >= KERNEL_FILE_MAX)
        return -EFBIG;
    if (size > KERNEL_FILE_MAX - offset)
        size = KERNEL_FILE_MAX - offset;
    if (offset > file->size)
        (void)kernel_cut(file, offset);
    memcpy(file->bytes + offset, bytes, size);
    if (offset + size > file->size)
        file->size = offset + size;
    return (long)size;
}

static long read_file(const struct kernel_file *file, char *buffer, size_t size, uint64_t offset)
{
    if ((int64_t)offset < 0)
        return -EINVAL;
    if (offset >= file->size)
        return 0;
    if (size > file->size - offset)
        size = file->size - offset;
    memcpy(buffer, file->bytes + offset, size);
    return (long)size;
}

static long write_inode(long number, const char *bytes, uint64_t size, uint64_t offset)
{
    long n = kernel_write(kernel.inode, bytes, size, offset);

    if (n > 0 && kernel.changed != NULL)
        kernel.changed(number, offset, bytes, (uint64_t)n);
    return n;
}

static long write_pieces(const struct iovec *pieces, long count, size_t size, uint64_t offset)
{
    long done = 0;

    for (long i = 0; i < count && (size_t)done < size; i++) {
        size_t part = pieces[i].iov_len < size - (size_t)done ? pieces[i].iov_len : size - (size_t)done;
        long n = write_inode(SYS_pwritev, pieces[i].iov_base, part, offset + (uint64_t)done);

        if (n < 0)
            return done > 0 ? done : n;
        done += n;
    }
    return done;
}

static long cut_inode(uint64_t size)
{
    long error = kernel_cut(kernel.inode, size);

    if (error == 0 && kernel.changed != NULL)
        kernel.changed(SYS_ftruncate, size, NULL, 0);
    return error;
}

/* Behaves like the worst file system: every zero is a hole. */
static long find_data(uint64_t offset)
{
    while (offset < kernel.inode->size && kernel.inode->bytes[offset] == 0)
        offset++;
    return offset < kernel.inode->size ? (long)offset : -ENXIO;
}

/* One whole-file lock, others' or ours: there is no other holder. The last bytes are the turn, the
 * byte of every commit and the claim (filelock.c), for which nobody competes. */
static long lock_file(long command, struct flock *lock)
{
    bool others = kernel.is_held != NULL && kernel.is_held();

    REQUIRE(lock->l_start == 0 || lock->l_start >= INT64_MAX - 2);
    if (lock->l_start != 0)
        return 0;
    if (command == F_GETLK || command == F_OFD_GETLK) {
        lock->l_type = others ? F_WRLCK : F_UNLCK;
        lock->l_pid = others ? SOMEBODY_ELSE : 0;
        return 0;
    }
    REQUIRE(command == F_OFD_SETLK);
    if (lock->l_type != F_UNLCK && others)
        return -EAGAIN;
    kernel.lock = lock->l_type;
    return 0;
}

static long get_note(const struct kernel_file *file, char *value, uint64_t size)
{
    if (file->note_size == 0 || file->note_size > size)
        return file->note_size == 0 ? -ENODATA : -ERANGE;
    memcpy(value, file->note, file->note_size);
    return (long)file->note_size;
}

static long set_note(struct kernel_file *file, const char *value, uint64_t size)
{
    REQUIRE(size != 0);
    if (size > sizeof file->note)
        return -ENOSPC;
    memcpy(file->note, value, size);
    file->note_size = size;
    return 0;
}

static long remove_note(struct kernel_file *file)
{
    long error = file->note_size == 0 ? -ENODATA : 0;

    file->note_size = 0;
    return error;
}

/* A case for each system call. */
static long call_inode(long number, long b, long c, long d)
{
    size_t size = number == SYS_pread64 || number == SYS_pwrite64 ? (size_t)c : SIZE_MAX;
    long result = 0;

    kernel.calls++;
    kernel.lock_calls += number == SYS_fcntl;
    if (kernel.before != NULL)
        result = kernel.before(number, &size);
    if (result != 0)
        return result;
    switch (number) {
    case SYS_pread64:
        result = read_file(kernel.inode, (char *)b, size, (uint64_t)d);
        kernel.bytes_read += result > 0 ? (uint64_t)result : 0;
        return result;
    case SYS_pwrite64:
        return write_inode(number, (const char *)b, size, (uint64_t)d);
    case SYS_pwritev:
        return write_pieces((const struct iovec *)b, c, size, (uint64_t)d);
    case SYS_ftruncate:
        return cut_inode((uint64_t)b);
    case SYS_fstat:
        *(struct stat *)b = (struct stat){.st_size = (off_t)kernel.inode->size, .st_mode = S_IFREG};
        return 0;
    case SYS_fsync:
    case SYS_fdatasync:
        if (kernel.changed != NULL)
            kernel.changed(number, 0, NULL, 0);
        return 0;
    case SYS_lseek:
        return c == SEEK_DATA ? find_data((uint64_t)b) : 0;
    case SYS_fgetxattr:
        return get_note(kernel.inode, (char *)c, (uint64_t)d);
    case SYS_fsetxattr:
        return set_note(kernel.inode, (const char *)c, (uint64_t)d);
    case SYS_fremovexattr:
        return remove_note(kernel.inode);
    case SYS_fcntl:
        return lock_file(b, (struct flock *)c);
    default:
        break;
    }
    REQUIRE(!"a call that the engine has no business to make on the file");
    return -ENOSYS;
}

static long call_target(long number, long b, long c, long d)
{
    if (number == SYS_pwrite64)
        return kernel_write(kernel.target, (const char *)b, (uint64_t)c, (uint64_t)d);
    if (number == SYS_ftruncate)
        return kernel_cut(kernel.target, (uint64_t)b);
    REQUIRE(!"a call that the engine has no business to make on the target");
    return -ENOSYS;
}

static long map(size_t size)
{
    void *bytes = NULL;

    if (size > kernel.mapped)
        kernel.mapped = size;
    return posix_memalign(&bytes, 4096, size) == 0 ? (long)bytes : -ENOMEM;
}

static long sleep_for(const struct timespec *time)
{
    kernel.now += (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
    if (kernel.slept != NULL)
        kernel.slept();
    return 0;
}

long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
    (void)f;
    switch (number) {
    case SYS_statx:
        *(struct statx *)e = (struct statx){.stx_mask = STATX_BTIME};
        return 0;
    case SYS_mmap:
        return map((size_t)b);
    case SYS_munmap:
        free((void *)a);
        return 0;
    case SYS_nanosleep:
        return sleep_for((const struct timespec *)a);
    case SYS_clock_gettime:
        *(struct timespec *)b = (struct timespec){kernel.now / 1000000000, kernel.now % 1000000000};
        return 0;
    case SYS_rt_sigprocmask:
        return 0;
    case SYS_prlimit64: /* there is none */
        return -EPERM;
    case SYS_getpid:
    case SYS_gettid:
        return OURSELVES;
    case SYS_openat: /* which locks a description has */
        REQUIRE(strncmp((const char *)b, "/proc/self/fdinfo/", 18) == 0);
        return -ENOENT;
    default:
        break;
    }
    REQUIRE(a == KERNEL_INODE || a == KERNEL_TARGET);
    return a == KERNEL_INODE ? call_inode(number, b, c, d) : call_target(number, b, c, d);
}
