/* os/memory.h: what the kernel says of the system and of the memory cgroup, as files. */
#include "check.h"

#include "os/memory.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSTEM "MemTotal: 9000 kB\nMemFree: 5 kB\nMemAvailable:    2000 kB\nBuffers: 7 kB\n"
#define KIB ((uint64_t)1024)

/* Writes a file, or removes it if `text` is NULL. */
static void put(const char *path, const char *text)
{
    int fd;

    (void)unlink(path);
    if (text == NULL)
        return;
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

/* Writes the files of a group of the first version, whose names differ from those of the second. */
static void put_first_version(const char *limit)
{
    put("/sys/fs/cgroup/memory/app/memory.limit_in_bytes", limit);
    put("/sys/fs/cgroup/memory/app/memory.usage_in_bytes", "700000");
    put("/sys/fs/cgroup/memory/app/memory.stat", "inactive_file 9\n");
}

static void put_second_version(const char *folder, const char *limit, const char *usage, const char *stat)
{
    char path[128];

    (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", folder);
    put(path, limit);
    (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", folder);
    put(path, usage);
    (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.stat", folder);
    put(path, stat);
}

static void test_system(void)
{
    put("/proc/meminfo", NULL);
    CHECK(memory_available() >= UINT64_MAX / KIB * KIB);
    put("/proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: none\n");
    CHECK(memory_available() >= UINT64_MAX / KIB * KIB);
    put("/proc/meminfo", SYSTEM);
    CHECK_EQUAL(memory_available(), 2000 * KIB); /* no word of a group */
    put("/proc/self/cgroup", "3:cpu:/app\n");
    CHECK_EQUAL(memory_available(), 2000 * KIB);
}

static void test_second_version(void)
{
    put("/proc/self/cgroup", "0::/app\n");
    CHECK_EQUAL(memory_available(), 2000 * KIB);
    put_second_version("/app", "max\n", "500000\n", NULL);
    CHECK_EQUAL(memory_available(), 2000 * KIB);
    put_second_version("/app", "900000\n", "500000\n", NULL);
    CHECK_EQUAL(memory_available(), 400000);
    /* the pages of files can be had, but not more than are in use */
    put_second_version("/app", "900000\n", "500000\n", "anon 5\ninactive_file 100\nactive_file 50\n");
    CHECK_EQUAL(memory_available(), 400150);
    put_second_version("/app", "900000\n", "500000\n", "anon 5\ninactive_file 500001\n");
    CHECK_EQUAL(memory_available(), 900000);
    put_second_version("/app", "400000\n", "500000\n", NULL);
    CHECK_EQUAL(memory_available(), 0);
    put_second_version("/app", "900000000\n", "5\n", NULL);
    CHECK_EQUAL(memory_available(), 2000 * KIB);
}

/* In a container the group's files may lie at the root of the mount. */
static void test_container(void)
{
    put("/proc/self/cgroup", "0::/host/app\n");
    put_second_version("", "600000\n", "500000\n", NULL);
    CHECK_EQUAL(memory_available(), 100000);
    put_second_version("", NULL, NULL, NULL);
}

static void test_first_version(void)
{
    put("/proc/self/cgroup", "5:cpu:/\n4:memory:/app\n0::/app\n");
    put_first_version("1000000\n");
    CHECK_EQUAL(memory_available(), 300000);
    put_first_version(NULL);
}

/* A group whose files' names are too long to be asked for. */
static void test_long_name(void)
{
    char text[PATH_MAX] = "0::/";

    memset(text + strlen(text), 'g', PATH_MAX / 4 - 32);
    put("/proc/self/cgroup", text);
    CHECK_EQUAL(memory_available(), 2000 * KIB);
    memset(text + strlen(text), 'g', PATH_MAX / 2);
    put("/proc/self/cgroup", text);
    CHECK_EQUAL(memory_available(), 2000 * KIB);
}

int main(void)
{
    static const char *const folders[] = {"proc",
                                          "proc/self",
                                          "sys",
                                          "sys/fs",
                                          "sys/fs/cgroup",
                                          "sys/fs/cgroup/memory",
                                          "sys/fs/cgroup/app",
                                          "sys/fs/cgroup/memory/app"};
    char folder[] = "/tmp/memory_test.XXXXXX";
    int status = 0;

    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        CHECK_EQUAL(mkdir(folders[i], 0700), 0);
    if (fork() == 0) {
        if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0)
            _exit(0); /* may not have a root folder of its own */
        CHECK(chroot(".") == 0);
        test_system();
        test_second_version();
        test_container();
        test_first_version();
        test_long_name();
        _exit(check_result());
    }
    CHECK(wait(&status) > 0 && status == 0);
    if (chdir("/") == 0 && fork() == 0)
        execl("/bin/rm", "rm", "-rf", folder, NULL);
    (void)wait(NULL);
    return check_result();
}
