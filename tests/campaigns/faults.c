/*
 * Each system call that a program makes under the shim, from its open to its close, fails once, and
 * for ever, with each errno that it can return.
 *
 *   faults ci|full                             lists the scenarios
 *   faults LIBRARY FOLDER SCENARIO ci|full
 *   faults --run LIBRARY FOLDER OPERATION BYTES [LIMIT [ignore]]
 *
 * FOLDER holds the folders managed and rescue. The second runs this program's own --victim, an
 * ordinary program that knows nothing of the shim, under strace: once to list the calls between its
 * two getppid(), then once for each of them and each errno. After each run:
 *
 *   - no crash, no hang; the file holds the old image or the new one (I5), in the same inode (I3);
 *     the old one if a commit failed once
 *   - the program got an error, unless the new image is there (I7); a reader got the image or an
 *     error
 *   - no descriptor and no memory is left over; the rescue file is complete if a commit failed; the
 *     next commit works
 *
 * The third does the same for one run of the victim without strace, on the file managed/file, in
 * the conditions that the caller made (a full disk, a quota), or with RLIMIT_FSIZE; it prints the
 * victim's end.
 */
#include "format/crc32c.h"
#include "os/scratch.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the victim ---- */

enum outcome {
    TOLD = 1,           /* a call failed */
    TOLD_BY_COMMIT = 2, /* and the first was one that commits */
    LEAKED = 4,
    MISREAD = 8, /* the bytes read differ from the bytes written */
    LOST_MEMORY = 16,
};

/* The shim keeps KEPT chunks of scratch memory (os/scratch.c), and may have taken none yet. */
enum { LETTER_OLD = 'o', LETTER_NEW = 'n', LETTER_NEXT = 'x', PIECE = 100000, KEPT = 4 };

static int outcome;
static int first_error;

/* Notes that a call failed. */
static bool failed(bool failure, bool commits)
{
    if (failure) {
        if (!(outcome & TOLD)) {
            first_error = errno;
            outcome |= TOLD | (commits ? TOLD_BY_COMMIT : 0);
        }
    }
    return failure;
}

static int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    if (directory == NULL)
        return -1;
    while (readdir(directory) != NULL)
        count++;
    (void)closedir(directory);
    return count;
}

/* Returns the bytes of address space; 0 if unknown. */
static unsigned long count_memory(void)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY);

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof text - 1) <= 0)
        *text = '\0';
    (void)close(fd);
    return strtoul(text, NULL, 10) * (unsigned long)sysconf(_SC_PAGESIZE);
}

static char *letters(char letter, size_t size)
{
    char *bytes = malloc(size != 0 ? size : 1);

    if (bytes == NULL)
        _exit(127);
    memset(bytes, letter, size);
    return bytes;
}

/* The commit carries a time that the program has seen, however fast it is: every run makes the same
 * calls (session_has_right_times()). */
static void see_time(int fd)
{
    struct stat status;

    (void)failed(fstat(fd, &status) != 0, false);
}

/* Closes the file even after a failure, as programs do. */
static void write_and_close(int fd, char letter, size_t size, bool sync)
{
    char *bytes = letters(letter, size);
    ssize_t n = 0;

    for (size_t done = 0; n >= 0 && done < size; done += (size_t)n)
        n = write(fd, bytes + done, size - done < PIECE ? size - done : PIECE);
    (void)failed(n < 0, false);
    see_time(fd);
    if (n >= 0 && sync)
        (void)failed(fsync(fd) != 0, true);
    (void)failed(close(fd) != 0, true);
    free(bytes);
}

static void overwrite(const char *file, char letter, size_t size, int flags, bool sync)
{
    int fd = open(file, O_WRONLY | flags, 0600);

    if (!failed(fd < 0, false))
        write_and_close(fd, letter, size, sync);
}

/* Without O_TRUNC: all bytes are replaced. */
static void update(const char *file, char letter, size_t size)
{
    int fd = open(file, O_RDWR);
    char *bytes = letters(letter, size);
    char found = LETTER_OLD;

    if (!failed(fd < 0, false)) {
        if (!failed(pread(fd, &found, 1, 0) != 1, false) && found != LETTER_OLD)
            outcome |= MISREAD;
        (void)failed(pwrite(fd, bytes, size, 0) != (ssize_t)size, false);
        see_time(fd);
        (void)failed(close(fd) != 0, true);
    }
    free(bytes);
}

static void write_stream(const char *file, char letter, size_t size)
{
    FILE *stream = fopen(file, "w");
    char *bytes = letters(letter, size);
    bool written;

    if (!failed(stream == NULL, false)) {
        written = fwrite(bytes, 1, size, stream) == size && fflush(stream) == 0;
        (void)failed(!written, false);
        see_time(fileno(stream));
        (void)failed(fclose(stream) != 0, written);
    }
    free(bytes);
}

