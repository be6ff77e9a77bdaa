/*
 * Raw system calls. Inside the shim no interposable libc function is ever called: a call here
 * cannot come back to us, is no cancellation point, does not touch errno and is async-signal-safe.
 *
 * Every function returns what the kernel returns: a result >= 0, or a negative errno.
 */
#ifndef ATOMSHIM_SYS_H
#define ATOMSHIM_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* For a static table of some KiB: START_FLAGS (Makefile) place it behind the variables that every
 * start writes to, so that these share few pages. */
#define SYS_LARGE __attribute__((section(".bss.large")))

#if defined(__clang_analyzer__) || defined(ATOMSHIM_TEST_KERNEL)

/* An analyser must assume that the call writes through its pointers; a fuzzer defines its own
 * kernel. */
long sys_call6(long number, long a, long b, long c, long d, long e, long f);

#elif defined(__x86_64__)

__attribute__((always_inline)) static inline long sys_call6(long number, long a, long b, long c, long d,
                                                            long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

__attribute__((always_inline)) static inline long sys_call6(long number, long a, long b, long c, long d,
                                                            long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

#else
#error "atomshim knows the system calls of x86-64 and aarch64"
#endif

#ifdef ATOMSHIM_FAILING_KERNEL

/* Returns the answer to a call that is not to be made, or FAILING_KERNEL_PASSES
 * (tests/lib/failing_kernel.c). */
#define FAILING_KERNEL_PASSES INTPTR_MIN
long failing_kernel(long number, long a, long b, long c, long d, long e, long f);

/* The call itself stays inline: the child of a vfork must not return from a function. */
__attribute__((always_inline)) static inline long sys_tried_call6(long number, long a, long b, long c, long d,
                                                                  long e, long f)
{
    long answer = failing_kernel(number, a, b, c, d, e, f);

    return answer == FAILING_KERNEL_PASSES ? sys_call6(number, a, b, c, d, e, f) : answer;
}
#else
#define sys_tried_call6 sys_call6
#endif

#define SYS_CALL(number, a, b, c, d, e, f)                                                                   \
    sys_tried_call6((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/*
 * Atomic: counts the calls below that failed as the kernel fails a call for which it raises SIGXFSZ
 * or SIGPIPE: with EFBIG (setrlimit(2)) or EPIPE (write(2)). See signals.h. The linker makes one
 * variable of those in all objects ("common").
 */
__attribute__((common)) unsigned sys_raised;

static inline long sys_may_raise(long result)
{
    if (result == -EFBIG || result == -EPIPE)
        (void)__atomic_add_fetch(&sys_raised, 1, __ATOMIC_RELAXED);
    return result;
}

static inline int sys_openat(int directory, const char *path, int flags, mode_t mode)
{
    return (int)SYS_CALL(SYS_openat, directory, path, flags, mode, 0, 0);
}

static inline int sys_close(int fd)
{
    return (int)SYS_CALL(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
    return (int)SYS_CALL(SYS_close_range, first, last, flags, 0, 0, 0);
}

static inline ssize_t sys_read(int fd, void *buffer, size_t size)
{
    return SYS_CALL(SYS_read, fd, buffer, size, 0, 0, 0);
}

static inline ssize_t sys_write(int fd, const void *buffer, size_t size)
{
    return sys_may_raise(SYS_CALL(SYS_write, fd, buffer, size, 0, 0, 0));
}

static inline ssize_t sys_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    return SYS_CALL(SYS_pread64, fd, buffer, size, offset, 0, 0);
}

static inline ssize_t sys_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    return sys_may_raise(SYS_CALL(SYS_pwrite64, fd, buffer, size, offset, 0, 0));
}

static inline ssize_t sys_pwritev(int fd, const struct iovec *pieces, int count, uint64_t offset)
{
    /* the kernel takes the offset in two halves; on 64-bit machines the low one carries it all */
    return sys_may_raise(SYS_CALL(SYS_pwritev, fd, pieces, count, offset, 0, 0));
}

static inline int64_t sys_lseek(int fd, int64_t offset, int whence)
{
    return SYS_CALL(SYS_lseek, fd, offset, whence, 0, 0, 0);
}

static inline int sys_fstat(int fd, struct stat *status)
{
    return (int)SYS_CALL(SYS_fstat, fd, status, 0, 0, 0, 0);
}

static inline int sys_fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return (int)SYS_CALL(SYS_newfstatat, directory, path, status, flags, 0, 0);
}

static inline int sys_unlinkat(int directory, const char *path, int flags)
{
    return (int)SYS_CALL(SYS_unlinkat, directory, path, flags, 0, 0, 0);
}

static inline int sys_ftruncate(int fd, uint64_t size)
{
    return (int)sys_may_raise(SYS_CALL(SYS_ftruncate, fd, size, 0, 0, 0, 0));
}

static inline int sys_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
    return (int)sys_may_raise(SYS_CALL(SYS_fallocate, fd, mode, offset, size, 0, 0));
}

static inline int sys_fsync(int fd)
{
    return (int)SYS_CALL(SYS_fsync, fd, 0, 0, 0, 0, 0);
}

static inline int sys_fdatasync(int fd)
{
    return (int)SYS_CALL(SYS_fdatasync, fd, 0, 0, 0, 0, 0);
}

/* Writes the pages of [0, size) out, and waits; the device may still have them in its cache. */
static inline int sys_write_out(int fd, uint64_t size)
{
    const long all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

    return (int)SYS_CALL(SYS_sync_file_range, fd, 0, size, all, 0, 0);
}

static inline long sys_fcntl(int fd, int command, long argument)
{
    return SYS_CALL(SYS_fcntl, fd, command, argument, 0, 0, 0);
}

static inline int sys_dup3(int from, int to, int flags)
{
    return (int)SYS_CALL(SYS_dup3, from, to, flags, 0, 0, 0);
}

static inline int sys_flock(int fd, int operation)
{
    return (int)SYS_CALL(SYS_flock, fd, operation, 0, 0, 0, 0);
}

static inline int sys_memfd_create(const char *name, unsigned flags)
{
    return (int)SYS_CALL(SYS_memfd_create, name, flags, 0, 0, 0, 0);
}

static inline ssize_t sys_readlinkat(int directory, const char *path, char *buffer, size_t size)
{
    return SYS_CALL(SYS_readlinkat, directory, path, buffer, size, 0, 0);
}

static inline long sys_getdents(int fd, void *buffer, size_t size)
{
    return SYS_CALL(SYS_getdents64, fd, buffer, size, 0, 0, 0);
}

static inline int sys_fstatfs(int fd, void *status)
{
    return (int)SYS_CALL(SYS_fstatfs, fd, status, 0, 0, 0, 0);
}

static inline int sys_utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
    return (int)SYS_CALL(SYS_utimensat, fd, path, times, flags, 0, 0);
}

