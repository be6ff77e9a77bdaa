/* Measures the stack that the calls take: handlers on an alternate stack and threads of 8 KiB make
 * them, too. */
#include "expect.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { SIZE = 1 << 16, MOST = 6 << 10, PAINT = 0xa5 };

static const char *path;
static char other[PATH_MAX];
static void (*action)(void);

static void by_open(void)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    write_text(fd, "one");
    EXPECT(fsync(fd) == 0);
    write_text(fd, "two");
    EXPECT(close(fd) == 0);
}

static void by_append(void)
{
    int first = open(path, O_WRONLY | O_APPEND);
    int second = open(path, O_WRONLY | O_APPEND);

    write_text(first, "three");
    write_text(second, "four");
    EXPECT(close(first) == 0 && close(second) == 0);
}

static void by_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR);

    EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && flock(fd, LOCK_EX) == 0);
    write_text(fd, "five");
    EXPECT(flock(fd, LOCK_UN) == 0 && close(fd) == 0);
}

static void by_path(void)
{
    struct stat status;

    EXPECT(truncate(path, 2) == 0 && stat(path, &status) == 0 && status.st_size == 2);
}

static void by_dup(void)
{
    int fd = open(path, O_WRONLY);
    int copy = dup(fd);

    write_text(fd, "six");
    EXPECT(dup2(0, fd) == fd && dup2(0, copy) == copy && close(fd) == 0 && close(copy) == 0);
}

static void by_mapping(void)
{
    int fd = open(path, O_RDWR);
    char *bytes = mmap(NULL, 2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    EXPECT(bytes != MAP_FAILED && close(fd) == 0);
    bytes[0] = bytes[0] == 'x' ? 'y' : 'x';
    EXPECT(msync(bytes, 2, MS_SYNC) == 0 && munmap(bytes, 2) == 0);
}

static void by_rename(void)
{
    int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    write_text(fd, "seven");
    EXPECT(close(fd) == 0 && rename(other, path) == 0);
}

static void run(void)
{
    action();
}

static void measure(const char *file, void (*what)(void))
{
    static ucontext_t context;
    static ucontext_t back;
    unsigned char *stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int free_bytes = 0;

    path = file;
    (void)snprintf(other, sizeof other, "%s.other", file);
    action = what;
    what(); /* the loader's binding at the first call does not count */
    EXPECT(stack != MAP_FAILED && getcontext(&context) == 0);
    memset(stack, PAINT, SIZE);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = SIZE;
    context.uc_link = &back;
    makecontext(&context, run, 0);
    EXPECT(swapcontext(&back, &context) == 0);
    while (free_bytes < SIZE && stack[free_bytes] == PAINT)
        free_bytes++;
    (void)printf("%d\n", SIZE - free_bytes);
    EXPECT(SIZE - free_bytes < MOST);
}

#define CASE(name)                                                                                           \
    static void test_##name(const char *file)                                                                \
    {                                                                                                        \
        measure(file, by_##name);                                                                            \
    }
CASE(open)
CASE(append)
CASE(lock)
CASE(path)
CASE(dup)
CASE(mapping)
CASE(rename)

int main(int argc, char *argv[])
{
    const struct test_case cases[] = {
        {"open", test_open}, {"append", test_append},   {"lock", test_lock},     {"path", test_path},
        {"dup", test_dup},   {"mapping", test_mapping}, {"rename", test_rename}, {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
