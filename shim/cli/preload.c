#include "cli/preload.h"

#include "cli/cli.h"
#include "os/path.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char separators[] = ": \t\n\v\f\r"; /* glibc separates by the first two, musl by all */

bool preload_find_command(char path[PATH_MAX])
{
    char file[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", file, sizeof file - 1);

    if (n > 0)
        file[n] = '\0';
    if ((n <= 0 && program_find(cli_self, getenv("PATH"), file, sizeof file) != 0) ||
        realpath(file, path) == NULL) {
        cli_complain("cannot find the file of this command: %s: %s", cli_self, strerror(errno));
        return false;
    }
    return true;
}

/* Returns NULL, or the reason why a loader will not take the file. A loader maps it executable: the
 * file's permissions cannot forbid that, but the mount option noexec can. */
static const char *check_shim(int fd, struct program_kind *kind)
{
    Elf64_Ehdr elf;
    void *mapping;

    if (!program_read_kind(fd, kind) || pread(fd, &elf, sizeof elf, 0) != sizeof elf || elf.e_type != ET_DYN)
        return "it is no shared object";
    mapping = mmap(NULL, sizeof elf, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED)
        return strerror(errno);
    (void)munmap(mapping, sizeof elf);
    return NULL;
}

static bool find_file(char path[PATH_MAX])
{
    char directory[PATH_MAX];
    bool known = preload_find_command(directory);
    int parent;

    if (known)
        *strrchr(directory, '/') = '\0';
    if (known && snprintf(path, PATH_MAX, "%s/%s", directory, SHIM_NAME) < PATH_MAX &&
        access(path, F_OK) == 0)
        return true;
    /* as PREFIX/bin/atomshim, wherever PREFIX was moved to */
    /* the folder is canonical, or "" for the root: its parent is the part before its last '/' */
    parent = known && strrchr(directory, '/') != NULL ? (int)(strrchr(directory, '/') - directory) : 0;
    if (known && snprintf(path, PATH_MAX, "%.*s/lib/%s", parent, directory, SHIM_NAME) < PATH_MAX &&
        access(path, F_OK) == 0)
        return true;
    (void)snprintf(path, PATH_MAX, "%s/%s", ATOMSHIM_LIBDIR, SHIM_NAME);
    if (access(path, F_OK) == 0)
        return true;
    if (known) /* else preload_find_command() has complained */
        cli_complain("cannot find %s, neither in %s, its ../lib, nor in %s", SHIM_NAME, directory,
                     ATOMSHIM_LIBDIR);
    return false;
}

bool preload_find(char path[PATH_MAX], struct program_kind *kind)
{
    const char *fault;
    int fd;

    if (!find_file(path))
        return false;
    /* '$' begins what a loader expands, $ORIGIN and the like */
    if (strpbrk(path, separators) != NULL || strchr(path, '$') != NULL) {
        cli_complain("%s: LD_PRELOAD cannot carry a path with ':', '$' or white space: install it elsewhere",
                     path);
        return false;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    fault = fd < 0 ? strerror(errno) : check_shim(fd, kind);
    if (fd >= 0)
        (void)close(fd);
    if (fault != NULL)
        cli_complain("%s: cannot be loaded: %s", path, fault);
    return fault == NULL;
}

/* Tells whether this item of LD_PRELOAD is a shim, wherever it lies. */
static bool is_shim(const char *item, size_t length)
{
    size_t name = strlen(SHIM_NAME);

    return length >= name && memcmp(item + length - name, SHIM_NAME, name) == 0 &&
           (length == name || item[length - name - 1] == '/');
}

void preload_set(const char *path)
{
    const char *old = getenv("LD_PRELOAD");
    char *list;
    char *end;

    if (old == NULL)
        old = "";
    list = malloc(strlen(old) + strlen(path) + 2);
    cli_need_memory(list != NULL);
    end = list;
    while (*(old += strspn(old, separators)) != '\0') {
        size_t length = strcspn(old, separators);

        if (!is_shim(old, length)) {
            memcpy(end, old, length);
            end += length;
            *end++ = ':';
        }
        old += length;
    }
    memcpy(end, path, strlen(path) + 1);
    cli_need_memory(setenv("LD_PRELOAD", list, 1) == 0);
    free(list);
}
