#include "program/target.h"

#include "os/environment.h"
#include "os/path.h"
#include "os/scratch.h"
#include "os/sys.h"
#include "program/program.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#else
#define OWN_MACHINE EM_AARCH64
#endif

enum { PRELOAD_FILE_SIZE = 256 }; /* the shim reads so much of /etc/ld.so.preload */

static char own_preload[512]; /* a longer value is not recognised */

/* The program may give a bad pointer as the environment: execve(2) answers EFAULT then, and this
 * function must not crash. */
static const char *find_variable(char *const environment[], const char *name)
{
    const char *result = NULL;

    for (; environment != NULL && result == NULL && sys_is_readable(environment) && *environment != NULL &&
           sys_is_byte_readable(*environment);
         environment++)
        result = environment_value(*environment, name);
    return result;
}

void target_remember(char *const environment[])
{
    const char *preload = NULL;

    for (; environment != NULL && *environment != NULL && preload == NULL; environment++)
        preload = environment_value(*environment, "LD_PRELOAD");
    if (preload != NULL && strlen(preload) < sizeof own_preload)
        strcpy(own_preload, preload);
}

/*
 * Where LD_PRELOAD does not name the shim, /etc/ld.so.preload may, for every program; glibc alone
 * reads it.
 */
static bool is_in_every_program(void)
{
    char text[PRELOAD_FILE_SIZE];
    int fd = sys_openat(AT_FDCWD, "/etc/ld.so.preload", O_RDONLY | O_CLOEXEC, 0);
    ssize_t n;

    if (fd < 0)
        return false;
    n = sys_read(fd, text, sizeof text);
    (void)sys_close(fd);
    return n > 0 && memmem(text, (size_t)n, SHIM_NAME, sizeof SHIM_NAME - 1) != NULL;
}

/* The loader loads no file that is not there, as after chroot(2). It searches for a name without
 * '/', and expands '$'. */
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

/* Tells whether LD_PRELOAD names the shim: by the library's name, or by any other if the value is
 * the one that loaded us. */
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
    const char *preload = find_variable(environment, "LD_PRELOAD");
    const char *disable = find_variable(environment, "ATOMSHIM_DISABLE");

    if (disable != NULL && strcmp(disable, "0") != 0 && *disable != '\0')
        return false;
    return (preload != NULL && names_shim(preload)) || is_in_every_program();
}

bool target_loads_shim(int directory, const char *path, int flags, char *const environment[])
{
    const struct program_question question = {
        .directory = directory,
        .path = path,
        .flags = flags,
        .shim = {ELFCLASS64, ELFDATA2LSB, OWN_MACHINE},
    };
    struct scratch scratch;
    bool result;

    if (!is_preloaded(environment) || scratch_take(&scratch, sizeof(struct program_answer)) != 0)
        return false;
    result = program_loads_shim(&question, scratch.bytes);
    scratch_give(&scratch);
    return result;
}

bool target_is_there(int directory, const char *path, int flags)
{
    struct stat status;
    int error = sys_fstatat(directory, path, &status, flags & AT_EMPTY_PATH);

    return error != -ENOENT && error != -ENOTDIR;
}

void target_find(const char *file, char *path)
{
    int error = program_find(file, find_variable(environ, "PATH"), path, PATH_MAX);

    if (error != 0)
        (void)stpcpy(path, error == -ENOENT ? "" : "/");
}
