/* Decides whether a file is managed: by its path, its content, and its file system. */
#include "manage/decide.h"

#include "os/descriptor.h"
#include "os/log.h"
#include "session/session.h"
#include "store/store.h"

#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

int managed_is_on_disk(int fd, dev_t device)
{
    static const unsigned magics[] = {
        PROC_SUPER_MAGIC, SYSFS_MAGIC,      CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
        DEBUGFS_MAGIC,    SECURITYFS_MAGIC, TRACEFS_MAGIC,      BPF_FS_MAGIC,
        PSTOREFS_MAGIC,   EFIVARFS_MAGIC,   SELINUX_MAGIC,      SMACK_MAGIC,
    };
    struct statfs status;
    int error;

    if (major(device) != 0)
        return 1;
    error = sys_fstatfs(fd, &status);
    if (error != 0 && !named_is_transient(error))
        log_line(LOG_ERROR, "a file that would be managed is not opened: fstatfs(2): %s", log_errno(error));
    if (error != 0)
        return named_is_transient(error) ? error : -EPERM;
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if ((unsigned)status.f_type == magics[i])
            return 0;
    return 1;
}

static struct store_wait wait_for_writers(void)
{
    return (struct store_wait){.timeout = session_config->lock_timeout};
}

bool managed_may_trust_content(const struct stat *status)
{
    return store_may_be_sized(status) && (status->st_uid == 0 || status->st_uid == sys_geteuid());
}

/* Tells whether the file holds a whole image. A damaged image is no reason to manage the file;
 * after a disk error there is no answer. */
static int holds_image(int readable, uint64_t size)
{
    struct store_image image;
    uint32_t crc;
    int result = store_is_whole(readable);

    if (result > 0)
        result = store_load(readable, -1, wait_for_writers(), &image);
    else
        return named_is_transient(result) ? result : 0;
    if (result == -EIO && store_sum(readable, size, &crc) == 0)
        return 0;
    return result == 0 ? 1 : named_is_transient(result) ? result : 0;
}

static int is_managed_by_content(const struct named *named, int fd, const struct stat *status)
{
    int readable;
    int result;

    if (!managed_may_trust_content(status))
        return 0;
    readable = DESCRIPTOR_INSIST(named_open_unseen(named, fd, O_RDONLY));
    if (readable < 0)
        return named_is_transient(readable) ? readable : 0;
    result = holds_image(readable, (uint64_t)status->st_size);
    (void)sys_close(readable);
    return result;
}

/* Returns the session whose buffer this is, as /dev/stdout may be, or NULL. */
static const struct session *find_buffer(const struct stat *status)
{
    struct session_found found;

    return status->st_nlink == 0 && session_any() ? session_of(status, &found) : NULL;
}

int managed_explain(const struct named *named, const char *why, int result)
{
    if (log_wants(LOG_DEBUG))
        log_line(LOG_DEBUG, "%s: %s", named->path, why);
    return result;
}

int managed_decide(const struct named *named, int fd, int flags, struct stat *status)
{
    const char *reason = "managed: a pattern matches it";
    const struct session *session;
    int result = sys_fstat(fd, status);

    if (result != 0)
        return named_cannot_tell(named, result);
    if (!S_ISREG(status->st_mode))
        return 0;
    session = find_buffer(status);
    /* a memfd for reading refuses to be opened for writing; a file in its place does not */
    if (session != NULL)
        return descriptor_wants_writing(flags) && !(session->flags & SESSION_WRITABLE) ? -EPERM : 0;
    if (session_on(status->st_dev, status->st_ino) != NULL)
        return managed_explain(named, "managed: it is open already", 1);
    if (managed_may_trust_content(status) && session_has_snapshot(status))
        return managed_explain(named, "managed: it holds an image, which was read before", 1);
    /* O_TMPFILE, a deleted file: no name that could match */
    result = status->st_nlink == 0 ? 0 : named_matches(named, fd, NULL);
    if (result == 0) {
        result = is_managed_by_content(named, fd, status);
        if (result == 0)
            return managed_explain(named, "not managed: no pattern matches it, and it holds no image", 0);
        reason = "managed: it holds an image";
    }
    if (result > 0)
        result = managed_is_on_disk(fd, status->st_dev);
    if (result < 0)
        return result;
    return managed_explain(named, result > 0 ? reason : "not managed: its file system is the kernel's own",
                           result);
}
