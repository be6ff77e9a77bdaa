#include "program/target.h"

#include "os/scratch.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <linux/xattr.h>
#include <string.h>
#include <unistd.h>

#define SHIM_NAME "libatomshim.so"

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#else
#define OWN_MACHINE EM_AARCH64
#endif

enum {
    SCRIPTS_MAX = 5, /* the kernel follows as many */
    LINE_MAX_SIZE = 256,
    HEADERS_MAX = 64,
    NOTES_SIZE = 1024,
};

static char own_preload[512]; /* a longer one is not known again */

static const char *value(const char *entry, const char *name)
{
    size_t length = strlen(name);

    return strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}

/* What the program gives to execve(2), which says EFAULT if it cannot be read, and so may we not crash. */
static const char *variable(char *const environment[], const char *name)
{
    const char *result = NULL;

    for (; environment != NULL && result == NULL && sys_is_readable(environment) && *environment != NULL &&
           sys_is_byte_readable(*environment);
         environment++)
        result = value(*environment, name);
    return result;
}

void target_remember(char *const environment[])
{
    const char *preload = NULL;

    for (; environment != NULL && *environment != NULL && preload == NULL; environment++)
        preload = value(*environment, "LD_PRELOAD");
    if (preload != NULL && strlen(preload) < sizeof own_preload)
        strcpy(own_preload, preload);
}

/* Loaded without LD_PRELOAD, we are in ld.so.preload, which is for every program; glibc alone reads it. */
static bool is_in_every_program(void)
{
    char text[LINE_MAX_SIZE];
    int fd = sys_openat(AT_FDCWD, "/etc/ld.so.preload", O_RDONLY | O_CLOEXEC, 0);
    ssize_t n;

    if (fd < 0)
        return false;
    n = sys_read(fd, text, sizeof text);
    (void)sys_close(fd);
    return n > 0 && memmem(text, (size_t)n, SHIM_NAME, sizeof SHIM_NAME - 1) != NULL;
}

/* What is not there is not loaded: after chroot(2), say. A name without a folder is looked for, `$` stands for something. */
static bool is_loadable(const char *item, size_t length)
{
    char path[sizeof own_preload];
    int fd;

    if (memchr(item, '/', length) == NULL || memchr(item, '$', length) != NULL)
        return true;
    if (length >= sizeof path)
        return false;
    memcpy(path, item, length);
    path[length] = '\0';
    fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    (void)sys_close(fd);
    return true;
}

/* Are we among the libraries of LD_PRELOAD, by our name or, if it is what we were loaded by, by any? */
static bool names_shim(const char *preload)
{
    bool is_own = strstr(preload, SHIM_NAME) == NULL && strcmp(preload, own_preload) == 0;
    bool found = false;

    for (size_t length; *preload != '\0'; preload += length) {
        preload += strspn(preload, " :");
        length = strcspn(preload, " :");
        if (length == 0 || (!is_own && memmem(preload, length, SHIM_NAME, sizeof SHIM_NAME - 1) == NULL))
            continue;
        if (!is_loadable(preload, length))
            return false;
        found = true;
    }
    return found;
}

static bool is_preloaded(char *const environment[])
{
    const char *preload = variable(environment, "LD_PRELOAD");
    const char *disable = variable(environment, "ATOMSHIM_DISABLE");

    if (disable != NULL && strcmp(disable, "0") != 0 && *disable != '\0')
        return false;
    return (preload != NULL && names_shim(preload)) || is_in_every_program();
}

/* Rights that the file gives make its loader ignore the preload. */
static bool gives_rights(int fd)
{
    struct stat status;
    unsigned user = (unsigned)SYS_CALL(SYS_getuid, 0, 0, 0, 0, 0, 0);
    unsigned group = (unsigned)SYS_CALL(SYS_getgid, 0, 0, 0, 0, 0, 0);

    if (sys_fstat(fd, &status) != 0)
        return true;
    if ((status.st_mode & S_ISUID) ? status.st_uid != user
                                   : (unsigned)SYS_CALL(SYS_geteuid, 0, 0, 0, 0, 0, 0) != user)
        return true;
    if ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)
            ? status.st_gid != group
            : (unsigned)SYS_CALL(SYS_getegid, 0, 0, 0, 0, 0, 0) != group)
        return true;
    return user != 0 && sys_fgetxattr(fd, XATTR_NAME_CAPS, NULL, 0) > 0;
}

