/* What an open begins: the memory, its content, and the program's descriptor. */
#include "session.h"

#include "descriptor.h"
#include "filelock.h"
#include "log.h"
#include "rendezvous.h"
#include "signals.h"
#include "store.h"

#include <errno.h>
#include <string.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

static char *append_hex(char *end, uint64_t value)
{
    int digits = 1;

    while (digits < 16 && value >> (4 * digits) != 0)
        digits++;
    for (int i = digits; i != 0; i--)
        *end++ = "0123456789abcdef"[value >> (4 * (i - 1)) & 15];
    return end;
}

/* "atomshim:FLAGS:DEVICE:NUMBER:INODE", all in hexadecimal: what session_search() needs after an exec. INODE is the
 * private descriptor of the inode: other sessions on it have a base of their own. */
static void memory_name(char name[64], const struct session *session)
{
    char *end = stpcpy(name, "atomshim:");

    end = append_hex(end, session->flags);
    *end++ = ':';
    end = append_hex(end, session->device);
    *end++ = ':';
    end = append_hex(end, session->number);
    *end++ = ':';
    end = append_hex(end, (uint64_t)session->inode);
    *end = '\0';
}

/* Makes the memfd, with what it must hold. Returns a private descriptor of a description of its own. */
static int make_memory(struct session *session, bool truncate)
{
    const struct timespec never[2] = {{0, 1}, {0, 1}};
    struct session_base base = {.force = truncate};
    struct store_image image = {0};
    struct stat status;
    char name[64];
    char path[PROC_PATH_SIZE];
    int created;
    int private;
    int fd = -1;
    int error = 0;

    memory_name(name, session);
    created = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (created == -EINVAL)
        created = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (created < 0)
        return created;

    if (!truncate)
        error = store_load(session->inode, created,
                           (struct store_wait){.locked = (session->flags & SESSION_LOCKED) != 0,
                                               .timeout = session_config->lock_timeout},
                           &image);
    if (error == 0)
        session_tell_edits(session, &image);
    if (error == 0)
        error = sys_fstat(created, &status);
    if (error != 0)
        goto out;
    base.size = image.size;
    base.crc = image.payload_crc;
    SESSION_SET(session->memory_number, status.st_ino);
    SESSION_SET(session_memory_device, status.st_dev);
    if (session->flags & SESSION_WRITABLE)
        (void)sys_utimensat(created, NULL, never, 0); /* any write sets it: see times_were_set() */
    else
        /* a new description for writing, through /proc/self/fd, would write where nobody commits */
        (void)sys_fcntl(created, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);

    fd = sys_openat(AT_FDCWD, descriptor_path(path, created),
                    (session->flags & SESSION_WRITABLE ? O_RDWR : O_RDONLY) | O_CLOEXEC, 0);
    error = fd < 0 ? fd : 0;
out:
    /* the lease counts only descriptions that were opened by path */
    (void)sys_close(created);
    if (error != 0)
        return error;
    private = descriptor_make_private(fd);
    if (private < 0) {
        (void)sys_close(fd);
        return private;
    }
    SESSION_SET(session->memory, private);
    session_set_base(session, base);
    return 0;
}

struct swap {
    const struct session *session;
    dev_t old_device;
    ino_t old_number;
    bool writable; /* only those that can be written to */
    int fresh;     /* a descriptor of a new description, or -1 */
};

/* Puts the program's descriptor on the new memfd, at the same position. Those at one position are taken for copies. */
static int swap_one(int fd, void *context)
{
    struct swap *swap = context;
    const struct session *session = swap->session;
    struct stat status;
    char path[PROC_PATH_SIZE];
    int64_t position;

    if (sys_fstat(fd, &status) != 0 || status.st_dev != swap->old_device ||
        status.st_ino != swap->old_number || descriptor_is_private(fd))
        return 0;
    if (swap->writable && (sys_fcntl(fd, F_GETFL, 0) & (O_ACCMODE | O_PATH)) == O_RDONLY)
        return 0;
    position = sys_lseek(fd, 0, SEEK_CUR);
    if (swap->fresh < 0 || sys_lseek(swap->fresh, 0, SEEK_CUR) != position) {
        if (swap->fresh >= 0)
            (void)sys_close(swap->fresh);
        swap->fresh = sys_openat(AT_FDCWD, descriptor_path(path, session->memory),
                                 (int)sys_fcntl(fd, F_GETFL, 0) & ~O_CREAT, 0);
        if (swap->fresh < 0)
            return swap->fresh;
        (void)sys_lseek(swap->fresh, position, SEEK_SET);
    }
    return sys_dup3(swap->fresh, fd, sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0) < 0 ? -EBADF : 0;
}

