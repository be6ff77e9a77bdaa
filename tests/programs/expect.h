/*
 * All test programs include this. The runner runs each as PROGRAM CASE FILE, with and without the
 * shim: FILE has the content "old", and the program expects the behaviour of POSIX. PROGRAM alone
 * lists its cases.
 */
#ifndef ATOMSHIM_EXPECT_H
#define ATOMSHIM_EXPECT_H

#include "../../shim/os/sys.h" /* calls that the shim does not see */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* nobody, wherever there is one by name */
enum { OTHER_USER = 65534 };

struct test_case {
    const char *name;
    void (*run)(const char *file);
};

#define EXPECT(condition) ((condition) ? (void)0 : expect_failed(__FILE__, __LINE__, #condition, errno))

/* Checks that the call fails with this errno. */
#define EXPECT_ERROR(call, error)                                                                            \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        EXPECT((call) == -1);                                                                                \
        EXPECT(errno == (error));                                                                            \
    } while (0)

static inline void expect_failed(const char *file, int line, const char *what, int error)
{
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL); /* it may have been cancelled */
    dprintf(2, "%s:%d: %s (errno: %s)\n", file, line, what, strerror(error));
    _exit(1);
}

/* Returns "FILE" with a suffix; the caller may free it. */
static inline char *sibling(const char *file, const char *suffix)
{
    char *name;

    EXPECT(asprintf(&name, "%s%s", file, suffix) > 0);
    return name;
}

static char content_buffer[1 << 16];

static inline void *read_content(void *file)
{
    char *buffer = content_buffer;
    int fd = open(file, O_RDONLY);
    ssize_t n;

    EXPECT(fd >= 0);
    n = read(fd, buffer, sizeof content_buffer - 1);
    EXPECT(n >= 0);
    EXPECT(close(fd) == 0);
    buffer[n] = '\0';
    return buffer;
}

/* Returns the whole content, as another thread finds it: this thread sees its own writes. The next
 * call overwrites it. */
static inline char *content_of(const char *file)
{
    pthread_t thread;

    EXPECT(pthread_create(&thread, NULL, read_content, (void *)file) == 0 && pthread_join(thread, NULL) == 0);
    return content_buffer;
}

static inline void expect_content(const char *file, const char *content)
{
    const char *found = content_of(file);

    if (strcmp(found, content) != 0) {
        dprintf(2, "%s: '%s', not '%s'\n", file, found, content);
        _exit(1);
    }
}

/* Checks that the bytes are in the file now, without an open that the shim sees, which would commit
 * the rest. Only for texts that no earlier image had. */
static inline void expect_stored(const char *file, const char *text)
{
    static char bytes[1 << 17];
    int fd = sys_openat(AT_FDCWD, file, O_RDONLY, 0);
    ssize_t n = read(fd, bytes, sizeof bytes);

    EXPECT(n >= 0 && sys_close(fd) == 0);
    if (memmem(bytes, (size_t)n, text, strlen(text)) == NULL) {
        dprintf(2, "%s: '%s' is not in it yet\n", file, text);
        _exit(1);
    }
}

static inline void write_text(int fd, const char *text)
{
    EXPECT(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static inline FILE *open_stream(const char *file, const char *mode)
{
    FILE *stream = fopen(file, mode);

    EXPECT(stream != NULL);
    return stream;
}

/* Opens the file and writes to it, so that a commit follows. */
static inline int open_new(const char *file)
{
    int fd = open(file, O_RDWR | O_TRUNC);

    EXPECT(fd >= 0);
    write_text(fd, "new");
    return fd;
}

/* Returns the status of the file with this name, or of the symbolic link. */
static inline struct stat status_of(const char *name)
{
    struct stat status;

    EXPECT(lstat(name, &status) == 0);
    return status;
}

/* Waits for a child that must exit with this status. */
static inline void expect_exit(pid_t child, int expected)
{
    int status;

    EXPECT(child > 0);
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

/* Splits a path for the *at calls: returns a descriptor of the directory, to be closed, or
 * AT_FDCWD, and the name. */
static inline int split(const char *path, const char **name)
{
    const char *slash = path != (const char *)1 ? strrchr(path, '/') : NULL;
    char directory[PATH_MAX];

    *name = path;
    if (slash == NULL || slash == path || strlen(path) >= PATH_MAX)
        return AT_FDCWD;
    (void)snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    *name = slash + 1;
    return open(directory, O_RDONLY | O_DIRECTORY);
}

/* Returns the number that the next open must give. */
static inline int lowest_free(void)
{
    int fd = dup(0);

    EXPECT(fd >= 0 && close(fd) == 0);
    return fd;
}

/* True under the shim: then no reader sees the writes before the commit. */
static inline bool is_wrapped(void)
{
    return getenv("ATOMSHIM_PATHS") != NULL;
}

/* True without the shim on tmpfs, whose regular files have what only memory has elsewhere: seals
 * (fcntl(2)), and bytes behind the end of a mapped file that show when it grows. */
static inline bool is_bare_tmpfs(const char *file)
{
    struct statfs status;

    EXPECT(statfs(file, &status) == 0);
    return !is_wrapped() && status.f_type == TMPFS_MAGIC;
}

static inline int run_case(const struct test_case *cases, int argc, char *argv[])
{
    for (; cases->name != NULL; cases++)
        if (argc < 3)
            (void)puts(cases->name);
        else if (strcmp(cases->name, argv[1]) == 0) {
            cases->run(argv[2]);
            return 0;
        }
    return argc < 3 ? 0 : 2;
}

#endif
