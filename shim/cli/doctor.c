/* doctor: will a program be covered, has the file system what is needed, what do the patterns match, and how is that? */
#include "cli/cli.h"
#include "cli/inspect.h"
#include "cli/paths.h"
#include "cli/preload.h"
#include "config/config.h"
#include "config/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
    "usage: atomshim doctor [--path PATTERN]... [PROGRAM [ARG]...]\n"
    "Tells in plain words whether PROGRAM would be covered by the shim, whether this machine and the file "
    "systems of\n"
    "the patterns have what it needs, what the patterns match right now, and in what state that is. One "
    "finding a\n"
    "line, each begins with ok, note, warning or problem. Changes nothing; PROGRAM is not run.\n"
    "Patterns are those of --path, else of ATOMSHIM_PATHS.\n"
    "Exit status: 0 no problem, 1 a problem, 2 wrong usage or configuration.\n"
    "example: atomshim doctor --path '/data/*.cfg' legacy-program && exec atomshim run ...\n";

enum {
    LOOKED_AT_MAX = 200000, /* files, per pattern */
    LISTED_MAX = 50,
};

static int problems;

static void put(const char *kind, const char *format, va_list arguments)
{
    char text[3 * PATH_MAX];

    (void)vsnprintf(text, sizeof text, format, arguments);
    cli_print("%-8s %s", kind, text);
}

#define FINDING(name, kind)                                                                                  \
    __attribute__((format(printf, 1, 2))) static void name(const char *format, ...)                          \
    {                                                                                                        \
        va_list arguments;                                                                                   \
                                                                                                             \
        va_start(arguments, format);                                                                         \
        put(kind, format, arguments);                                                                        \
        va_end(arguments);                                                                                   \
    }

FINDING(ok, "ok")
FINDING(note, "note")
FINDING(warn, "warning")

__attribute__((format(printf, 1, 2))) static void problem(const char *format, ...)
{
    va_list arguments;

    problems++;
    va_start(arguments, format);
    put("problem", format, arguments);
    va_end(arguments);
}

/* ---- the program ---- */

static void look_at_libraries(const char *path)
{
    const char *preload = getenv("LD_PRELOAD");

    if (program_mentions(path, "liburing.so.2") || program_mentions(path, "liburing.so.1"))
        warn("%s uses io_uring: files that it opens or closes with that are not seen", path);
    if (program_mentions(path, "dlmopen"))
        warn("%s may load plug-ins into name spaces of their own (dlmopen): what these open is not seen",
             path);
    if (program_mentions(path, "dlopen"))
        note("%s may load plug-ins: one that is loaded with RTLD_DEEPBIND calls past the shim", path);
    if ((program_mentions(path, "libasan.so.8") || program_mentions(path, "libasan.so.6")) &&
        (preload == NULL || strstr(preload, "libasan") == NULL))
        problem("%s was built with AddressSanitizer and ends if its library is not first: set "
                "LD_PRELOAD=/path/of/libasan.so before `atomshim run`",
                path);
}

static void look_at_program(const char *name, const struct program_kind *shim)
{
    char reason[PROGRAM_REASON_SIZE];
    char path[PATH_MAX];
    char loader[PATH_MAX];
    int error = program_find(name, path);

    if (error != 0) {
        problem("%s: %s", name, error == ENOENT ? "not found" : strerror(error));
        return;
    }
    if (!program_loads_shim(path, shim, reason)) {
        problem("%s will not be covered: %s", path, reason);
        note("what is not covered reads and writes the raw file: see 'What is guaranteed to whom' in the "
             "README");
        return;
    }
    if (program_loader(path, loader))
        ok("%s will be covered: it is dynamically linked, for %s", path,
           strstr(loader, "musl") != NULL ? "musl" : "glibc");
    else
        ok("%s will be covered: it is a script for a program that is", path);
    look_at_libraries(path);
}

/* ---- the environment ---- */

static void look_at_rescue_dir(const char *path)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int error = fd < 0 ? errno : faccessat(fd, ".", W_OK, AT_EACCESS) != 0 ? errno : 0;

    if (fd >= 0)
        (void)close(fd);
    if (error == ENOTDIR)
        problem("ATOMSHIM_RESCUE_DIR: %s: is no folder, or a symbolic link, which is not followed: images of "
                "failed commits would be lost",
                path);
    else if (error != 0)
        problem("ATOMSHIM_RESCUE_DIR: %s: %s: images of failed commits would be lost", path, strerror(error));
}

static void look_at_environment(void)
{
    const char *preload = getenv("LD_PRELOAD");
    const char *rescue = getenv("ATOMSHIM_RESCUE_DIR");
    char line[256] = "";
    FILE *file = fopen("/etc/ld.so.preload", "r");

    if (preload != NULL && *preload != '\0')
        note("LD_PRELOAD is set already: %s", preload);
    if (rescue != NULL && *rescue != '\0')
        look_at_rescue_dir(rescue);
    if (file != NULL) {
        while (fgets(line, sizeof line, file) != NULL)
            if (strstr(line, "libatomshim") != NULL)
                note("/etc/ld.so.preload loads the shim into every program; ATOMSHIM_DISABLE=1 switches it "
                     "off");
        (void)fclose(file);
    }
}