static void read_all(const char *file, size_t size)
{
    char *bytes = malloc(size + 2);
    char *wanted = letters(LETTER_OLD, size);
    int fd = open(file, O_RDONLY);
    ssize_t n = 1;
    size_t done = 0;

    if (!failed(fd < 0, false)) {
        for (; n > 0 && done <= size; done += n > 0 ? (size_t)n : 0)
            n = read(fd, bytes + done, size + 1 - done);
        if (!failed(n < 0, false) && (done != size || memcmp(bytes, wanted, size) != 0))
            outcome |= MISREAD;
        (void)failed(close(fd) != 0, false);
    }
    free(bytes);
    free(wanted);
}

/* Another process appends between our open and our close. */
static int begin_merge(const char *file)
{
    int fd = open(file, O_WRONLY | O_APPEND);
    int other = open(file, O_WRONLY | O_APPEND);

    if (fd < 0 || other < 0 || write(other, "m", 1) != 1 || close(other) != 0)
        _exit(127);
    return fd;
}

static void operate(const char *operation, const char *file, char letter, size_t size, int merging)
{
    if (strcmp(operation, "overwrite") == 0)
        overwrite(file, letter, size, O_TRUNC, false);
    else if (strcmp(operation, "create") == 0)
        overwrite(file, letter, size, O_TRUNC | O_CREAT, false);
    else if (strcmp(operation, "fsync") == 0)
        overwrite(file, letter, size, O_TRUNC, true);
    else if (strcmp(operation, "append") == 0)
        overwrite(file, letter, size, O_APPEND, false);
    else if (strcmp(operation, "merge") == 0)
        write_and_close(merging, letter, size, false);
    else if (strcmp(operation, "update") == 0)
        update(file, letter, size);
    else if (strcmp(operation, "stream") == 0)
        write_stream(file, letter, size);
    else if (strcmp(operation, "truncate") == 0)
        /* its open may have failed: nothing to save then */
        (void)failed(truncate(file, (off_t)size) != 0, false);
    else if (strcmp(operation, "read") == 0)
        read_all(file, size);
    else
        _exit(127);
}

/* Makes the shim fill its spare buffers (scratch.h), so that each lost one shows as a new
 * mapping. */
static void fill_kept_buffers(const char *file)
{
    int kept = outcome;

    overwrite(file, LETTER_NEXT, 1, O_TRUNC | O_CREAT, false);
    outcome = kept;
}

/*
 * --victim OPERATION FILE LETTER SIZE SPARE-FILE [LIMIT [ignore]]: the last two for RLIMIT_FSIZE
 * and SIGXFSZ
 */
static _Noreturn void victim(int argc, char *argv[])
{
    int merging = strcmp(argv[2], "merge") == 0 ? begin_merge(argv[3]) : -1;
    /* the shim keeps the buffer of the file that was read last (session/snapshot.c) */
    int before = count_descriptors() + (strcmp(argv[2], "read") == 0);
    unsigned long memory = count_memory();
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    int after;

    if (argc > 7) {
        limit.rlim_cur = strtoul(argv[7], NULL, 10);
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        (void)signal(SIGXFSZ, argc > 8 ? SIG_IGN : SIG_DFL);
    }
    (void)getppid();
    operate(argv[2], argv[3], *argv[4], strtoul(argv[5], NULL, 10), merging);
    (void)getppid();
    after = count_descriptors();
    if (before > 0 && after > before - (merging >= 0))
        outcome |= LEAKED;
    limit.rlim_cur = RLIM_INFINITY;
    (void)setrlimit(RLIMIT_FSIZE, &limit);
    fill_kept_buffers(argv[6]);
    if (count_memory() > memory + KEPT * SCRATCH_CHUNK)
        outcome |= LOST_MEMORY;
    if (outcome & TOLD)
        (void)dprintf(STDOUT_FILENO, "%s\n", strerrorname_np(first_error));
    _exit(outcome);
}

/* ---- scenarios ---- */

enum state { ABSENT, PLAIN, HEAD_LIVE, TWIN_LIVE };

static const struct scenario {
    const char *name;
    const char *operation;
    long state; /* enum state */
    size_t old_size, size;
    const char *settings[3]; /* more environment */
    long slow;               /* at full size only */
} scenarios[] = {
    {"overwrite the head place", "overwrite", TWIN_LIVE, 300, 400, {NULL}, false},
    {"overwrite the twin place", "overwrite", HEAD_LIVE, 300, 5000, {NULL}, true},
    {"first commit", "overwrite", PLAIN, 300, 5000, {NULL}, false},
    {"create", "create", ABSENT, 0, 300, {NULL}, true},
    {"relocation, 3 MiB", "overwrite", TWIN_LIVE, 300, 3 << 20, {NULL}, true},
    {"update without O_TRUNC", "update", HEAD_LIVE, 300, 300, {NULL}, false},
    {"write, fsync, close", "fsync", TWIN_LIVE, 300, 400, {NULL}, true},
    {"append", "append", HEAD_LIVE, 300, 100, {NULL}, true},
    {"append, merged", "merge", TWIN_LIVE, 300, 100, {NULL}, true},
    {"fopen, fwrite, fclose", "stream", HEAD_LIVE, 300, 400, {NULL}, true},
    {"truncate()", "truncate", TWIN_LIVE, 300, 100, {NULL}, true},
    {"without sync", "overwrite", TWIN_LIVE, 300, 400, {"ATOMSHIM_SYNC=0"}, true},
    {"locked from open to close", "update", TWIN_LIVE, 300, 300, {"ATOMSHIM_ISOLATION=session"}, true},
    {"plain format, growing", "overwrite", PLAIN, 300, 9000, {"ATOMSHIM_FORMAT=plain"}, true},
    {"read", "read", HEAD_LIVE, 5000, 5000, {NULL}, false},
    {"read a plain file", "read", PLAIN, 5000, 5000, {NULL}, true},
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0], CALLS_MAX = 512, ERRORS_MAX = 12 };

