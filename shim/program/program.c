#include "program/program.h"

#include "os/descriptor.h"
#include "os/sys.h"

#include <elf.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

enum {
    PROGRAM_HEADERS_MAX = 1024, /* 64 KiB: load_elf_phdrs() of the kernel's fs/binfmt_elf.c */
    NOTES_SIZE = 1024,
};

/* Fills in the obstacle. Returns false always, so that a check can end with it. */
static bool refuse_program(struct program_answer *answer, enum program_obstacle obstacle, int error)
{
    answer->obstacle = obstacle;
    answer->error = error;
    return false;
}

static bool refuse_number(struct program_answer *answer, enum program_obstacle obstacle, int number)
{
    answer->number = number;
    return refuse_program(answer, obstacle, 0);
}

bool program_read_kind(int fd, struct program_kind *kind)
{
    Elf64_Ehdr header; /* up to e_machine the same in both classes */

    if (sys_pread(fd, &header, sizeof header, 0) < (ssize_t)sizeof(Elf32_Ehdr) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    *kind = (struct program_kind){
        .elf_class = header.e_ident[EI_CLASS],
        .byte_order = header.e_ident[EI_DATA],
        .machine = header.e_machine,
    };
    return true;
}

/* ---- secure-execution mode ---- */

/*
 * Tells whether the file has capabilities that are given to the process, or the flag that makes
 * them effective at once.
 */
static bool has_capabilities(int fd)
{
    /*
     * vfs_cap_data of <linux/capability.h>: flags, then pairs of permitted and inheritable, little
     * endian
     */
    unsigned char data[24] = {0};
    ssize_t n = sys_fgetxattr(fd, XATTR_NAME_CAPS, data, sizeof data);
    bool permitted = false;

    for (ssize_t i = 4; i < n && i < 20; i++)
        if ((i - 4) % 8 < 4 && data[i] != 0)
            permitted = true;
    return n >= 12 && (permitted || (data[0] & 1) != 0);
}

/*
 * Tells whether the kernel will set AT_SECURE, as cap_bprm_creds_from_file() of its
 * security/commoncap.c decides: because the effective ids will differ from the real ones, for
 * whatever reason, or because of capabilities from the file. On a mount with nosuid the file gives
 * neither; under PR_SET_NO_NEW_PRIVS it gives no ids.
 */
static bool runs_secure(int fd)
{
    struct stat status;
    struct statfs mount;
    uid_t real_user = (uid_t)SYS_CALL(SYS_getuid, 0, 0, 0, 0, 0, 0);
    gid_t real_group = (gid_t)SYS_CALL(SYS_getgid, 0, 0, 0, 0, 0, 0);
    uid_t user = sys_geteuid();
    gid_t group = (gid_t)SYS_CALL(SYS_getegid, 0, 0, 0, 0, 0, 0);
    bool nosuid = sys_fstatfs(fd, &mount) == 0 && (mount.f_flags & ST_NOSUID) != 0;

    if (sys_fstat(fd, &status) != 0)
        return true;
    /* asked last: a seccomp filter may kill for prctl() */
    if (!nosuid && (status.st_mode & (S_ISUID | S_ISGID)) != 0 &&
        SYS_CALL(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) != 1) {
        if ((status.st_mode & S_ISUID) != 0)
            user = status.st_uid;
        /* set-group-id without group execution once meant mandatory locking */
        if ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
            group = status.st_gid;
    }
    if (user != real_user || group != real_group)
        return true;
    return real_user != 0 && !nosuid && has_capabilities(fd);
}

/* ---- ELF files ---- */

/* Go's linker leaves a note of type 4 and name "Go". */
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
        at += (ssize_t)((note.n_namesz + 3) / 4 * 4 + (note.n_descsz + 3) / 4 * 4);
    }
    return false;
}

static bool check_loader(int fd, const Elf64_Phdr *header, struct program_answer *answer)
{
    size_t size = header->p_filesz;
    int error;

    if (size < 2 || size > sizeof answer->other ||
        sys_pread(fd, answer->other, size, header->p_offset) != (ssize_t)size ||
        answer->other[size - 1] != '\0')
        return refuse_program(answer, PROGRAM_DAMAGED, 0);
    error = program_check_executable(answer->other);
    if (error != 0)
        return refuse_program(answer, PROGRAM_LOADER, error);
    return runs_secure(fd) ? refuse_program(answer, PROGRAM_SECURE, 0) : true;
}

