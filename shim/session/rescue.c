/* Rescues the new content after a commit that failed, and logs it. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/scratch.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

size_t session_path(const struct session *session, char *path, size_t size)
{
    char link[PROC_PATH_SIZE];
    ssize_t n = sys_readlinkat(AT_FDCWD, descriptor_path(link, session->inode), path, size - 1);

    if (n < 0)
        return log_format(path, size, "inode-%lu", (unsigned long)session->number);
    path[n] = '\0';
    return (size_t)n;
}

/* Writes the next piece of the session's buffer into `fd`. Returns its size, 0 at the end, or a
 * negative errno. */
static ssize_t rescue_piece(const struct session *session, int fd, uint64_t done)
{
    char little[1024];
    ssize_t n = sys_pread(session->buffer, little, sizeof little, done);

    return n > 0 ? sys_pwrite(fd, little, (size_t)n, done) : n;
}

/*
 * Opens ATOMSHIM_RESCUE_DIR and writes its path, without '/' at the end, to `path`: behind a '/'
 * the kernel would follow a symbolic link, which another user who may write to the folder above
 * could have put there. Returns a descriptor or a negative errno, -ENOTDIR for a link.
 */
static int open_rescue_dir(char *path, size_t room)
{
    size_t length = log_format(path, room, "%s", session_config->rescue_dir);

    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
    return DESCRIPTOR_INSIST(sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
}

/* Creates a new file named after the one at `path`, and turns `path` into its name. Returns a
 * descriptor or a negative errno. */
static int create_rescue_file(char *path, size_t room)
{
    static unsigned counter;
    const char *slash = strrchr(path, '/');
    char name[200]; /* NAME_MAX, with the suffix */
    int folder;
    int fd;

    (void)log_format(name, sizeof name, "%s", slash != NULL ? slash + 1 : path);
    folder = open_rescue_dir(path, room);
    if (folder < 0)
        return folder;
    do {
        unsigned number = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);

        (void)log_format(path, room, "%s/%s.atomshim-%d-%u", session_config->rescue_dir, name, sys_getpid(),
                         number);
        fd = DESCRIPTOR_INSIST(sys_openat(folder, strrchr(path, '/') + 1,
                                          O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    } while (fd == -EEXIST);
    (void)sys_close(folder);
    return fd;
}

/* Writes the image that could not be committed to ATOMSHIM_RESCUE_DIR, and turns `path` into its
 * file's name. */
static int rescue_image(const struct session *session, char *path, size_t room)
{
    uint64_t done = 0;
    int fd = create_rescue_file(path, room);
    int error = 0;

    if (fd < 0)
        return fd;
    for (ssize_t n = 1; error == 0 && n != 0;) {
        n = rescue_piece(session, fd, done);
        if (n > 0)
            done += (uint64_t)n;
        else if (n != -EINTR)
            error = (int)n;
    }
    if (error == 0)
        error = sys_fsync(fd);
    (void)sys_close(fd);
    return error;
}

void session_report(const struct session *session, int failure)
{
    struct scratch scratch;
    char *path;
    char *saved;
    int error;

    if (scratch_take(&scratch, (size_t)2 * PATH_MAX) != 0) {
        log_line(LOG_ERROR, "commit failed: %s; the old content stays", log_errno(failure));
        return;
    }
    path = scratch.bytes;
    saved = path + PATH_MAX;
    (void)session_path(session, path, PATH_MAX);
    if (session->flags & SESSION_REPLACES) {
        log_line(LOG_ERROR, "%s: commit failed: %s; the old content stays, and so does the new file", path,
                 log_errno(failure));
    } else if (session_config->rescue_dir == NULL) {
        log_line(LOG_ERROR, "%s: commit failed: %s; the old content stays, the new is lost", path,
                 log_errno(failure));
    } else {
        memcpy(saved, path, PATH_MAX);
        error = rescue_image(session, saved, PATH_MAX);
        if (error == 0)
            log_line(LOG_ERROR, "%s: commit failed: %s; the old content stays, the new is in %s", path,
                     log_errno(failure), saved);
        else
            log_line(LOG_ERROR,
                     "%s: commit failed: %s; the old content stays; the new is lost, because it could not be "
                     "saved as %s: %s",
                     path, log_errno(failure), saved,
                     error == -ENOTDIR ? "ATOMSHIM_RESCUE_DIR is no folder, or a symbolic link"
                                       : log_errno(error));
    }
    scratch_give(&scratch);
}