/* The errnos that a call can return, as the shim uses it. None: it cannot fail with valid
 * arguments. */
static const struct possible {
    const char *call;
    const char *errors[ERRORS_MAX];
} possible[] = {
    {"openat", {"EMFILE", "ENFILE", "ENOMEM", "EACCES", "EINTR", "EIO", "ENOSPC", "EDQUOT", "EROFS"}},
    {"open", {"EMFILE", "ENFILE", "ENOMEM", "EACCES", "EINTR", "EIO", "ENOSPC", "EDQUOT", "EROFS"}},
    {"newfstatat", {"EIO", "ENOMEM", "EACCES"}},
    {"fstat", {"EIO", "ENOMEM"}},
    {"fstatfs", {"EIO", "ENOMEM", "EINTR"}},
    {"uname", {"EPERM"}},
    {"readlinkat", {"EIO", "ENOMEM", "EACCES"}},
    {"read", {"EIO", "EINTR", "ENOMEM", "EAGAIN"}},
    {"pread64", {"EIO", "EINTR", "ENOMEM", "EAGAIN"}},
    {"write", {"EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR", "ENOMEM"}},
    {"pwrite64", {"EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR", "ENOMEM"}},
    {"pwritev", {"EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR", "ENOMEM"}},
    {"fdatasync", {"EIO", "ENOSPC", "EDQUOT", "EINTR", "EROFS"}},
    {"fsync", {"EIO", "ENOSPC", "EDQUOT", "EINTR", "EROFS"}},
    {"ftruncate", {"EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR"}},
    {"fallocate", {"EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR", "EOPNOTSUPP", "ENOSYS"}},
    {"fcntl", {"EAGAIN", "EINTR", "ENOLCK", "ENOMEM", "EMFILE", "EINVAL"}},
    {"flock", {"EINTR", "ENOLCK", "EAGAIN", "EOPNOTSUPP"}},
    {"fgetxattr", {"EOPNOTSUPP", "EIO", "ENOMEM"}},
    {"fsetxattr", {"EOPNOTSUPP", "ENOSPC", "EDQUOT", "EPERM", "EIO", "ENOMEM", "EINTR"}},
    {"fremovexattr", {"ENODATA", "EIO", "ENOSPC", "EPERM"}},
    {"memfd_create", {"EMFILE", "ENFILE", "ENOMEM", "EINVAL", "ENOSYS"}},
    {"mmap", {"ENOMEM", "EAGAIN", "ENFILE"}},
    {"munmap", {"ENOMEM"}},
    {"madvise", {"ENOMEM", "EINVAL"}},
    {"brk", {"ENOMEM"}},
    {"close", {"EIO", "EINTR", "ENOSPC", "EDQUOT"}},
    {"close_range", {"ENOSYS"}}, /* before Linux 5.9 */
    {"utimensat", {"EIO", "EPERM", "EACCES", "EROFS", "ENOSPC"}},
    {"getdents64", {"EIO", "ENOENT"}},
    {"ppoll", {"EINTR", "ENOMEM"}},
    {"fchmod", {"EIO", "EPERM", "EROFS"}},
    {"statx", {"EIO", "ENOMEM", "EACCES"}},
    {"clone", {"EAGAIN", "ENOMEM"}},
    {"dup3", {"EMFILE", "EINTR"}},
    {"prlimit64", {"EPERM"}},
    /*
     * SEEK_SET and SEEK_CUR inside a regular file; the process's own numbers, users, masks and
     * clocks; children
     */
    {"lseek", {NULL}},
    {"getpid", {NULL}},
    {"gettid", {NULL}},
    {"getuid", {NULL}},
    {"geteuid", {NULL}},
    {"rt_sigprocmask", {NULL}},
    {"rt_sigpending", {NULL}},
    {"rt_sigtimedwait", {NULL}},
    {"clock_gettime", {NULL}},
    {"nanosleep", {NULL}},
    {"setsid", {NULL}},
    {"setpgid", {NULL}},
    {"wait4", {NULL}},
    {"exit", {NULL}},
    {"vfork", {NULL}},
};

