/* The table of the store's system calls with a counter, and a fault or a kill at the Nth of
 * them. */
#ifndef ATOMSHIM_STORE_FAULTS_H
#define ATOMSHIM_STORE_FAULTS_H

#include "store_files.h"

#include <signal.h>

enum call {
    ANY_CALL,
    PREAD,
    PWRITE,
    PWRITEV,
    FDATASYNC,
    FSYNC,
    WRITE_OUT,
    FTRUNCATE,
    FALLOCATE,
    FSTAT,
    STATX,
    LSEEK,
    FCNTL,
    OPENAT,
    UNLINKAT,
    FGETXATTR,
    FSETXATTR,
    FREMOVEXATTR,
    CALLS
};

enum fault_kind {
    NO_FAULT,
    FAIL,         /* returns `error` */
    FAIL_ON,      /* so do all that follow and write */
    SHORT,        /* moves half of the bytes */
    SHORT_HEADER, /* ends a write inside the first piece */
    KILL_BEFORE,
    KILL_MIDDLE, /* when half of the bytes are written, but not within a header */
    KILL_AFTER,
    STRANGER,    /* the call is made, after fault.stranger() */
    KILL_SHIELD, /* the child that writes, not the process that commits */
};

static struct {
    enum fault_kind kind;
    int at;         /* the first is 1 */
    enum call only; /* the calls that count for `at` */
    int error;      /* FAIL returns it */
    bool no_flush;  /* every flush fails with EIO */
    pid_t process;  /* the process that a kill hits */
    void (*stranger)(int fd);
    int seen;    /* calls so far */
    int counted; /* calls so far that count for `at` */
    int counts[CALLS];
    bool now; /* the call that is being made is the one */
    enum call hit;
} fault;

/* Faults that hit, by the call that they hit. */
static long fault_hits[CALLS];

/* 0: go on. */
static inline int tick(int fd, enum call call)
{
    bool counts = fault.only == ANY_CALL || fault.only == call;
    bool writes = call != PREAD && call != FSTAT && call != STATX && call != LSEEK && call != FCNTL &&
                  call != OPENAT && call != FGETXATTR;

    fault.seen++;
    fault.counts[call]++;
    fault.counted += counts;
    fault.now = fault.kind != NO_FAULT && counts && fault.counted == fault.at;
    if (fault.now) {
        fault.hit = call;
        fault_hits[call]++;
    }
    if (fault.now && fault.kind == KILL_BEFORE)
        (void)kill(fault.process, SIGKILL);
    if (fault.now && fault.kind == STRANGER)
        fault.stranger(fd);
    if (fault.now && fault.kind == KILL_SHIELD && getpid() != fault.process)
        (void)kill(getpid(), SIGKILL);
    if (fault.kind == FAIL || fault.kind == FAIL_ON)
        return fault.now || (fault.kind == FAIL_ON && fault.counted > fault.at && writes) ? fault.error : 0;
    return 0;
}

static inline long done(long result)
{
    if (fault.now && fault.kind == KILL_AFTER)
        (void)kill(fault.process, SIGKILL);
    return result;
}

static inline ssize_t faulty_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    int error = tick(fd, PREAD);
    bool cut = fault.now && fault.kind == SHORT;

    return error != 0 ? error : done(sys_pread(fd, buffer, cut ? (size + 1) / 2 : size, offset));
}

static inline ssize_t faulty_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    int error = tick(fd, PWRITE);

    return error != 0 ? error : done(sys_pwrite(fd, buffer, size, offset));
}

/* Writes no more than `size` bytes of the pieces. */
static inline ssize_t write_part(int fd, const struct iovec *pieces, size_t size, uint64_t offset)
{
    size_t first = size < pieces[0].iov_len ? size : pieces[0].iov_len;
    ssize_t n = sys_pwrite(fd, pieces[0].iov_base, first, offset);

    if (n == (ssize_t)first && first < size)
        n += sys_pwrite(fd, pieces[1].iov_base, size - first, offset + first);
    return n;
}