/* ---- the machine ---- */

/* In a child: a seccomp filter may kill for it. */
static bool can_make_memfd(void)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(memfd_create("atomshim-doctor", MFD_CLOEXEC) < 0);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool can_lease(void)
{
    char path[64];
    int memory = memfd_create("atomshim-doctor", MFD_CLOEXEC);
    int fd;
    bool result;

    if (memory < 0)
        return true; /* said already */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    fd = open(path, O_RDWR | O_CLOEXEC);
    (void)close(memory);
    result = fd >= 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
    if (fd >= 0)
        (void)close(fd);
    return result;
}

static void look_at_machine(void)
{
    bool proc = access("/proc/self/fd", F_OK) == 0;

    if (proc)
        ok("/proc is mounted");
    else
        note("/proc is not mounted: images are held in unlinked files, what is left in shared mappings is "
             "not seen");
    if (!can_make_memfd())
        note("memory files cannot be made here (seccomp, or vm.memfd_noexec): unlinked files take their "
             "place");
    else if (proc && !can_lease())
        warn("this user or kernel has no leases: each process commits at its own last close, not at the last "
             "of all");
    if ((!proc || !can_make_memfd()) && access("/dev/shm", W_OK) != 0 && access("/run", W_OK) != 0 &&
        access("/tmp", W_OK) != 0 && access("/var/tmp", W_OK) != 0)
        problem("there is no folder for images: /dev/shm, /run, /tmp, /var/tmp are not writable, and there "
                "is no /proc "
                "or no memory file");
}

/* ---- file systems ---- */

static const struct file_system {
    unsigned magic;
    const char *name;
    const char *caution; /* NULL: it was tested */
} file_systems[] = {
    {EXT4_SUPER_MAGIC, "ext4", NULL},
    {XFS_SUPER_MAGIC, "xfs", NULL},
    {BTRFS_SUPER_MAGIC, "btrfs", NULL},
    {TMPFS_MAGIC, "tmpfs", NULL},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs",
     "the first write to a file of the lower layer parts its hard links, unless it is mounted with index=on"},
    {NFS_SUPER_MAGIC, "NFS", "not tested; one writing machine at a time, with locks that work"},
    {FUSE_SUPER_MAGIC, "FUSE", "of these GlusterFS was tested, with the options of the README"},
    {V9FS_MAGIC, "9p", "not tested; its locks and caches may not be what is needed"},
    {CEPH_SUPER_MAGIC, "Ceph", "not tested"},
    {SMB2_SUPER_MAGIC, "SMB", "not tested; its locks may not be what is needed"},
    {MSDOS_SUPER_MAGIC, "FAT", "not tested; no links, and a power cut may take more than a commit"},
};

static void look_at_file_system(const char *folder)
{
    const struct file_system *known = NULL;
    struct flock lock = {.l_type = F_WRLCK};
    struct statfs status;
    int fd;

    if (statfs(folder, &status) != 0)
        return;
    for (size_t i = 0; i < sizeof file_systems / sizeof file_systems[0]; i++)
        if (file_systems[i].magic == (unsigned)status.f_type)
            known = &file_systems[i];
    if (known == NULL)
        warn("%s: a file system that was not tested (type 0x%lx)", folder, (unsigned long)status.f_type);
    else if (known->caution != NULL)
        warn("%s: %s: %s", folder, known->name, known->caution);
    else
        ok("%s: %s", folder, known->name);
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return; /* nothing can be tried without leaving a trace */
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        problem("%s: no locks (F_OFD_SETLK: %s): writers would not be kept apart", folder, strerror(errno));
    if (fdatasync(fd) != 0)
        problem("%s: fdatasync: %s: nothing would survive a power cut", folder, strerror(errno));
    (void)close(fd);
}

/* ---- files ---- */

static struct {
    const char *paths;
    const char *pattern; /* the one of them that is looked at */
    long looked_at;
    long matched;
} walk;

