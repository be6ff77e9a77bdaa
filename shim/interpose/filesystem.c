/* Directs questions to the file system of a managed file at the real file, not at its buffer. */
#include "interpose/interpose.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

EXPORT int fstatfs(int fd, struct statfs *status)
{
    return REAL(fstatfs)(shim_target(fd), status);
}

EXPORT int fstatfs64(int fd, struct statfs64 *status)
{
    return REAL(fstatfs64)(shim_target(fd), status);
}

EXPORT int fstatvfs(int fd, struct statvfs *status)
{
    return REAL(fstatvfs)(shim_target(fd), status);
}

EXPORT int fstatvfs64(int fd, struct statvfs64 *status)
{
    return REAL(fstatvfs64)(shim_target(fd), status);
}

EXPORT long fpathconf(int fd, int name)
{
    return REAL(fpathconf)(shim_target(fd), name);
}

EXPORT int statfs(const char *path, struct statfs *status)
{
    return REAL(statfs)(SHIM_PATH(path), status);
}

EXPORT int statfs64(const char *path, struct statfs64 *status)
{
    return REAL(statfs64)(SHIM_PATH(path), status);
}

EXPORT int __statfs(const char *path, struct statfs *status)
{
    return REAL(__statfs)(SHIM_PATH(path), status);
}

EXPORT int statvfs(const char *path, struct statvfs *status)
{
    return REAL(statvfs)(SHIM_PATH(path), status);
}

EXPORT int statvfs64(const char *path, struct statvfs64 *status)
{
    return REAL(statvfs64)(SHIM_PATH(path), status);
}

EXPORT long pathconf(const char *path, int name)
{
    return REAL(pathconf)(SHIM_PATH(path), name);
}

/* ---- requests ---- */

/*
 * Requests that tell where the bytes lie, or share them (FIEMAP, FICLONE and the like), go to the
 * buffer: the program does not read the raw file's bytes. A memfd refuses them, like a file system
 * that has no such thing, and the program copies.
 */
static bool is_about_inode(unsigned long request)
{
    switch (request) {
    case FS_IOC_GETFLAGS:
    case FS_IOC_SETFLAGS:
    case FS_IOC_FSGETXATTR:
    case FS_IOC_FSSETXATTR:
    case FS_IOC_GETVERSION:
    case FS_IOC_SETVERSION:
    case FS_IOC_GETFSLABEL:
    case FIGETBSZ:
        return true;
    default:
        return false;
    }
}

/* ioctl(2): no request takes more than one word. */
EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return REAL(ioctl)(is_about_inode(request) ? shim_target(fd) : fd, request, argument);
}

/* ---- space ---- */

/* A memfd knows every mode of fallocate(2) that moves no data, but this one. */
static int zero_range(int fd, int mode, int64_t offset, int64_t size)
{
    int error =
        sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (uint64_t)offset, (uint64_t)size);

    return error != 0 ? error
                      : sys_fallocate(fd, mode & FALLOC_FL_KEEP_SIZE, (uint64_t)offset, (uint64_t)size);
}

static int after_fallocate(int result, int fd, int mode, int64_t offset, int64_t size)
{
    struct session_found found;
    int saved = errno;

    if (result == 0 || saved != EOPNOTSUPP || (mode & ~FALLOC_FL_KEEP_SIZE) != FALLOC_FL_ZERO_RANGE ||
        shim_identify(fd, &found) != SESSION_PROGRAM)
        return result;
    return shim_result(zero_range(fd, mode, offset, size));
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return after_fallocate(REAL(fallocate)(fd, mode, offset, size), fd, mode, offset, size);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return after_fallocate(REAL(fallocate64)(fd, mode, offset, size), fd, mode, offset, size);
}