static inline ssize_t faulty_pwritev(int fd, const struct iovec *pieces, int count, uint64_t offset)
{
    int error = tick(fd, PWRITEV);
    size_t size = 0;

    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    if (error != 0)
        return error;
    if (fault.now && fault.kind == SHORT_HEADER)
        return write_part(fd, pieces, (pieces[0].iov_len + 1) / 2, offset);
    if (fault.now && fault.kind == SHORT)
        return write_part(fd, pieces, (size + 1) / 2, offset);
    if (fault.now && fault.kind == KILL_MIDDLE) {
        /* a header is inside one page, and no kill cuts there */
        size_t cut = size / 2 > IMAGE_HEADER_SIZE ? size / 2 : IMAGE_HEADER_SIZE;
        ssize_t n = write_part(fd, pieces, cut, offset);

        (void)kill(fault.process, SIGKILL);
        return n;
    }
    return done(sys_pwritev(fd, pieces, count, offset));
}

static inline int faulty_fdatasync(int fd)
{
    int error = tick(fd, FDATASYNC);

    (void)fd;
    return fault.no_flush ? -EIO : error != 0 ? error : (int)done(0);
}

static inline int faulty_fsync(int fd)
{
    int error = tick(fd, FSYNC);

    (void)fd;
    return fault.no_flush ? -EIO : error != 0 ? error : (int)done(0);
}

/* No signal interrupts sync_file_range(): its manual page knows no EINTR. */
static inline int faulty_write_out(int fd, uint64_t size)
{
    int error = tick(fd, WRITE_OUT);

    return error != 0 && error != -EINTR ? error : (int)done(original_calls.write_out(fd, size));
}

static inline int faulty_statx(int fd, struct statx *status)
{
    int error = tick(fd, STATX);

    return error != 0 ? error : (int)done(original_calls.statx(fd, status));
}

static inline int faulty_ftruncate(int fd, uint64_t size)
{
    int error = tick(fd, FTRUNCATE);

    return error != 0 ? error : (int)done(sys_ftruncate(fd, size));
}

static inline int faulty_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
    int error = tick(fd, FALLOCATE);

    return error != 0 ? error : (int)done(sys_fallocate(fd, mode, offset, size));
}

static inline int faulty_fstat(int fd, struct stat *status)
{
    int error = tick(fd, FSTAT);

    return error != 0 ? error : (int)done(sys_fstat(fd, status));
}

static inline int64_t faulty_lseek(int fd, int64_t offset, int whence)
{
    int error = tick(fd, LSEEK);

    return error != 0 ? error : done(sys_lseek(fd, offset, whence));
}

static inline long faulty_fcntl(int fd, int command, long argument)
{
    int error = tick(fd, FCNTL);

    return error != 0 ? error : done(sys_fcntl(fd, command, argument));
}

static inline int faulty_openat(int directory, const char *path, int flags, mode_t mode)
{
    int error = tick(-1, OPENAT);

    return error != 0 ? error : (int)done(sys_openat(directory, path, flags, mode));
}

static inline int faulty_unlinkat(int directory, const char *path, int flags)
{
    int error = tick(-1, UNLINKAT);

    return error != 0 ? error : (int)done(sys_unlinkat(directory, path, flags));
}

static inline ssize_t faulty_fgetxattr(int fd, const char *name, void *value, size_t size)
{
    int error = tick(fd, FGETXATTR);

    return error != 0 ? error : done(original_calls.fgetxattr(fd, name, value, size));
}

static inline int faulty_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    int error = tick(fd, FSETXATTR);

    return error != 0 ? error : (int)done(original_calls.fsetxattr(fd, name, value, size, flags));
}

static inline int faulty_fremovexattr(int fd, const char *name)
{
    int error = tick(fd, FREMOVEXATTR);

    return error != 0 ? error : (int)done(original_calls.fremovexattr(fd, name));
}

static inline void watch_calls(void)
{
    memset(&fault, 0, sizeof fault);
    fault.process = getpid();
    store_calls = (struct store_calls){
        .pread = faulty_pread,
        .pwrite = faulty_pwrite,
        .pwritev = faulty_pwritev,
        .fdatasync = faulty_fdatasync,
        .fsync = faulty_fsync,
        .write_out = faulty_write_out,
        .ftruncate = faulty_ftruncate,
        .fallocate = faulty_fallocate,
        .fstat = faulty_fstat,
        .statx = faulty_statx,
        .prlimit = original_calls.prlimit,
        .lseek = faulty_lseek,
        .openat = faulty_openat,
        .unlinkat = faulty_unlinkat,
        .fcntl = faulty_fcntl,
        .fgetxattr = faulty_fgetxattr,
        .fsetxattr = faulty_fsetxattr,
        .fremovexattr = faulty_fremovexattr,
    };
}

static inline void unwatch_calls(void)
{
    store_calls = original_calls;
}

#endif
