/*
 * program/: "#!" lines, the search along PATH, and ELF files of every kind that does not load the
 * shim.
 */
#include "check.h"

#include "os/path.h"
#include "program/program.h"
#include "program/target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct program_kind own_kind;
static struct program_answer answer;

static const struct {
    const char *head;
    const char *interpreter; /* NULL: a fault */
    bool through_env;
    bool search;
} lines[] = {
    {"#!/bin/sh\n", "/bin/sh", false, false},
    {"#! \t/bin/sh -e\n", "/bin/sh", false, false},
    {"#!/bin/sh", "/bin/sh", false, false},
    {"echo text\n", "/bin/sh", false, false},
    {"", "/bin/sh", false, false},
    {"#!\n", NULL, false, false},
    {"#!/usr/bin/env python3\n", "python3", true, true},
    {"#!/usr/bin/env python3\n", "/usr/bin/env", false, false},
    {"#!/usr/bin/env -S A=b python3 -u\n", "python3", true, true},
    {"#!/usr/bin/env --split-string=python3\n", "python3", true, true},
    {"#!/usr/bin/env -i python3\n", NULL, true, false},
    {"#!/usr/bin/env -i python3\n", "/usr/bin/env", false, false}, /* env itself has the shim */
    {"#!/usr/bin/env - python3\n", NULL, true, false},
    {"#!/usr/bin/env -u A python3\n", "/usr/bin/env", true, false},
    {"#!/usr/bin/env \"python3\"\n", "/usr/bin/env", true, false},
    {"#!/usr/bin/env\n", "/usr/bin/env", true, false},
};

static void test_lines(void)
{
    char head[SCRIPT_HEAD_SIZE] = "#!/";
    struct script script;

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const char *fault = script_read(lines[i].head, strlen(lines[i].head), lines[i].through_env, &script);

        if ((fault == NULL) != (lines[i].interpreter != NULL))
            (void)fprintf(stderr, "%s: %s\n", lines[i].head, fault != NULL ? fault : "good");
        CHECK((fault == NULL) == (lines[i].interpreter != NULL));
        if (fault == NULL && lines[i].interpreter != NULL) {
            CHECK_STRING(script.interpreter, lines[i].interpreter);
            CHECK_EQUAL(script.search, lines[i].search);
        }
    }
    memset(head + 3, 'x', sizeof head - 3); /* the interpreter's name is cut */
    CHECK(script_read(head, sizeof head, false, &script) != NULL);
    CHECK(script_read("\0binary", 7, false, &script) != NULL);
}

static void write_file(const char *name, const void *bytes, size_t size, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0700);

    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && fchmod(fd, mode) == 0 && close(fd) == 0);
}

/* No more than the kernel reads of a file counts. */
static void test_long_head(void)
{
    char head[2 * SCRIPT_HEAD_SIZE];
    struct script script;

    memset(head, 'x', sizeof head);
    (void)stpcpy(head, "#!/bin/sh\n");
    CHECK(script_read(head, sizeof head, false, &script) == NULL);
    CHECK_STRING(script.interpreter, "/bin/sh");
    memset(head + 9, 'x', sizeof head - 9);
    head[SCRIPT_HEAD_SIZE + 1] = '\n';
    CHECK(script_read(head, sizeof head, false, &script) != NULL);
}

static void test_find(void)
{
    char path[32];

    CHECK_EQUAL(mkdir("a", 0700) | mkdir("b", 0700), 0);
    write_file("a/no", "x", 1, 0600);
    write_file("b/yes", "x", 1, 0700);
    write_file("here", "x", 1, 0700);
    CHECK_EQUAL(program_find("yes", "a:b", path, sizeof path), 0);
    CHECK_STRING(path, "b/yes");
    CHECK_EQUAL(program_find("here", "a::b", path, sizeof path), 0);
    CHECK_STRING(path, "./here");
    CHECK_EQUAL(program_find("here", "a:", path, sizeof path), 0);
    CHECK_EQUAL(program_find("yes", "a", path, sizeof path), -ENOENT);
    CHECK_EQUAL(program_find("", "a:b", path, sizeof path), -ENOENT);
    CHECK_EQUAL(program_find("no", "a:b", path, sizeof path), -EACCES);
    CHECK_EQUAL(program_find("b/yes", "a", path, sizeof path), 0);
    CHECK_EQUAL(program_find("./b", "a", path, sizeof path), -EACCES);
    CHECK_EQUAL(program_find("yes", "b", path, 5), -ENOENT);
    CHECK_EQUAL(program_find("b/yes", "b", path, 5), -ENAMETOOLONG);
    CHECK_EQUAL(program_find("sh", NULL, path, sizeof path), 0);
}