static bool check_program_headers(int fd, const Elf64_Ehdr *elf, struct program_answer *answer)
{
    Elf64_Phdr loader = {.p_type = PT_NULL};

    for (unsigned i = 0; i < elf->e_phnum; i++) {
        Elf64_Phdr header;

        if (sys_pread(fd, &header, sizeof header, elf->e_phoff + i * sizeof header) != sizeof header)
            return refuse_program(answer, PROGRAM_DAMAGED, 0);
        if (header.p_type == PT_NOTE && is_go(fd, &header))
            return refuse_program(answer, PROGRAM_GO, 0);
        if (header.p_type == PT_INTERP && loader.p_type == PT_NULL)
            loader = header;
    }
    return loader.p_type == PT_NULL ? refuse_program(answer, PROGRAM_STATIC, 0)
                                    : check_loader(fd, &loader, answer);
}

static bool check_elf(int fd, const struct program_kind *kind, const struct program_kind *shim,
                      struct program_answer *answer)
{
    Elf64_Ehdr elf;

    if (kind->elf_class != shim->elf_class)
        return refuse_number(answer, PROGRAM_OTHER_CLASS, kind->elf_class);
    if (kind->machine != shim->machine || kind->byte_order != shim->byte_order)
        return refuse_number(answer, PROGRAM_OTHER_MACHINE, kind->machine);
    if (sys_pread(fd, &elf, sizeof elf, 0) != sizeof elf || elf.e_phentsize != sizeof(Elf64_Phdr) ||
        elf.e_phnum > PROGRAM_HEADERS_MAX || (elf.e_type != ET_EXEC && elf.e_type != ET_DYN))
        return refuse_program(answer, PROGRAM_NO_PROGRAM, 0);
    return check_program_headers(fd, &elf, answer);
}

/* ---- the way from the named file to the program ---- */

/* Puts the interpreter of a script into answer->file. */
static bool find_interpreter(const struct program_question *question, const char *head, size_t size,
                             struct program_answer *answer)
{
    struct script script;
    int error;

    answer->text = script_read(head, size, question->env_path != NULL, &script);
    if (answer->text != NULL)
        return refuse_program(answer, PROGRAM_NO_SCRIPT, 0);
    memcpy(answer->other, script.interpreter, sizeof script.interpreter);
    if (script.search)
        error = program_find(script.interpreter, question->env_path, answer->file, sizeof answer->file);
    else {
        memcpy(answer->file, script.interpreter, sizeof script.interpreter);
        error = program_check_executable(answer->file);
    }
    return error == 0 || refuse_program(answer, PROGRAM_INTERPRETER, error);
}

static int open_program(const struct program_question *question)
{
    char path[PROC_PATH_SIZE];
    int fd;

    if ((question->flags & AT_EMPTY_PATH) == 0 || *question->path != '\0')
        return sys_openat(question->directory, question->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                          0);
    /* the descriptor may be one of O_PATH */
    fd = sys_openat(AT_FDCWD, descriptor_path(path, question->directory), O_RDONLY | O_CLOEXEC, 0);
    return fd >= 0 ? fd : (int)sys_fcntl(question->directory, F_DUPFD_CLOEXEC, 0);
}

bool program_loads_shim(const struct program_question *question, struct program_answer *answer)
{
    char head[SCRIPT_HEAD_SIZE];
    struct program_kind kind;
    int fd = open_program(question);

    answer->file[0] = answer->other[0] = '\0';
    answer->obstacle = PROGRAM_NO_OBSTACLE;
    for (answer->scripts = 0; answer->scripts <= PROGRAM_SCRIPTS_MAX; answer->scripts++) {
        ssize_t n = fd < 0 ? fd : sys_pread(fd, head, sizeof head, 0);
        bool is_elf = n >= 0 && program_read_kind(fd, &kind);
        bool result = n >= 0 && (is_elf ? check_elf(fd, &kind, &question->shim, answer)
                                        : find_interpreter(question, head, (size_t)n, answer));

        descriptor_close_if_open(fd);
        if (n < 0)
            return refuse_program(answer, PROGRAM_UNREADABLE, (int)n);
        if (is_elf || !result)
            return result;
        fd = sys_openat(AT_FDCWD, answer->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    }
    descriptor_close_if_open(fd);
    return refuse_program(answer, PROGRAM_SCRIPTS, 0);
}
