#include "program/program.h"

#include "program/script.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
    SCRIPTS_MAX = 4, /* scripts whose interpreters are scripts; the kernel gives up soon after */
    PROGRAM_HEADERS_MAX = 1024,
};

/* One file on the way from the named program to the one that is run. */
struct check {
    const char *subject; /* "it", or what to call an interpreter */
    const struct program_kind *shim;
    char *reason;
    int fd;
};

/* Always false, so that a check can end with it. */
__attribute__((format(printf, 2, 3))) static bool because(char *reason, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(reason, PROGRAM_REASON_SIZE, format, arguments);
    va_end(arguments);
    return false;
}

/* 0 if execve(path) would get past the permissions, else its errno. */
static int executable(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return EACCES;
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

int program_find(const char *name, char path[PATH_MAX])
{
    const char *search = getenv("PATH");
    int result = ENOENT;

    if (strchr(name, '/') != NULL) {
        if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
            return ENAMETOOLONG;
        return executable(path);
    }
    if (name[0] == '\0')
        return ENOENT;
    if (search == NULL)
        search = "/bin:/usr/bin";
    for (;;) {
        size_t length = strcspn(search, ":");
        int written = length == 0 ? snprintf(path, PATH_MAX, "./%s", name)
                                  : snprintf(path, PATH_MAX, "%.*s/%s", (int)length, search, name);

        if (length < PATH_MAX && written < PATH_MAX) {
            int error = executable(path);

            if (error == 0)
                return 0;
            /* not a directory that may not be searched: shells say "not found" then, too */
            if (error == EACCES && access(path, F_OK) == 0)
                result = EACCES;
        }
        if (search[length] == '\0')
            return result;
        search += length + 1;
    }
}

bool program_read_kind(int fd, struct program_kind *kind)
{
    Elf64_Ehdr header; /* up to e_machine the same in both classes */

    if (pread(fd, &header, sizeof header, 0) < (ssize_t)sizeof(Elf32_Ehdr) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    *kind = (struct program_kind){
        .elf_class = header.e_ident[EI_CLASS],
        .byte_order = header.e_ident[EI_DATA],
        .machine = header.e_machine,
    };
    return true;
}

/* True if the file's capabilities would be given to the process. */
static bool has_capabilities(int fd)
{
    /* vfs_cap_data of <linux/capability.h>: flags, then pairs of permitted and inheritable, little endian */
    unsigned char data[24] = {0};
    ssize_t n = fgetxattr(fd, "security.capability", data, sizeof data);
    bool permitted = false;

    for (ssize_t i = 4; i < n && i < 20; i++)
        if ((i - 4) % 8 < 4 && data[i] != 0)
            permitted = true;
    return n >= 12 && (permitted || (data[0] & 1) != 0);
}

/*
 * Secure-execution mode, in which the loader ignores our preload: the kernel's conditions
 * (cap_bprm_creds_from_file). Effective ids that differ from the real ones afterwards, whoever caused it, or
 * capabilities from the file.
 */
static bool runs_secure(int fd)
{
    struct stat status;
    struct statvfs mount;
    uid_t user = geteuid();
    gid_t group = getegid();
    bool nosuid = fstatvfs(fd, &mount) == 0 && (mount.f_flag & ST_NOSUID) != 0;

    if (fstat(fd, &status) != 0)
        return true;
    if (!nosuid && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        if ((status.st_mode & S_ISUID) != 0)
            user = status.st_uid;
        /* set-group-id without group execution is something else: mandatory locking, once */
        if ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
            group = status.st_gid;
    }
    if (user != getuid() || group != getgid())
        return true;
    return getuid() != 0 && !nosuid && has_capabilities(fd);
}

static bool check_loader(const struct check *check, const Elf64_Phdr *header)
{
    char loader[PATH_MAX];
    int error;

    if (header->p_filesz < 2 || header->p_filesz > sizeof loader ||
        pread(check->fd, loader, header->p_filesz, (off_t)header->p_offset) != (ssize_t)header->p_filesz ||
        loader[header->p_filesz - 1] != '\0')
        return because(check->reason, "%s is a damaged ELF file", check->subject);
    error = executable(loader);
    if (error != 0)
        return because(check->reason, "%s needs the loader %s: %s", check->subject, loader, strerror(error));
    if (runs_secure(check->fd))
        return because(
            check->reason,
            "%s is set-user-id, set-group-id or has file capabilities, so its loader ignores LD_PRELOAD",
            check->subject);
    return true;
}

/* Go's linker leaves a note of type 4. */
static bool is_go(int fd, const Elf64_Phdr *header)
{
    char notes[4096];
    ssize_t n = pread(fd, notes, header->p_filesz < sizeof notes ? header->p_filesz : sizeof notes,
                      (off_t)header->p_offset);
    static const char go[] = {4, 0, 0, 0, 'G', 'o', 0, 0}; /* type and name */

    return n > 0 && memmem(notes, (size_t)n, go, sizeof go) != NULL;
}

static bool check_elf(const struct check *check, const struct program_kind *kind)
{
    Elf64_Phdr loader = {0};
    bool dynamic = false;
    bool go = false;
    Elf64_Ehdr elf;

    if (kind->elf_class != check->shim->elf_class)
        return because(check->reason, "%s is a %s program, the shim is not", check->subject,
                       kind->elf_class == ELFCLASS32 ? "32-bit" : "64-bit");
    if (kind->machine != check->shim->machine || kind->byte_order != check->shim->byte_order)
        return because(check->reason, "%s is for another machine (ELF machine %d, the shim is for %d)",
                       check->subject, kind->machine, check->shim->machine);
    if (pread(check->fd, &elf, sizeof elf, 0) != sizeof elf || elf.e_phentsize != sizeof(Elf64_Phdr) ||
        elf.e_phnum > PROGRAM_HEADERS_MAX || (elf.e_type != ET_EXEC && elf.e_type != ET_DYN))
        return because(check->reason, "%s is an ELF file, but no program", check->subject);
    for (unsigned i = 0; i < elf.e_phnum; i++) {
        Elf64_Phdr header;

        if (pread(check->fd, &header, sizeof header, (off_t)(elf.e_phoff + i * sizeof header)) !=
            sizeof header)
            return because(check->reason, "%s is a damaged ELF file", check->subject);
        go = go || (header.p_type == PT_NOTE && is_go(check->fd, &header));
        if (header.p_type == PT_INTERP && !dynamic) {
            dynamic = true;
            loader = header;
        }
    }
    if (go)
        return because(check->reason, "%s is a Go program, which makes its system calls past the C library",
                       check->subject);
    if (!dynamic)
        return because(check->reason, "%s is statically linked", check->subject);
    return check_loader(check, &loader);
}

/* Goes from a script to its interpreter: puts the file into `path`. */
static bool follow_script(const struct check *check, const struct script *script, char path[PATH_MAX])
{
    int error = 0;

    if (script->search)
        error = program_find(script->interpreter, path);
    else {
        (void)snprintf(path, PATH_MAX, "%s", script->interpreter);
        error = executable(path);
    }
    if (error != 0)
        return because(check->reason, "its interpreter %s: %s", script->interpreter, strerror(error));
    return true;
}

/*
 * One step: 1 if the shim will load, 0 with the reason in place if not, -1 if the file is a script: `path` is
 * its interpreter then.
 */
static int check_file(struct check *check, char path[PATH_MAX])
{
    char head[SCRIPT_HEAD_SIZE];
    struct program_kind kind;
    struct script script;
    const char *fault;
    ssize_t n;

    check->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    n = check->fd < 0 ? -1 : pread(check->fd, head, sizeof head, 0);
    if (n < 0)
        return because(check->reason, "%s cannot be read to tell: %s", check->subject, strerror(errno));
    if (program_read_kind(check->fd, &kind))
        return check_elf(check, &kind);
    fault = script_read(head, (size_t)n, &script);
    if (fault != NULL)
        return because(check->reason, "%s", fault);
    return follow_script(check, &script, path) ? -1 : 0;
}

bool program_loads_shim(const char *path, const struct program_kind *shim, char reason[PROGRAM_REASON_SIZE])
{
    char file[PATH_MAX];
    char subject[PATH_MAX + sizeof "its interpreter "] = "it";
    struct check check = {.subject = subject, .shim = shim, .reason = reason};

    (void)snprintf(file, sizeof file, "%s", path);
    for (int scripts = 0; scripts <= SCRIPTS_MAX; scripts++) {
        int result = check_file(&check, file);

        if (check.fd >= 0)
            (void)close(check.fd);
        if (result >= 0)
            return result == 1;
        (void)snprintf(subject, sizeof subject, "its interpreter %s", file);
    }
    return because(reason, "its #! line leads to more than %d scripts", SCRIPTS_MAX);
}

bool program_mentions(const char *path, const char *name)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    const char *bytes = MAP_FAILED;
    bool found = false;

    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes != MAP_FAILED) {
        /* in a table of strings it stands between NULs */
        found = memmem(bytes, (size_t)status.st_size, name, strlen(name) + 1) != NULL;
        (void)munmap((void *)bytes, (size_t)status.st_size);
    }
    if (fd >= 0)
        (void)close(fd);
    return found;
}

bool program_loader(const char *path, char loader[PATH_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct program_kind kind;
    Elf64_Ehdr elf;
    bool found = false;

    if (fd >= 0 && program_read_kind(fd, &kind) && kind.elf_class == ELFCLASS64 &&
        pread(fd, &elf, sizeof elf, 0) == sizeof elf)
        for (unsigned i = 0; !found && i < elf.e_phnum && i < PROGRAM_HEADERS_MAX; i++) {
            Elf64_Phdr header;

            if (pread(fd, &header, sizeof header, (off_t)(elf.e_phoff + i * sizeof header)) != sizeof header)
                break;
            found = header.p_type == PT_INTERP && header.p_filesz <= PATH_MAX &&
                    pread(fd, loader, header.p_filesz, (off_t)header.p_offset) == (ssize_t)header.p_filesz &&
                    header.p_filesz > 0 && loader[header.p_filesz - 1] == '\0';
        }
    if (fd >= 0)
        (void)close(fd);
    return found;
}