/* A memfd takes these instead, where they differ. */
static const struct possible possible_in_memory[] = {
    {"fstat", {NULL}},
    {"fchmod", {NULL}},
    {"utimensat", {NULL}},
    {"read", {"ENOMEM", "EINTR"}},
    {"pread64", {"ENOMEM", "EINTR"}},
    {"write", {"ENOSPC", "ENOMEM", "EFBIG", "EINTR"}},
    {"pwrite64", {"ENOSPC", "ENOMEM", "EFBIG", "EINTR"}},
    {"ftruncate", {"ENOSPC", "ENOMEM", "EFBIG"}},
    {"fcntl", {"ENOMEM", "EMFILE", "EINVAL"}}, /* EAGAIN from F_SETLEASE is no failure */
    {"close", {NULL}},
};

/* ---- trials ---- */

enum problem {
    CRASHED,
    HUNG,
    TORN,
    COMMITTED,
    UNTOLD,
    WRONGLY_READ,
    LEAKING,
    GROWN,
    UNRESCUED,
    NEXT_FAILED,
    MOVED,
    UNREACHED,
    PROBLEMS
};

static const char *const problem_names[PROBLEMS] = {"crashed",
                                                    "hung",
                                                    "neither old nor new",
                                                    "new, though the commit failed",
                                                    "not told",
                                                    "wrong content read",
                                                    "leaked a descriptor",
                                                    "leaked memory",
                                                    "not rescued",
                                                    "next commit failed",
                                                    "another inode",
                                                    "not reached"};

struct call {
    char name[24];
    int number;           /* among the calls of that name, from the start of the process */
    bool memory;          /* on a descriptor of a memfd, which has no disk that fails */
    bool creates, writes; /* the call is an open */
};

struct trial {
    const struct call *call; /* NULL: none fails */
    const char *error;
    bool for_ever;
};

static struct {
    const char *library;
    const struct scenario *scenario;
    const char *operation;
    char self[256], file[256], spare[256], rescue[256], trace[256];
    char *content; /* the file's raw bytes at the start of a trial */
    size_t content_size;
    char *old, *new, *rescued; /* payloads */
    size_t old_size, new_size, rescued_size;
    bool quiet; /* no word from the victim */
    unsigned trials, violations, told, unharmed;
} campaign;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(2);
}

static char *read_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *bytes;

    if (fd < 0 || fstat(fd, &status) != 0)
        fail(path);
    *size = (size_t)status.st_size;
    bytes = malloc(*size + 1);
    if (bytes == NULL || read(fd, bytes, *size) != (ssize_t)*size)
        fail(path);
    bytes[*size] = '\0';
    (void)close(fd);
    return bytes;
}

/* Returns the payload, read by the engine; NULL if there is none. */
static char *load_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int memory = memfd_create("payload", MFD_CLOEXEC);
    struct store_image image;
    char *bytes = NULL;

    if (memory < 0)
        fail("memfd");
    if (fd >= 0 && store_load(fd, memory, (struct store_wait){.timeout = 1000000000}, &image) == 0) {
        *size = image.size;
        bytes = malloc(image.size + 1);
        if (bytes == NULL || pread(memory, bytes, image.size, 0) != (ssize_t)image.size)
            fail("payload");
    }
    if (fd >= 0)
        (void)close(fd);
    (void)close(memory);
    return bytes;
}

static void commit_payload(int fd, char letter, size_t size)
{
    char *bytes = letters(letter, size);
    struct store_payload payload = {bytes, size, crc32c_mixed(0, bytes, size)};

    if (store_commit(fd, &payload, true) != 0)
        fail("commit");
    free(bytes);
}

static void write_raw(const char *bytes, size_t size)
{
    int fd = open(campaign.file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || close(fd) != 0)
        fail(campaign.file);
}

static void prepare(void)
{
    const struct scenario *scenario = campaign.scenario;
    char *old = letters(LETTER_OLD, scenario->old_size);
    int fd;

    (void)unlink(campaign.file);
    if (scenario->state != ABSENT)
        write_raw(old, scenario->state == PLAIN ? scenario->old_size : 0);
    free(old);
    if (scenario->state == HEAD_LIVE || scenario->state == TWIN_LIVE) {
        fd = open(campaign.file, O_RDWR | O_CLOEXEC);
        if (scenario->state == HEAD_LIVE)
            commit_payload(fd, 'e', 10);
        commit_payload(fd, LETTER_OLD, scenario->old_size);
        (void)close(fd);
    }
    if (scenario->state != ABSENT)
        campaign.content = read_file(campaign.file, &campaign.content_size);
}

static void restore(void)
{
    if (campaign.scenario->state == ABSENT)
        (void)unlink(campaign.file);
    else
        write_raw(campaign.content, campaign.content_size);
}

