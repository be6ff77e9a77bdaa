/* The calls of interpose/stream.c. */
#include "expect.h"

#include <signal.h>
#include <sys/resource.h>

typedef FILE *stream_opener(const char *path, const char *mode);

static void check_modes(stream_opener *opener, const char *file)
{
    char line[64];
    int lowest = lowest_free();
    FILE *stream = opener(file, "w");

    EXPECT(stream != NULL && fileno(stream) == lowest);
    EXPECT(fputs("one\n", stream) >= 0 && fflush(stream) == 0);
    expect_content(file, is_wrapped() ? "old" : "one\n");
    EXPECT(fputs("two\n", stream) >= 0);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "one\ntwo\n");

    stream = opener(file, "re");
    EXPECT(stream != NULL && fcntl(fileno(stream), F_GETFD) == FD_CLOEXEC);
    EXPECT(fgets(line, sizeof line, stream) != NULL && strcmp(line, "one\n") == 0);
    EXPECT(ftell(stream) == 4);
    EXPECT(fputs("x", stream) == EOF);
    EXPECT(fclose(stream) == 0);

    stream = opener(file, "a");
    EXPECT(stream != NULL && fputs("three\n", stream) >= 0 && fclose(stream) == 0);
    expect_content(file, "one\ntwo\nthree\n");

    stream = opener(file, "r+");
    EXPECT(stream != NULL && fseek(stream, 4, SEEK_SET) == 0);
    EXPECT(fputs("TWO", stream) >= 0);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "one\nTWO\nthree\n");

    stream = opener(file, "a+");
    EXPECT(stream != NULL && fgets(line, sizeof line, stream) != NULL && strcmp(line, "one\n") == 0);
    EXPECT(fputs("four\n", stream) >= 0);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "one\nTWO\nthree\nfour\n");

    stream = opener(file, "w+");
    EXPECT(stream != NULL && fputs("again", stream) >= 0);
    rewind(stream);
    EXPECT(fgets(line, sizeof line, stream) != NULL && strcmp(line, "again") == 0);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "again");
}

static void check_errors(stream_opener *opener, const char *file)
{
    const char *new = sibling(file, ".new");
    FILE *stream;

    errno = 0;
    EXPECT(opener(file, "wx") == NULL && errno == EEXIST);
    EXPECT(opener(file, "?") == NULL && errno == EINVAL);
    EXPECT(opener(new, "r") == NULL && errno == ENOENT);
    EXPECT(opener("/", "w") == NULL && errno == EISDIR);
    stream = opener(new, "wx");
    EXPECT(stream != NULL && fputs("new", stream) >= 0 && fclose(stream) == 0);
    expect_content(new, "new");
    EXPECT(unlink(new) == 0);
    expect_content(file, "again");
}

static void test_fopen(const char *file)
{
    check_modes(fopen, file);
    check_errors(fopen, file);
}

static void test_fopen64(const char *file)
{
    check_modes(fopen64, file);
    check_errors(fopen64, file);
}

static void test_fdopen(const char *file)
{
    int fd = open(file, O_RDWR);
    FILE *stream = fdopen(fd, "r+");
    char line[8];

    EXPECT(stream != NULL && fileno(stream) == fd);
    EXPECT(fgets(line, sizeof line, stream) != NULL && strcmp(line, "old") == 0);
    rewind(stream);
    EXPECT(fputs("OLD and more", stream) >= 0);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "OLD and more");
    EXPECT(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    EXPECT(fdopen(fd, "r") == NULL && errno == EBADF);
    fd = open(file, O_RDONLY);
    EXPECT(fdopen(fd, "w") == NULL && errno == EINVAL);
    EXPECT(close(fd) == 0);
}

static void check_freopen(FILE *(*reopen)(const char *path, const char *mode, FILE *stream), const char *file)
{
    const char *second = sibling(file, ".second");
    int saved = dup(1);
    FILE *stream;

    EXPECT(reopen(file, "w", stdout) == stdout && fileno(stdout) == 1);
    EXPECT(printf("by printf") == 9);
    EXPECT(reopen(second, "w", stdout) == stdout && fileno(stdout) == 1);
    expect_content(file, "by printf");
    EXPECT(printf("second") == 6);
    EXPECT(fflush(stdout) == 0 && dup2(saved, 1) == 1);
    expect_content(second, "second");
    EXPECT(unlink(second) == 0);

    stream = open_stream(file, "r");
    EXPECT(reopen(NULL, "r+", stream) == stream || errno == EBADF);
    stream = open_stream(file, "r");
    EXPECT(reopen(sibling(file, ".none"), "r", stream) == NULL && errno == ENOENT);
    expect_content(file, "by printf");
}

static void test_freopen(const char *file)
{
    check_freopen(freopen, file);
}

static void test_freopen64(const char *file)
{
    check_freopen(freopen64, file);
}

