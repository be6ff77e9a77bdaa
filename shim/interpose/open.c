#include "interpose/interpose.h"

#include "manage/managed.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/path.h"
#include "os/scratch.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

static void log_unreadable(const char *path)
{
    log_line(LOG_ERROR, "%s: cannot be opened: it holds no valid image, or its disk failed (EIO)", path);
}

/* Makes one attempt of shim_begin(); an attempt that fails leaves no file behind. */
static int begin_once(const struct managed_request *request, struct session_found *found)
{
    struct managed_file file;
    int result = managed_open(request, &file);

    if (result == MANAGED_NO || result == MANAGED_ASK)
        return result == MANAGED_NO ? SHIM_PASS : SHIM_ASK;
    if (result < 0)
        return result;
    (void)session_settle_closed(false); /* for what children have closed since */
    result = session_begin(file.inode, &file.status, request->flags,
                           file.created ? SESSION_NEW : SESSION_OPENED, found);
    if (result != 0 && file.created)
        managed_remove_created(request, &file);
    return result;
}

int shim_begin(const struct managed_request *request, struct session_found *found)
{
    struct rlimit limit;
    int result;

    if (!shim_enabled())
        return shim_refuse(request->directory, request->path) == -EPERM ? -EPERM : SHIM_PASS;
    result = begin_once(request, found);
    if (result == -EMFILE && descriptor_is_one_free() && descriptor_raise_limit(&limit)) {
        result = begin_once(request, found);
        descriptor_restore_limit(&limit);
    }
    if (result == -EIO)
        log_unreadable(request->path);
    return result;
}

void shim_drop(const struct managed_request *request, struct session *session)
{
    const struct managed_file file = {.status = {.st_dev = session->device, .st_ino = session->number}};
    const bool created = (session->flags & SESSION_CREATED) != 0;

    session_drop(session);
    if (created)
        managed_remove_created(request, &file);
}

/* Where faccessat2(2) is missing, the real user's permissions must serve. */
static int check_access(const struct managed_request *request)
{
    int mode = request->flags & O_ACCMODE;
    int access = mode == O_RDONLY ? R_OK : mode == O_WRONLY ? W_OK : R_OK | W_OK;
    int error = (int)SYS_CALL(SYS_faccessat2, request->directory, request->path, access, AT_EACCESS, 0, 0);

    return error == -ENOSYS ? (int)SYS_CALL(SYS_faccessat, request->directory, request->path, access, 0, 0, 0)
                            : error;
}

int shim_share(const struct managed_request *request)
{
    const int flags = request->flags;
    struct stat status;
    int result;

    if (!shim_enabled() || !session_any_writable() || (flags & (O_TRUNC | O_PATH | O_DIRECTORY)) ||
        ((flags & O_CREAT) && (flags & O_EXCL)) ||
        sys_fstatat(request->directory, request->path, &status,
                    flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) != 0 ||
        session_on(status.st_dev, status.st_ino) == NULL)
        return SHIM_PASS;
    result = check_access(request);
    if (result == 0)
        result = session_open_again(status.st_dev, status.st_ino, flags);
    return result == -ENOENT ? SHIM_PASS : result;
}

int shim_openat(const struct managed_request *request)
{
    struct session_found found;
    int result;

    if (!shim_enabled())
        return shim_refuse(request->directory, request->path);
    if (managed_asks_later(request)) /* the libc's call acts on a request to cancel this thread */
        return SHIM_ASK;
    shim_testcancel();
    result = session_any() ? shim_share(request) : SHIM_PASS;
    if (result != SHIM_PASS)
        return result;
    result = shim_begin(request, &found);
    if (result != 0)
        return result;
    result = session_open_descriptor(found.session, request->flags);
    if (result < 0)
        shim_drop(request, found.session);
    else
        session_publish(found.session);
    return result;
}

/*
 * Puts a session in place of `fd`, a descriptor of a managed file with this status. Returns `fd` or
 * a negative errno.
 */
