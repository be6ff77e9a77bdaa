/* I2: a process reads one file again and again, and the shim keeps its buffer: the buffer serves
 * only as long as it is the file's content, and the program may take its number. */
#include "expect.h"

#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { NUMBERS = 4096, RAW_MAX = 1 << 17 };

struct raw {
    char bytes[RAW_MAX];
    ssize_t size;
};

static int open_to_read(const char *file)
{
    int fd = open(file, O_RDONLY);

    EXPECT(fd >= 0);
    return fd;
}

static void put_text(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_TRUNC | O_CREAT, 0644);

    EXPECT(fd >= 0);
    write_text(fd, text);
    EXPECT(close(fd) == 0);
}

/* Reads and writes as a program without the shim does. */
static void read_raw(const char *file, struct raw *raw)
{
    int fd = sys_openat(AT_FDCWD, file, O_RDONLY, 0);

    EXPECT(fd >= 0);
    raw->size = sys_pread(fd, raw->bytes, sizeof raw->bytes, 0);
    EXPECT(raw->size > 0 && sys_close(fd) == 0);
}

static void write_raw(const char *file, const struct raw *raw)
{
    int fd = sys_openat(AT_FDCWD, file, O_WRONLY, 0);

    EXPECT(fd >= 0 && sys_pwrite(fd, raw->bytes, (size_t)raw->size, 0) == raw->size);
    EXPECT(sys_ftruncate(fd, (uint64_t)raw->size) == 0 && sys_close(fd) == 0);
}

/* Reads it until its time of change tells it from any later one. */
static void read_until_settled(const char *file, const char *content)
{
    struct timespec now;
    struct stat status;

    do {
        expect_content(file, content);
        status = status_of(file);
        EXPECT(clock_gettime(CLOCK_REALTIME, &now) == 0);
    } while ((now.tv_sec - status.st_ctim.tv_sec) * 1000 + (now.tv_nsec - status.st_ctim.tv_nsec) / 1000000 <
             50);
    expect_content(file, content);
    expect_content(file, content);
}

static void test_again(const char *file)
{
    char byte;
    int one;
    int two;

    put_text(file, "abc");
    expect_content(file, "abc");
    one = open(file, O_RDONLY | O_CLOEXEC);
    two = open(file, O_RDONLY | O_NONBLOCK);
    EXPECT(read(one, &byte, 1) == 1 && byte == 'a' && read(one, &byte, 1) == 1 && byte == 'b');
    EXPECT(read(two, &byte, 1) == 1 && byte == 'a');
    EXPECT(fcntl(one, F_GETFD) == FD_CLOEXEC && fcntl(two, F_GETFD) == 0);
    EXPECT((fcntl(one, F_GETFL) & O_NONBLOCK) == 0 && (fcntl(two, F_GETFL) & O_NONBLOCK) != 0);
    EXPECT_ERROR(write(one, "x", 1), EBADF);
    EXPECT(close(one) == 0 && close(two) == 0);
    expect_content(file, "abc");
}

static void test_committed(const char *file)
{
    pid_t child;

    put_text(file, "one");
    read_until_settled(file, "one");
    child = fork();
    if (child == 0) {
        expect_content(file, "one");
        put_text(file, "two");
        expect_content(file, "two");
        _exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "two");
    put_text(file, "six");
    expect_content(file, "six");
}

static void test_restored(const char *file)
{
    static struct raw backup;

    put_text(file, "first");
    put_text(file, "second");
    read_raw(file, &backup);
    expect_content(file, "second");
    put_text(file, "third");
    read_until_settled(file, "third");
    write_raw(file, &backup);
    expect_content(file, "second");
}

/* Another image of the same generation and size, put there by bytes. */
static void test_same_generation(const char *file)
{
    static struct raw other;
    char *name = sibling(file, ".other");

    put_text(file, "mine");
    put_text(name, "ours");
    EXPECT(unlink(name) == 0);
    put_text(name, "ours");
    put_text(file, "mine");
    read_until_settled(file, "mine");
    read_raw(name, &other);
    write_raw(file, &other);
    expect_content(file, "ours");
    EXPECT(unlink(name) == 0);
}

static void test_other_file(const char *file)
{
    char *away = sibling(file, ".away");

    expect_content(file, "old");
    EXPECT(rename(file, away) == 0);
    put_text(file, "new");
    expect_content(file, "new");
    EXPECT(unlink(file) == 0 && rename(away, file) == 0);
    expect_content(file, "old");
}