static inline int sys_fchmod(int fd, mode_t mode)
{
    return (int)SYS_CALL(SYS_fchmod, fd, mode, 0, 0, 0, 0);
}

static inline int sys_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    return (int)SYS_CALL(SYS_fsetxattr, fd, name, value, size, flags, 0);
}

static inline ssize_t sys_getxattr(const char *path, const char *name, void *value, size_t size)
{
    return SYS_CALL(SYS_getxattr, path, name, value, size, 0, 0);
}

static inline ssize_t sys_fgetxattr(int fd, const char *name, void *value, size_t size)
{
    return SYS_CALL(SYS_fgetxattr, fd, name, value, size, 0, 0);
}

static inline int sys_fremovexattr(int fd, const char *name)
{
    return (int)SYS_CALL(SYS_fremovexattr, fd, name, 0, 0, 0, 0);
}

static inline int sys_prlimit(int resource, const void *new_limit, void *old_limit)
{
    return (int)SYS_CALL(SYS_prlimit64, 0, resource, new_limit, old_limit, 0, 0);
}

/*
 * Sets the signal mask (SIG_SETMASK) to the kernel's set of 64 signals; either pointer may be NULL.
 */
static inline int sys_sigprocmask(const uint64_t *mask, uint64_t *old)
{
    return (int)SYS_CALL(SYS_rt_sigprocmask, 2, mask, old, sizeof *mask, 0, 0);
}

