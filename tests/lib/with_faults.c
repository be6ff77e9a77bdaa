/*
 * Runs a program under the library with the failing kernel. Its system calls fail, or another
 * program acts before them, where the entries say so:
 *
 *   with_faults CONTROL LIBRARY ENTRY... -- PROGRAM [ARGUMENT]...
 *
 * ENTRY is "FUNCTION CALL ORDINAL WHAT". FUNCTION is the name of one in the library; static ones
 * have names, too. CALL is a system call that it or its callees make, with "=FUNCTION" it itself;
 * or a command of fcntl(2).
 * ORDINAL counts these from 1 on, in all processes of the program together; "2+" means the second
 * and all later ones. WHAT is an errno's name; "short", for a transfer of one byte; or
 * "!COMMAND", which bash executes before the call is made, and which must succeed.
 *
 * CONTROL is a file to be made. The exit status is that of the program, or 128 and its signal. The
 * runner removes the file CONTROL.failed if each entry was met and each command succeeded; else it
 * says what was not.
 */

#include "failing_kernel.h"
#include "runner.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kernel_control *control;
static const char *command[KERNEL_DIRECTED]; /* what the stranger does, or NULL */

static _Noreturn void fail(const char *what, const char *entry)
{
    (void)fprintf(stderr, "with_faults: %s: %s\n", what, entry);
    exit(2);
}

/* ---- entries ---- */

/* The file of the library, mapped. */
static const char *image;

static const void *section(unsigned type, size_t *count, unsigned *link)
{
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Shdr *sections = (const void *)(image + header->e_shoff);

    for (unsigned i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_type == type) {
            *count = sections[i].sh_size / sizeof(Elf64_Sym);
            *link = sections[i].sh_link;
            return image + sections[i].sh_offset;
        }
    die("no symbols in the library");
    return NULL;
}

/* Finds the code of a function, and of what a compiler has split off: "function.part.0". */
static void find_code(const char *function, struct kernel_directed *entry, const char *text)
{
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Shdr *sections = (const void *)(image + header->e_shoff);
    size_t count;
    unsigned link;
    int found = 0;
    const Elf64_Sym *symbols = section(SHT_SYMTAB, &count, &link);
    const char *names = image + sections[link].sh_offset;

    for (size_t i = 0; i < count; i++) {
        const char *name = names + symbols[i].st_name;
        size_t length = strlen(function);

        if (ELF64_ST_TYPE(symbols[i].st_info) != STT_FUNC || symbols[i].st_value == 0 ||
            strncmp(name, function, length) != 0 || (name[length] != '\0' && name[length] != '.'))
            continue;
        if (found == 2)
            fail("more than two functions have this name", text);
        entry->code[found].start = symbols[i].st_value;
        entry->code[found++].end = symbols[i].st_value + symbols[i].st_size;
    }
    if (found == 0)
        fail("no such function", text);
}

static const struct call {
    const char *name;
    int number, command;
} calls[] = {
#define CALL(name)                                                                                           \
    {                                                                                                        \
#name, SYS_##name, -1                                                                                \
    }
#define COMMAND(name)                                                                                        \
    {                                                                                                        \
#name, SYS_fcntl, name                                                                               \
    }
    CALL(openat),          CALL(openat2),
    CALL(newfstatat),      CALL(fstat),
    CALL(fstatfs),         CALL(statx),
    CALL(readlinkat),      CALL(read),
    CALL(pread64),         CALL(write),
    CALL(pwrite64),        CALL(pwritev),
    CALL(fdatasync),       CALL(fsync),
    CALL(sync_file_range), CALL(ftruncate),
    CALL(fallocate),       CALL(flock),
    CALL(fgetxattr),       CALL(getxattr),
    CALL(fsetxattr),       CALL(fremovexattr),
    CALL(memfd_create),    CALL(mmap),
    CALL(munmap),          CALL(mremap),
    CALL(madvise),         CALL(utimensat),
    CALL(getdents64),      CALL(fchmod),
    CALL(fchown),          CALL(unlinkat),
    CALL(linkat),          CALL(renameat2),
    CALL(clone),           CALL(dup3),
    CALL(pipe2),           CALL(kcmp),
    CALL(pidfd_open),      CALL(close),
    CALL(close_range),     CALL(faccessat2),
    CALL(lseek),           CALL(prlimit64),
    CALL(futex),           CALL(inotify_init1),
    CALL(wait4),           CALL(ioctl),
    CALL(getcwd),          CALL(unshare),
    CALL(rt_sigprocmask),  CALL(copy_file_range),
    CALL(sendfile),        CALL(fcntl),
    COMMAND(F_SETLEASE),   COMMAND(F_OFD_SETLK),
    COMMAND(F_OFD_GETLK),  COMMAND(F_OFD_SETLKW),
    COMMAND(F_SETLK),      COMMAND(F_GETLK),
    COMMAND(F_DUPFD),      COMMAND(F_DUPFD_CLOEXEC),
    COMMAND(F_GETFL),      COMMAND(F_SETFL),
    COMMAND(F_ADD_SEALS),
};