static int take_over(int fd, const struct stat *status, const char *path, int flags)
{
    struct session_found found;
    int inode = descriptor_copy_private(fd);
    int program = inode < 0 ? inode : session_begin(inode, status, flags, SESSION_COPIED, &found);
    int result;

    if (program == -EIO)
        log_unreadable(path);
    if (program == 0) {
        program = DESCRIPTOR_INSIST(session_open_descriptor(found.session, flags | O_CLOEXEC));
        if (program < 0)
            session_drop(found.session);
    }
    if (program < 0)
        return program;
    do
        result = sys_dup3(program, fd, flags & O_CLOEXEC);
    while (result == -EINTR || result == -EBUSY); /* another thread may be taking the number */
    if (result < 0)
        session_drop(found.session);
    else
        session_publish(found.session);
    (void)sys_close(program);
    return result < 0 ? result : fd;
}

int shim_cover(int fd, const struct managed_request *request)
{
    struct stat status;
    int result = managed_opened(request, fd, &status);
    struct rlimit limit;

    if (result == 0)
        return fd;
    if (result > 0)
        result = take_over(fd, &status, request->path, request->flags);
    /* the program has the number that it asked for */
    if (result == -EMFILE && descriptor_raise_limit(&limit)) {
        result = take_over(fd, &status, request->path, request->flags);
        descriptor_restore_limit(&limit);
    }
    return result;
}

int shim_opened(int fd, const struct managed_request *request)
{
    int saved = errno;
    int result;

    if (fd < 0)
        return fd;
    result = shim_cover(fd, request);
    if (result < 0)
        (void)sys_close(fd);
    else
        errno = saved;
    return shim_result(result);
}

int shim_take_over(int fd, const char *path, int flags, bool created)
{
    struct session_found found;
    const struct managed_request request = {
        .directory = AT_FDCWD, .path = path, .flags = flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)};
    int result = shim_begin(&request, &found);
    int given;

    if (result == SHIM_PASS)
        return SHIM_PASS;
    if (result == 0 && created)
        found.session->flags |= SESSION_CREATED;
    given = result == 0 ? session_hand_out(found.session, flags) : result;
    result = given < 0 ? given : sys_dup3(given, fd, flags & O_CLOEXEC);
    (void)sys_close(given < 0 ? fd : given);
    return result < 0 ? result : 0;
}

static int truncate_shared(int fd, int64_t size)
{
    int result = ftruncate(fd, size) == 0 ? 0 : -errno;

    return close(fd) == 0 || result != 0 ? result : -errno;
}

static int shim_truncate(const char *path, int64_t size)
{
    struct session_found found;
    const struct managed_request request = {.directory = AT_FDCWD, .path = path, .flags = O_WRONLY};
    int result = size < 0 ? SHIM_PASS : shim_share(&request);

    if (result >= 0)
        return truncate_shared(result, size);
    if (result == SHIM_PASS && size >= 0)
        result = shim_begin(&request, &found);

    if (result != 0)
        return result;
    result = session_check_size(found.session, (uint64_t)size);
    if (result == 0)
        result = sys_ftruncate(found.session->buffer, (uint64_t)size);
    if (result != 0) {
        session_drop(found.session);
        return result;
    }
    session_publish(found.session);
    return session_settle(found.session, found.session->buffer_number);
}

/* Returns SHIM_PASS if the buffer's own call does it. */
static int shim_ftruncate(int fd, int64_t size)
{
    struct session_found found;
    enum session_role role = shim_identify(fd, &found);
    int error = 0;

    if (role == SESSION_PRIVATE)
        return -EBADF;
    if (role == SESSION_NONE || size < 0 || (sys_fcntl(fd, F_GETFL, 0) & O_ACCMODE) == O_RDONLY)
        return SHIM_PASS;
    error = session_check_size(found.session, (uint64_t)size);
    if (error != 0)
        return error;
    session_clear_tail(found.session);
    if (size == 0)
        session_note_emptied(found.session);
    return SHIM_PASS;
}

/* open(2): the mode is there exactly when a file may be created */
#define MODE_ARGUMENT(flags, mode)                                                                           \
    mode_t mode = 0;                                                                                         \
    if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) {                                             \
        va_list arguments;                                                                                   \
        va_start(arguments, flags);                                                                          \
        mode = va_arg(arguments, mode_t);                                                                    \
        va_end(arguments);                                                                                   \
    }

/* The body of an export that opens; `real` is the libc's call. */
#define OPEN(in_directory, with_flags, with_mode, real)                                                      \
    ({                                                                                                       \
        const struct managed_request open_request = {in_directory, path, with_flags, with_mode, true};       \
        int open_fd = shim_openat(&open_request);                                                            \
        open_fd == SHIM_PASS  ? (real)                                                                       \
        : open_fd == SHIM_ASK ? shim_opened(real, &open_request)                                             \
                              : shim_result(open_fd);                                                        \
    })

