#include "manage/managed.h"

#include "manage/decide.h"
#include "manage/folders.h"
#include "manage/named.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "os/path.h"
#include "session/session.h"
#include "store/store.h"

#include <limits.h>
#include <string.h>

/* Says whether a file may be managed. For a CANDIDATE_HERE only the path of its folder can
 * decide. A CANDIDATE_KNOWN is managed, for what it holds. */
enum { CANDIDATE_NO, CANDIDATE_HERE, CANDIDATE_ANYWHERE, CANDIDATE_KNOWN };

/*
 * Makes no call for a file that is to be new where there is no pattern; else one lstat, which also
 * tells that the path is a string at all, and sets *status. Returns a CANDIDATE or a negative errno
 * that is transient.
 */
static int is_candidate(const struct managed_request *request, int flags, struct stat *status)
{
    const bool is_exclusive = (flags & O_CREAT) && (flags & O_EXCL);
    int error;

    if (is_exclusive && session_config->paths[0] == '\0') /* a new file holds no image */
        return CANDIDATE_NO;
    error = sys_fstatat(request->directory, request->path, status, AT_SYMLINK_NOFOLLOW);
    if (error == -ENOENT)
        return (flags & O_CREAT) && named_may_match(request->path) ? CANDIDATE_HERE : CANDIDATE_NO;
    /* a security module or a seccomp filter may forbid to look and let it be opened */
    if (error == -EACCES || error == -EPERM || error == -ENOSYS)
        return CANDIDATE_ANYWHERE;
    if (error != 0)
        return named_is_transient(error) ? error : CANDIDATE_NO;
    if (is_exclusive) /* it fails */
        return CANDIDATE_NO;
    if (S_ISLNK(status->st_mode))
        return flags & O_NOFOLLOW ? CANDIDATE_NO : CANDIDATE_ANYWHERE;
    if (!S_ISREG(status->st_mode))
        return CANDIDATE_NO;
    if (session_on(status->st_dev, status->st_ino) != NULL)
        return CANDIDATE_ANYWHERE;
    if (descriptor_wants_writing(flags) && store_has_left(status) && managed_may_trust_content(status))
        return CANDIDATE_KNOWN;
    if (store_may_be_sized(status))
        return CANDIDATE_ANYWHERE;
    if (named_may_match(request->path))
        return CANDIDATE_HERE;
    return managed_explain(&(struct named){.directory = request->directory, .path = request->path},
                           "not managed: no pattern ends like its name", CANDIDATE_NO);
}

/*
 * Under its name the file could not match. Tells whether it is worth a look all the same: a link
 * may have led to a name that could. CANDIDATE_HERE is as good as CANDIDATE_NO.
 */
