/* Chooses the format in which a commit writes its file. */
#include "session/internal.h"

#include "os/log.h"
#include "os/scratch.h"
#include "store/filelock.h"
#include "store/store.h"

#include <limits.h>
#include <string.h>

/* Tells whether a reader would take these plain bytes for an image. */
static bool looks_sized(const struct store_payload *payload)
{
    const char *bytes = payload->bytes;
    struct image_header header;
    struct image_footer footer;

    return image_decode_header(bytes, payload->size, &header) != IMAGE_ABSENT ||
           (image_size_possible(payload->size) &&
            image_decode_footer(bytes + payload->size - IMAGE_HEADER_SIZE, IMAGE_HEADER_SIZE, &footer) ==
                IMAGE_VALID);
}

static bool begins_with(const struct store_payload *payload, const char *text)
{
    size_t length = strlen(text);

    return payload->size >= length && memcmp(payload->bytes, text, length) == 0;
}

/* Tells whether the kernel or the dynamic loader will read the file. Neither knows the sized
 * format: execve(2) and mmap(2) get the file's bytes. */
static bool may_be_executed(const struct stat *status, const struct store_payload *payload)
{
    return begins_with(payload, "#!") || begins_with(payload, "\177ELF") ||
           (status->st_mode & (S_IXUSR | S_IXGRP | S_IXOTH));
}

/* Returns the format that the settings ask for a file of this name. */
static enum config_format format_by_name(const struct session *session)
{
    enum config_format format = session_config->format;
    struct scratch scratch;

    if (session_config->never_sized || scratch_take(&scratch, PATH_MAX) != 0)
        return format;
    (void)session_path(session, scratch.bytes, PATH_MAX);
    if (*(const char *)scratch.bytes == '/')
        format = config_format_of(session_config, scratch.bytes);
    scratch_give(&scratch);
    return format;
}

int session_store(const struct session *session, const struct stat *inode,
                  const struct store_payload *payload, struct store_left *left)
{
    const bool executed = may_be_executed(inode, payload) ||
                          (SESSION_GET(session->pending_mode) & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
    int error;

    /* its present format comes before its name, which costs more */
    if (!executed && store_may_be_sized(inode)) {
        error = store_commit_sized(session->inode, payload, session_config->sync, left);
        if (error != STORE_NOT_SIZED)
            return error;
    }
    if (looks_sized(payload) || (!executed && format_by_name(session) == CONFIG_SIZED))
        return store_commit_and_tell(session->inode, payload, session_config->sync, left);
    error = store_commit_plain(session->inode, payload, session_config->sync);
    if (error != STORE_NOT_PLAIN)
        return error;
    error = store_commit(session->inode, payload, session_config->sync);
    if (error != 0 || !executed)
        return error;
    /* the commit is done, whatever comes of this */
    if (store_export(session->inode, session_config->sync) != 0)
        session_tell(session, LOG_WARN,
                     "it may be executed, but stays in the sized format, which the kernel cannot read: "
                     "the way back to plain failed");
    return 0;
}

int session_export(int inode)
{
    struct session_privileges privileges;
    struct filelock lock;
    struct stat status;
    int error = sys_fstat(inode, &status);

    if (error != 0 || !store_may_be_sized(&status))
        return error;
    error = filelock_acquire(&lock, inode, F_WRLCK, session_config->lock_timeout);
    if (error != 0)
        return error;
    session_keep_privileges(inode, &privileges);
    error = store_export(inode, session_config->sync);
    session_restore_privileges(inode, &privileges);
    filelock_release(&lock);
    return error;
}