/* Calls `visit` for each file in the rescue folder. */
static int for_each_rescued(int (*visit)(const char *path))
{
    DIR *directory = opendir(campaign.rescue);
    struct dirent *entry;
    int result = 0;
    char path[1024];

    if (directory == NULL)
        fail(campaign.rescue);
    while ((entry = readdir(directory)) != NULL)
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof path, "%s/%s", campaign.rescue, entry->d_name);
            result += visit(path);
        }
    (void)closedir(directory);
    return result;
}

static int is_rescued(const char *path)
{
    size_t size;
    char *bytes = read_file(path, &size);
    bool same = size == campaign.rescued_size && memcmp(bytes, campaign.rescued, size) == 0;

    free(bytes);
    return same;
}

/* Waits for the end of a child; false if it does not come. */
static bool await(pid_t child, int *status)
{
    sigset_t set;
    const struct timespec limit = {60, 0};

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    for (;;) {
        pid_t ended = waitpid(child, status, WNOHANG);

        if (ended == child)
            return true;
        if (sigtimedwait(&set, NULL, &limit) < 0 && errno == EAGAIN)
            break;
    }
    (void)kill(-child, SIGKILL);
    (void)waitpid(child, status, 0);
    return false;
}

enum { ARGUMENTS_MAX = 48, TEXT_MAX = 512 };

struct arguments {
    const char *list[ARGUMENTS_MAX];
    char text[ARGUMENTS_MAX][TEXT_MAX];
    int count;
};

__attribute__((format(printf, 2, 3))) static void add(struct arguments *arguments, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    (void)vsnprintf(arguments->text[arguments->count], TEXT_MAX, format, values);
    va_end(values);
    arguments->list[arguments->count] = arguments->text[arguments->count];
    arguments->count++;
}

/* The settings of the shim, each behind `option` if there is one. */
static void add_settings(struct arguments *arguments, const char *option, const char *const *settings)
{
    const char *all[] = {"LD_PRELOAD=", "ATOMSHIM_PATHS=", "ATOMSHIM_RESCUE_DIR=", "ATOMSHIM_LOG_FILE="};
    char paths[TEXT_MAX];
    const char *values[] = {campaign.library, paths, campaign.rescue, "/dev/null"};

    (void)snprintf(paths, sizeof paths, "%s:%s", campaign.file, campaign.spare);

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (option != NULL)
            add(arguments, "%s", option);
        add(arguments, "%s%s", all[i], values[i]);
    }
    if (option != NULL)
        add(arguments, "%s", option);
    add(arguments, "ATOMSHIM_LOCK_TIMEOUT=0.2");
    for (; settings != NULL && *settings != NULL; settings++) {
        if (option != NULL)
            add(arguments, "%s", option);
        add(arguments, "%s", *settings);
    }
}

static bool run_victim(const struct arguments *arguments, int *status)
{
    pid_t child = fork();

    if (child == 0) {
        sigset_t none;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)setpgid(0, 0);
        if (campaign.quiet)
            (void)dup2(null, STDOUT_FILENO);
        (void)execvp(arguments->list[0], (char *const *)arguments->list);
        _exit(127);
    }
    if (child < 0)
        fail("fork");
    return await(child, status);
}

static void add_victim(struct arguments *arguments, const char *operation, char letter, size_t size)
{
    add(arguments, "%s", campaign.self);
    add(arguments, "--victim");
    add(arguments, "%s", operation);
    add(arguments, "%s", campaign.file);
    add(arguments, "%c", letter);
    add(arguments, "%zu", size);
    add(arguments, "%s", campaign.spare);
}

/* Runs the victim under strace, which traces all calls if none fails. */
static bool run_traced(const struct trial *trial, int *status)
{
    const struct scenario *scenario = campaign.scenario;
    struct arguments arguments = {.count = 0};

    add(&arguments, "strace");
    add(&arguments, "-f");
    add(&arguments, "-o");
    add(&arguments, "%s", campaign.trace);
    if (trial->call == NULL) {
        add(&arguments, "-y");
    } else {
        /* no --seccomp-bpf: where a filter is in force the shim does without memfd_create() */
        add(&arguments, "--trace=%s", trial->call->name);
        add(&arguments, "--inject=%s:error=%s:when=%d%s", trial->call->name, trial->error,
            trial->call->number, trial->for_ever ? "+" : "");
    }
    add_settings(&arguments, "-E", scenario->settings);
    add_victim(&arguments, scenario->operation, LETTER_NEW, scenario->size);
    return run_victim(&arguments, status);
}

/* ---- what must hold afterwards ---- */

static bool same(const char *bytes, size_t size, const char *wanted, size_t wanted_size)
{
    return bytes != NULL && size == wanted_size && memcmp(bytes, wanted, size) == 0;
}

static bool is_prefix(const char *bytes, size_t size)
{
    return bytes != NULL && size <= campaign.new_size && memcmp(bytes, campaign.new, size) == 0;
}

static bool is_absent(void)
{
    struct stat status;

    return stat(campaign.file, &status) != 0;
}

