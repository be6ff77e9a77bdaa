/* Further names of interposed calls, some of one libc only, and opens that open(2) cannot
 * express. */
#include "expect.h"

#include <dlfcn.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/mman.h>

extern int by_open(const char *path, int flags, ...) __asm__("__open");
extern int by_open64(const char *path, int flags, ...) __asm__("__open64");
extern int by_close(int fd) __asm__("__close");
extern int by_dup2(int from, int to) __asm__("__dup2");
extern int by_fcntl(int fd, int command, ...) __asm__("__fcntl");
extern FILE *by_fopen(const char *path, const char *mode) __asm__("_IO_fopen");
extern FILE *by_fdopen(int fd, const char *mode) __asm__("_IO_fdopen");
extern int by_fclose(FILE *stream) __asm__("_IO_fclose");

/* Makes `name`, or the same call by another way where this libc has none. */
static void *find_function(const char *name, void *otherwise)
{
    void *found = dlsym(RTLD_DEFAULT, name);

    EXPECT(found != NULL || !is_wrapped());
    return found != NULL ? found : otherwise;
}

static void check_open(int (*open_file)(const char *, int, ...), int (*close_file)(int), const char *file)
{
    const char *new = sibling(file, ".new");
    int fd = open_file(file, O_WRONLY | O_TRUNC);
    struct stat status;

    write_text(fd, "new");
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close_file(fd) == 0);
    expect_stored(file, "new");
    expect_content(file, "new");
    EXPECT_ERROR(close_file(fd), EBADF);
    (void)umask(0);
    fd = open_file(new, O_WRONLY | O_CREAT | O_EXCL, 0604);
    EXPECT(fstat(fd, &status) == 0 && (status.st_mode & 07777) == 0604);
    EXPECT(close_file(fd) == 0 && unlink(new) == 0);
    EXPECT_ERROR(open_file(new, O_RDONLY), ENOENT);
}

static void test_open(const char *file)
{
    check_open(by_open, by_close, file);
}

static void test_open64(const char *file)
{
    check_open(by_open64, by_close, file);
}

static int close_otherwise(int fd, int flags)
{
    return flags == 0 ? close(fd) : -1;
}

static int posixly(int fd)
{
    int (*posix_close)(int, int) = (int (*)(int, int))find_function("posix_close", (void *)close_otherwise);

    return posix_close(fd, 0);
}

static void test_posix_close(const char *file)
{
    check_open(by_open, posixly, file);
}

static void test_dup2(const char *file)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    int null = open("/dev/null", O_RDONLY);

    write_text(fd, "new");
    EXPECT(by_dup2(null, fd) == fd);
    expect_stored(file, "new");
    EXPECT(close(fd) == 0 && close(null) == 0);
    EXPECT_ERROR(by_dup2(-1, 5), EBADF);
}

static void test_fcntl(const char *file)
{
    struct flock lock = {.l_type = F_WRLCK};
    int fd = open(file, O_RDWR);
    pid_t child;

    EXPECT(by_fcntl(fd, F_SETLK, &lock) == 0);
    child = fork();
    if (child == 0) {
        int raw = sys_openat(AT_FDCWD, file, O_RDWR, 0);

        _exit(sys_fcntl(raw, F_SETLK, (long)&lock) == -EAGAIN ? 0 : 1);
    }
    expect_exit(child, 0);
    EXPECT(close(fd) == 0);
}

static void test_stream(const char *file)
{
    FILE *stream = by_fopen(file, "w");
    int fd;

    EXPECT(stream != NULL && fputs("one", stream) >= 0 && fflush(stream) == 0);
    expect_content(file, is_wrapped() ? "old" : "one");
    EXPECT(by_fclose(stream) == 0);
    expect_stored(file, "one");
    fd = open(file, O_WRONLY);
    stream = by_fdopen(fd, "w");
    EXPECT(stream != NULL && fputs("two", stream) >= 0 && by_fclose(stream) == 0);
    expect_stored(file, "two");
    EXPECT(by_fopen(sibling(file, ".none"), "r") == NULL && errno == ENOENT);
}

/* ---- openat2 ---- */

static int openat2_otherwise(int directory, const char *path, const struct open_how *how, size_t size)
{
    return (int)syscall(SYS_openat2, directory, path, how, size);
}

typedef int openat2_function(int directory, const char *path, const struct open_how *how, size_t size);