static void find_call(const char *name, struct kernel_directed *entry, const char *text)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, name) == 0) {
            entry->number = calls[i].number;
            entry->command = calls[i].command;
            return;
        }
    fail("no such call is known", text);
}

static int find_error(const char *name, const char *text)
{
    if (strcmp(name, "short") == 0)
        return KERNEL_SHORT;
    for (int error = 1; error < 200; error++)
        if (strerrorname_np(error) != NULL && strcmp(strerrorname_np(error), name) == 0)
            return error;
    fail("neither an errno, nor \"short\", nor !COMMAND", text);
}

static void read_entry(const char *text)
{
    struct kernel_directed *entry = &control->directed[control->directed_count];
    char function[64];
    char call[32];
    char more[2] = "";
    int length = 0;

    if (control->directed_count == KERNEL_DIRECTED)
        fail("too many entries", text);
    if (sscanf(text, "%63s %31s %u%1[+] %n", function, call, &entry->first, more, &length) < 4 &&
        sscanf(text, "%63s %31s %u %n", function, call, &entry->first, &length) < 3)
        fail("not FUNCTION CALL ORDINAL WHAT", text);
    if (length == 0 || entry->first == 0)
        fail("not FUNCTION CALL ORDINAL WHAT", text);
    entry->last = *more == '+' ? UINT_MAX : entry->first;
    entry->is_caller = *function == '=';
    find_code(function + entry->is_caller, entry, text);
    find_call(call, entry, text);
    if (text[length] == '!')
        command[control->directed_count] = text + length + 1;
    else
        entry->error = find_error(text + length, text);
    control->directed_count++;
}

/* ---- the stranger ---- */

static void futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    (void)syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

/* Executes the commands that calls ask for. */
static _Noreturn void act(void)
{
    for (;;) {
        uint32_t asked = atomic_load(&control->asked);

        for (uint32_t i = 0; i < control->directed_count; i++) {
            struct kernel_directed *entry = &control->directed[i];
            pid_t shell;
            int status = 1;

            if (atomic_load(&entry->asks) == 0)
                continue;
            shell = fork();
            if (shell == 0) {
                (void)execlp("bash", "bash", "-c", command[i], NULL);
                _exit(127);
            }
            if (waitpid(shell, &status, 0) != shell || status != 0) {
                (void)fprintf(stderr, "with_faults: status %d of: %s\n", status, command[i]);
                atomic_store(&control->failed, 1);
            }
            atomic_store(&entry->asks, 0);
            futex(&entry->asks, FUTEX_WAKE, INT_MAX);
        }
        futex(&control->asked, FUTEX_WAIT, asked);
    }
}

/* ---- the program ---- */

static void *map(const char *path, int flags, int protection, size_t size)
{
    int fd = open(path, flags | O_CLOEXEC, 0666);
    struct stat status;
    void *pages;

    if (fd < 0 || (size != 0 && (ftruncate(fd, (off_t)size) != 0 || fchmod(fd, 0666) != 0)) ||
        fstat(fd, &status) != 0)
        die(path);
    pages = mmap(NULL, (size_t)status.st_size, protection, MAP_SHARED, fd, 0);
    if (pages == MAP_FAILED)
        die(path);
    (void)close(fd);
    return pages;
}

static int run(char **program, const char *path, const char *library)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        char *variable = format("%s%s", FAILING_KERNEL_VARIABLE, path);

        (void)putenv(variable);
        (void)setenv("LD_PRELOAD", library, 1);
        (void)execvp(*program, program);
        perror(*program);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("the program");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char *argv[])
{
    int at = 3;
    int status;
    char *failed;
    pid_t stranger;

    if (argc < 3)
        fail("usage", "with_faults CONTROL LIBRARY ENTRY... -- PROGRAM [ARGUMENT]...");
    control = map(argv[1], O_RDWR | O_CREAT | O_TRUNC, PROT_READ | PROT_WRITE, sizeof *control);
    image = map(argv[2], O_RDONLY, PROT_READ, 0);
    for (; at < argc && strcmp(argv[at], "--") != 0; at++)
        read_entry(argv[at]);
    if (at >= argc - 1)
        fail("usage", "no program");
    failed = format("%s%s", argv[1], ".failed");
    stranger = fork();
    if (stranger == 0)
        act();
    status = run(argv + at + 1, argv[1], argv[2]);
    for (uint32_t i = 0; i < control->directed_count; i++)
        if (control->directed[i].met < control->directed[i].first) {
            (void)fprintf(stderr, "with_faults: met only %u times: %s\n", control->directed[i].met,
                          argv[3 + i]);
            atomic_store(&control->failed, 1);
        }
    if (atomic_load(&control->failed) == 0)
        (void)unlink(failed);
    (void)kill(stranger, SIGKILL);
    (void)waitpid(stranger, NULL, 0);
    return status;
}