static enum program_obstacle ask_program(const char *path, const char *env_path)
{
    const struct program_question question = {
        .directory = AT_FDCWD, .path = path, .shim = own_kind, .env_path = env_path};
    bool loads = program_loads_shim(&question, &answer);

    CHECK_EQUAL(loads, answer.obstacle == PROGRAM_NO_OBSTACLE);
    return answer.obstacle;
}

/* A copy of /bin/true with the bytes at `offset` changed. */
static const char *altered(size_t offset, const void *bytes, size_t size)
{
    static char all[1 << 20];
    int fd = open("/bin/true", O_RDONLY);
    ssize_t n = read(fd, all, sizeof all);

    CHECK(n > 0 && (size_t)n < sizeof all && close(fd) == 0);
    memcpy(all + offset, bytes, size);
    write_file("altered", all, (size_t)n, 0700);
    return "altered";
}

static void test_elf(void)
{
    const uint16_t none = ET_REL;
    const uint16_t riscv = EM_RISCV;
    const uint16_t no_headers = 0;
    const unsigned char class32 = ELFCLASS32;

    CHECK_EQUAL(ask_program("/bin/true", NULL), PROGRAM_NO_OBSTACLE);
    CHECK(answer.other[0] == '/');
    CHECK_EQUAL(ask_program("nothing", NULL), PROGRAM_UNREADABLE);
    CHECK_EQUAL(answer.error, -ENOENT);
    CHECK_EQUAL(ask_program(altered(EI_CLASS, &class32, 1), NULL), PROGRAM_OTHER_CLASS);
    CHECK_EQUAL(ask_program(altered(offsetof(Elf64_Ehdr, e_machine), &riscv, 2), NULL),
                PROGRAM_OTHER_MACHINE);
    CHECK_EQUAL(answer.number, EM_RISCV);
    CHECK_EQUAL(ask_program(altered(offsetof(Elf64_Ehdr, e_type), &none, 2), NULL), PROGRAM_NO_PROGRAM);
    CHECK_EQUAL(ask_program(altered(offsetof(Elf64_Ehdr, e_phnum), &no_headers, 2), NULL), PROGRAM_STATIC);
    CHECK_EQUAL(ask_program("b", NULL), PROGRAM_UNREADABLE); /* a folder */
}

/* The program headers point behind the end of the file, or name no loader; a note is damaged. */
static void test_damaged(void)
{
    const Elf64_Off far = 1 << 30;
    Elf64_Ehdr elf;
    size_t loader = 0;
    size_t note = 0;
    Elf64_Phdr header;
    Elf64_Word size;
    int fd = open("/bin/true", O_RDONLY);

    CHECK(read(fd, &elf, sizeof elf) == sizeof elf);
    for (unsigned i = 0; i < elf.e_phnum; i++) {
        size_t at = elf.e_phoff + i * sizeof header;

        CHECK(pread(fd, &header, sizeof header, (off_t)at) == sizeof header);
        if (header.p_type == PT_INTERP)
            loader = at;
        if (header.p_type == PT_NOTE)
            note = header.p_offset;
    }
    CHECK(loader != 0 && note != 0 && close(fd) == 0);
    CHECK_EQUAL(ask_program(altered(offsetof(Elf64_Ehdr, e_phoff), &far, sizeof far), NULL), PROGRAM_DAMAGED);
    CHECK_EQUAL(ask_program(altered(loader + offsetof(Elf64_Phdr, p_offset), &far, sizeof far), NULL),
                PROGRAM_DAMAGED);
    size = 1 << 20;
    CHECK_EQUAL(ask_program(altered(note + offsetof(Elf64_Nhdr, n_descsz), &size, sizeof size), NULL),
                PROGRAM_NO_OBSTACLE);
}

static void test_scripts(void)
{
    static const char last[] = "#!/bin/sh\n";
    char line[64];

    write_file("script", last, sizeof last - 1, 0700);
    CHECK_EQUAL(ask_program("script", NULL), PROGRAM_NO_OBSTACLE);
    CHECK_EQUAL(answer.scripts, 1);
    write_file("s0", last, sizeof last - 1, 0700);
    for (int i = 1; i <= PROGRAM_SCRIPTS_MAX; i++) {
        char name[8];
        int n = snprintf(line, sizeof line, "#!./s%d\n", i - 1);

        (void)snprintf(name, sizeof name, "s%d", i);
        write_file(name, line, (size_t)n, 0700);
    }
    CHECK_EQUAL(ask_program("s4", NULL), PROGRAM_NO_OBSTACLE);
    CHECK_EQUAL(ask_program("s5", NULL), PROGRAM_SCRIPTS); /* the kernel returns ELOOP */
    write_file("script", "#!/no/such\n", 11, 0700);
    CHECK_EQUAL(ask_program("script", NULL), PROGRAM_INTERPRETER);
    CHECK_STRING(answer.other, "/no/such");
    write_file("script", "#!/usr/bin/env here\n", 20, 0700);
    CHECK_EQUAL(ask_program("script", NULL), PROGRAM_NO_OBSTACLE);
    CHECK_EQUAL(ask_program("script", "a"), PROGRAM_INTERPRETER); /* "here" is not in "a" */
    write_file("here", last, sizeof last - 1, 0700);
    CHECK_EQUAL(ask_program("script", "."), PROGRAM_NO_OBSTACLE);
    CHECK_EQUAL(answer.scripts, 2);
}