static void look_at_access(const char *path, int fd)
{
    struct flock lock = {.l_type = F_WRLCK};
    int attributes = 0;

    if (access(path, W_OK) != 0)
        note("%s: this user may not write to it: %s", path, strerror(errno));
    if (ioctl(fd, FS_IOC_GETFLAGS, &attributes) == 0 && (attributes & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0)
        problem("%s: has the attribute %s (lsattr): it cannot be opened for writing", path,
                attributes & FS_IMMUTABLE_FL ? "i" : "a");
    if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
        warn("%s: process %d holds a lock on it: commits wait for it", path, lock.l_pid);
}

static void look_at_file(const char *path)
{
    struct inspect_file file;
    char reason[256];

    if (++walk.matched > LISTED_MAX)
        return;
    if (access(path, R_OK) != 0) {
        problem("%s: this user may not read it, and so not open it under the shim: %s", path,
                strerror(errno));
        return;
    }
    if (!inspect_begin(&file, path)) {
        problems++;
        return;
    }
    inspect_reason(&file, reason, sizeof reason);
    if (file.damaged)
        problem("%s: damaged: %s; ': >FILE' without the shim makes it an empty one that works", path, reason);
    else if (file.error != 0)
        problem("%s: %s", path, strerror(-file.error));
    else if (file.begun)
        ok("%s: a first commit has begun, %" PRIu64 " bytes", path, file.image.size);
    else if (file.image.kind == STORE_PLAIN)
        ok("%s: plain, %" PRIu64 " bytes", path, file.image.size);
    else
        ok("%s: sized, generation %" PRIu64 ", %" PRIu64 " bytes", path, file.image.generation,
           file.image.size);
    look_at_access(path, file.fd);
    inspect_end(&file);
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)position;
    if (++walk.looked_at > LOOKED_AT_MAX)
        return 1;
    if (type == FTW_F && S_ISREG(status->st_mode) && pattern_match(walk.pattern, path) &&
        pattern_match(walk.paths, path))
        look_at_file(path);
    return 0;
}

static void look_below(const char *pattern, size_t length, const char *paths)
{
    char alone[PATH_MAX];
    size_t plain = paths_plain_part(pattern, length);
    char folder[PATH_MAX];
    struct stat status;

    if (plain == 0) {
        note("%.*s: matches by name, anywhere: not looked for", (int)length, pattern);
        return;
    }
    if (plain >= sizeof folder || length >= sizeof alone)
        return;
    memcpy(folder, pattern, plain);
    folder[plain] = '\0';
    if (lstat(folder, &status) != 0 && strrchr(folder, '/') != folder)
        *strrchr(folder, '/') = '\0';
    if (stat(folder, &status) != 0) {
        warn("%.*s: matches nothing: %s: %s", (int)length, pattern, folder, strerror(errno));
        return;
    }
    memcpy(alone, pattern, length);
    alone[length] = '\0';
    walk.pattern = alone;
    walk.paths = paths;
    walk.looked_at = walk.matched = 0;
    if (S_ISREG(status.st_mode)) {
        visit(folder, &status, FTW_F, NULL);
        *strrchr(folder, '/') = '\0';
    } else
        (void)nftw(folder, visit, 64, FTW_PHYS);
    look_at_file_system(folder[0] != '\0' ? folder : "/");
    if (walk.looked_at > LOOKED_AT_MAX)
        note("%.*s: matches %ld of the first %d files; the others were not looked at", (int)length, pattern,
             walk.matched, LOOKED_AT_MAX);
    else if (walk.matched > LISTED_MAX)
        note("%.*s: matches %ld files, of which %d are shown", (int)length, pattern, walk.matched,
             LISTED_MAX);
    else if (walk.matched == 0)
        note("%.*s: matches no file right now", (int)length, pattern);
}

/* Looks below the pattern `item`, or below the last one that it is resolved to: of a link to a file, the file's. */
static void look_at_pattern(const struct pattern_item *item, const char *paths)
{
    int length = (int)(item->end - item->start);
    struct pattern_item last = *item;
    struct pattern_item next;
    char alone[PATH_MAX];
    const char *resolved;

    if (item->takes_out || snprintf(alone, sizeof alone, "%.*s", length, item->start) >= (int)sizeof alone)
        return;
    resolved = config_resolve_patterns(alone);
    if (resolved != alone) {
        for (const char *left = resolved; pattern_next(&left, &next);)
            last = next;
        note("%s: leads through a symbolic link: its files are those of %s", alone, last.start);
    }
    look_below(last.start, (size_t)(last.end - last.start), paths);
}

static void look_at_patterns(const char *paths)
{
    const char *resolved = config_resolve_patterns(paths);
    struct pattern_item item;

    if (!paths_take_in(paths)) {
        problem("no files to manage: give --path PATTERN or set ATOMSHIM_PATHS");
        return;
    }
    while (pattern_next(&paths, &item))
        look_at_pattern(&item, resolved);
}

/* ---- the command ---- */

static void report(const char *message, void *context)
{
    (void)context;
    cli_complain("%s", message);
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
        if (value == NULL && strcmp(argv[i], "--path") != 0) {
            cli_complain("doctor: unknown option '%s': accepted are --path PATTERN and --help", argv[i]);
            return -1;
        }
        if (value == NULL && (value = argv[++i]) == NULL) {
            cli_complain("doctor: --path needs a value");
            return -1;
        }
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

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return cli_help(help);
    program = take_options(argc, argv);
    if (program < 0 || config_parse(&config, environ, report, NULL) != 0)
        return CLI_USAGE;
    if (preload_find(shim, &kind)) {
        ok("the shim is %s", shim);
        if (program < argc)
            look_at_program(argv[program], &kind);
    } else
        problem("there is no shim that could be loaded");
    if (config.disabled)
        problem("ATOMSHIM_DISABLE is set: the shim does nothing");
    look_at_environment();
    look_at_machine();
    look_at_patterns(config.paths);
    return cli_finish(problems != 0 ? CLI_BAD : CLI_GOOD);
}