/* Makes calls that must fail, in the folder `directory` of the file `name`. */
static void check_openat2_errors(openat2_function *open2, const char *file, int directory, const char *name)
{
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
    const char *link = sibling(name, ".symbolic");

    EXPECT_ERROR(open2(AT_FDCWD, file, &how, sizeof how), EXDEV);
    EXPECT(symlinkat(file, directory, link) == 0);
    EXPECT_ERROR(open2(directory, link, &how, sizeof how), EXDEV);
    how.resolve = RESOLVE_NO_SYMLINKS;
    EXPECT_ERROR(open2(directory, link, &how, sizeof how), ELOOP);
    how.resolve = 1 << 30;
    EXPECT_ERROR(open2(directory, name, &how, sizeof how), EINVAL);
    how = (struct open_how){.flags = O_RDONLY, .mode = 0600};
    EXPECT_ERROR(open2(directory, name, &how, sizeof how), EINVAL);
    how = (struct open_how){.flags = 1ull << 40};
    EXPECT_ERROR(open2(directory, name, &how, sizeof how), EINVAL);
    EXPECT_ERROR(open2(directory, name, NULL, sizeof how), EFAULT);
    EXPECT_ERROR(open2(directory, name, (const struct open_how *)16, sizeof how), EFAULT);
    how = (struct open_how){.flags = O_WRONLY | O_CREAT | O_EXCL, .mode = 0604};
    EXPECT_ERROR(open2(directory, name, &how, sizeof how), EEXIST);
    EXPECT_ERROR(open2(directory, (const char *)1, &how, sizeof how), EFAULT);
    EXPECT(unlinkat(directory, link, 0) == 0);
}

/* Creates files below a folder that counts as the root, and where a link leads. */
static void check_openat2_links(openat2_function *open2, const char *file, int directory, const char *new)
{
    struct open_how how = {.flags = O_WRONLY | O_CREAT, .mode = 0600, .resolve = RESOLVE_IN_ROOT};
    const char *link = sibling(new, ".symbolic");
    char rooted[PATH_MAX];
    int fd;

    EXPECT(symlinkat(new, directory, link) == 0);
    (void)snprintf(rooted, sizeof rooted, "/../%s", new);
    for (int i = 0; i < 2; i++) {
        fd = open2(directory, i == 0 ? rooted : link, &how, sizeof how);
        EXPECT(fd >= 0);
        write_text(fd, "rooted");
        EXPECT(close(fd) == 0);
        expect_content(sibling(file, ".new"), "rooted");
        EXPECT(unlinkat(directory, new, 0) == 0);
    }
    EXPECT(unlinkat(directory, link, 0) == 0);
}

static void check_openat2(openat2_function *open2, const char *file)
{
    struct open_how how = {.flags = O_RDWR | O_TRUNC | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    const char *name;
    int directory = split(file, &name);
    const char *new = sibling(name, ".new");
    int lowest = lowest_free();
    int fd = open2(directory, name, &how, sizeof how);
    struct stat status;

    if (fd == -1) { /* an old kernel, or a sandbox */
        EXPECT(errno == ENOSYS || errno == EPERM);
        return;
    }
    EXPECT(fd == lowest && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    write_text(fd, "new");
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close(fd) == 0 && lowest_free() == lowest);
    expect_stored(file, "new");
    how.flags = O_RDONLY;
    fd = open2(directory, name, &how, sizeof how);
    EXPECT(fd == lowest && fstat(fd, &status) == 0 && status.st_size == 3 && close(fd) == 0);

    check_openat2_errors(open2, file, directory, name);
    how = (struct open_how){.flags = O_WRONLY | O_CREAT | O_EXCL, .mode = 0604, .resolve = RESOLVE_BENEATH};
    (void)umask(0);
    EXPECT_ERROR(open2(directory, "missing/new", &how, sizeof how), ENOENT);
    fd = open2(directory, new, &how, sizeof how);
    EXPECT(fd == lowest && fstat(fd, &status) == 0 && (status.st_mode & 07777) == 0604);
    write_text(fd, "created");
    EXPECT(close(fd) == 0);
    expect_content(sibling(file, ".new"), "created");
    EXPECT(unlinkat(directory, new, 0) == 0);
    check_openat2_links(open2, file, directory, new);
    EXPECT(close(directory) == 0);
}

static void test_openat2(const char *file)
{
    check_openat2(openat2_otherwise, file);
}

static void test_openat2_function(const char *file)
{
    check_openat2((openat2_function *)find_function("openat2", (void *)openat2_otherwise), file);
}

/* *how ends where the memory ends. */
static void test_openat2_edge(const char *file)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *bytes = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(bytes != MAP_FAILED && munmap(bytes + page, page) == 0);
    for (size_t inside = 0; inside <= sizeof(struct open_how); inside++) {
        int fd = openat2_otherwise(AT_FDCWD, file, (struct open_how *)(bytes + page - inside),
                                   sizeof(struct open_how));

        if (inside < sizeof(struct open_how))
            EXPECT(fd == -1 && errno == EFAULT);
        else
            EXPECT(fd >= 0 && close(fd) == 0);
    }
}