/* The program closes all descriptors, and takes the numbers itself. */
static void test_closed(const char *file)
{
    int mine = open("/dev/null", O_WRONLY);

    EXPECT(mine >= 3 && mine < 700);
    put_text(file, "old");
    for (int way = 0; way < 2; way++) {
        expect_content(file, "old");
        for (int fd = mine + 1; fd < NUMBERS; fd++)
            (void)(way == 0 ? close(fd) : sys_close(fd));
        expect_content(file, "old");
        for (int fd = 700; fd < 900; fd++)
            EXPECT(dup2(mine, fd) == fd);
        expect_content(file, "old");
        for (int fd = 700; fd < 900; fd++)
            EXPECT(write(fd, "x", 1) == 1 && close(fd) == 0);
        for (int fd = 770; fd < 780; fd++) {
            expect_content(file, "old");
            EXPECT(dup2(mine, fd) == fd);
            expect_content(file, "old");
            EXPECT(write(fd, "x", 1) == 1 && close(fd) == 0);
        }
    }
}

/* The kernel grants a write lease only if no other description has the file open. */
static void test_lets_go(const char *file)
{
    int fd;

    put_text(file, "old");
    expect_content(file, "old");
    expect_content(file, "old");
    fd = sys_openat(AT_FDCWD, file, O_RDWR, 0);
    EXPECT(fd >= 0 && sys_fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
    EXPECT(sys_fcntl(fd, F_SETLEASE, F_UNLCK) == 0 && sys_close(fd) == 0);
}

static void test_mode(const char *file)
{
    static const mode_t modes[] = {0644, 0600, 0604};
    struct stat status;

    put_text(file, "old");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        int fd;

        EXPECT(chmod(file, modes[i]) == 0);
        fd = open_to_read(file);
        EXPECT(sys_fstat(fd, &status) == 0 && (status.st_mode & 0044) == (modes[i] & 0044));
        EXPECT(close(fd) == 0);
    }
}

static void test_mapped(const char *file)
{
    char *map;
    int fd;

    put_text(file, "mapped");
    expect_content(file, "mapped");
    fd = open_to_read(file);
    map = mmap(NULL, 6, PROT_READ, MAP_SHARED, fd, 0);
    EXPECT(map != MAP_FAILED && close(fd) == 0);
    put_text(file, "beside");
    expect_content(file, "beside");
    EXPECT(memcmp(map, getenv("LD_PRELOAD") != NULL ? "mapped" : "beside", 6) == 0 && munmap(map, 6) == 0);
    expect_content(file, "beside");
}

static void as_another(const char *file, void (*change)(void))
{
    pid_t child;

    if (geteuid() != 0)
        return;
    put_text(file, "old");
    EXPECT(chmod(file, 0644) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(strcmp(read_content((void *)file), "old") == 0);
        change();
        EXPECT(strcmp(read_content((void *)file), "old") == 0);
        EXPECT(strcmp(read_content((void *)file), "old") == 0);
        _exit(0);
    }
    expect_exit(child, 0);
}

static void change_effective(void)
{
    EXPECT(seteuid(OTHER_USER) == 0);
}

static void change_for_files(void)
{
    (void)setfsuid(OTHER_USER);
}

static void test_other_user(const char *file)
{
    as_another(file, change_effective);
    as_another(file, change_for_files);
}

static void test_other_root(const char *file)
{
    char *folder = strndup(file, (size_t)(strrchr(file, '/') - file));
    const char *name = strrchr(file, '/');

    if (geteuid() != 0)
        return;
    put_text(file, "old");
    expect_content(file, "old");
    EXPECT(chroot(folder) == 0 && chdir("/") == 0); /* no /proc there */
    expect_content(name, "old");
    expect_content(name, "old");
    free(folder);
}

static void *read_often(void *file)
{
    char text[8];

    for (int i = 0; i < 500; i++) {
        int fd = open_to_read(file);
        ssize_t n = read(fd, text, sizeof text);

        /* without the shim it is empty for a moment */
        EXPECT((n == 0 && getenv("LD_PRELOAD") == NULL) || (n == 4 && text[0] == text[3]));
        EXPECT(close(fd) == 0);
    }
    return NULL;
}

static void test_threads(const char *file)
{
    pthread_t threads[3];
    char text[] = "aaaa";

    put_text(file, text);
    for (int i = 0; i < 3; i++)
        EXPECT(pthread_create(&threads[i], NULL, read_often, (void *)file) == 0);
    for (char letter = 'a'; letter <= 'z'; letter++) {
        memset(text, letter, 4);
        put_text(file, text);
        expect_content(file, text);
    }
    for (int i = 0; i < 3; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    expect_content(file, "zzzz");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"again", test_again},
        {"committed", test_committed},
        {"restored", test_restored},
        {"same_generation", test_same_generation},
        {"other_file", test_other_file},
        {"closed", test_closed},
        {"lets_go", test_lets_go},
        {"mode", test_mode},
        {"mapped", test_mapped},
        {"other_user", test_other_user},
        {"other_root", test_other_root},
        {"threads", test_threads},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
