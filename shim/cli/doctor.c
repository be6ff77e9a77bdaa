/* doctor: checks the environment and the machine; doctor_*.c check the program and the files. */
#include "cli/doctor.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/paths.h"
#include "cli/places.h"
#include "cli/preload.h"
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
    "usage: atomshim doctor [-p|--path PATTERN]... [--json] [--self-test PATTERN] [PROGRAM [ARG]...]\n"
    "Reports whether the shim covers PROGRAM, whether this machine and its file systems have what the shim "
    "needs,\n"
    "which files the patterns match, in which format each of them is, which one its next commit writes and "
    "why, and\n"
    "what protects plain files. Each line begins with ok, note, warning or problem. Changes nothing; PROGRAM "
    "is not run.\n"
    "  -p, --path PATTERN   the patterns; else those of ATOMSHIM_PATHS\n"
    "  --self-test PATTERN  write, kill and read back a scratch file in the pattern's folder\n"
    "  --json               an object per finding, one a line\n"
    "Exit status: 0 no problem, 1 a problem, 2 wrong usage or configuration.\n"
    "example: atomshim doctor --path '/data/*.cfg' legacy-program && exec atomshim run ...\n";

static int problems;
static bool as_json;
static const char *self_test; /* the pattern of --self-test, or NULL */

enum { RED = 31, YELLOW = 33 }; /* ECMA-48, SGR */

/* https://no-color.org: no colour if NO_COLOR is set to anything. */
static bool is_coloured(void)
{
    const char *no = getenv("NO_COLOR");

    return cli_is_terminal(STDOUT_FILENO) && (no == NULL || *no == '\0');
}

static void put_finding(const char *kind, const char *format, va_list arguments)
{
    char text[3 * PATH_MAX];

    (void)vsnprintf(text, sizeof text, format, arguments);
    if (as_json) {
        json_begin();
        json_text("finding", kind);
        json_text("text", text);
        json_end();
    } else if (is_coloured() && *kind != 'o' && *kind != 'n') {
        (void)printf("\033[%dm%-8s\033[m ", *kind == 'p' ? RED : YELLOW, kind);
        cli_print("%s", text);
    } else
        cli_print("%-8s %s", kind, text);
}

#define FINDING(name, kind, is_problem)                                                                      \
    void name(const char *format, ...)                                                                       \
    {                                                                                                        \
        va_list arguments;                                                                                   \
                                                                                                             \
        problems += (is_problem);                                                                            \
        va_start(arguments, format);                                                                         \
        put_finding(kind, format, arguments);                                                                \
        va_end(arguments);                                                                                   \
    }

FINDING(doctor_ok, "ok", 0)
FINDING(doctor_note, "note", 0)
FINDING(doctor_warn, "warning", 0)
FINDING(doctor_problem, "problem", 1)

/* ---- the environment ---- */

static void tell_problem(const char *text)
{
    doctor_problem("%s", text);
}

static void tell_warning(const char *text)
{
    doctor_warn("%s", text);
}

static void look_at_environment(void)
{
    const char *preload = getenv("LD_PRELOAD");
    char line[256] = "";
    FILE *file = fopen("/etc/ld.so.preload", "r");

    if (preload != NULL && *preload != '\0')
        doctor_note("LD_PRELOAD is set already: %s", preload);
    places_check(tell_problem);
    if (file != NULL) {
        while (fgets(line, sizeof line, file) != NULL)
            if (strstr(line, "libatomshim") != NULL)
                doctor_note(
                    "/etc/ld.so.preload loads the shim into every program; ATOMSHIM_DISABLE=1 switches it "
                    "off");
        (void)fclose(file);
    }
}

/* ---- the machine ---- */

enum refused { ALLOWED, LEASE, MEMFD };

/* Returns which of the calls that an open needs is refused. Makes them in a child: a seccomp filter
 * may kill the caller. */
