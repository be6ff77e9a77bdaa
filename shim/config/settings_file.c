#include "config/settings_file.h"

#include "os/sys.h"

#include <stdbool.h>
#include <string.h>

enum { FILE_SIZE_MAX = 1 << 16 };

/* Returns the file's size if its text may be trusted, or -1 and the reason. */
static int64_t check_file(int fd, const char **fault)
{
    struct stat status = {0};

    (void)sys_fstat(fd, &status);
    *fault = !S_ISREG(status.st_mode)         ? "it is no regular file"
             : status.st_uid != 0             ? "its owner is not root"
             : (status.st_mode & 022) != 0    ? "users other than root may write to it"
             : status.st_size > FILE_SIZE_MAX ? "it has more than 65536 bytes"
                                              : NULL;
    return *fault == NULL ? status.st_size : -1;
}

/* Splits the text into lines, in place; `list` has room for them. Returns false if one is no
 * setting. */
static bool split_lines(char *text, char **list)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        char *next = text + length + (text[length] != '\0');

        text[length] = '\0';
        if (strncmp(text, "ATOMSHIM_", 9) == 0 && strchr(text, '=') != NULL)
            *list++ = text;
        else if (*text != '#' && text[strspn(text, " \t\r")] != '\0')
            return false;
        text = next;
    }
    *list = NULL;
    return true;
}

/* Returns `environment` and the lines of the file, in memory that is never freed, or NULL and the
 * reason. */
static char **add_lines(char **environment, int fd, size_t size, const char **fault)
{
    size_t count = 0;
    size_t room;
    char **list;
    char *text;

    while (environment[count] != NULL)
        count++;
    room = (count + size / strlen("ATOMSHIM_=") + 1) * sizeof *list;
    list = sys_mmap(NULL, room + size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    text = (char *)list + room;
    *fault = "it cannot be read";
    if (sys_is_error(list) || sys_pread(fd, text, size, 0) != (ssize_t)size || strlen(text) != size)
        return NULL;
    memcpy(list, environment, count * sizeof *list);
    *fault = "accepted are lines ATOMSHIM_NAME=value, and comments that begin with '#'";
    if (!split_lines(text, list + count))
        return NULL;
    *fault = NULL;
    return list;
}

char **config_add_file(char **environment, const char *path, const char **fault)
{
    int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    char **list = NULL;
    int64_t size;

    *fault = NULL;
    if (fd == -ENOENT)
        return environment;
    if (fd < 0) {
        *fault = "it cannot be opened, or is a symbolic link";
        return environment;
    }
    size = check_file(fd, fault);
    if (size == 0)
        list = environment;
    else if (size > 0)
        list = add_lines(environment, fd, (size_t)size, fault);
    (void)sys_close(fd);
    return list != NULL ? list : environment;
}