/* True if the only commit, the last one, failed: then the old image must stay. A truncate() is one
 * commit as a whole. */
static bool is_final(int told)
{
    const char *operation = campaign.operation;

    if (strcmp(operation, "truncate") == 0)
        return told & TOLD;
    /* the close commits once more */
    return (told & TOLD_BY_COMMIT) && strcmp(operation, "fsync") != 0;
}

/* Returns the problems of a victim that ended with `status`, as bits. */
static unsigned check_victim(int status, bool once)
{
    unsigned problems = 0;
    int told = WIFEXITED(status) ? WEXITSTATUS(status) : TOLD;
    size_t size = 0;
    char *now = load_file(campaign.file, &size);
    bool is_old = same(now, size, campaign.old, campaign.old_size) || (campaign.old == NULL && is_absent());
    bool new = same(now, size, campaign.new, campaign.new_size);
    /* created, and not committed yet */
    bool empty = campaign.old == NULL && now != NULL && size == 0;

    if (!WIFEXITED(status) || told >= 2 * LOST_MEMORY)
        return 1u << CRASHED;
    /*
     * a program whose write fails, and that closes all the same, has committed what it has written
     */
    if (!is_old && !new && !empty && !((told & TOLD) && !(told & TOLD_BY_COMMIT) && is_prefix(now, size)))
        problems |= 1u << TORN;
    if (!is_old && new &&once && is_final(told))
        problems |= 1u << COMMITTED;
    if (!new && !(told & TOLD))
        problems |= 1u << UNTOLD;
    if (told & MISREAD)
        problems |= 1u << WRONGLY_READ;
    if ((told & LEAKED) && once)
        problems |= 1u << LEAKING;
    if ((told & LOST_MEMORY) && once)
        problems |= 1u << GROWN;
    if ((told & TOLD_BY_COMMIT) && !new &&once && for_each_rescued(is_rescued) == 0)
        problems |= 1u << UNRESCUED;
    campaign.told += (told & TOLD) != 0;
    campaign.unharmed += new;
    free(now);
    return problems;
}

static bool next_commit_works(void)
{
    struct arguments arguments = {.count = 0};
    char *wanted = letters(LETTER_NEXT, 77);
    size_t size = 0;
    char *now;
    int status;
    bool good;

    add(&arguments, "env");
    add_settings(&arguments, NULL, NULL);
    add_victim(&arguments, "create", LETTER_NEXT, 77);
    good = run_victim(&arguments, &status) && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    now = load_file(campaign.file, &size);
    good = good && same(now, size, wanted, 77);
    free(now);
    free(wanted);
    return good;
}

static bool was_reached(void)
{
    size_t size;
    char *trace = read_file(campaign.trace, &size);
    bool reached = strstr(trace, "(INJECTED)") != NULL;

    free(trace);
    return reached;
}

static void report(const struct trial *trial, unsigned problems)
{
    campaign.trials++;
    campaign.violations += problems != 0;
    for (int i = 0; i < PROBLEMS; i++)
        if (problems & 1u << i)
            printf("  %s: %s, call %d, %s%s: %s\n", campaign.scenario->name, trial->call->name,
                   trial->call->number, trial->error, trial->for_ever ? " for ever" : "", problem_names[i]);
}

static int remove_rescued(const char *path)
{
    return unlink(path);
}

static void try_trial(const struct trial *trial)
{
    /* a close that strace makes fail did not close */
    bool once = !trial->for_ever && strcmp(trial->call->name, "close") != 0;
    bool reads = strcmp(campaign.scenario->operation, "read") == 0;
    struct stat before = {0};
    struct stat after = {0};
    unsigned problems;
    int status;

    restore();
    (void)for_each_rescued(remove_rescued);
    (void)stat(campaign.file, &before);
    if (!run_traced(trial, &status)) {
        report(trial, 1u << HUNG);
        return;
    }
    problems = check_victim(status, once);
    if (reads)
        problems &= ~(1u << UNTOLD);
    if (strcmp(trial->call->name, "munmap") == 0) /* a mapping that was not unmapped */
        problems &= ~(1u << GROWN);
    /* the plain format has overwritten the old bytes before its flush */
    if (campaign.scenario->settings[0] != NULL &&
        strcmp(campaign.scenario->settings[0], "ATOMSHIM_FORMAT=plain") == 0 &&
        strcmp(trial->call->name, "fdatasync") == 0)
        problems &= ~(1u << COMMITTED);
    (void)stat(campaign.file, &after);
    if (campaign.scenario->state != ABSENT && (before.st_ino != after.st_ino || after.st_nlink != 1))
        problems |= 1u << MOVED;
    if (!was_reached())
        problems |= 1u << UNREACHED;
    if (!next_commit_works())
        problems |= 1u << NEXT_FAILED;
    report(trial, problems);
}

/* ---- the list of calls ---- */

static int count_calls(const struct call *calls, int count, const char *name)
{
    int found = 0;

    for (int i = 0; i < count; i++)
        found += strcmp(calls[i].name, name) == 0;
    return found;
}