/* Without a path freopen() changes the mode, and goes back to the start. */
static void test_freopen_mode(const char *file)
{
    char line[8];
    FILE *stream = open_stream(file, "r+");

    EXPECT(fputs("new", stream) >= 0);
    EXPECT(freopen(NULL, "r", stream) == stream && fgets(line, sizeof line, stream) != NULL);
    EXPECT(strcmp(line, "new") == 0 && fputs("x", stream) == EOF);
    EXPECT(fclose(stream) == 0);
    expect_content(file, "new");
    stream = open_stream(file, "r+");
    EXPECT(freopen(NULL, "a", stream) == stream && fputs("er", stream) >= 0 && fclose(stream) == 0);
    expect_content(file, "newer");
    stream = open_stream(file, "r");
    EXPECT(freopen(NULL, "r+", stream) == stream && fputs("N", stream) >= 0 && fclose(stream) == 0);
    expect_content(file, "Newer");
    stream = open_stream(file, "r");
    EXPECT(freopen(NULL, "?", stream) == NULL);
    expect_content(file, "Newer");
}

/* A file without a name is still recognized by its image. */
static void test_freopen_deleted(const char *file)
{
    const char *second = sibling(file, ".second");
    char line[8];
    FILE *stream = open_stream(second, "w");

    EXPECT(fputs("second", stream) >= 0 && fclose(stream) == 0);
    stream = open_stream(second, "r");
    EXPECT(unlink(second) == 0);
    EXPECT(freopen(NULL, "r+", stream) == stream && fgets(line, sizeof line, stream) != NULL);
    EXPECT(strcmp(line, "second") == 0 && fclose(stream) == 0);
    expect_content(file, "old");
}

/* What the C library refuses once the file is open. */
static void test_bad_character_set(const char *file)
{
    const char *new = sibling(file, ".new");
    FILE *stream = open_stream(file, "r");

    EXPECT(fopen(file, "r+,ccs=no-such-set") == NULL && errno == EINVAL);
    expect_content(file, "old");
    EXPECT(fopen(new, "w,ccs=no-such-set") == NULL && errno == EINVAL);
    EXPECT(unlink(new) == (is_wrapped() ? -1 : 0)); /* the shim takes back what it made */
    EXPECT(freopen(file, "r+,ccs=no-such-set", stream) == NULL && errno == EINVAL);
    stream = open_stream(file, "r");
    EXPECT(freopen(file, "wx", stream) == NULL && errno == EEXIST);
    expect_content(file, "old");
}

/* The stream is flushed before the last commit, though the shim's list of streams is full. */
static void test_many_streams(const char *file)
{
    pid_t child = fork();

    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);

        for (int i = 0; i < 4100; i++)
            EXPECT(fdopen(null, "w") != NULL);
        EXPECT(fputs("the last", open_stream(file, "w")) >= 0);
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "the last");
}

static void test_buffered_stderr(const char *file)
{
    static char buffer[64];
    pid_t child = fork();

    if (child == 0) {
        EXPECT(dup2(open(file, O_WRONLY | O_TRUNC), STDERR_FILENO) == STDERR_FILENO);
        EXPECT(setvbuf(stderr, buffer, _IOFBF, sizeof buffer) == 0 && fputs("by stderr", stderr) >= 0);
        exit(0);
    }
    expect_exit(child, 0);
    expect_content(file, "by stderr");
}

static void test_fclose(const char *file)
{
    FILE *stream = open_stream(file, "w");

    EXPECT(fputs("buffered", stream) >= 0);
    EXPECT(close(fileno(stream)) == 0);
    EXPECT(fclose(stream) == EOF && errno == EBADF);
    expect_content(file, "");
    stream = open_stream(file, "w");
    EXPECT(fputs("two descriptors", stream) >= 0);
    EXPECT(dup2(fileno(stream), 9) == 9);
    EXPECT(fclose(stream) == 0);
    expect_content(file, is_wrapped() ? "" : "two descriptors");
    EXPECT(close(9) == 0);
    expect_content(file, "two descriptors");
}

static void test_fcloseall(const char *file)
{
    const char *second = sibling(file, ".second");
    FILE *one = open_stream(file, "w");
    FILE *two = open_stream(second, "w");

    EXPECT(fputs("one", one) >= 0 && fputs("two", two) >= 0);
    EXPECT(fcloseall() == 0);
    expect_content(file, "one");
    expect_content(second, "two");
    EXPECT(unlink(second) == 0);
}

static void test_fcloseall_fails(const char *file)
{
    struct rlimit limit = {.rlim_cur = 200, .rlim_max = RLIM_INFINITY};
    FILE *stream = open_stream(file, "w");

    EXPECT(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && fputs("new", stream) >= 0);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    if (is_wrapped())
        EXPECT_ERROR(fcloseall(), EFBIG);
    else
        EXPECT(fcloseall() == 0);
    limit.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    expect_content(file, is_wrapped() ? "old" : "new");
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
        {"fopen", test_fopen},
        {"fopen64", test_fopen64},
        {"fdopen", test_fdopen},
        {"freopen", test_freopen},
        {"freopen64", test_freopen64},
        {"fclose", test_fclose},
        {"fcloseall", test_fcloseall},
        {"freopen_mode", test_freopen_mode},
        {"freopen_deleted", test_freopen_deleted},
        {"bad_character_set", test_bad_character_set},
        {"many_streams", test_many_streams},
        {"buffered_stderr", test_buffered_stderr},
        {"fcloseall_fails", test_fcloseall_fails},
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