static void test_open_by_handle_at(const char *file)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } of = {.handle.handle_bytes = MAX_HANDLE_SZ};
    const char *name;
    int mount_id;
    int lowest;
    int fd;
    int directory = split(file, &name);

    if (geteuid() != 0 || name_to_handle_at(AT_FDCWD, file, &of.handle, &mount_id, 0) != 0)
        return;
    lowest = lowest_free();
    fd = open_by_handle_at(directory, &of.handle, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd == -1) { /* no privilege, or the file system has no handles */
        EXPECT(errno == EPERM || errno == EOPNOTSUPP || errno == ESTALE);
        return;
    }
    EXPECT(fd == lowest && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY);
    write_text(fd, "new");
    expect_content(file, is_wrapped() ? "old" : "new");
    EXPECT(close(fd) == 0);
    expect_stored(file, "new");
    EXPECT_ERROR(open_by_handle_at(-1, &of.handle, O_RDONLY), EBADF);
    /* any descriptor of the file system is good, the file's own, too */
    directory = open(file, O_RDWR);
    fd = open_by_handle_at(directory, &of.handle, O_RDONLY);
    EXPECT(directory >= 0 && fd >= 0 && close(fd) == 0 && close(directory) == 0);
}

/* ---- cancellation ---- */

static struct {
    const char *file;
    int fd;
    int step; /* the last step that was reached */
} thread_data;

typedef void action(void);

static void do_open(void)
{
    (void)open(thread_data.file, O_RDONLY);
}

static void do_openat(void)
{
    (void)openat(AT_FDCWD, thread_data.file, O_RDONLY);
}

static void do_creat(void)
{
    (void)creat(thread_data.file, 0600);
}

static void do_close(void)
{
    (void)close(thread_data.fd);
}

static void do_fsync(void)
{
    (void)fsync(thread_data.fd);
}

static void do_fdatasync(void)
{
    (void)fdatasync(thread_data.fd);
}

static void do_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK};

    (void)fcntl(thread_data.fd, F_SETLKW, &lock);
}

static void do_lockf(void)
{
    (void)lockf(thread_data.fd, F_LOCK, 0);
}

static void *cancelled(void *call)
{
    action *act = *(action **)call;

    thread_data.step = 1;
    /* deferred: the next cancellation point acts on it */
    EXPECT(pthread_cancel(pthread_self()) == 0);
    thread_data.step = 2;
    act();
    thread_data.step = 3;
    return NULL;
}

/* These calls act on a pending request to cancel, and then do nothing else. */
static void test_cancellation(const char *file)
{
    action *actions[] = {do_open, do_openat, do_creat, do_close, do_fsync, do_fdatasync, do_lock, do_lockf};

    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        int lowest;
        pthread_t thread;
        void *result;

        thread_data.file = file;
        thread_data.fd = open(file, O_RDWR);
        thread_data.step = 0;
        lowest = lowest_free();
        EXPECT(pwrite(thread_data.fd, "n", 1, 0) == 1);
        EXPECT(pthread_create(&thread, NULL, cancelled, &actions[i]) == 0);
        EXPECT(pthread_join(thread, &result) == 0);
        EXPECT(result == PTHREAD_CANCELED && thread_data.step == 2);
        EXPECT(lowest_free() == lowest);
        expect_content(file, is_wrapped() && i == 0 ? "old" : "nld");
        EXPECT(close(thread_data.fd) == 0);
        expect_content(file, "nld");
    }
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"__open", test_open},
        {"__open64", test_open64},
        {"__close", test_open},
        {"posix_close", test_posix_close},
        {"__dup2", test_dup2},
        {"__fcntl", test_fcntl},
        {"_IO_fopen", test_stream},
        {"_IO_fdopen", test_stream},
        {"_IO_fclose", test_stream},
        {"openat2_by_number", test_openat2},
        {"openat2", test_openat2_function},
        {"openat2_edge", test_openat2_edge},
        {"open_by_handle_at", test_open_by_handle_at},
        {"cancellation", test_cancellation},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
