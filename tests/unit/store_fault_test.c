/*
 * Every system call of a commit, its lock's included, fails, is cut short, is interrupted, or is
 * the last one of a process that is killed: from every state that a commit may start from, in
 * both formats.
 */
#include "store_faults.h"

#include "store/filelock.h"
#include "store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* EXPORT makes a sized file plain. RECOVER ends a commit to a plain file that died. */
enum format { SIZED, PLAIN, EXPORT, RECOVER };

/* The ways in which the scenario's last commit ended. */
enum before { DONE, UNFLUSHED, DIED_AFTER_FOOTER, DIED_AFTER_IMAGE, CUT_OFF, BEFORES };

static const char *const before_names[] = {"", ", not flushed", ", after one that died at its footer",
                                           ", after one that died at its image",
                                           ", after a power cut that left no more of one than its size"};

/* The state in which a commit starts, and its content. */
static struct {
    const char *name;
    const char *more;
    enum format format;
    bool cut_to_plain; /* a commit that fails removes the remains of a dead one */
    struct bytes *file, *old, *next;
    struct note note;
} from;

static const char file_name[] = "store_fault_test.file";
static int work_file;
static long runs;

/* The reports of a child that may be killed. */
static struct told {
    int result;
    bool returned;
    struct note note; /* the work file's attribute, on any file system */
} * told;

static ssize_t get_note(int fd, const char *name, void *value, size_t size)
{
    (void)fd;
    (void)name;
    if (told->note.size == 0 || told->note.size > size)
        return told->note.size == 0 ? -ENODATA : -ERANGE;
    memcpy(value, told->note.data, told->note.size);
    return (ssize_t)told->note.size;
}

static int set_note(int fd, const char *name, const void *value, size_t size, int flags)
{
    (void)fd;
    (void)name;
    (void)flags;
    if (size > NOTE_MAX)
        return -ENOSPC;
    memcpy(told->note.data, value, size);
    told->note.size = size;
    return 0;
}

static int remove_note(int fd, const char *name)
{
    int error = told->note.size == 0 ? -ENODATA : 0;

    (void)fd;
    (void)name;
    told->note.size = 0;
    return error;
}

/* ---- one commit ---- */

/* Commits as the shim does, under the lock. */
static int commit_content(int fd, const struct bytes *bytes, bool sync)
{
    struct store_payload payload = payload_of(bytes->data, bytes->size);
    struct filelock lock;
    int result = filelock_acquire(&lock, fd, F_WRLCK, patient.timeout);

    if (result != 0)
        return result;
    if (from.format == EXPORT && bytes == from.next)
        result = store_export(fd, sync);
    else if (from.format == RECOVER && bytes == from.next)
        result = store_recover(fd, sync);
    else
        result = from.format == PLAIN || from.format == RECOVER ? store_commit_plain(fd, &payload, sync)
                                                                : store_commit(fd, &payload, sync);
    told->result = result;
    told->returned = true;
    filelock_release(&lock);
    return result;
}

/* Makes a commit in a process of its own, with the fault. Returns true if the process was
 * killed. */