EXPORT int open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(AT_FDCWD, flags, mode, REAL(open)(path, flags, mode));
}

EXPORT int open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(AT_FDCWD, flags, mode, REAL(open64)(path, flags, mode));
}

EXPORT int __open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(AT_FDCWD, flags, mode, REAL(__open)(path, flags, mode));
}

EXPORT int __open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(AT_FDCWD, flags, mode, REAL(__open64)(path, flags, mode));
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(directory, flags, mode, REAL(openat)(directory, path, flags, mode));
}

EXPORT int openat64(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(flags, mode)
    return OPEN(directory, flags, mode, REAL(openat64)(directory, path, flags, mode));
}

/* The fortified headers make the _2 forms of a call without a mode. */
EXPORT int __open_2(const char *path, int flags)
{
    return OPEN(AT_FDCWD, flags & ~O_CREAT, 0, REAL(__open_2)(path, flags));
}

EXPORT int __open64_2(const char *path, int flags)
{
    return OPEN(AT_FDCWD, flags & ~O_CREAT, 0, REAL(__open64_2)(path, flags));
}

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    return OPEN(directory, flags & ~O_CREAT, 0, REAL(__openat_2)(directory, path, flags));
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    return OPEN(directory, flags & ~O_CREAT, 0, REAL(__openat64_2)(directory, path, flags));
}

EXPORT int creat(const char *path, mode_t mode)
{
    return OPEN(AT_FDCWD, O_CREAT | O_WRONLY | O_TRUNC, mode, REAL(creat)(path, mode));
}

EXPORT int creat64(const char *path, mode_t mode)
{
    return OPEN(AT_FDCWD, O_CREAT | O_WRONLY | O_TRUNC, mode, REAL(creat64)(path, mode));
}

/* ---- calls that can say more than open(2): the call itself finds the file, as an O_PATH
 * descriptor ---- */

/*
 * Opens the file of `probe`, an O_PATH descriptor, which it takes over. Returns a descriptor, a
 * negative errno, or SHIM_PASS if the file is not managed, or, with `exclusive`, must not be there.
 */
static int open_probed(int probe, int flags, bool exclusive)
{
    char path[PROC_PATH_SIZE];
    int result = exclusive ? SHIM_PASS : shim_take_over(probe, descriptor_path(path, probe), flags, false);

    if (result == SHIM_PASS)
        (void)sys_close(probe);
    return result == 0 ? probe : result;
}

static int shim_open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
    int saved = errno;
    int probe;

    if (!shim_enabled() || (flags & (O_PATH | O_DIRECTORY)))
        return SHIM_PASS;
    probe = REAL(open_by_handle_at)(shim_target(mount), handle, O_PATH | O_CLOEXEC);
    errno = saved;
    return probe < 0 ? SHIM_PASS : open_probed(probe, flags, false);
}

EXPORT int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
    int fd = shim_open_by_handle_at(mount, handle, flags);
    return fd == SHIM_PASS ? REAL(open_by_handle_at)(shim_target(mount), handle, flags) : shim_result(fd);
}

/* The flags that open(2) knows. openat2(2) refuses all others, open(2) ignores them. */
#define OPEN_FLAGS                                                                                           \
    (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_ASYNC |          \
     O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE)

static bool may_be_managed(const struct open_how *how, size_t size)
{
    static const size_t words = sizeof *how / sizeof(uint64_t);

    if (size != sizeof *how)
        return false;
    for (size_t i = 0; i < words; i++)
        if (!sys_is_readable((const uint64_t *)how + i))
            return false;
    return (how->flags & (~(uint64_t)OPEN_FLAGS | O_PATH | O_DIRECTORY)) == 0 &&
           (how->mode & ~(uint64_t)07777) == 0 && (how->mode == 0 || (how->flags & O_CREAT));
}