/* Go's linker leaves a note of type 4. */
static bool is_go(int fd, const Elf64_Phdr *header)
{
    char notes[NOTES_SIZE];
    ssize_t n = sys_pread(fd, notes, header->p_filesz < sizeof notes ? header->p_filesz : sizeof notes,
                          header->p_offset);

    for (ssize_t at = 0; at + (ssize_t)sizeof(Elf64_Nhdr) + 4 <= n;) {
        Elf64_Nhdr note;

        memcpy(&note, notes + at, sizeof note);
        at += (ssize_t)sizeof note;
        if (note.n_type == 4 && note.n_namesz == 4 && memcmp(notes + at, "Go\0\0", 4) == 0)
            return true;
        if (note.n_namesz > sizeof notes || note.n_descsz > sizeof notes)
            break;
        at += (ssize_t)((note.n_namesz + 3) / 4 * 4 + (note.n_descsz + 3) / 4 * 4);
    }
    return false;
}

static bool is_covered_program(int fd, const Elf64_Ehdr *elf)
{
    bool has_loader = false;

    if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_machine != OWN_MACHINE ||
        elf->e_phentsize != sizeof(Elf64_Phdr) || gives_rights(fd))
        return false;
    for (unsigned i = 0; i < elf->e_phnum && i < HEADERS_MAX; i++) {
        Elf64_Phdr header;

        if (sys_pread(fd, &header, sizeof header, elf->e_phoff + i * sizeof header) != sizeof header)
            return false;
        has_loader |= header.p_type == PT_INTERP;
        if (header.p_type == PT_NOTE && is_go(fd, &header))
            return false;
    }
    return has_loader;
}

/* "#!INTERPRETER ...": puts the interpreter in front. Text without it is the shell's, if execvp(3) runs it. */
static void read_interpreter(char line[LINE_MAX_SIZE], size_t size)
{
    char *start = line + 2;

    line[size < LINE_MAX_SIZE ? size : LINE_MAX_SIZE - 1] = '\0';
    if (strncmp(line, "#!", 2) != 0) {
        strcpy(line, "/bin/sh");
        return;
    }
    start += strspn(start, " \t");
    start[strcspn(start, " \t\n")] = '\0';
    memmove(line, start, strlen(start) + 1);
}

bool target_loads_shim(int directory, const char *path, int flags, char *const environment[])
{
    union {
        Elf64_Ehdr elf;
        char line[LINE_MAX_SIZE];
    } head;
    bool result = false;

    if (!is_preloaded(environment))
        return false;
    for (int scripts = 0; scripts < SCRIPTS_MAX; scripts++) {
        int fd = flags & AT_EMPTY_PATH && *path == '\0'
                     ? (int)sys_fcntl(directory, F_DUPFD_CLOEXEC, 0)
                     : sys_openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
        ssize_t n = fd < 0 ? fd : sys_pread(fd, &head, sizeof head, 0);
        bool is_elf = n >= (ssize_t)sizeof head.elf && memcmp(head.elf.e_ident, ELFMAG, SELFMAG) == 0;

        if (is_elf)
            result = is_covered_program(fd, &head.elf);
        if (fd >= 0)
            (void)sys_close(fd);
        if (is_elf || n < 0)
            break;
        read_interpreter(head.line, (size_t)n);
        path = head.line;
        directory = AT_FDCWD;
        flags = 0;
    }
    return result;
}

bool target_is_there(int directory, const char *path, int flags)
{
    struct stat status;
    int error = sys_fstatat(directory, path, &status, flags & AT_EMPTY_PATH);

    return error != -ENOENT && error != -ENOTDIR;
}

static bool is_executable(const char *path)
{
    struct stat status;

    return sys_fstatat(AT_FDCWD, path, &status, 0) == 0 && S_ISREG(status.st_mode) &&
           SYS_CALL(SYS_faccessat, AT_FDCWD, path, X_OK, 0, 0, 0) == 0;
}

bool target_find(const char *file, char *path, size_t size)
{
    const char *search = variable(environ, "PATH");
    size_t length = strlen(file);

    if (strchr(file, '/') != NULL) {
        if (length >= size)
            return false;
        memcpy(path, file, length + 1);
        return true;
    }
    if (search == NULL)
        search = "/bin:/usr/bin";
    for (;; search++) {
        size_t folder = strcspn(search, ":");

        if (length != 0 && folder + length + 2 < size) {
            memcpy(path, search, folder);
            path[folder] = '/';
            memcpy(path + folder + (folder != 0), file, length + 1);
            if (is_executable(path))
                return true;
        }
        search += folder;
        if (*search == '\0')
            return false;
    }
}
