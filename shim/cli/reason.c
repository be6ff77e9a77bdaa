#include "cli/reason.h"

#include "config/libc_files.h"

#include <elf.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The obstacles that need no more than a name for the file. */
static const char *const sentences[] = {
    [PROGRAM_NO_PROGRAM] = "%s is an ELF file, but no program",
    [PROGRAM_DAMAGED] = "%s is a damaged ELF file",
    [PROGRAM_GO] = "%s is a Go program, which makes its system calls past the C library",
    [PROGRAM_STATIC] = "%s is statically linked",
    [PROGRAM_SECURE] =
        "%s is set-user-id, set-group-id or has file capabilities, so its loader ignores LD_PRELOAD",
};

void reason_of_program(const struct program_answer *answer, const struct program_kind *shim,
                       char text[REASON_PROGRAM_SIZE])
{
    char subject[PATH_MAX + 32] = "it";
    const char *error = strerror(-answer->error);

    if (answer->file[0] != '\0')
        (void)snprintf(subject, sizeof subject, "its interpreter %s", answer->file);
    switch (answer->obstacle) {
    case PROGRAM_UNREADABLE:
        (void)snprintf(text, REASON_PROGRAM_SIZE, "%s cannot be read to tell: %s", subject, error);
        break;
    case PROGRAM_NO_SCRIPT:
        (void)snprintf(text, REASON_PROGRAM_SIZE, "%s", answer->text);
        break;
    case PROGRAM_INTERPRETER:
        (void)snprintf(text, REASON_PROGRAM_SIZE, "its interpreter %s: %s", answer->other, error);
        break;
    case PROGRAM_SCRIPTS:
        (void)snprintf(text, REASON_PROGRAM_SIZE, "its #! line leads to more than %d scripts",
                       PROGRAM_SCRIPTS_MAX);
        break;
    case PROGRAM_OTHER_CLASS:
        (void)snprintf(text, REASON_PROGRAM_SIZE, "%s is a %s program, the shim is not", subject,
                       answer->number == ELFCLASS32 ? "32-bit" : "64-bit");
        break;
    case PROGRAM_OTHER_MACHINE:
        (void)snprintf(text, REASON_PROGRAM_SIZE,
                       "%s is for another machine (ELF machine %d, the shim is for %d)", subject,
                       answer->number, shim->machine);
        break;
    case PROGRAM_LOADER:
        (void)snprintf(text, REASON_PROGRAM_SIZE, "%s needs the loader %s: %s", subject, answer->other,
                       error);
        break;
    default: /* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): a table of literals */
        (void)snprintf(text, REASON_PROGRAM_SIZE, sentences[answer->obstacle], subject);
    }
}

bool reason_loads_shim(const char *path, const struct program_kind *shim, struct program_answer *answer,
                       char text[REASON_PROGRAM_SIZE])
{
    const char *search = getenv("PATH");
    const struct program_question question = {
        .directory = AT_FDCWD,
        .path = path,
        .shim = *shim,
        .env_path = search != NULL ? search : PROGRAM_DEFAULT_PATH,
    };

    if (program_loads_shim(&question, answer))
        return true;
    reason_of_program(answer, shim, text);
    return false;
}

bool reason_mentions(const char *path, const char *name)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    const char *bytes = MAP_FAILED;
    bool found = false;

    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes != MAP_FAILED) {
        found = memmem(bytes, (size_t)status.st_size, name, strlen(name) + 1) != NULL;
        (void)munmap((void *)bytes, (size_t)status.st_size);
    }
    if (fd >= 0)
        (void)close(fd);
    return found;
}

const char *reason_of_doubt(const char *program, int index)
{
    static const struct {
        const char *names[2];
        const char *text;
    } doubts[] = {
        {{"liburing.so.2", "liburing.so.1"},
         "uses io_uring: the shim does not see files that it opens or closes through io_uring"},
        {{"dlmopen", "dlmopen"},
         "may load plug-ins into separate namespaces (dlmopen): the shim does not see the files that these "
         "open"},
        {{"libseccomp.so.2", "libseccomp.so.2"},
         "sets a seccomp filter: where that forbids what the shim needs, a managed file cannot be opened"},
    };

    for (size_t i = 0; i < sizeof doubts / sizeof doubts[0]; i++)
        if ((reason_mentions(program, doubts[i].names[0]) || reason_mentions(program, doubts[i].names[1])) &&
            index-- == 0)
            return doubts[i].text;
    return NULL;
}

const char *reason_to_be_executed(int fd, const struct store_image *image)
{
    uint64_t start = image->kind == STORE_SIZED ? image->place + IMAGE_HEADER_SIZE : 0;
    char bytes[4] = "";
    struct stat status;

    if (fstat(fd, &status) == 0 && (status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0)
        return "the kernel may execute it";
    if (store_read_at(fd, bytes, sizeof bytes, start) < 2 || image->size < 2)
        return NULL;
    return memcmp(bytes, "#!", 2) == 0 || memcmp(bytes, ELFMAG, SELFMAG) == 0 ? "the kernel may execute it"
                                                                              : NULL;
}

const char *reason_to_be_plain(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct store_image image;
    const char *reason = NULL;

    if (config_is_read_by_libc(path))
        reason = REASON_LIBC;
    else if (fd >= 0 && store_look(fd, (struct store_wait){.timeout = 0}, &image) == 0)
        reason = reason_to_be_executed(fd, &image);
    if (fd >= 0)
        (void)close(fd);
    return reason;
}