/*
 * Reads a trace: "PID name(arguments) = result" a line. Returns the calls between the two
 * getppid().
 */
static int find_calls(struct call *found)
{
    static struct call all[4 * CALLS_MAX];
    size_t size;
    char *trace = read_file(campaign.trace, &size);
    char *rest = trace;
    int count = 0;
    int found_count = 0;
    int marks = 0;

    for (char *line; (line = strsep(&rest, "\n")) != NULL && count < 4 * CALLS_MAX;) {
        char *name = line + strspn(line, "0123456789 ");
        char *end = strchr(name, '(');

        if (end == NULL || end - name >= (long)sizeof all[0].name || *name == '<' || *name == '+')
            continue; /* "<... name resumed>", "+++ exited +++" */
        (void)snprintf(all[count].name, sizeof all[0].name, "%.*s", (int)(end - name), name);
        end += 1 + strspn(end + 1, "0123456789");
        all[count].memory = strncmp(end, "</memfd:", 8) == 0;
        all[count].creates = strstr(end, "O_CREAT") != NULL;
        all[count].writes = strstr(end, "O_WRONLY") != NULL || strstr(end, "O_RDWR") != NULL;
        all[count].number = count_calls(all, count, all[count].name) + 1;
        if (strcmp(all[count].name, "getppid") == 0)
            marks++;
        else if (strstr(end, "F_SETLEASE, F_UNLCK") != NULL)
            ; /* the holder of a lease can give it back */
        else if (marks == 1 && found_count < CALLS_MAX)
            found[found_count++] = all[count];
        count++;
    }
    free(trace);
    return marks == 2 ? found_count : 0;
}

static const struct possible *find_possible(const struct possible *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].call, name) == 0)
            return &list[i];
    return NULL;
}

static const char *const *errors_of(const struct call *call)
{
    const struct possible *found = NULL;

    if (call->memory)
        found = find_possible(possible_in_memory, sizeof possible_in_memory / sizeof possible_in_memory[0],
                              call->name);
    if (found == NULL)
        found = find_possible(possible, sizeof possible / sizeof possible[0], call->name);
    return found != NULL ? found->errors : NULL;
}

/* Checks that the first, undisturbed run left the new content. */
static void learn(void)
{
    size_t size = 0;
    int status;

    restore();
    if (campaign.scenario->state != ABSENT)
        campaign.old = load_file(campaign.file, &campaign.old_size);
    if (!run_traced(&(struct trial){.call = NULL}, &status) || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0) {
        (void)fprintf(stderr, "%s: the undisturbed run failed\n", campaign.scenario->name);
        exit(2);
    }
    campaign.new = load_file(campaign.file, &size);
    campaign.new_size = size;
    campaign.rescued = campaign.new;
    campaign.rescued_size = size;
    if (strcmp(campaign.scenario->operation, "merge") == 0) {
        /* the other process began anew, and left the old content */
        campaign.old = letters(LETTER_OLD, campaign.new_size - campaign.scenario->size);
        campaign.old_size = campaign.new_size - campaign.scenario->size;
        campaign.old[campaign.old_size - 1] = 'm';
        /* the shim saves what this program had in hand */
        campaign.rescued_size = size - 1;
        campaign.rescued = letters(LETTER_OLD, campaign.rescued_size);
        memset(campaign.rescued + campaign.old_size - 1, LETTER_NEW, campaign.scenario->size);
    }
}

/* The kernel's answer to these is permanent: they fail for ever, not once. */
static bool is_lasting(const char *error)
{
    static const char *const names[] = {"EACCES", "EROFS", "EPERM", "ENOSYS", "EOPNOTSUPP"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], error) == 0)
            return true;
    return false;
}

/* Only an open that creates needs room, and only one that writes fails on a read-only disk. */
static bool is_possible(const struct call *call, const char *error)
{
    if (strcmp(call->name, "open") != 0 && strcmp(call->name, "openat") != 0)
        return true;
    if (strcmp(error, "ENOSPC") == 0 || strcmp(error, "EDQUOT") == 0)
        return call->creates;
    return strcmp(error, "EROFS") != 0 || call->creates || call->writes;
}

/* At least 1. */
static int count_errors(const char *const *errors)
{
    int count = 1;

    while (count < ERRORS_MAX && errors[count] != NULL)
        count++;
    return count;
}

/*
 * Tells whether calls[i] and all calls of its name after it may fail with this error. fcntl is many
 * calls under one name: they do not fail together; signals come to an end; and the kernel closes a
 * descriptor whatever close(2) returns, strace does not. strace would also fail the calls on a
 * memfd, some of which never fail.
 */
