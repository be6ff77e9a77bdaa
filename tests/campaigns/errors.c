/*
 * Each place of the library that makes a system call, in all the programs of tests/programs: there
 * the call fails with each errno that it can return.
 *
 *   errors FOLDER LIBRARY PERCENT CASES-PERCENT PROGRAM[:CASE]...
 *
 * LIBRARY is build/failing/libatomshim.so (tests/lib/failing_kernel.c). A case runs once without a
 * fault: that shows the places, by the stack of their callers, and what the buffers hold when the
 * program calls the library. Then it runs once for each fault that no earlier case had, and with a
 * second one at each call that only the first leads to. After each:
 *
 *   - no crash, no hang
 *   - each file can be read
 *
 * and behind one fault alone:
 *
 *   - it holds what it or a buffer held in the run without a fault (I5)
 *   - if the program saw no failure, all files are as without the fault, or a line of the log or a
 *     rescue file tells (I7)
 *
 * FOLDER must hold nothing else. The percentages choose faults and cases by their hashes; with
 * PERCENT 0 each place fails with one errno only.
 */

#include "../lib/failing_kernel.h"
#include "../lib/runner.h"
#include "format/crc32c.h"
#include "store/store.h"

#include <ftw.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TURN = 500000000 /* nanoseconds */, TURNS = 120, TRIED = 1 << 18, MAX_NAMES = 1 << 16 };

static struct {
    const char *program, *name; /* the case */
    char *folder, *managed, *rescue, *log, *file, *link;
    char **environment;
    struct kernel_control *control;
    unsigned percent, cases_percent;
    unsigned cases, trials, violations;
    uint64_t tried[TRIED];        /* a hash table of faults */
    char said[1 << 16];           /* the log of the last trial */
    bool is_learnt[KERNEL_CALLS]; /* the case makes the call without a fault, too */
} errors;

/* How a run of a case ended. */
struct end {
    int status;        /* exit status, or 128 + signal */
    bool has_hung;     /* in the library */
    uint64_t files;    /* a sum of the names and contents of all files */
    const char *wrong; /* the first file that cannot be, or NULL */
    bool is_whole;     /* it can be read */
    bool is_blank;     /* it is empty, or has zeros */
    ino_t inode;
};

static char *format_number(const char *pattern, int number)
{
    char *text;

    if (asprintf(&text, pattern, number) < 0)
        die("asprintf");
    return text;
}

