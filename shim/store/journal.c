#include "store/journal.h"

#include "format/redo.h"
#include "os/descriptor.h"
#include "store/calls.h"
#include "store/internal.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#define NAME_PREFIX ".atomshim-journal-"

enum {
    NAME_SIZE = sizeof NAME_PREFIX + 8,
    KEPT_COUNT = 4, /* journals that a process remembers; others are removed after each commit */
    OPENS = 4,      /* attempts, while other processes remove the journal */
};

const char *store_journal_folder;

/* The journals that this process has kept. `state` is 0: the entry is free; 1: it is being filled;
 * 2: it can be read. */
static SYS_LARGE struct kept_journal {
    int state;
    int process;
    uint32_t identity;
    char folder[PATH_MAX];
} kept_journals[KEPT_COUNT];
static bool has_kept; /* atomic; stays true */

static void make_name(char name[NAME_SIZE], uint32_t identity)
{
    char *end = stpcpy(name, NAME_PREFIX);

    for (int i = 28; i >= 0; i -= 4)
        *end++ = "0123456789abcdef"[identity >> i & 15];
    *end = '\0';
}

static int open_folder(const char *folder)
{
    return DESCRIPTOR_INSIST(store_calls.openat(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
}

/* ---- the folder of a journal ---- */

/* Writes the folder of the file's name to `folder`. Returns false if it has none that is on the
 * file's own file system. */
static bool find_beside(int inode, char folder[PATH_MAX])
{
    char link[PROC_PATH_SIZE];
    struct stat file;
    struct stat named;
    struct stat parent;
    ssize_t n = sys_readlinkat(AT_FDCWD, descriptor_path(link, inode), folder, PATH_MAX - 1);
    char *slash;

    if (n <= 0 || folder[0] != '/')
        return false;
    folder[n] = '\0';
    if (sys_fstat(inode, &file) != 0 || sys_fstatat(AT_FDCWD, folder, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
        file.st_dev != named.st_dev || file.st_ino != named.st_ino)
        return false;
    slash = strrchr(folder, '/');
    slash[slash == folder] = '\0';
    return sys_fstatat(AT_FDCWD, folder, &parent, 0) == 0 && parent.st_dev == file.st_dev;
}

/* Tells whether a power cut empties this folder, but not the file's. */
static bool is_volatile(int folder, int inode)
{
    struct statfs status;
    struct stat file;
    struct stat parent;

    if (sys_fstatfs(folder, &status) != 0)
        return true;
    if ((unsigned)status.f_type != TMPFS_MAGIC && (unsigned)status.f_type != RAMFS_MAGIC)
        return false;
    return sys_fstat(inode, &file) != 0 || sys_fstat(folder, &parent) != 0 || file.st_dev != parent.st_dev;
}

/* Gives the places where a journal of `inode` may lie, the preferred one first; returns false
 * behind the last. */
static bool find_folder(int inode, int number, const char *recorded, char folder[PATH_MAX])
{
    const char *configured = store_journal_folder;

    switch (number) {
    case 0:
        if (configured == NULL || strlen(configured) >= PATH_MAX)
            folder[0] = '\0';
        else
            (void)strcpy(folder, configured);
        return true;
    case 1:
        if (!find_beside(inode, folder))
            folder[0] = '\0';
        return true;
    case 2:
        (void)strcpy(folder, recorded);
        return recorded[0] != '\0';
    default:
        return false;
    }
}

/* ---- opening ---- */

/* Tells whether the file of `fd` may be a journal of ours: another user may have put a file in its
 * place. */
static bool is_trusted(int fd, int inode)
{
    struct stat status;
    struct stat file;

    return sys_fstat(fd, &status) == 0 && sys_fstat(inode, &file) == 0 && S_ISREG(status.st_mode) &&
           status.st_nlink == 1 && (status.st_mode & 077) == 0 &&
           (status.st_uid == file.st_uid || status.st_uid == sys_geteuid());
}

/* Locks a journal, for as long as its description is open, against processes that would remove
 * it. */
static int lock_journal(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return (int)STORE_RETRY(store_calls.fcntl(fd, F_OFD_SETLK, (long)&lock));
}

/* Opens a journal that exists, and locks it if it is to be written to. Returns a descriptor that
 * is_trusted(), or a negative errno. */
static int open_existing(int inode, const char *path, uint32_t identity, int flags)
{
    char name[NAME_SIZE];
    int folder = path[0] != '\0' ? open_folder(path) : -ENOENT;
    int error = 0;
    int fd;

    make_name(name, identity);
    if (folder < 0)
        return folder;
    fd = DESCRIPTOR_INSIST(
        store_calls.openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0));
    (void)sys_close(folder);
    if (fd >= 0 && flags == O_RDWR)
        error = lock_journal(fd);
    if (fd >= 0 && (error != 0 || !is_trusted(fd, inode))) {
        (void)sys_close(fd);
        return error != 0 ? error : -EACCES;
    }
    return fd;
}

/* Opens or creates the journal in a folder. Returns a descriptor, or a negative errno. */
static int open_in(int folder, const char *name, int inode, bool *created)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    struct stat file;
    int error = -EACCES;

    *created = false;
    for (int i = 0; i < OPENS; i++) {
        int fd = store_calls.openat(folder, name, flags, 0);

        if (fd == -ENOENT) {
            fd = store_calls.openat(folder, name, flags | O_CREAT | O_EXCL, 0600);
            *created = fd >= 0;
            if (fd >= 0 && sys_fstat(inode, &file) == 0)
                (void)SYS_CALL(SYS_fchown, fd, file.st_uid, file.st_gid, 0, 0, 0);
        }
        if (fd == -EEXIST)
            continue;
        if (fd < 0)
            return fd;
        error = lock_journal(fd);
        if (error == 0 && is_trusted(fd, inode))
            return fd;
        (void)sys_close(fd);
        error = error == 0 ? -EACCES : error;
    }
    return error;
}

/* Finds a journal of this process; in any folder if `folder` is NULL. */
static const struct kept_journal *find_kept(uint32_t identity, const char *folder)
{
    for (int i = 0; i < KEPT_COUNT; i++)
        if (__atomic_load_n(&kept_journals[i].state, __ATOMIC_ACQUIRE) == 2 &&
            kept_journals[i].process == sys_getpid() && kept_journals[i].identity == identity &&
            (folder == NULL || strcmp(kept_journals[i].folder, folder) == 0))
            return &kept_journals[i];
    return NULL;
}

int journal_open_place(int inode, int place, bool sync, char path[PATH_MAX])
{
    int folder;

    (void)find_folder(inode, place, "", path);
    folder = path[0] != '\0' ? open_folder(path) : -ENOENT;
    if (folder >= 0 && sync && is_volatile(folder, inode)) {
        (void)sys_close(folder);
        return -EXDEV;
    }
    return folder;
}

int journal_open(struct journal *journal, int inode, uint32_t identity, bool sync)
{
    const struct kept_journal *used = find_kept(identity, NULL);
    char name[NAME_SIZE];
    int error = -ENOENT;

    journal->fd = used != NULL ? open_existing(inode, used->folder, identity, O_RDWR) : -1;
    journal->fresh = false;
    if (journal->fd >= 0) { /* whatever name the file has now: the record tells the folder */
        (void)strcpy(journal->folder, used->folder);
        return 0;
    }
    make_name(name, identity);
    for (int i = 0; i < JOURNAL_PLACES; i++) {
        int folder = journal_open_place(inode, i, sync, journal->folder);

        if (folder < 0)
            continue;
        journal->fd = open_in(folder, name, inode, &journal->fresh);
        error = journal->fd < 0 ? journal->fd : 0;
        (void)sys_close(folder);
        if (error == 0) {
            journal->fresh |= find_kept(identity, journal->folder) == NULL;
            return 0;
        }
    }
    journal->fd = -1;
    return error;
}

static int sync_folder(const char *path)
{
    int folder = open_folder(path);
    int error = folder < 0 ? folder : (int)STORE_RETRY(store_calls.fsync(folder));

    descriptor_close_if_open(folder);
    return error;
}

/*
 * Tells whether a flush of `inode` flushes the journal, too, once its pages are written out: both
 * lie on one ext4 or xfs, on the same device of it. ext4_sync_file() and xfs_file_fsync() (Linux,
 * fs/ext4/fsync.c, fs/xfs/xfs_file.c) flush the cache of the device after they have written the
 * attribute, and whatever the journal's write-out logged before it.
 */
static bool shares_flush(const struct journal *journal, int inode)
{
    struct statfs ours;
    struct statfs its;
    struct stat own;
    struct stat file;

    if (journal->fresh || sys_fstatfs(journal->fd, &ours) != 0 || sys_fstat(journal->fd, &own) != 0 ||
        sys_fstat(inode, &file) != 0 || own.st_dev != file.st_dev)
        return false;
    /* for a file on its realtime device xfs tells the blocks of that: xfs_fs_statfs() */
    return (unsigned)ours.f_type == EXT4_SUPER_MAGIC ||
           ((unsigned)ours.f_type == XFS_SUPER_MAGIC && sys_fstatfs(inode, &its) == 0 &&
            ours.f_blocks == its.f_blocks);
}

int journal_write(struct journal *journal, int inode, const struct journal_record *record, bool sync)
{
    struct stat status;
    int error = (int)STORE_RETRY(store_calls.fstat(journal->fd, &status));
    uint64_t size = error == 0 ? (uint64_t)status.st_size : 0;

    if (error == 0)
        error = store_write_bytes(journal->fd, record->bytes, record->size, 0);
    if (error == 0 && size > record->size)
        error = (int)STORE_RETRY(store_calls.ftruncate(journal->fd, record->size));
    if (error != 0 || !sync)
        return error;
    if (size == record->size && shares_flush(journal, inode)) {
        error = store_calls.write_out(journal->fd, size);
        /* a filter forbids the call; after any other error fdatasync() might not tell it again */
        if (error != -ENOSYS && error != -EPERM && error != -EACCES)
            return error;
    }
    error = (int)STORE_RETRY(store_calls.fdatasync(journal->fd));
    return error == 0 && journal->fresh ? sync_folder(journal->folder) : error;
}

/* Remembers a journal, so that it is removed in the end. Returns false if there is no place
 * left. */
static bool keep_journal(uint32_t identity, const char *folder)
{
    for (int i = 0; i < KEPT_COUNT; i++) {
        int state = 0;

        if (__atomic_load_n(&kept_journals[i].state, __ATOMIC_ACQUIRE) == 2 &&
            kept_journals[i].process != sys_getpid())
            state = 2; /* the process that forked this one removes it */
        if (!__atomic_compare_exchange_n(&kept_journals[i].state, &state, 1, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        kept_journals[i].process = sys_getpid();
        kept_journals[i].identity = identity;
        (void)strcpy(kept_journals[i].folder, folder);
        __atomic_store_n(&kept_journals[i].state, 2, __ATOMIC_RELEASE);
        __atomic_store_n(&has_kept, true, __ATOMIC_RELEASE);
        return true;
    }
    return false;
}

static void remove_in(const char *path, uint32_t identity)
{
    char name[NAME_SIZE];
    int folder = open_folder(path);

    make_name(name, identity);
    if (folder < 0)
        return;
    (void)store_calls.unlinkat(folder, name, 0);
    (void)sys_close(folder);
}

void journal_close(struct journal *journal, uint32_t identity, bool is_over)
{
    if (journal->fd < 0)
        return;
    if (is_over) {
        (void)STORE_RETRY(store_calls.pwrite(journal->fd, "DONE", LINE_WORD, 0));
        if (find_kept(identity, journal->folder) == NULL && !keep_journal(identity, journal->folder))
            remove_in(journal->folder, identity);
    }
    (void)sys_close(journal->fd);
    journal->fd = -1;
}

/* ---- reading, removing ---- */

/* Copies the folder that a FILE or KEPT record names; "" for others. */
static void recorded_folder(const struct record *attribute, char folder[PATH_MAX])
{
    size_t size = 0;

    if ((attribute->word == RECORD_FILE || attribute->word == RECORD_KEPT) &&
        attribute->body_size < PATH_MAX) {
        size = attribute->body_size;
        memcpy(folder, attribute->body, size);
    }
    folder[size] = '\0';
}

static bool read_from(int fd, const struct record *attribute, struct scratch *scratch, struct record *record)
{
    struct record found;
    struct stat status;

    /* the content's size bounds it, whatever file another user has put there */
    if (sys_fstat(fd, &status) != 0 || status.st_size <= 0 || attribute->size > JOURNAL_CONTENT_MAX ||
        (uint64_t)status.st_size > record_line_size(RECORD_REDO) +
                                       redo_body_size(attribute->size, attribute->other, REDO_BLOCK_MAX) ||
        scratch_take(scratch, (size_t)status.st_size) != 0)
        return false;
    if (store_read_at(fd, scratch->bytes, (size_t)status.st_size, 0) == status.st_size &&
        record_decode(scratch->bytes, (size_t)status.st_size, &found) == IMAGE_VALID &&
        found.word == RECORD_REDO && found.generation == attribute->generation &&
        found.size == attribute->size && found.other == attribute->other && found.crc == attribute->crc &&
        found.identity == attribute->identity) {
        *record = found; /* only now: the body of the record lies in the scratch */
        return true;
    }
    scratch_give(scratch);
    return false;
}

bool journal_read(int inode, const struct record *attribute, struct scratch *scratch, struct record *record)
{
    char recorded[PATH_MAX];
    char folder[PATH_MAX];
    bool found = false;

    recorded_folder(attribute, recorded);
    for (int i = 2; i >= 0 && !found; i--) {
        int fd;

        (void)find_folder(inode, i, recorded, folder);
        fd = open_existing(inode, folder, attribute->identity, O_RDONLY);
        if (fd < 0)
            continue;
        found = read_from(fd, attribute, scratch, record);
        (void)sys_close(fd);
    }
    return found;
}

/* Removes a journal, unless another process uses it. */
static void remove_unused(int inode, const char *folder, uint32_t identity)
{
    int fd = open_existing(inode, folder, identity, O_RDWR);

    if (fd < 0)
        return;
    remove_in(folder, identity);
    (void)sys_close(fd);
}

void journal_remove(int inode, const struct record *attribute, uint32_t identity)
{
    char recorded[PATH_MAX];
    char folder[PATH_MAX];

    recorded_folder(attribute, recorded);
    for (int i = 0; find_folder(inode, i, recorded, folder); i++)
        remove_unused(inode, folder, identity);
}

/* Tells whether no commit depends on the journal of `fd`, which the caller has locked. A journal is
 * empty if the disk was full when it was made. */
static bool is_over(int fd)
{
    char word[LINE_WORD];
    ssize_t n = store_read_at(fd, word, sizeof word, 0);

    return n == 0 || (n == LINE_WORD && memcmp(word, "DONE", LINE_WORD) == 0);
}

void journal_tidy(const char *path)
{
    const char *name = strrchr(path, '/');
    int fd;

    if (name == NULL || strncmp(name + 1, NAME_PREFIX, sizeof NAME_PREFIX - 1) != 0)
        return;
    fd = store_calls.openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return;
    if (lock_journal(fd) == 0 && is_over(fd))
        (void)store_calls.unlinkat(AT_FDCWD, path, 0);
    (void)sys_close(fd);
}

void journal_end(void)
{
    for (int i = 0; i < KEPT_COUNT && __atomic_load_n(&has_kept, __ATOMIC_ACQUIRE); i++) {
        int state = 2;
        char name[NAME_SIZE];
        int folder;
        int fd;

        if (kept_journals[i].process != sys_getpid() ||
            !__atomic_compare_exchange_n(&kept_journals[i].state, &state, 1, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        make_name(name, kept_journals[i].identity);
        folder = open_folder(kept_journals[i].folder);
        fd = folder < 0 ? folder
                        : store_calls.openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
        if (fd >= 0 && lock_journal(fd) == 0 && is_over(fd))
            (void)store_calls.unlinkat(folder, name, 0);
        descriptor_close_if_open(fd);
        descriptor_close_if_open(folder);
        __atomic_store_n(&kept_journals[i].state, 0, __ATOMIC_RELEASE);
    }
}