static bool may_last(const struct call *calls, int count, int i, const char *error)
{
    const char *name = calls[i].name;

    if (strcmp(name, "fcntl") == 0 || strcmp(name, "close") == 0 || strcmp(error, "EINTR") == 0)
        return false;
    for (int later = i + 1; later < count; later++) {
        const char *const *errors = strcmp(calls[later].name, name) == 0 ? errors_of(&calls[later]) : NULL;

        if (errors != NULL && errors[0] == NULL)
            return false;
    }
    return true;
}

static void inject(bool full)
{
    static struct call calls[CALLS_MAX];
    int count = find_calls(calls);

    for (int i = 0; i < count; i++) {
        const char *const *errors = errors_of(&calls[i]);

        if (errors == NULL) {
            printf("  %s: %s: no errno is known for this call\n", campaign.scenario->name, calls[i].name);
            campaign.violations++;
            continue;
        }
        for (int e = 0; e < ERRORS_MAX && errors[e] != NULL; e++) {
            /* at CI size one errno for each call, another one for the next */
            if (!full && e != i % count_errors(errors))
                continue;
            if (!is_possible(&calls[i], errors[e]))
                continue;
            if (!is_lasting(errors[e]))
                try_trial(&(struct trial){&calls[i], errors[e], false});
            if (is_lasting(errors[e]) || (full && may_last(calls, count, i, errors[e])))
                try_trial(&(struct trial){&calls[i], errors[e], true});
        }
    }
}

static void set_names(const char *library, const char *folder)
{
    ssize_t n = readlink("/proc/self/exe", campaign.self, sizeof campaign.self - 1);

    if (n <= 0)
        fail("/proc/self/exe");
    campaign.library = library;
    (void)snprintf(campaign.file, sizeof campaign.file, "%s/managed/file", folder);
    (void)snprintf(campaign.spare, sizeof campaign.spare, "%s/spare", folder);
    (void)snprintf(campaign.rescue, sizeof campaign.rescue, "%s/rescue", folder);
    (void)snprintf(campaign.trace, sizeof campaign.trace, "%s/trace", folder);
}

static int run_scenario(const char *name, bool full)
{
    for (int i = 0; i < SCENARIOS; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            campaign.scenario = &scenarios[i];
    if (campaign.scenario == NULL)
        return 2;
    campaign.operation = campaign.scenario->operation;
    campaign.quiet = true;
    prepare();
    learn();
    inject(full);
    printf("%u trials, %u violations, %u told, %u new\n", campaign.trials, campaign.violations, campaign.told,
           campaign.unharmed);
    return campaign.violations != 0;
}

/* --run LIBRARY FOLDER OPERATION BYTES [LIMIT [ignore]] */
static int run_once(int argc, char *argv[])
{
    static const struct scenario here = {.name = "here"};
    struct arguments arguments = {.count = 0};
    unsigned problems = 1u << HUNG;
    int status;

    campaign.scenario = &here;
    campaign.operation = argv[4];
    campaign.old = load_file(campaign.file, &campaign.old_size);
    campaign.new_size = strtoul(argv[5], NULL, 10);
    campaign.new = letters(LETTER_NEW, campaign.new_size + campaign.old_size);
    if (strcmp(argv[4], "append") == 0) {
        campaign.new_size += campaign.old_size;
        if (campaign.old != NULL)
            memcpy(campaign.new, campaign.old, campaign.old_size);
    }
    campaign.rescued = campaign.new;
    campaign.rescued_size = campaign.new_size;
    (void)for_each_rescued(remove_rescued);
    add(&arguments, "env");
    add_settings(&arguments, NULL, NULL);
    add_victim(&arguments, argv[4], LETTER_NEW, strtoul(argv[5], NULL, 10));
    for (int i = 6; i < argc; i++)
        add(&arguments, "%s", argv[i]);
    if (run_victim(&arguments, &status)) {
        /* the kernel's own report */
        bool signalled = WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ;

        problems = check_victim(signalled ? TOLD << 8 : status, true);
        printf("%s%s",
               signalled                                       ? "SIGXFSZ"
               : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "ok"
                                                               : "error",
               problems == 0 ? "" : ":");
    }
    for (int i = 0; i < PROBLEMS; i++)
        if (problems & 1u << i)
            printf(" %s", problem_names[i]);
    (void)putchar('\n');
    return problems != 0;
}

int main(int argc, char *argv[])
{
    sigset_t set;

    if (argc >= 7 && strcmp(argv[1], "--victim") == 0)
        victim(argc, argv);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 6 && strcmp(argv[1], "--run") == 0) {
        set_names(argv[2], argv[3]);
        return run_once(argc, argv);
    }
    if (argc == 5) {
        set_names(argv[1], argv[2]);
        return run_scenario(argv[3], strcmp(argv[4], "full") == 0);
    }
    if (argc != 2) {
        (void)fprintf(stderr, "usage: faults ci|full\n       faults LIBRARY FOLDER SCENARIO ci|full\n");
        return 2;
    }
    for (int i = 0; i < SCENARIOS; i++)
        if (!scenarios[i].slow || strcmp(argv[1], "full") == 0)
            (void)puts(scenarios[i].name);
    return 0;
}