static int swap_all(struct swap *swap)
{
    int error = descriptor_for_each(swap_one, swap);

    if (swap->fresh >= 0)
        (void)sys_close(swap->fresh);
    return error;
}

int session_take_over(const struct session *session, dev_t device, ino_t number)
{
    struct swap swap = {session, device, number, true, -1};

    return swap_all(&swap);
}

int session_load_anew(struct session *session)
{
    struct swap swap = {session, SESSION_GET(session_memory_device), session->memory_number, false, -1};
    int old_memory = session->memory;
    int error;

    if (session_is_stray(session) || !session_table_is_ours())
        return 0;
    error = make_memory(session, false);
    if (error != 0)
        return error;
    error = swap_all(&swap);
    (void)sys_close(old_memory);
    return error;
}

static bool wants_writing(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

static unsigned initial_flags(bool stray, int flags, bool created)
{
    unsigned result = stray ? SESSION_STRAY : 0u;

    if (wants_writing(flags))
        result |=
            SESSION_WRITABLE | (flags & O_APPEND ? SESSION_APPEND : 0u) | (created ? SESSION_CREATED : 0u);
    if (wants_writing(flags) && session_config->isolation == CONFIG_SESSION)
        result |= SESSION_LOCKED;
    return result;
}

/* Closing a descriptor of an inode drops this process's POSIX locks on it: then it must stay where it is. */
static int make_inode_private(int inode, const struct stat *status)
{
    if (session_on(status->st_dev, status->st_ino) == NULL || !filelock_is_posix_holder(inode))
        return descriptor_make_private(inode);
    descriptor_mark(inode);
    return inode;
}

int session_begin(int inode, int flags, bool created, struct session *stray, struct session **result)
{
    struct session *session = stray;
    struct signals_held held;
    struct stat status;
    int private;
    int error = sys_fstat(inode, &status);

    if (error == 0 && session_table_is_ours()) {
        session = session_claim();
        error = session == NULL ? -ENFILE : 0;
    }
    if (error != 0) {
        (void)sys_close(inode);
        return error;
    }
    (void)rendezvous_wait(inode, session_config->lock_timeout);
    SESSION_SET(session->device, status.st_dev);
    SESSION_SET(session->number, status.st_ino);
    SESSION_SET(session->memory_number, 0);
    SESSION_SET(session->memory, -1);
    SESSION_SET(session->inode, inode);
    SESSION_SET(session->flags, initial_flags(session == stray, flags, created));
    session->linked = false;
    SESSION_SET(session->closed_here, false);
    SESSION_SET(session->guarded, false);
    SESSION_SET(session->guard, -1);
    if (session == stray) {
        session->committer = 0;
        session->commit_again = 0;
    }

    if (session->flags & SESSION_LOCKED)
        error = filelock_keep(inode, session_config->lock_timeout);
    private = error == 0 ? make_inode_private(inode, &status) : error;
    if (private < 0) {
        session_drop(session);
        return private;
    }
    SESSION_SET(session->inode, private);
    held = signals_hold(SIGXFSZ); /* RLIMIT_FSIZE is not for what is read: EFBIG, but no signal */
    error = make_memory(session, (flags & O_TRUNC) != 0);
    signals_release(&held);
    if (error != 0) {
        session_drop(session);
        return error;
    }
    *result = session;
    return 0;
}

int session_hand_out(struct session *session, int flags)
{
    char path[PROC_PATH_SIZE];
    int fd = sys_openat(AT_FDCWD, descriptor_path(path, session->memory),
                        flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_NOCTTY), 0);

    if (fd < 0)
        session_drop(session);
    else
        session_publish(session);
    return fd;
}

struct session_base session_get_base(const struct session *session)
{
    uint64_t cell = (uint64_t)sys_lseek(session->memory, 0, SEEK_CUR);

    return (struct session_base){
        .size = (uint64_t)sys_lseek(session->inode, 0, SEEK_CUR),
        .crc = (uint32_t)cell,
        .force = (cell >> 32 & 1) != 0,
    };
}

void session_set_base(const struct session *session, struct session_base base)
{
    (void)sys_lseek(session->inode, (int64_t)base.size, SEEK_SET);
    (void)sys_lseek(session->memory, (int64_t)((uint64_t)base.force << 32 | base.crc), SEEK_SET);
}
