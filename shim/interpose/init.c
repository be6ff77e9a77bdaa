/*
 * Sets the shim up, on the first call or in the constructor, and commits at the end of the process.
 */
#include "interpose/interpose.h"

#include "config/settings_file.h"
#include "guardian/guardian.h"
#include "os/log.h"
#include "os/scratch.h"
#include "program/target.h"
#include "store/journal.h"

#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

enum { UNTOUCHED, IN_PROGRESS, READY };
enum { SET_UP_PAUSE = 20 * 1000 }; /* nanoseconds */

struct config shim_config = {.disabled = true, .paths = ""};

static int set_up_state;
static int set_up_thread;
static bool is_managing;
bool shim_is_on;
static bool is_constructed;

extern int __cxa_atexit(void (*function)(void *), void *argument, void *library);

static void report_setting(const char *message, void *context)
{
    (void)context;
    log_line(LOG_ERROR, "%s; %s", message,
             strncmp(message, "ATOMSHIM_PATHS:", 15) == 0  ? "no file is managed by its name"
             : strstr(message, "unknown variable") != NULL ? "it is ignored"
                                                           : "the default is used");
}

static void ignore_setting(const char *message, void *context)
{
    (void)message;
    (void)context;
}

/*
 * Copies our variables: the program may change its environment, or write over it (setproctitle(3)).
 */
static char **copy_environment(void)
{
    static char *none[] = {NULL};
    static char *room[64]; /* enough for most environments */
    size_t size = 0;
    size_t count = 1;
    char **list;
    char *text;

    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, "ATOMSHIM_", 9) == 0) {
            size += strlen(*entry) + 1;
            count++;
        }
    if (count == 1)
        return none;
    list = room;
    if (count * sizeof *list + size > sizeof room)
        list = sys_mmap(NULL, count * sizeof *list + size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_is_error(list))
        return environ; /* rather than settings that nobody made */
    text = (char *)(list + count);
    count = 0;
    for (char **entry = environ; *entry != NULL; entry++)
        if (strncmp(*entry, "ATOMSHIM_", 9) == 0) {
            list[count++] = text;
            text = stpcpy(text, *entry) + 1;
        }
    list[count] = NULL;
    return list;
}

/*
 * Takes our variables out of the environment in secure-execution mode. The loader does so with
 * LD_PRELOAD and its like (ld.so(8)): a program that raises its real ids and runs another one would
 * hand them on to a process that has the rights but is not in that mode any more. Where
 * /etc/ld.so.preload names the shim, ATOMSHIM_LOG_FILE would do the same harm.
 */
static void remove_variables(void)
{
    char **kept = environ;

    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, "ATOMSHIM_", 9) != 0)
            *kept++ = *entry;
    if (kept != NULL)
        *kept = NULL;
}

static void commit_all(void)
{
    if (shim_is_quiet()) /* a guardian commits */
        return;
    if (session_any())
        session_finish();
    journal_end();
    guardian_wait();
}

/*
 * exit(3) calls this function twice: from our destructor, and as the oldest exit handler. The C
 * libraries differ in which of the two is last; only after the last one has the program run all its
 * code before the C library flushes its streams. If another library's constructor calls exit(3)
 * before ours ran, the loader does not call our destructor.
 */
static void commit_at_exit(void *unused)
{
    static int calls;

    (void)unused;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_ACQ_REL) < (is_constructed ? 2 : 1))
        return;
    if (session_any() && !shim_is_quiet())
        shim_flush_streams();
    commit_all();
}

/*
 * glibc has the one name, musl the other. A handler runs after the program's own handlers; a
 * wrapper of quick_exit(3) would run before them.
 */
static void register_quick_exit(void)
{
    if (REAL(__cxa_at_quick_exit) != NULL)
        (void)REAL(__cxa_at_quick_exit)((void (*)(void *))(void *)commit_all, NULL);
    else if (REAL(at_quick_exit) != NULL)
        (void)REAL(at_quick_exit)(commit_all);
}