/* Opens the folder in which `name`, the end of `path`, lies, as openat2(2) finds it. */
static int open_folder(int directory, const char *path, const char *name, uint64_t resolve)
{
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = resolve};
    size_t length = (size_t)(name - path);
    struct scratch scratch;
    int fd;

    if (length >= PATH_MAX || scratch_take(&scratch, PATH_MAX) != 0)
        return -ENOMEM;
    memcpy(scratch.bytes, length != 0 ? path : "./", length != 0 ? length : 2);
    ((char *)scratch.bytes)[length != 0 ? length : 2] = '\0';
    fd = (int)SYS_CALL(SYS_openat2, directory, scratch.bytes, &how, sizeof how, 0, 0);
    scratch_give(&scratch);
    return fd < 0 ? fd : descriptor_make_private(fd); /* the program gets the lowest number */
}

/* The file does not exist: open(2) creates it in the folder that openat2(2) finds. A symbolic link
 * that leads nowhere is the kernel's business. */
static int create_by_openat2(int directory, const char *path, const struct open_how *how)
{
    const char *name = path_last_component(path);
    struct managed_request request = {
        .path = name, .flags = (int)how->flags | O_NOFOLLOW, .mode = (mode_t)how->mode};
    struct stat status;
    int result = SHIM_PASS;

    request.directory = *name != '\0' ? open_folder(directory, path, name, how->resolve) : -1;
    if (request.directory < 0)
        return SHIM_PASS;
    if (sys_fstatat(request.directory, name, &status, AT_SYMLINK_NOFOLLOW) == -ENOENT)
        result = shim_openat(&request);
    (void)sys_close(request.directory);
    return result;
}

/*
 * Tells whether the kernel lets this process open the existing file of `probe` with O_CREAT. In a
 * sticky folder it may not: proc_sys_fs(5), protected_regular. A file with a session is open
 * already, and a close would drop POSIX locks.
 */
static bool may_open_to_create(int directory, const char *path, const struct open_how *how, int probe)
{
    struct open_how try = *how;
    struct stat status;
    int fd;

    if (sys_fstat(probe, &status) != 0 || !S_ISREG(status.st_mode) ||
        session_on(status.st_dev, status.st_ino) != NULL)
        return true;
    try.flags = (how->flags & ~(uint64_t)O_TRUNC) | O_CLOEXEC;
    fd = (int)SYS_CALL(SYS_openat2, directory, path, &try, sizeof try, 0, 0);
    descriptor_close_if_open(fd);
    return fd >= 0;
}

static int shim_openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    const uint64_t exclusive = O_CREAT | O_EXCL;
    struct open_how look;
    int fd;

    if (!shim_enabled())
        return shim_refuse(directory, path);
    if (!may_be_managed(how, size))
        return SHIM_PASS;
    shim_testcancel();
    look =
        (struct open_how){.flags = O_PATH | O_CLOEXEC | (how->flags & O_NOFOLLOW), .resolve = how->resolve};
    fd = (int)SYS_CALL(SYS_openat2, directory, path, &look, sizeof look, 0, 0);
    if (fd == -ENOENT && (how->flags & O_CREAT))
        return create_by_openat2(directory, path, how);
    if (fd < 0)
        return fd == -EAGAIN ? fd : SHIM_PASS;
    if ((how->flags & exclusive) == O_CREAT && !may_open_to_create(directory, path, how, fd)) {
        (void)sys_close(fd);
        return SHIM_PASS; /* the kernel says why */
    }
    return open_probed(fd, (int)how->flags & ~O_CREAT, (how->flags & exclusive) == exclusive);
}

/* glibc has it since 2.43. */
EXPORT int openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    int fd = shim_openat2(directory, path, how, size);
    return fd == SHIM_PASS ? REAL(openat2)(directory, path, how, size) : shim_result(fd);
}

EXPORT int truncate(const char *path, off_t size)
{
    int result = shim_truncate(path, size);
    return result == SHIM_PASS ? REAL(truncate)(path, size) : shim_result(result);
}

EXPORT int truncate64(const char *path, off64_t size)
{
    int result = shim_truncate(path, size);
    return result == SHIM_PASS ? REAL(truncate64)(path, size) : shim_result(result);
}

EXPORT int ftruncate(int fd, off_t size)
{
    int result = shim_ftruncate(fd, size);
    return result == SHIM_PASS ? REAL(ftruncate)(fd, size) : shim_result(result);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
    int result = shim_ftruncate(fd, size);
    return result == SHIM_PASS ? REAL(ftruncate64)(fd, size) : shim_result(result);
}