/* Reads the beginning of a file; "" if there is none. */
static void read_text(const char *folder, const char *name, char *text, size_t size)
{
    char *path = format("%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : 0;

    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        (void)close(fd);
    free(path);
}

/* ---- processes ---- */

/* Tells whether the address is in the library, as the process has mapped it. */
static bool is_in_library(int process, unsigned long address)
{
    char *path = format_number("/proc/%d/maps", process);
    FILE *maps = fopen(path, "re");
    char line[1024];
    unsigned long start, end;
    bool is_in = false;

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        is_in = is_in || (strstr(line, "/libatomshim.so") != NULL &&
                          sscanf(line, "%lx-%lx", &start, &end) == 2 && address >= start && address < end);
    if (maps != NULL)
        (void)fclose(maps);
    free(path);
    return is_in;
}

/* What keeps a process from its end; the worst is last. A guardian waits for its program, in
 * ppoll(), by which it is known if it could not change its name. */
enum stuck { STUCK_NOT, STUCK_GUARDIAN, STUCK_PROGRAM, STUCK_IN_LIBRARY };

/* Tells where a thread stands: it runs, or waits in a call of the library, or in one of its own. */
static enum stuck look_at_thread(int process, const char *folder)
{
    char call[256] = "";
    char comm[32] = "";
    const char *address;

    read_text(folder, "comm", comm, sizeof comm);
    read_text(folder, "syscall", call, sizeof call);
    if (*call == '\0' || *call == '0') /* it has ended */
        return STUCK_NOT;
    if (strncmp(comm, "atomshim-guard", strlen("atomshim-guard")) == 0 || atoi(call) == SYS_ppoll)
        return STUCK_GUARDIAN;
    address = strrchr(call, ' ');
    return address == NULL || is_in_library(process, strtoul(address, NULL, 16)) ? STUCK_IN_LIBRARY
                                                                                 : STUCK_PROGRAM;
}

/* Looks at the descendants of a process, and finds the worst; ends them instead if told so. */
static enum stuck look_below(int process, bool ends)
{
    char *pattern = format_number("/proc/%d/task/*", process);
    enum stuck worst = STUCK_NOT;
    glob_t threads;

    if (glob(pattern, 0, NULL, &threads) == 0) {
        for (size_t i = 0; i < threads.gl_pathc; i++) {
            char list[4096] = "";
            char *rest = list;
            enum stuck stuck = process == getpid() ? STUCK_NOT : look_at_thread(process, threads.gl_pathv[i]);

            worst = stuck > worst ? stuck : worst;
            read_text(threads.gl_pathv[i], "children", list, sizeof list);
            for (char *child; (child = strtok_r(rest, " \n", &rest)) != NULL;) {
                stuck = look_below(atoi(child), ends);
                worst = stuck > worst ? stuck : worst;
                if (ends)
                    (void)kill(atoi(child), SIGKILL);
            }
        }
        globfree(&threads);
    }
    free(pattern);
    return worst;
}

static bool goes_on_failing(void)
{
    return errors.control->faults[0].mode != KERNEL_ONCE;
}

/*
 * Tells whether the processes that are left wait for ever, and nobody is to blame: for what another
 * process of the program does not do any more; or guardians, for a kernel that goes on failing to
 * tell them who has a file open.
 */
static bool is_left_alone(void)
{
    enum stuck stuck = look_below(getpid(), false);

    return !(errors.control->learns & LEARNS_IMAGES) &&
           (stuck == STUCK_PROGRAM || (stuck == STUCK_GUARDIAN && goes_on_failing()));
}

/*
 * Waits for a child (or with -1 for any) to end. Returns its number; 0 if there is none. Ends all
 * that are left after a TURN in which none has ended, if they wait for ever; if not, after TURNS,
 * and sets *hung, but not for a guardian that the kernel lets look at a million numbers again and
 * again.
 */
static pid_t wait_for(pid_t child, int *status, bool *hung)
{
    sigset_t signals;
    const struct timespec limit = {0, TURN};

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    for (int turns = 0;;) {
        pid_t ended = waitpid(child, status, WNOHANG);

        if (ended != 0)
            return ended > 0 ? ended : 0;
        if (sigtimedwait(&signals, NULL, &limit) >= 0 || errno != EAGAIN)
            continue;
        if (!is_left_alone() && ++turns < TURNS)
            continue;
        *hung = *hung || (turns == TURNS && (child > 0 || !goes_on_failing()));
        (void)look_below(getpid(), true);
    }
}

static _Noreturn void become(const char *program, const char *name, const char *file)
{
    int log = open(errors.log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int null = open("/dev/null", O_RDWR);
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setpgid(0, 0);
    (void)dup2(null, 0);
    (void)dup2(null, 1);
    (void)dup2(log, 2);
    (void)close(log);
    (void)close(null);
    (void)execle(program, program, name, file, NULL, errors.environment);
    _exit(126);
}

/* Runs the case and waits for all its processes. Those of a program that has failed may wait for it
 * for ever. */
static void run_processes(struct end *end)
{
    pid_t child = fork();
    int status;

    if (child < 0)
        die("fork");
    if (child == 0)
        become(errors.program, errors.name, errors.file);
    end->has_hung = false;
    (void)wait_for(child, &status, &end->has_hung);
    end->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (end->status != 0)
        (void)kill(-child, SIGKILL);
    while (wait_for(-1, &status, &end->has_hung) > 0)
        ;
}

/* ---- files ---- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    return where->level == 0 ? 0 : remove(path);
}

static void clear(const char *folder)
{
    if (nftw(folder, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
        die(folder);
}

static void make_file(struct end *end)
{
    struct stat status;
    int fd;

    clear(errors.managed);
    clear(errors.rescue);
    fd = open(errors.file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, "old", 3) != 3 || fstat(fd, &status) != 0 || close(fd) != 0 ||
        link(errors.file, errors.link) != 0)
        die(errors.file);
    end->inode = status.st_ino;
}

static bool is_image(uint64_t hash)
{
    const struct kernel_control *control = errors.control;

    for (uint32_t i = 0; i < control->images && i < KERNEL_IMAGES; i++)
        if (control->image[i] == hash)
            return true;
    return false;
}

static bool has_zeros;     /* and whether there are any in it */
static char beginning[64]; /* of the payload that hash_payload() has read */

/* Returns the hash of a file's payload, read by the engine; 0 if it cannot be read. */
static uint64_t hash_payload(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int memory = memfd_create("payload", MFD_CLOEXEC);
    struct store_image image;
    uint64_t hash = 0;

    if (memory < 0)
        die("memfd");
    if (fd >= 0 && store_load(fd, memory, (struct store_wait){.timeout = 1000000000}, &image) == 0 &&
        image.bytes != STORE_TORN) {
        char bytes[4096];

        hash = KERNEL_HASH;
        *beginning = '\0';
        has_zeros = false;
        for (ssize_t n; (n = read(memory, bytes, sizeof bytes)) > 0;) {
            if (hash == KERNEL_HASH)
                (void)snprintf(beginning, sizeof beginning, "%.*s", (int)n, bytes);
            hash = kernel_hash(hash, bytes, (uint64_t)n);
            has_zeros = has_zeros || memchr(bytes, 0, (size_t)n) != NULL;
        }
    }
    if (fd >= 0)
        (void)close(fd);
    (void)close(memory);
    return hash;
}

static struct end *visited; /* nftw() passes nothing to its visitor */

static int visit_file(const char *path, const struct stat *status, int type, struct FTW *where)
{
    static char wrong[512];
    const char *name = path + strlen(errors.managed);
    bool was_made = status->st_ino != visited->inode;
    uint64_t hash = 1;

    (void)where;
    /* a buffer, where memfd_create() is refused, or a journal, which the next commit removes */
    if (strncmp(name, "/.atomshim", strlen("/.atomshim")) == 0)
        return 0;
    if (type == FTW_F && S_ISREG(status->st_mode)) {
        hash = hash_payload(path);
        /* an open that fails may have made the file */
        if (visited->wrong == NULL && (hash == 0 || !(is_image(hash) || (was_made && hash == KERNEL_HASH)))) {
            (void)snprintf(wrong, sizeof wrong, "%s %s: %s", name,
                           hash == 0 ? "cannot be read" : "holds what it never held", beginning);
            visited->wrong = wrong;
            visited->is_whole = hash != 0;
            visited->is_blank = has_zeros || hash == KERNEL_HASH;
        }
    }
    visited->files += kernel_hash(hash, name, strlen(name));
    return 0;
}

static void look_at_files(struct end *end)
{
    visited = end;
    end->files = 0;
    end->wrong = NULL;
    if (nftw(errors.managed, visit_file, 32, FTW_PHYS | FTW_MOUNT) != 0)
        die(errors.managed);
    visited = NULL;
}

/* ---- one case ---- */

static struct end run_case(void)
{
    struct end end;

    make_file(&end);
    run_processes(&end);
    look_at_files(&end);
    return end;
}

/* Tells whether the library has told of a failure: by a line, or, if stderr is closed, only by a
 * rescue file. */
static bool has_told(void)
{
    char *pattern = format("%s/*", errors.rescue, NULL);
    glob_t rescued;
    bool is_rescued = glob(pattern, 0, NULL, &rescued) == 0;

    if (is_rescued)
        globfree(&rescued);
    free(pattern);
    return is_rescued || strstr(errors.said, "atomshim[") != NULL;
}

/* Tells whether the first line of the log is of expect_content(), which has found a wrong content
 * after calls that all succeeded. */
static bool has_misread(void)
{
    const char *wrong = strstr(errors.said, "', not '");

    return wrong != NULL && memchr(errors.said, '\n', (size_t)(wrong - errors.said)) == NULL;
}

static int add_image(const char *path, const struct stat *status, int type, struct FTW *where)
{
    uint64_t hash = type == FTW_F && S_ISREG(status->st_mode) ? hash_payload(path) : 0;

    (void)where;
    if (hash != 0 && !is_image(hash) && errors.control->images < KERNEL_IMAGES)
        errors.control->image[errors.control->images++] = hash;
    return 0;
}

/* Runs the case without a fault, and learns. */
static bool learn(struct end *end)
{
    memset(errors.control, 0, sizeof *errors.control);
    errors.control->images = 1;
    errors.control->image[0] = kernel_hash(KERNEL_HASH, "old", 3);
    errors.control->learns = LEARNS_CALLS | LEARNS_IMAGES;
    *end = run_case();
    errors.control->learns = 0;
    if (nftw(errors.managed, add_image, 32, FTW_PHYS | FTW_MOUNT) != 0)
        die(errors.managed);
    if (end->status == 0 && errors.control->images < KERNEL_IMAGES)
        return true;
    printf("  %s %s: cannot be learnt: exit status %d\n", errors.program, errors.name, end->status);
    return false;
}

/* Looks whether the case without a fault always does the same: how processes take turns may
 * decide. */
static bool is_steady(const struct end *learnt)
{
    uint32_t images = errors.control->images;
    bool is_same = true;
    struct kernel_fault faults[2];

    memcpy(faults, errors.control->faults, sizeof faults);
    memset(errors.control->faults, 0, sizeof faults);
    errors.control->learns = LEARNS_IMAGES;
    for (int i = 0; is_same && i < 5; i++)
        is_same = run_case().files == learnt->files && errors.control->images == images;
    errors.control->learns = 0;
    memcpy(errors.control->faults, faults, sizeof faults);
    return is_same;
}

static const char *judge(const struct end *learnt, const struct end *end)
{
    if (end->has_hung)
        return "hung";
    if (end->status >= 128 && end->status != 128 + SIGKILL)
        return "killed by a signal";
    if (end->wrong != NULL && !end->is_whole)
        return end->wrong;
    if (errors.control->faults[1].error != 0) /* the second may be in telling of the first */
        return NULL;
    /* a program that has failed may have stopped at a content that no call of the library saw */
    if (end->wrong != NULL)
        return (end->status == 0 || end->is_blank) && is_steady(learnt) ? end->wrong : NULL;
    if (end->files == learnt->files || has_told())
        return NULL;
    if (end->status == 0 && is_steady(learnt))
        return "it succeeded, and the files are not as without the fault";
    if (has_misread() && is_steady(learnt))
        return "all calls succeeded, and the content is not the one without the fault";
    return NULL;
}

/* ---- faults ---- */

static const char *name_of(int error)
{
    return error == KERNEL_SHORT ? "short" : strerrorname_np(error);
}

static void report(const struct kernel_call *call, const struct kernel_fault *fault, const char *problem)
{
    const struct kernel_fault *first = &errors.control->faults[0];
    static const char *const modes[] = {"once", "from then on", "always"};

    errors.violations++;
    printf("  %s %s: call %d, %s, %s", strrchr(errors.program, '/') + 1, errors.name, call->number,
           name_of(fault->error), modes[fault->mode]);
    if (fault->stack != first->stack)
        printf(", behind call %d, %s, %s", first->number, name_of(first->error), modes[first->mode]);
    printf(": %s\n   ", problem);
    for (int i = 0; i < KERNEL_FRAMES && call->frames[i] != 0; i++)
        printf(" 0x%x", call->frames[i] - 1);
    (void)putchar('\n');
    printf("    %.400s\n", errors.said);
}

/* Returns false if the fault was tried before, or is not chosen. */
static bool is_new(const struct kernel_fault *fault)
{
    uint64_t key = kernel_hash(KERNEL_HASH, &fault->stack, sizeof fault->stack);

    key = kernel_hash(key, &fault->number, sizeof fault->number);
    key = kernel_hash(key, &fault->error, sizeof fault->error);
    key = kernel_hash(key, &fault->mode, sizeof fault->mode);
    for (uint64_t i = 0; i < TRIED; i++) {
        uint64_t *entry = &errors.tried[(key + i) % TRIED];

        if (*entry == key)
            return false;
        if (*entry == 0) {
            *entry = key;
            return errors.percent == 0 || (key >> 32) % 100 < errors.percent;
        }
    }
    return false;
}

/* Runs the case with the faults in the control file, the last of which is of this call. */
static void try_faults(const struct kernel_call *call, const struct kernel_fault *fault,
                       const struct end *learnt)
{
    struct end end = run_case();
    const char *problem;

    errors.trials++;
    errors.control->learns = 0;
    read_text(errors.folder, "log", errors.said, sizeof errors.said);
    problem = judge(learnt, &end);
    if (problem != NULL)
        report(call, fault, problem);
}

static struct kernel_fault fault_of(const struct kernel_call *call, int error, enum kernel_mode mode)
{
    return (struct kernel_fault){.stack = mode == KERNEL_ALWAYS ? 0 : call->stack,
                                 .number = call->number,
                                 .error = error,
                                 .mode = mode};
}

/* Lets each call that only the first fault has led to fail, too. */
static void try_second_faults(const struct kernel_fault *first, const struct end *learnt)
{
    for (int i = 0; i < KERNEL_CALLS; i++) {
        struct kernel_call *call = &errors.control->calls[i];
        struct kernel_fault second = fault_of(call, call->errors[0], KERNEL_ONCE);

        if (!call->is_filled || errors.is_learnt[i])
            continue;
        if (is_new(&second)) {
            errors.control->faults[0] = *first;
            errors.control->faults[1] = second;
            try_faults(call, &second, learnt);
        }
        memset(call, 0, sizeof *call);
    }
}

static void try_fault(const struct kernel_call *call, int error, enum kernel_mode mode,
                      const struct end *learnt)
{
    struct kernel_fault fault = fault_of(call, error, mode);

    if (!is_new(&fault))
        return;
    errors.control->faults[0] = fault;
    errors.control->learns = LEARNS_CALLS;
    try_faults(call, &fault, learnt);
    try_second_faults(&fault, learnt);
    memset(errors.control->faults, 0, sizeof errors.control->faults);
}

/* Tells whether the kernel goes on failing like that. */
static bool is_lasting(int error)
{
    return error == EMFILE || error == ENOMEM || error == ENOSPC || error == EROFS || error == EIO;
}

static void try_error(const struct kernel_call *call, int error, const struct end *learnt)
{
    if (error == ENOSYS || error == EOPNOTSUPP || error == ENOTTY) { /* there is no such call */
        try_fault(call, error, KERNEL_ALWAYS, learnt);
        return;
    }
    try_fault(call, error, KERNEL_ONCE, learnt);
    if (errors.percent != 0 && is_lasting(error))
        try_fault(call, error, KERNEL_REST, learnt);
}

static void try_call(const struct kernel_call *call, const struct end *learnt)
{
    int count = 1;

    while (count < KERNEL_ERRORS && call->errors[count] != 0)
        count++;
    if (errors.percent == 0)
        try_error(call, call->errors[call->stack % (uint64_t)count], learnt);
    for (int i = 0; errors.percent != 0 && i < count; i++)
        try_error(call, call->errors[i], learnt);
}

static void run_name(const char *name)
{
    uint64_t hash =
        kernel_hash(kernel_hash(KERNEL_HASH, errors.program, strlen(errors.program)), name, strlen(name));
    struct end learnt;

    if ((hash >> 32) % 100 >= errors.cases_percent)
        return;
    errors.name = name;
    errors.file = format("%s/%s", errors.managed, name);
    errors.link = format("%s%s", errors.file, ".link2");
    if (learn(&learnt)) {
        errors.cases++;
        for (int i = 0; i < KERNEL_CALLS; i++)
            errors.is_learnt[i] = errors.control->calls[i].is_filled;
        for (int i = 0; i < KERNEL_CALLS; i++)
            if (errors.is_learnt[i])
                try_call(&errors.control->calls[i], &learnt);
    }
    free(errors.file);
    free(errors.link);
}

/*
 * Four wait for the turns of several processes, most of the time for nothing; one accepts a
 * failure; one has no stack for the failing kernel; one passes pointers at which a kernel says
 * EFAULT before all else; one looks at bytes behind the end of a file, and one at a file that
 * truncate() has emptied, both of which no run without a fault shows.
 */
static bool is_excepted(const char *name)
{
    static const char *const names[] = {"fork_sync", "fork_at_commit", "count",        "fork_of_threads",
                                        "reopened",  "small_stack",    "bad-pointers", "behind_the_end",
                                        "updwtmp",   "updwtmpx"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void run_program(char *program)
{
    static char names[MAX_NAMES];
    FILE *list;
    char *rest = names;
    char *only = strchr(program, ':');

    if (only != NULL)
        *only++ = '\0';
    errors.program = program;
    list = popen(program, "re");
    if (list == NULL)
        die(program);
    names[fread(names, 1, sizeof names - 1, list)] = '\0';
    (void)pclose(list);
    for (char *name; (name = strtok_r(rest, "\n", &rest)) != NULL;)
        if (only != NULL ? strcmp(only, name) == 0 : !is_excepted(name))
            run_name(name);
}

static void map_control(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    if (fd < 0 || ftruncate(fd, sizeof *errors.control) != 0 || fchmod(fd, 0666) != 0)
        die(path);
    errors.control = mmap(NULL, sizeof *errors.control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (errors.control == MAP_FAILED)
        die(path);
    (void)close(fd);
}

/* Adds the settings of the library to the environment of this process. */
static void set_environment(const char *library, const char *control)
{
    extern char **environ;
    size_t count = 0;

    while (environ[count] != NULL)
        count++;
    errors.environment = calloc(count + 6, sizeof(char *));
    if (errors.environment == NULL)
        die("calloc");
    errors.environment[0] = format("%s%s", FAILING_KERNEL_VARIABLE, control);
    errors.environment[1] = format("LD_PRELOAD=%s", library, NULL);
    errors.environment[2] = format("ATOMSHIM_PATHS=%s/", errors.managed, NULL);
    errors.environment[3] = format("ATOMSHIM_RESCUE_DIR=%s", errors.rescue, NULL);
    /* a program that waits for its child keeps the lock that the child waits for */
    errors.environment[4] = format("ATOMSHIM_LOCK_TIMEOUT=1", NULL, NULL);
    memcpy(errors.environment + 5, environ, count * sizeof(char *));
}

int main(int argc, char *argv[])
{
    sigset_t set;
    char *control;

    if (argc < 6) {
        (void)fputs("usage: errors FOLDER LIBRARY PERCENT CASES-PERCENT PROGRAM[:CASE]...\n", stderr);
        return 2;
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    errors.folder = argv[1];
    errors.managed = format("%s/managed", argv[1], NULL);
    errors.rescue = format("%s/rescue", argv[1], NULL);
    errors.log = format("%s/log", argv[1], NULL);
    control = format("%s/control", argv[1], NULL);
    (void)mkdir(errors.managed, 0777);
    (void)mkdir(errors.rescue, 0777);
    map_control(control);
    set_environment(argv[2], control);
    errors.percent = (unsigned)atoi(argv[3]);
    errors.cases_percent = (unsigned)atoi(argv[4]);
    for (int i = 5; i < argc; i++)
        run_program(argv[i]);
    printf("%u cases, %u trials, %u violations\n", errors.cases, errors.trials, errors.violations);
    return errors.violations != 0;
}