static int is_suspect(const struct managed_request *request, int fd)
{
    struct stat status;

    if (!(request->flags & O_NOFOLLOW) && session_config->paths[0] != '\0')
        return is_candidate(request, 0, &status);
    if (sys_fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return CANDIDATE_NO;
    return store_may_be_sized(&status) ? CANDIDATE_ANYWHERE : CANDIDATE_HERE;
}

/* With these flags an open leaves no trace, and its descriptor is good for a session. */
static bool is_only_read(int flags)
{
    return (flags & ~(O_CLOEXEC | O_LARGEFILE | O_NOCTTY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK)) == O_RDONLY;
}

/* A close of an unmanaged file may drop POSIX locks that the program holds through a session. */
bool managed_asks_later(const struct managed_request *request)
{
    return request->may_ask && is_only_read(request->flags) && !session_any();
}

int managed_opened(const struct managed_request *request, int fd, struct stat *status)
{
    struct named named = {.directory = request->directory, .path = request->path};
    const bool may_match = named_may_match(request->path);
    int result = CANDIDATE_ANYWHERE;

    if (may_match)
        named.is_entry = request->directory >= 0 && (request->flags & O_NOFOLLOW) &&
                         is_only_read(request->flags) && strchr(request->path, '/') == NULL;
    if (!may_match || (named.is_entry ? !folders_may_match(request->directory) : named_is_elsewhere(&named)))
        result = is_suspect(request, fd);
    if (result == CANDIDATE_HERE)
        return managed_explain(&named, "not managed: no pattern matches it, and it holds no image", 0);
    return result <= 0 ? result : managed_decide(&named, fd, O_RDONLY, status);
}

void managed_remove_created(const struct managed_request *request, const struct managed_file *file)
{
    struct stat status;

    if (sys_fstatat(request->directory, request->path, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_dev == file->status.st_dev && status.st_ino == file->status.st_ino && status.st_size == 0)
        (void)sys_unlinkat(request->directory, request->path, 0);
}

void managed_make_plain(int directory, const char *path)
{
    const struct managed_request request = {.directory = directory, .path = path, .flags = O_RDWR};
    struct managed_file file;
    struct stat status;
    int error;

    if (!named_may_match(path) || sys_fstatat(directory, path, &status, 0) != 0 || !S_ISREG(status.st_mode) ||
        !store_may_be_sized(&status) || session_has_posix_lock(status.st_dev, status.st_ino))
        return;
    error = managed_open(&request, &file);
    if (error == MANAGED_YES) {
        error = session_export(file.inode);
        (void)sys_close(file.inode);
    }
    if (error < 0)
        log_line(LOG_WARN,
                 "%s: it may be executed, but stays in the sized format, which the kernel cannot read: %s",
                 path, log_errno(error));
}

/* Tells whether a pattern would match a file that is created under this name. */
static int may_create(const struct named *named)
{
    int folder = named_open_folder(named);
    struct stat status;
    int match;

    if (folder < 0)
        return named_is_transient(folder) ? folder : 0;
    match = named_matches(named, folder, path_last_component(named->path));
    if (match > 0)
        match = managed_is_on_disk(folder, sys_fstat(folder, &status) == 0 ? status.st_dev : 0);
    (void)sys_close(folder);
    return match;
}

/*
 * The open that creates the file decides the access for good: the mode may forbid us reading and
 * writing. So the file is created only if there is a number for the program, too. A name that was a
 * dangling symbolic link has led elsewhere.
 */
static int create_file(const struct managed_request *request, struct managed_file *file)
{
    const struct named named = {.directory = request->directory, .path = request->path};
    int match = may_create(&named);
    int error;

    if (match <= 0)
        return match < 0 ? match : MANAGED_NO;
    if (!descriptor_is_one_free())
        return -EMFILE;
    file->inode = sys_openat(
        request->directory, request->path,
        O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | (request->flags & (O_EXCL | O_NOFOLLOW)), request->mode);
    if (file->inode < 0)
        return file->inode;
    if (!(request->flags & O_EXCL))
        match = named_matches(&named, file->inode, NULL);
    if (match == 0) {
        (void)sys_close(file->inode);
        return MANAGED_NO;
    }
    error = sys_fstat(file->inode, &file->status);
    if (error != 0 && match > 0)
        match = error;
    file->created = error == 0 && file->status.st_size == 0;
    if (match > 0)
        return MANAGED_YES;
    (void)sys_close(file->inode);
    managed_remove_created(request, file);
    return match;
}

/*
 * Opens the real inode behind `probe`, if that is, by /proc/self/fd/N, a session's buffer that was
 * opened for reading and now is to be written. Returns an O_PATH descriptor, or a negative number.
 */
static int open_behind(int probe, int flags)
{
    struct session_found found;
    struct stat status;
    char link[PROC_PATH_SIZE];

    if ((flags & O_EXCL) || !descriptor_wants_writing(flags) || !session_any() ||
        sys_fstat(probe, &status) != 0)
        return -1;
    if (session_of(&status, &found) == NULL || (found.session->flags & SESSION_WRITABLE))
        return -1;
    return sys_openat(AT_FDCWD, descriptor_path(link, found.session->inode), O_PATH | O_CLOEXEC, 0);
}

/*
 * Opens the file by its name, and updates *status. O_CREAT comes along, with which the kernel
 * refuses to open another user's file in a sticky folder: proc(5), fs.protected_regular. -EAGAIN:
 * the name leads to another file by now than the one with this status.
 */
static int open_by_name(const struct managed_request *request, struct stat *status, int flags)
{
    struct stat found;
    int inode =
        sys_openat(request->directory, request->path,
                   flags | O_CLOEXEC | O_NOCTTY | (request->flags & (O_CREAT | O_NOFOLLOW)), request->mode);

    if (inode < 0)
        return inode;
    if (sys_fstat(inode, &found) == 0 && found.st_dev == status->st_dev && found.st_ino == status->st_ino) {
        *status = found;
        return inode;
    }
    (void)sys_close(inode);
    return -EAGAIN;
}

/* Opens the file of `probe` for the session; by its name if that is -1. */
static int open_inode(const struct managed_request *request, int probe, struct stat *status, bool by_name)
{
    const struct named named = {.directory = request->directory, .path = request->path};
    int access = descriptor_wants_writing(request->flags) ? O_RDWR : O_RDONLY;
    bool unseen = (request->flags & (O_ACCMODE | O_NOATIME)) == O_WRONLY;
    int inode;

    if (probe < 0 || (by_name && (request->flags & O_CREAT))) {
        inode = open_by_name(request, status, access | (unseen ? O_NOATIME : request->flags & O_NOATIME));
        return inode == -EPERM && unseen ? open_by_name(request, status, access) : inode;
    }
    return unseen ? named_open_unseen(&named, probe, access)
                  : named_open_again(&named, probe, access | (request->flags & O_NOATIME));
}

/*
 * The file is there: `probe` is an O_PATH descriptor of it, which this closes. REPLACED: look
 * again.
 */
enum { REPLACED = 100 };

static int open_existing(const struct managed_request *request, int probe, struct managed_file *file)
{
    const struct named named = {.directory = request->directory, .path = request->path};
    int behind = open_behind(probe, request->flags);
    int result = 1;

    if (behind >= 0) {
        (void)sys_close(probe);
        probe = behind;
        result = sys_fstat(probe, &file->status);
        result = result == 0 ? 1 : result;
    } else
        result = (request->flags & O_CREAT) && (request->flags & O_EXCL)
                     ? 0
                     : managed_decide(&named, probe, request->flags, &file->status);
    if (result > 0) {
        file->inode = open_inode(request, probe, &file->status, behind < 0);
        result = file->inode == -EAGAIN ? REPLACED : file->inode < 0 ? file->inode : MANAGED_YES;
    } else if (result == 0)
        result = MANAGED_NO;
    (void)sys_close(probe);
    return result;
}

/*
 * Opens a file that this process has committed last, and nobody has touched since: no pattern need
 * be asked. MANAGED_NO: it may be another file by now, and nothing is open.
 */
static int open_known(const struct managed_request *request, struct managed_file *file)
{
    const struct named named = {.directory = request->directory, .path = request->path};

    file->inode = open_inode(request, -1, &file->status, true);
    if (file->inode >= 0 && store_has_left(&file->status))
        return managed_explain(&named, "managed: it holds the image that was committed here last",
                               MANAGED_YES);
    descriptor_close_if_open(file->inode);
    return MANAGED_NO;
}

static int open_once(const struct managed_request *request, struct managed_file *file)
{
    const struct named named = {.directory = request->directory, .path = request->path};
    const int flags = request->flags;
    int result = CANDIDATE_NO;
    int probe;

    file->inode = -1;
    file->created = false;
    if (managed_asks_later(request))
        return MANAGED_ASK;
    if (!(flags & (O_PATH | O_DIRECTORY)))
        result = is_candidate(request, flags, &file->status);
    if (result == CANDIDATE_KNOWN && open_known(request, file) == MANAGED_YES)
        return MANAGED_YES;
    if (result == CANDIDATE_HERE)
        result = named_matches_in_folder(&named);
    if (result <= 0)
        return result < 0 ? result : MANAGED_NO;
    probe = sys_openat(request->directory, request->path, O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW), 0);
    if (probe == -ENOENT && (flags & O_CREAT))
        return create_file(request, file);
    if (probe < 0)
        return named_is_transient(probe) || probe == -EACCES ? probe : MANAGED_NO;
    return open_existing(request, probe, file);
}

int managed_open(const struct managed_request *request, struct managed_file *file)
{
    int result;

    do
        result = open_once(request, file);
    while (result == REPLACED);
    return result;
}

int managed_find(int directory, const char *path, const struct stat *status)
{
    const struct named named = {.directory = directory, .path = path};
    struct stat found;
    int result;
    int fd;

    if (!named_may_match(path) && !store_may_be_sized(status))
        return -ENOENT;
    fd = sys_openat(directory, path, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    result = managed_decide(&named, fd, O_RDONLY, &found);
    if (result > 0)
        return fd;
    (void)sys_close(fd);
    return result < 0 ? result : -ENOENT;
}

int managed_reopen(int directory, const char *path, int fd, int flags)
{
    const struct named named = {.directory = directory, .path = path};

    return DESCRIPTOR_INSIST(named_open_again(&named, fd, flags));
}

/* For stat() the headers are enough: see store_size(). */
static bool may_show_payload(const struct named *named, int fd, const struct stat *status)
{
    if (named_matches(named, fd, NULL) <= 0 && !(managed_may_trust_content(status) && store_is_whole(fd) > 0))
        return false;
    return managed_is_on_disk(fd, status->st_dev) > 0;
}

/* Tells whether the file's bytes may not be its content, because a commit died. Costs one system
 * call, but none where nothing asks for the plain format. */
static bool has_open_record(const struct named *named)
{
    char path[PROC_PATH_SIZE + NAME_MAX];
    const char *name = named->path;

    if (!session_config->may_be_plain || !named_may_match(name))
        return false;
    if (*name != '/' && named->directory != AT_FDCWD) {
        if (strlen(name) >= NAME_MAX)
            return true;
        (void)stpcpy(stpcpy(path + strlen(descriptor_path(path, named->directory)), "/"), name);
        name = path;
    }
    return store_record_is_open(name);
}

uint64_t managed_payload_size(int directory, const char *path, int flags, const struct stat *status)
{
    const struct named named = {.directory = directory, .path = path};
    uint64_t size = (uint64_t)status->st_size;
    const struct session *session;
    struct stat found;
    int how;
    int fd;

    if (!S_ISREG(status->st_mode) || (!store_may_be_sized(status) && !has_open_record(&named)))
        return size;
    session = session_on(status->st_dev, status->st_ino);
    if (session != NULL) /* closing another descriptor would drop the program's POSIX locks */
        return store_size(session->inode, &size) == 0 ? size : (uint64_t)status->st_size;
    how = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0);
    fd = DESCRIPTOR_INSIST(sys_openat(directory, path, how | O_NOATIME, 0));
    if (fd == -EPERM)
        fd = DESCRIPTOR_INSIST(sys_openat(directory, path, how, 0));
    if (fd < 0)
        return size;
    if (sys_fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && may_show_payload(&named, fd, &found))
        (void)store_size(fd, &size);
    (void)sys_close(fd);
    return size;
}
