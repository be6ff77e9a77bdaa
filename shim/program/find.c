/* Finds the file that a program's name leads to. */
#include "program/program.h"

#include "os/sys.h"

#include <string.h>

/* The effective ids decide, as at execve(2). Before Linux 5.8 access(2) can ask for the real ids
 * alone. */
static int check_permission(const char *path)
{
    int error = (int)SYS_CALL(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS, 0, 0);

    return error == -ENOSYS || error == -EPERM ? (int)SYS_CALL(SYS_faccessat, AT_FDCWD, path, X_OK, 0, 0, 0)
                                               : error;
}

int program_check_executable(const char *path)
{
    struct stat status;
    int error = sys_fstatat(AT_FDCWD, path, &status, 0);

    if (error != 0)
        return error;
    return S_ISREG(status.st_mode) ? check_permission(path) : -EACCES;
}

/* Writes "FOLDER/NAME"; an empty folder is the current one. Returns false if that does not fit. */
static bool join_path(char *path, size_t size, const char *folder, size_t length, const char *name)
{
    size_t name_size = strlen(name) + 1;

    if (length == 0) {
        folder = ".";
        length = 1;
    }
    if (length >= size || name_size >= size - length)
        return false;
    memcpy(path, folder, length);
    path[length] = '/';
    memcpy(path + length + 1, name, name_size);
    return true;
}

int program_find(const char *name, const char *search, char *path, size_t size)
{
    int result = -ENOENT;
    struct stat status;

    if (strchr(name, '/') != NULL) {
        if (strlen(name) >= size)
            return -ENAMETOOLONG;
        memcpy(path, name, strlen(name) + 1);
        return program_check_executable(path);
    }
    if (search == NULL)
        search = PROGRAM_DEFAULT_PATH;
    for (; *name != '\0'; search++) {
        size_t length = strcspn(search, ":");

        if (join_path(path, size, search, length, name)) {
            int error = program_check_executable(path);

            if (error == 0)
                return 0;
            /* a folder that may not be searched is skipped: shells say "not found" then, too */
            if (error == -EACCES && sys_fstatat(AT_FDCWD, path, &status, 0) == 0)
                result = -EACCES;
        }
        search += length;
        if (*search == '\0')
            break;
    }
    return result;
}