/* Logs a line of the level info for each program that the shim is in. */
static void tell_start(void)
{
    struct scratch scratch;
    ssize_t n;

    if (!log_wants(LOG_INFO) || scratch_take(&scratch, PATH_MAX) != 0)
        return;
    n = sys_readlinkat(AT_FDCWD, "/proc/self/exe", scratch.bytes, PATH_MAX - 1);
    ((char *)scratch.bytes)[n > 0 ? n : 0] = '\0';
    log_line(LOG_INFO, "version " ATOMSHIM_VERSION " in %s; patterns: %s",
             n > 0 ? (char *)scratch.bytes : "a program",
             *shim_config.paths != '\0' ? shim_config.paths : "none");
    scratch_give(&scratch);
}

/*
 * Tells whether LD_PRELOAD names the shim. Else /etc/ld.so.preload does, for every program of the
 * system, and the settings file counts: su(1), cron and sshd drop variables. A program that is
 * wrapped by its environment has its settings there, and does not pay for a look at a file.
 */
static bool is_named_by_environment(void)
{
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, "LD_PRELOAD=", 11) == 0)
            return strstr(*entry, "libatomshim") != NULL;
    return false;
}

/*
 * In secure-execution mode (AT_SECURE, getauxval(3)) a user with fewer rights than the process
 * chose its environment and its descriptors. The shim stays disabled there for good, whatever
 * loaded it: shim_config keeps its initial value.
 */
static void set_up(void)
{
    char **environment;
    struct config config;
    const char *fault = NULL;
    int bad;

    real_prepare();
    if (getauxval(AT_SECURE) != 0) {
        remove_variables();
        return;
    }
    environment = copy_environment();
    /* the first pass finds out where messages go, and reports nothing */
    bad = config_parse(&config, environment, ignore_setting, NULL);
    if (!config.disabled && !is_named_by_environment()) {
        environment = config_add_file(environment, SETTINGS_FILE, &fault);
        bad = config_parse(&config, environment, ignore_setting, NULL);
    }
    shim_config = config;
    if (config.disabled)
        return;
    log_configure((enum log_level)config.log_level, config.log_file);
    log_remember_stderr();
    if (fault != NULL)
        log_line(LOG_ERROR, SETTINGS_FILE ": %s; it is ignored", fault);
    if (bad != 0)
        (void)config_parse(&config, environment, report_setting, NULL);
    config_resolve(&shim_config);
    target_remember(environ);
    session_configure(&shim_config);
    store_journal_folder = config.journal_dir;
    guardian_configure(config.lock_timeout);
    is_managing = true; /* without a pattern, too, the shim recognises files that hold an image */
    (void)__cxa_atexit(commit_at_exit, NULL, NULL);
    register_quick_exit();
    tell_start();
    session_adopt();
}

static bool set_up_once(void)
{
    int expected = UNTOUCHED;
    int self = sys_gettid();

    if (__atomic_compare_exchange_n(&set_up_state, &expected, IN_PROGRESS, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&set_up_thread, self, __ATOMIC_RELEASE);
        set_up();
        __atomic_store_n(&shim_is_on, is_managing, __ATOMIC_RELEASE);
        __atomic_store_n(&set_up_state, READY, __ATOMIC_RELEASE);
        return true;
    }
    while (__atomic_load_n(&set_up_state, __ATOMIC_ACQUIRE) != READY) {
        if (__atomic_load_n(&set_up_thread, __ATOMIC_ACQUIRE) == self)
            return false; /* the set-up itself has opened a file */
        sys_sleep(SET_UP_PAUSE);
    }
    return true;
}

static bool is_ready(void)
{
    return __atomic_load_n(&set_up_state, __ATOMIC_ACQUIRE) == READY;
}

static bool is_set_up(void)
{
    return is_ready() || set_up_once();
}

bool shim_look_enabled(void)
{
    return is_set_up() && is_managing && !shim_is_quiet();
}

bool shim_look_for_sessions(void)
{
    return is_set_up() && session_any() && !shim_is_quiet();
}

bool shim_is_at_work(void)
{
    return is_ready() && (is_managing || session_any()) && !shim_is_quiet();
}

void shim_testcancel(void)
{
    void (*test)(void) = REAL(pthread_testcancel);

    if (test != NULL)
        test();
}

enum session_role shim_identify(int fd, struct session_found *found)
{
    found->session = NULL;
    return shim_has_sessions() ? session_identify(fd, found) : SESSION_NONE;
}

__attribute__((constructor)) static void constructor(void)
{
    is_constructed = true;
    (void)is_set_up();
}

__attribute__((destructor)) static void destructor(void)
{
    commit_at_exit(NULL);
}