/*
 * Tells whether the byte may be read. A futex call that wakes nobody reads the word around the
 * byte, futex(2); the result of its comparison does not matter. (rt_sigprocmask(2) with a wrong
 * `how` would answer as well, but valgrind complains of it.)
 */
static inline bool sys_is_byte_readable(const void *address)
{
    const char *word = (const char *)address - (uintptr_t)address % sizeof(uint32_t);

    return SYS_CALL(SYS_futex, word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, word, 0) != -EFAULT;
}

/* Tells whether the eight bytes may be read. */
static inline bool sys_is_readable(const void *address)
{
    return sys_is_byte_readable(address) &&
           ((uintptr_t)address % sizeof(uint64_t) == 0 || sys_is_byte_readable((const char *)address + 7));
}

/* Takes a pending, blocked signal of `mask` without waiting. Returns its number, or -EAGAIN. */
static inline int sys_take_signal(uint64_t mask)
{
    const struct timespec at_once = {0, 0};
    return (int)SYS_CALL(SYS_rt_sigtimedwait, &mask, 0, &at_once, sizeof mask, 0, 0);
}

static inline bool sys_is_signal_pending(uint64_t mask)
{
    uint64_t pending = 0;
    (void)SYS_CALL(SYS_rt_sigpending, &pending, sizeof pending, 0, 0, 0, 0);
    return (pending & mask) != 0;
}

static inline int sys_getpid(void)
{
    return (int)SYS_CALL(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static inline uid_t sys_geteuid(void)
{
    return (uid_t)SYS_CALL(SYS_geteuid, 0, 0, 0, 0, 0, 0);
}

static inline int sys_gettid(void)
{
    return (int)SYS_CALL(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

static inline void sys_sleep(int64_t nanoseconds)
{
    struct timespec time = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    (void)SYS_CALL(SYS_nanosleep, &time, 0, 0, 0, 0, 0);
}

/* Returns the time of the monotonic clock in nanoseconds. */
static inline int64_t sys_now(void)
{
    struct timespec time = {0, 0};
    (void)SYS_CALL(SYS_clock_gettime, CLOCK_MONOTONIC, &time, 0, 0, 0, 0);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ThreadSanitizer sees no system calls: it must be told of new pages at an old address. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define SYS_PAGES_TAKEN() __tsan_acquire(&environ)
#define SYS_PAGES_GIVEN() __tsan_release(&environ)
#else
#define SYS_PAGES_TAKEN() ((void)0)
#define SYS_PAGES_GIVEN() ((void)0)
#endif

/* Returns the address of the mapping, or a negative errno as a pointer; see sys_is_error(). */
static inline void *sys_mmap(void *address, size_t size, int protection, int flags, int fd, uint64_t offset)
{
    void *pages = (void *)SYS_CALL(SYS_mmap, address, size, protection, flags, fd, offset);

    SYS_PAGES_TAKEN();
    return pages;
}

static inline bool sys_is_error(const void *address)
{
    return (uintptr_t)address >= (uintptr_t)-4095;
}

static inline int sys_munmap(void *address, size_t size)
{
    SYS_PAGES_GIVEN();
    return (int)SYS_CALL(SYS_munmap, address, size, 0, 0, 0, 0);
}

static inline int sys_madvise(void *address, size_t size, int advice)
{
    return (int)SYS_CALL(SYS_madvise, address, size, advice, 0, 0, 0);
}

/*
 * Copies this process as fork(2) does. The end of the copy sends no signal, and only a wait with
 * __WALL finds it (clone(2)).
 */
static inline int sys_fork_silently(void)
{
    return (int)SYS_CALL(SYS_clone, 0, 0, 0, 0, 0, 0);
}

/* Waits for a child of any kind to end; status may be NULL. The caller has blocked all signals, so
 * that none interrupts it. */
static inline int sys_wait(int process, int *status)
{
    return (int)SYS_CALL(SYS_wait4, process, status, __WALL, 0, 0, 0);
}

static inline int sys_pipe(int ends[2])
{
    return (int)SYS_CALL(SYS_pipe2, ends, O_CLOEXEC, 0, 0, 0, 0);
}

static inline _Noreturn void sys_exit_group(int status)
{
    for (;;)
        (void)SYS_CALL(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

#endif