static bool commit_in_child(enum fault_kind kind, enum call only, int at, const struct bytes *bytes,
                            bool sync)
{
    int status;
    pid_t child = fork();

    if (child < 0)
        abort();
    if (child == 0) { /* locks belong to the description: one of its own */
        int fd = open(file_name, O_RDWR);

        watch_calls();
        fault.process = setpgid(0, 0) == 0 ? -getpid() : getpid(); /* its whole group */
        fault.kind = kind;
        fault.only = only;
        fault.at = at;
        (void)commit_content(fd, bytes, sync);
        _exit(fd < 0);
    }
    if (waitpid(child, &status, 0) != child)
        abort();
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

/* ---- the states in which a commit starts ---- */

static void begin_scenario(const struct scenario *scenario, enum before before)
{
    from.name = scenario->name;
    from.more = before_names[before];
    from.format = SIZED;
    from.cut_to_plain = before == DIED_AFTER_FOOTER || before == CUT_OFF;
    from.file = new_bytes();
    from.old = make_content(LETTERS, 1, scenario->plain);
    from.next = make_content(LETTERS, 50, scenario->next);
    put_file(work_file, from.old);
    told->note.size = 0;
    for (int i = 0; i < scenario->commits; i++) {
        free(from.old);
        from.old = make_content(LETTERS, (unsigned)i + 2, scenario->sizes[i]);
        CHECK_EQUAL(commit_content(work_file, from.old, before != UNFLUSHED), 0);
    }
    if (before == DIED_AFTER_FOOTER || before == DIED_AFTER_IMAGE) {
        struct bytes *dead = make_content(LETTERS, 40, scenario->next + 20000);

        CHECK(commit_in_child(KILL_BEFORE, FDATASYNC, before == DIED_AFTER_FOOTER ? 1 : 2, dead, true));
        if (before == DIED_AFTER_IMAGE) {
            free(from.old);
            from.old = dead;
        } else
            free(dead);
        CHECK_EQUAL(look_at_file(work_file).adopted, before == DIED_AFTER_IMAGE);
        CHECK(look_at_file(work_file).twin != 0);
    }
    if (before == CUT_OFF) {
        static const char zeros[IMAGE_HEADER_SIZE];
        struct bytes *dead = make_content(LETTERS, 40, scenario->next + 20000);

        CHECK(commit_in_child(KILL_BEFORE, FDATASYNC, 1, dead, true));
        CHECK_EQUAL(pwrite(work_file, zeros, sizeof zeros, (off_t)(size_of(work_file) - sizeof zeros)),
                    sizeof zeros);
        CHECK(look_at_file(work_file).blank);
        free(dead);
    }
    CHECK(holds(work_file, from.old->data, from.old->size));
    get_file(work_file, from.file);
    from.note = told->note;
}

/* The commit of the next content to a plain file dies in its write. If that has more than one page
 * half of the sectors are the new ones. */
static void die_in_write(void)
{
    static struct bytes cut;
    struct filelock lock;

    from.format = PLAIN;
    CHECK(commit_in_child(KILL_BEFORE, PWRITEV, 1, from.next, true));
    from.format = RECOVER;
    /* its child, which a kill does not reach, ends the write */
    CHECK_EQUAL(filelock_acquire(&lock, work_file, F_WRLCK, patient.timeout), 0);
    filelock_release(&lock);
    if (from.next->size <= IMAGE_PAGE)
        return;
    cut.size = from.next->size / 2 / 512 * 512;
    memcpy(cut.data, from.next->data, cut.size);
    if (from.old->size > cut.size) { /* but never longer than the new content: it is cut first */
        uint64_t size = from.old->size < from.next->size ? from.old->size : from.next->size;

        memcpy(cut.data + cut.size, from.old->data + cut.size, size - cut.size);
        cut.size = size;
    }
    put_file(work_file, &cut);
}

static void put_start(void)
{
    put_file(work_file, from.file);
    told->note = from.note;
    if (from.format == RECOVER)
        die_in_write();
}

static void begin_plain(uint64_t size, uint64_t next)
{
    from.name = "plain";
    from.more = "";
    from.format = PLAIN;
    from.cut_to_plain = false;
    from.note.size = 0;
    from.file = make_content(LETTERS, 1, size);
    from.old = make_content(LETTERS, 1, size);
    from.next = make_content(LETTERS, 50, next);
}

static void end_scenario(void)
{
    free(from.file);
    free(from.old);
    free(from.next);
}

/* Each start once; `test` is one of the functions below. */
static void for_each_start(void (*test)(void))
{
    static const uint64_t plain[][2] = {{0, 5},       {300, 500},    {500, 300},    {300, 0},     {0, 0},
                                        {9000, 9000}, {20000, 5000}, {5000, 20000}, {300, 20000}, {9000, 0}};

    for (size_t i = 0; i < SCENARIOS; i++)
        for (enum before before = 0; before < BEFORES; before++) {
            if (before != DONE && (before == UNFLUSHED) != (scenarios[i].commits != 0))
                continue;
            begin_scenario(&scenarios[i], before);
            test();
            end_scenario();
        }
    for (size_t i = 0; i < SCENARIOS; i++) {
        if (scenarios[i].commits == 0)
            continue;
        begin_scenario(&scenarios[i], i % 2 == 0 ? DONE : UNFLUSHED);
        from.format = EXPORT;
        free(from.next);
        from.next = new_bytes();
        from.next->size = from.old->size;
        memcpy(from.next->data, from.old->data, from.old->size);
        test();
        end_scenario();
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        begin_plain(plain[i][0], plain[i][1]);
        test();
        if (plain[i][1] != 0) { /* else there is no write */
            from.format = RECOVER;
            from.more = ", recovery";
            test();
        }
        end_scenario();
    }
}

static bool holds_bytes(const struct bytes *bytes)
{
    return holds(work_file, bytes->data, bytes->size);
}

/* The next commit works, whatever happened. `before`: how many checks had failed. */
static void check_next_commit(const char *what, int at, bool sync, int before)
{
    static const char text[] = "committed once more";
    static struct bytes next = {.size = sizeof text};

    memcpy(next.data, text, sizeof text);
    CHECK_EQUAL(commit_content(work_file, &next, true), 0);
    CHECK(holds_bytes(&next));
    if (check_failures != before)
        (void)fprintf(stderr, "  %s%s, %s at call %d, %s\n", from.name, from.more, what, at,
                      sync ? "sync" : "no sync");
    runs++;
}

/* ---- faults ---- */

/* I5: no reader sees a commit that failed; a commit that returned 0 is the content (a mark or a cut
 * may fail silently). */
static void check_fault_of_sized(int result, bool once)
{
    if (result == 0) {
        CHECK(holds_bytes(from.next));
        return;
    }
    /* no step can be undone any more */
    CHECK(holds_bytes(from.old) || (!once && holds_bytes(from.next)));
    if (once && !from.cut_to_plain && fault.hit != FTRUNCATE)
        CHECK_EQUAL(size_of(work_file), from.file->size);
}

/* I5: the same; but if the old content is too large to be kept, the new one stays, complete. */
static void check_fault_of_plain(int result, bool once)
{
    bool fits = from.old->size < NOTE_MAX - 200 && from.next->size < NOTE_MAX - 200;

    if (result == 0)
        CHECK(holds_bytes(from.next));
    else if (once || fits) /* a disk that goes on failing tears a file without a record */
        CHECK(holds_bytes(from.old) || ((!once || !fits) && holds_bytes(from.next)));
}

/* False if the commit is over before the `at`th call. */
static bool check_fault(enum fault_kind kind, int error, int at, bool sync)
{
    int before = check_failures;
    bool no_failure = error == -EINTR || error == 0;
    sigset_t mask;
    int result;

    put_start();
    watch_calls();
    fault.kind = kind;
    fault.error = error;
    fault.at = at;
    result = commit_content(work_file, from.next, sync);
    unwatch_calls();
    filelock_give_up(work_file); /* if this call failed, the lock looks like the program's */
    if (fault.seen < at) {
        CHECK_EQUAL(result, 0);
        return false;
    }
    if (no_failure || result != 0)
        CHECK_EQUAL(result, no_failure ? 0 : error);
    CHECK_EQUAL(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    CHECK(!sigismember(&mask, SIGTERM));
    if (from.format == EXPORT)
        CHECK(holds_bytes(from.old) && (result != 0 || size_of(work_file) == from.old->size));
    else if (from.format == RECOVER)
        CHECK(holds_bytes(from.old) || holds_bytes(from.next));
    else if (from.format == SIZED)
        check_fault_of_sized(result, kind != FAIL_ON);
    else
        check_fault_of_plain(result, kind != FAIL_ON);
    check_next_commit(kind == FAIL      ? "a failure"
                      : kind == FAIL_ON ? "failures"
                                        : "a short call",
                      at, sync, before);
    return true;
}

static void fail_every_call(void)
{
    static const struct {
        enum fault_kind kind;
        int error;
    } faults[] = {{FAIL, -EIO},   {FAIL_ON, -EIO}, {FAIL, -ENOSPC},  {FAIL_ON, -ENOSPC},
                  {FAIL, -EINTR}, {SHORT, 0},      {SHORT_HEADER, 0}};

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (int sync = 0; sync <= 1; sync++)
            for (int at = 1; check_fault(faults[i].kind, faults[i].error, at, sync); at++)
                continue;
}

/* True on the file systems where a kept journal is only written out. */
static bool shares_flushes(void)
{
    struct statfs status;

    return fstatfs(work_file, &status) == 0 &&
           (status.f_type == EXT4_SUPER_MAGIC || status.f_type == XFS_SUPER_MAGIC);
}

static void test_faults(void)
{
    runs = 0;
    for_each_start(fail_every_call);
    for (enum call call = ANY_CALL + 1; call < CALLS; call++)
        if (call == WRITE_OUT)
            CHECK(fault_hits[call] > 3 || !shares_flushes());
        else
            CHECK(call == LSEEK || fault_hits[call] > 20); /* these payloads have no holes */
    (void)printf("%ld commits with a fault\n", runs);
    CHECK(runs > 5000);
}

/* ---- kills ---- */

static ino_t number_of(const char *name, nlink_t *links)
{
    struct stat status;

    CHECK_EQUAL(stat(name, &status), 0);
    *links = status.st_nlink;
    return status.st_ino;
}

/* False if the commit was over before the `at`th call. */
static bool check_kill(enum fault_kind kind, enum call only, int at, bool sync)
{
    int before = check_failures;
    struct filelock lock;
    nlink_t links;
    ino_t number = number_of(file_name, &links);

    put_start();
    told->returned = false;
    if (!commit_in_child(kind, only, at, from.next, sync))
        return false;

    /* the lock ends with the last process that is at it: the child that writes a plain file
     * outlives its parent */
    CHECK_EQUAL(filelock_acquire(&lock, work_file, F_WRLCK, patient.timeout), 0);
    filelock_release(&lock);
    if (told->returned) { /* I4 */
        CHECK_EQUAL(told->result, 0);
        CHECK(holds_bytes(from.next) || (from.format == RECOVER && holds_bytes(from.old)));
    } else
        CHECK(holds_bytes(from.old) || holds_bytes(from.next)); /* I5 */
    CHECK_EQUAL(number_of(file_name, &links), number);          /* I3 */
    CHECK_EQUAL(links, 1);
    check_next_commit(kind == KILL_BEFORE   ? "killed before"
                      : kind == KILL_MIDDLE ? "killed in the middle"
                                            : "killed after",
                      at, sync, before);
    return true;
}

static void kill_at_every_call(void)
{
    /* no kill stops the kernel inside one page */
    bool cuttable = (from.format != PLAIN && from.format != RECOVER) || from.next->size > IMAGE_PAGE;

    for (int sync = 0; sync <= 1; sync++) {
        for (int at = 1; check_kill(KILL_BEFORE, ANY_CALL, at, sync); at++)
            continue;
        for (int at = 1; check_kill(KILL_AFTER, ANY_CALL, at, sync); at++)
            continue;
        for (int at = 1; cuttable && check_kill(KILL_MIDDLE, PWRITEV, at, sync); at++)
            continue;
    }
}

static void test_kills(void)
{
    runs = 0;
    for_each_start(kill_at_every_call);
    (void)printf("%ld commits killed\n", runs);
    CHECK(runs > 2000);
}

/* A kill hits the child that writes a plain file, but not us: then we write ourselves. */
static void kill_shield(void)
{
    int before = check_failures;

    if (from.format != PLAIN)
        return;
    for (int at = 1; at < 10; at++) {
        put_start();
        watch_calls();
        fault.kind = KILL_SHIELD;
        fault.at = at;
        CHECK_EQUAL(commit_content(work_file, from.next, true), 0);
        unwatch_calls();
        CHECK(holds_bytes(from.next));
        check_next_commit("its child killed", at, true, before);
    }
}

/* ---- a program without the shim that overwrites the file in the middle of a commit ---- */

static const char stranger_text[] = "stranger\n";

static void stranger_rewrites(int fd)
{
    (void)fd; /* the call may be about the journal */
    CHECK_EQUAL(ftruncate(work_file, 0), 0);
    CHECK_EQUAL(pwrite(work_file, stranger_text, strlen(stranger_text), 0), strlen(stranger_text));
}

static void stranger_empties(int fd)
{
    (void)fd;
    CHECK_EQUAL(ftruncate(work_file, 0), 0);
}

/* A plain file that was shorter than the stranger's write is not cut: the stranger's last bytes
 * stay. */
static bool holds_both(void)
{
    static struct bytes both;
    size_t length = strlen(stranger_text);

    memcpy(both.data, stranger_text, length);
    memcpy(both.data, from.next->data, from.next->size < length ? from.next->size : length);
    both.size = length;
    return from.format == PLAIN && from.old->size < length && from.next->size < length && holds_bytes(&both);
}

/* The stranger and the commit are two writers: the file has the bytes of one of them, whole.
 * Returns false if the commit is over before. */
static bool check_stranger(void (*stranger)(int fd), int at, bool sync)
{
    int before = check_failures;
    int result;

    put_start();
    watch_calls();
    fault.kind = STRANGER;
    fault.stranger = stranger;
    fault.at = at;
    result = commit_content(work_file, from.next, sync);
    unwatch_calls();
    CHECK(result == 0 || (from.format == RECOVER && result == -EAGAIN)); /* the next open retries */
    if (fault.seen < at)
        return false;
    CHECK(holds_bytes(from.next) ||
          holds_text(work_file, stranger == stranger_empties ? "" : stranger_text) ||
          (stranger == stranger_rewrites && holds_both()));
    check_next_commit("a stranger's writing", at, sync, before);
    return true;
}

static void stranger_at_every_call(void)
{
    if (from.format == EXPORT)
        return;
    for (int sync = 0; sync <= 1; sync++) {
        for (int at = 1; check_stranger(stranger_rewrites, at, sync); at++)
            continue;
        for (int at = 1; check_stranger(stranger_empties, at, sync); at++)
            continue;
    }
}

static void test_strangers(void)
{
    runs = 0;
    for_each_start(stranger_at_every_call);
    (void)printf("%ld commits with a stranger\n", runs);
    CHECK(runs > 1000);
}

/* Other tests look at the disk. */
static int no_flush(int fd)
{
    (void)fd;
    return 0;
}

int main(void)
{
    glob_t left;

    store_calls.fdatasync = no_flush;
    store_calls.fsync = no_flush;
    store_calls.fgetxattr = get_note;
    store_calls.fsetxattr = set_note;
    store_calls.fremovexattr = remove_note;
    original_calls = store_calls;
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    work_file = open(file_name, O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (told == MAP_FAILED || work_file < 0)
        abort();
    test_faults();
    test_kills();
    test_strangers();
    for_each_start(kill_shield);
    journal_end();                                  /* statx() fails: it has another name */
    CHECK_EQUAL(store_recover(work_file, true), 0); /* removes the last one */
    CHECK_EQUAL(unlink(file_name), 0);
    CHECK_EQUAL(glob(".atomshim-journal-*", 0, NULL, &left), GLOB_NOMATCH);
    return check_result();
}