/* The kernel's own answers: set-id bits do nothing under no_new_privs, or for a user who has the
 * id. */
static void test_secure(void)
{
    pid_t child;
    int status = -1;

    if (geteuid() != 0)
        return;
    (void)altered(0, ELFMAG, SELFMAG);
    CHECK(chown("altered", 65534, 65534) == 0 && chmod("altered", 04755) == 0);
    CHECK_EQUAL(ask_program("altered", NULL), PROGRAM_SECURE);
    CHECK_EQUAL(chmod("altered", 02755), 0);
    CHECK_EQUAL(ask_program("altered", NULL), PROGRAM_SECURE);
    CHECK_EQUAL(chmod("altered", 02745), 0);
    CHECK_EQUAL(ask_program("altered", NULL), PROGRAM_NO_OBSTACLE);
    CHECK(chown("altered", 0, 0) == 0 && chmod("altered", 04755) == 0);
    CHECK_EQUAL(ask_program("altered", NULL), PROGRAM_NO_OBSTACLE);
    CHECK(chown("altered", 65534, 65534) == 0 && chmod("altered", 04755) == 0);
    child = fork();
    if (child == 0)
        _exit(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
              ask_program("altered", NULL) != PROGRAM_NO_OBSTACLE);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* The kernel gives a file's capabilities to users but root, unless the file only lets them be
 * inherited. */
static void test_capabilities(void)
{
    struct vfs_cap_data capabilities = {.magic_etc = VFS_CAP_REVISION_2};
    pid_t child;
    int status = -1;

    if (geteuid() != 0)
        return;
    for (int given = 0; given < 2; given++) {
        (void)altered(0, ELFMAG, SELFMAG);
        CHECK_EQUAL(chmod("altered", 0755), 0);
        capabilities.data[0].permitted = given != 0 ? 1U << CAP_CHOWN : 0;
        capabilities.data[0].inheritable = given != 0 ? 0 : 1U << CAP_CHOWN;
        if (setxattr("altered", "security.capability", &capabilities, sizeof capabilities, 0) != 0)
            return; /* a user namespace's root may give others, and some file systems have none */
        CHECK_EQUAL(ask_program("altered", NULL), PROGRAM_NO_OBSTACLE);
        child = fork();
        if (child == 0)
            _exit(chmod(".", 0755) != 0 || setresuid(65534, 65534, 65534) != 0 ||
                  ask_program("altered", NULL) != (given != 0 ? PROGRAM_SECURE : PROGRAM_NO_OBSTACLE));
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

/* A path in LD_PRELOAD that is longer than the room for it counts as one that does not load: then a
 * guardian commits, which does no harm beside the shim. */
static void test_preload(void)
{
    enum { AT = sizeof "LD_PRELOAD=" - 1 };
    char variable[700] = "LD_PRELOAD=";
    char *environment[] = {variable, NULL};

    CHECK(getcwd(variable + AT, 100) != NULL);
    (void)strcat(variable, "/" SHIM_NAME);
    CHECK(!target_loads_shim(AT_FDCWD, "/proc/self/exe", 0, environment));
    write_file(SHIM_NAME, "", 0, 0600);
    CHECK(target_loads_shim(AT_FDCWD, "/proc/self/exe", 0, environment));
    CHECK(getcwd(variable + AT, 100) != NULL);
    while (strlen(variable) < sizeof variable - 50)
        (void)strcat(variable, "/.");
    (void)strcat(variable, "/" SHIM_NAME);
    CHECK_EQUAL(access(variable + AT, R_OK), 0);
    CHECK(!target_loads_shim(AT_FDCWD, "/proc/self/exe", 0, environment));
}

int main(void)
{
    char folder[] = "/tmp/program_test.XXXXXX";
    int self = open("/proc/self/exe", O_RDONLY);

    CHECK(program_read_kind(self, &own_kind) && close(self) == 0);
    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    test_lines();
    test_long_head();
    test_find();
    test_elf();
    test_damaged();
    test_scripts();
    test_secure();
    test_capabilities();
    test_preload();
    if (chdir("/") == 0 && fork() == 0)
        execl("/bin/rm", "rm", "-rf", folder, NULL);
    (void)wait(NULL);
    return check_result();
}
