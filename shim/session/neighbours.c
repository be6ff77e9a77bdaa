/* Logs changes that programs without the shim made to a managed file, so that their bytes do not
 * vanish without a trace. */
#include "session/internal.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "os/scratch.h"
#include "store/store.h"

#include <limits.h>
#include <string.h>

void session_tell(const struct session *session, enum log_level level, const char *what)
{
    struct scratch scratch;

    if (scratch_take(&scratch, PATH_MAX) != 0)
        return;
    (void)session_path(session, scratch.bytes, PATH_MAX);
    log_line(level, "%s: %s", (char *)scratch.bytes, what);
    scratch_give(&scratch);
}

void session_tell_edits(const struct session *session, const struct store_image *image)
{
    if (image->edited)
        session_tell(session, LOG_ERROR,
                     "a program without the shim damaged the latest content; the content before it is used");
    if (image->bytes == STORE_TORN)
        session_tell(
            session, LOG_ERROR,
            "a commit that nothing protected was cut short, or another program wrote: this may be a mixture");
    if (image->resized) /* a writer's commit may overwrite them */
        session_tell(session, session->flags & SESSION_WRITABLE ? LOG_ERROR : LOG_WARN,
                     "a program without the shim appended bytes; they are not part of the content");
}

void session_tell_killed(const struct session *session, bool is_over)
{
    if (!is_over)
        session_tell(
            session, LOG_WARN,
            "the program that opened it was killed: what it wrote is not committed, nor what programs "
            "write that still have the file open");
    else if (session_is_changed(session))
        session_tell(session, LOG_WARN,
                     "the program that opened it was killed: what was written is not committed");
}

void session_tell_nameless(const struct session *session, const struct stat *inode)
{
    struct scratch scratch;
    struct stat status;
    size_t length;
    char *path;

    if (inode->st_nlink != 0 || scratch_take(&scratch, PATH_MAX) != 0)
        return;
    path = scratch.bytes;
    length = session_path(session, path, PATH_MAX);
    if (length > sizeof PROC_DELETED - 1 &&
        strcmp(path + length - (sizeof PROC_DELETED - 1), PROC_DELETED) == 0)
        path[length - (sizeof PROC_DELETED - 1)] = '\0';
    if (sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
        log_line(LOG_ERROR,
                 "%s: another file has taken its name since it was opened; the program wrote to the old file",
                 path);
    else
        log_line(LOG_WARN, "%s: it was deleted after it was opened; what was written is lost with it", path);
    scratch_give(&scratch);
}

void session_tell_commit(const struct session *session, int64_t waited, int64_t stored)
{
    struct store_image image;
    struct scratch scratch;

    if (store_look(session->inode, (struct store_wait){.locked = true}, &image) != 0 ||
        scratch_take(&scratch, PATH_MAX) != 0)
        return;
    (void)session_path(session, scratch.bytes, PATH_MAX);
    log_line(LOG_INFO,
             "%s: committed %s, %lu bytes, generation %lu; lock waited for %lu us, written in %lu us",
             (char *)scratch.bytes, image.kind == STORE_SIZED ? "sized" : "plain", (unsigned long)image.size,
             (unsigned long)image.generation, (unsigned long)(waited / 1000), (unsigned long)(stored / 1000));
    scratch_give(&scratch);
}
