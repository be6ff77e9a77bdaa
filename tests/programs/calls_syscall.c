/* The parts of interpose/syscall.c that are not the exports that it calls; by_syscall.h has the
 * exports. */
#include "expect.h"

#include <linux/openat2.h>
#include <pthread.h>
#include <sys/mman.h>

static long pid_before_everything;

/* Runs before any constructor, even the shim's. */
static void before_everything(void)
{
    pid_before_everything = syscall(SYS_getpid);
    EXPECT_ERROR(syscall(SYS_close, -1), EBADF);
}

__attribute__((section(".preinit_array"), used)) static void (*preinit)(void) = before_everything;

/* A call that the shim does not know gets all its arguments, and returns the kernel's result. */
static void test_syscall(const char *file)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *bytes = (char *)syscall(SYS_mmap, NULL, page, PROT_READ, MAP_PRIVATE, fd, page);
    char *expected = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, (off_t)page);

    (void)file;
    EXPECT(bytes != MAP_FAILED && expected != MAP_FAILED && memcmp(bytes, expected, page) == 0);
    EXPECT(pid_before_everything == getpid() && syscall(SYS_getpid) == getpid());
    errno = 7;
    EXPECT(syscall(SYS_lseek, fd, 5L, SEEK_SET) == 5 && errno == 7);
    EXPECT_ERROR(syscall(SYS_lseek, -1, 5L, SEEK_SET), EBADF);
    EXPECT_ERROR(syscall(100000), ENOSYS);
    EXPECT_ERROR(syscall(-1), ENOSYS);
}

static int open_how(const char *file, uint64_t resolve, size_t size)
{
    struct {
        struct open_how how;
        uint64_t more;
    } longer = {.how = {.flags = O_RDONLY, .resolve = resolve}};

    return (int)syscall(SYS_openat2, AT_FDCWD, file, &longer, size);
}

/* An open that only openat2() can express is left to the kernel, and finds the raw file. */
static void test_openat2(const char *file)
{
    int fd = open_how(file, 0, sizeof(struct open_how));
    struct stat status;

    EXPECT(fd >= 0 && fstat(fd, &status) == 0 && status.st_size == 3 && close(fd) == 0);
    fd = open_how(file, RESOLVE_NO_MAGICLINKS, sizeof(struct open_how));
    EXPECT(fd >= 0 && close(fd) == 0);
    /* an absolute path */
    EXPECT_ERROR(open_how(file, RESOLVE_BENEATH, sizeof(struct open_how)), EXDEV);
    EXPECT_ERROR(open_how(file, 0, sizeof(uint64_t)), EINVAL);
    EXPECT_ERROR(syscall(SYS_openat2, AT_FDCWD, file, NULL, sizeof(struct open_how)), EFAULT);
}

static void *close_cancelled(void *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    int other = open("/dev/null", O_RDONLY);

    write_text(fd, "new");
    EXPECT(pthread_cancel(pthread_self()) == 0);
    EXPECT(syscall(SYS_close, other) == 0);
    EXPECT(syscall(SYS_fsync, fd) == 0);
    EXPECT(syscall(SYS_close, fd) == 0);
    EXPECT_ERROR(syscall(SYS_close, fd), EBADF);
    pthread_testcancel();
    return NULL;
}

/* syscall() is no cancellation point, unlike close() and fsync(). */
static void test_cancellation(const char *file)
{
    pthread_t thread;
    void *result;

    EXPECT(pthread_create(&thread, NULL, close_cancelled, (void *)file) == 0);
    EXPECT(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    expect_content(file, "new");
    EXPECT_ERROR(fcntl(lowest_free(), F_GETFD), EBADF);
}

/* The end of the only thread is the end of the program. */
static void test_exit(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int fd = open(file, O_WRONLY | O_TRUNC);

        write_text(fd, "exit");
        (void)syscall(SYS_exit, 7);
    }
    expect_exit(child, 7);
    expect_content(file, "exit");
}

/* The kernel answers for pointers that lead nowhere, where a libc's function would read them. */
static void test_bad_pointers(const char *file)
{
#ifdef SYS_utimes
    EXPECT_ERROR(syscall(SYS_utimes, file, 16), EFAULT);
    EXPECT_ERROR(syscall(SYS_utime, file, 16), EFAULT);
    EXPECT_ERROR(syscall(SYS_futimesat, AT_FDCWD, file, 16), EFAULT);
    EXPECT(syscall(SYS_utimes, file, NULL) == 0 && syscall(SYS_utime, file, NULL) == 0);
#endif
    EXPECT_ERROR(syscall(SYS_utimensat, AT_FDCWD, file, 16, 0), EFAULT);
    EXPECT_ERROR(syscall(SYS_utimensat, AT_FDCWD, NULL, NULL, 0), EFAULT);
    EXPECT_ERROR(syscall(SYS_openat, AT_FDCWD, 16, O_RDWR | O_CREAT, 0600), EFAULT);
    EXPECT_ERROR(syscall(SYS_renameat2, AT_FDCWD, file, AT_FDCWD, 16, 0), EFAULT);
    EXPECT_ERROR(syscall(SYS_linkat, AT_FDCWD, file, AT_FDCWD, 16, 0), EFAULT);
    EXPECT_ERROR(syscall(SYS_statx, AT_FDCWD, file, 0, STATX_SIZE, 16), EFAULT);
    EXPECT_ERROR(syscall(SYS_newfstatat, AT_FDCWD, file, 16, 0), EFAULT);
    EXPECT_ERROR(syscall(SYS_fstat, 0, 16), EFAULT);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"syscall", test_syscall},           {"openat2", test_openat2}, {"bad-pointers", test_bad_pointers},
        {"cancellation", test_cancellation}, {"exit", test_exit},       {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