static enum refused try_calls(void)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        char path[64];
        int memfd = memfd_create("atomshim-doctor", 0);
        int fd;

        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memfd);
        fd = open(path, O_RDWR);
        (void)close(memfd);
        _exit(memfd < 0 ? MEMFD : fcntl(fd, F_SETLEASE, F_WRLCK) != 0 ? LEASE : ALLOWED);
    }
    if (child > 0)
        (void)waitpid(child, &status, 0);
    return WIFEXITED(status) ? (enum refused)WEXITSTATUS(status) : MEMFD;
}

static void look_at_machine(void)
{
    bool proc = access("/proc/self/fd", F_OK) == 0;
    enum refused refused = try_calls();

    if (proc)
        doctor_ok("/proc is mounted");
    else
        doctor_note("/proc is not mounted: the shim holds images in unlinked files, and does not see what a "
                    "program leaves in shared mappings at its exit");
    if (refused == MEMFD)
        doctor_note("memfd_create() is forbidden here (seccomp, or vm.memfd_noexec): the shim holds images "
                    "in unlinked "
                    "files");
    else if (proc && refused == LEASE)
        doctor_warn(
            "this user or kernel has no leases: each process commits at its own last close, even if other "
            "processes still have the file open");
    if ((!proc || refused == MEMFD) && access("/dev/shm", W_OK) != 0 && access("/run", W_OK) != 0 &&
        access("/tmp", W_OK) != 0 && access("/var/tmp", W_OK) != 0)
        doctor_problem("managed files cannot be opened: memfd_create() or /proc is missing, and none of "
                       "/dev/shm, /run, "
                       "/tmp, /var/tmp is writable");
}

/* ---- the command ---- */

static bool takes_value(const char *option)
{
    return strcmp(option, "--path") == 0 || strcmp(option, "-p") == 0 || strcmp(option, "--self-test") == 0;
}

/* Returns the index of PROGRAM, argc if there is none, or -1 after a complaint. */
static int take_options(int argc, char *argv[])
{
    bool any = false;
    int i = 1;

    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        const char *value = strncmp(argv[i], "--path=", 7) == 0 ? argv[i] + 7 : NULL;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--json") == 0) {
            as_json = true;
            continue;
        }
        if (value == NULL && !takes_value(argv[i])) {
            cli_complain("doctor: unknown option '%s': accepted are --path PATTERN, --self-test PATTERN, "
                         "--json and --help",
                         argv[i]);
            return -1;
        }
        if (value == NULL && i + 1 >= argc) {
            cli_complain("doctor: %s needs a value", argv[i]);
            return -1;
        }
        if (value == NULL)
            value = argv[++i];
        if (strcmp(argv[i - 1], "--self-test") == 0)
            self_test = value;
        if (!paths_add("doctor", value, &any))
            return -1;
    }
    return i;
}

int cli_doctor(int argc, char *argv[])
{
    struct program_kind kind = {0};
    struct config config;
    char shim[PATH_MAX];
    int program;

    if (argc > 1 && cli_is_help(argv[1]))
        return cli_help(help);
    program = take_options(argc, argv);
    if (program < 0 || config_parse(&config, environ, cli_report_fault, NULL) != 0)
        return CLI_USAGE;
    if (preload_find(shim, &kind)) {
        doctor_ok("the shim is %s", shim);
        if (program < argc)
            doctor_look_at_program(argv[program], &kind);
    } else
        doctor_problem("doctor found no library that it could load");
    if (config.disabled)
        doctor_problem("ATOMSHIM_DISABLE is set: the shim does nothing");
    look_at_environment();
    look_at_machine();
    places_check_patterns(config.paths, tell_warning);
    doctor_look_at_patterns(&config);
    if (self_test != NULL && !config.disabled)
        doctor_self_test(self_test);
    return cli_finish(problems != 0 ? CLI_BAD : CLI_GOOD);
}
