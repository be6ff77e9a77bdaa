/*
 * The kernel of the library that the campaign `errors` preloads: it answers a call with an errno
 * where the campaign says so. It learns the places that make calls, with the errnos that the
 * kernel may return there, and the contents of buffers. For with_faults.c it fails the calls that a
 * test names. No libc: it runs wherever the shim does.
 */
#undef ATOMSHIM_FAILING_KERNEL /* its own calls do not fail */
#include "failing_kernel.h"
#include "os/sys.h"

#include <limits.h>
#include <string.h>

#define FAILING_KERNEL_PASSES INTPTR_MIN
long failing_kernel(long number, long a, long b, long c, long d, long e, long f);

extern const char __ehdr_start[] __attribute__((visibility("hidden"))); /* of this library */
extern const char etext[] __attribute__((visibility("hidden")));

static struct kernel_control *_Atomic control;
static struct kernel_control nothing; /* no campaign runs */

/* ---- errnos ---- */

enum where { ANYWHERE, ON_DISK, IN_MEMORY };

/*
 * The errnos that the manual page of a call has, as far as valid arguments get them. A call that is
 * not here cannot fail. For ON_DISK and IN_MEMORY the first argument is a descriptor.
 */
static const struct possible {
    long number;
    enum where where;
    int errors[KERNEL_ERRORS];
} possible[] = {
    {SYS_openat, ANYWHERE, {EMFILE, ENFILE, ENOMEM, EACCES, EINTR, EIO}},
    {SYS_openat2, ANYWHERE, {ENOSYS, EMFILE, ENOMEM, EACCES, EAGAIN}},
    {SYS_newfstatat, ANYWHERE, {EIO, ENOMEM, EACCES}},
    {SYS_fstat, ON_DISK, {EIO}},
    {SYS_fstatfs, ON_DISK, {EIO, ENOMEM, EINTR}},
    {SYS_statx, ANYWHERE, {ENOSYS, EIO, ENOMEM}},
    {SYS_readlinkat, ANYWHERE, {EIO, ENOMEM, EACCES}},
    {SYS_read, ON_DISK, {EIO, EINTR, ENOMEM, KERNEL_SHORT}},
    {SYS_read, IN_MEMORY, {ENOMEM, EINTR, KERNEL_SHORT}},
    {SYS_pread64, ON_DISK, {EIO, EINTR, ENOMEM, KERNEL_SHORT}},
    {SYS_pread64, IN_MEMORY, {ENOMEM, EINTR, KERNEL_SHORT}},
    {SYS_write, ON_DISK, {EIO, ENOSPC, EDQUOT, EFBIG, EINTR, KERNEL_SHORT}},
    {SYS_write, IN_MEMORY, {ENOSPC, ENOMEM, EFBIG, EINTR, KERNEL_SHORT}},
    {SYS_pwrite64, ON_DISK, {EIO, ENOSPC, EDQUOT, EFBIG, EINTR, KERNEL_SHORT}},
    {SYS_pwrite64, IN_MEMORY, {ENOSPC, ENOMEM, EFBIG, EINTR, KERNEL_SHORT}},
    {SYS_pwritev, ON_DISK, {EIO, ENOSPC, EDQUOT, EFBIG, EINTR, KERNEL_SHORT}},
    {SYS_fdatasync, ON_DISK, {EIO, ENOSPC, EDQUOT, EINTR}},
    {SYS_fsync, ON_DISK, {EIO, ENOSPC, EDQUOT, EINTR}},
    {SYS_sync_file_range, ON_DISK, {EIO, ENOSPC, ENOMEM}},
    {SYS_ftruncate, ON_DISK, {EIO, ENOSPC, EDQUOT, EINTR, EPERM}},
    {SYS_ftruncate, IN_MEMORY, {ENOSPC, ENOMEM}},
    {SYS_fallocate, ON_DISK, {EIO, ENOSPC, EDQUOT, EFBIG, EINTR, EOPNOTSUPP}},
    {SYS_flock, ANYWHERE, {EINTR, ENOLCK}},
    {SYS_fgetxattr, ON_DISK, {EOPNOTSUPP, EIO, ENOMEM}},
    {SYS_getxattr, ANYWHERE, {EOPNOTSUPP, EIO, ENOMEM, EACCES}},
    {SYS_fsetxattr, ON_DISK, {EOPNOTSUPP, ENOSPC, EDQUOT, EPERM, EIO, ENOMEM}},
    {SYS_fremovexattr, ON_DISK, {EIO, ENOSPC, EPERM}},
    {SYS_memfd_create, ANYWHERE, {EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM}},
    {SYS_mmap, ANYWHERE, {ENOMEM, EAGAIN, ENFILE}},
    {SYS_mremap, ANYWHERE, {ENOMEM}},
    {SYS_utimensat, ON_DISK, {EIO, EPERM, EROFS}},
    {SYS_getdents64, ANYWHERE, {EIO, ENOENT}},
    {SYS_fchmod, ON_DISK, {EIO, EPERM, EROFS}},
    {SYS_unlinkat, ANYWHERE, {EIO, EROFS}},
    {SYS_clone, ANYWHERE, {EAGAIN, ENOMEM}},
    {SYS_dup3, ANYWHERE, {EMFILE}},
    {SYS_pipe2, ANYWHERE, {EMFILE, ENFILE}},
    {SYS_kcmp, ANYWHERE, {ENOSYS, EPERM}},
    {SYS_pidfd_open, ANYWHERE, {ENOSYS, EMFILE, ENOMEM, EPERM}},
    {SYS_close_range, ANYWHERE, {ENOSYS, EMFILE}},
    {SYS_faccessat2, ANYWHERE, {ENOSYS, EACCES}},
    {SYS_inotify_init1, ANYWHERE, {EMFILE, ENOMEM}},
    {SYS_inotify_add_watch, ANYWHERE, {ENOSPC, ENOMEM}},
    {SYS_signalfd4, ANYWHERE, {EMFILE, ENOMEM}},
    {SYS_getcwd, ANYWHERE, {ENOENT, ENOMEM}},
    {SYS_unshare, ANYWHERE, {ENOMEM, EPERM}},
    {SYS_ioctl, ANYWHERE, {ENOTTY}},
};

/* fcntl(2) is many calls. EAGAIN from F_SETLEASE is an answer, and not an error. */
static const struct possible possible_fcntl[] = {
    {F_DUPFD_CLOEXEC, ANYWHERE, {EMFILE}},
    {F_DUPFD, ANYWHERE, {EMFILE}},
    {F_OFD_SETLK, ON_DISK, {ENOLCK, EAGAIN, EINTR}},
    {F_OFD_GETLK, ON_DISK, {EINVAL}},
    {F_OFD_SETLKW, ON_DISK, {ENOLCK, EINTR}},
    {F_SETLK, ON_DISK, {ENOLCK}},
    {F_SETLKW, ON_DISK, {ENOLCK, EINTR}},
};

/* Tells whether the descriptor is of a buffer, which has no disk; a file may stand in for a
 * memfd. */
static bool is_in_memory(long descriptor)
{
    unsigned fd = (unsigned)descriptor;
    char path[32] = "/proc/self/fd/";
    char name[64] = "";
    size_t end = strlen(path);
    unsigned divisor = 1;

    while (fd / divisor >= 10)
        divisor *= 10;
    for (; divisor != 0; divisor /= 10)
        path[end++] = (char)('0' + fd / divisor % 10);
    return sys_readlinkat(AT_FDCWD, path, name, sizeof name - 1) > 0 &&
           (memcmp(name, "/memfd:", 7) == 0 || strstr(name, "/.atomshim:") != NULL);
}

static const int *find_errors(const struct possible *list, size_t count, long key, long fd)
{
    static const int none[1];

    for (size_t i = 0; i < count; i++)
        if (list[i].number == key &&
            (list[i].where == ANYWHERE || (list[i].where == IN_MEMORY) == is_in_memory(fd)))
            return list[i].errors;
    return none;
}

/* Returns the errnos that the call can fail with; 0 ends them. */
static const int *errors_of(long number, long a, long b)
{
    static const int none[1];

    if (a == STDERR_FILENO && (number == SYS_write || number == SYS_fstat)) /* for the log */
        return none;
    if (number == SYS_dup3 && sys_fcntl((int)b, F_GETFD, 0) >= 0) /* it replaces that one */
        return none;
    return number == SYS_fcntl
               ? find_errors(possible_fcntl, sizeof possible_fcntl / sizeof *possible_fcntl, b, a)
               : find_errors(possible, sizeof possible / sizeof *possible, number, a);
}

static bool can_fail(long number, long a, long b, long c, int error)
{
    const int *errors = errors_of(number, a, b);

    /* an open needs room only where it creates, and a disk to write to only where it writes */
    if (number == SYS_openat && (error == ENOSPC || error == EDQUOT))
        return (c & O_CREAT) != 0;
    if (number == SYS_openat && error == EROFS)
        return (c & O_ACCMODE) != O_RDONLY;
    for (int i = 0; i < KERNEL_ERRORS && errors[i] != 0; i++)
        if (errors[i] == error)
            return true;
    return false;
}

/* ---- the control file ---- */

static struct kernel_control *map_control(const char *path)
{
    int fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    void *pages = sys_mmap(NULL, sizeof(struct kernel_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    (void)sys_close(fd);
    return fd < 0 || sys_is_error(pages) ? &nothing : pages;
}

/* Reads the variable from /proc, since the libc may not have set `environ` yet. */
static struct kernel_control *find_control(void)
{
    static const char name[] = FAILING_KERNEL_VARIABLE;
    char text[4096];
    int fd = sys_openat(AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC, 0);
    struct kernel_control *found = &nothing;
    uint64_t offset = 0;

    for (ssize_t n; found == &nothing && (n = sys_pread(fd, text, sizeof text - 1, offset)) > 0;) {
        const char *at;

        text[n] = '\0';
        at = memmem(text, (size_t)n, name, sizeof name - 1);
        if (at != NULL && at + strlen(at) < text + n)
            found = map_control(at + sizeof name - 1);
        offset += n > 512 ? (uint64_t)n - 256 : (uint64_t)n;
    }
    (void)sys_close(fd);
    return found;
}

/* ---- learning ---- */

/* Adds what the buffer holds to the images. Nothing counts only where the program's call begins:
 * the library loads into an empty buffer. */
static void note_image(int fd, bool begins)
{
    char bytes[4096];
    uint64_t hash = KERNEL_HASH;
    uint32_t count = atomic_load(&control->images);

    for (uint64_t offset = 0, n = 1; n > 0; offset += n) {
        ssize_t got = sys_pread(fd, bytes, sizeof bytes, offset);

        if (got < 0)
            return;
        n = (uint64_t)got;
        hash = kernel_hash(hash, bytes, n);
    }
    for (uint32_t i = 0; i < count && i < KERNEL_IMAGES; i++)
        if (control->image[i] == hash)
            return;
    if (hash == KERNEL_HASH && !begins)
        return;
    count = atomic_fetch_add(&control->images, 1);
    if (count < KERNEL_IMAGES)
        control->image[count] = hash;
}

static void note_images(bool begins)
{
    char entries[2048];
    int folder = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

    for (long n; (n = sys_getdents(folder, entries, sizeof entries)) > 0;)
        for (long at = 0; at < n; at += *(unsigned short *)(void *)(entries + at + 16)) {
            int fd = 0;

            for (const char *digit = entries + at + 19; *digit >= '0' && *digit <= '9'; digit++)
                fd = fd * 10 + (*digit - '0');
            if (entries[at + 19] != '.' && is_in_memory(fd))
                note_image(fd, begins);
        }
    (void)sys_close(folder);
}

static void note_call(uint64_t stack, const uint32_t *frames, long number, long a, long b)
{
    const int *errors = errors_of(number, a, b);

    for (uint64_t i = 0; errors[0] != 0 && i < KERNEL_CALLS; i++) {
        struct kernel_call *call = &control->calls[(stack + i) % KERNEL_CALLS];
        uint64_t free_entry = 0;

        if (atomic_compare_exchange_strong(&call->stack, &free_entry, stack)) {
            memcpy(call->frames, frames, sizeof call->frames);
            call->number = (int32_t)number;
            for (int error = 0; error < KERNEL_ERRORS && errors[error] != 0; error++)
                call->errors[error] = errors[error];
            atomic_store(&call->is_filled, 1);
            return;
        }
        if (free_entry == stack)
            return;
    }
}

/* ---- answers ---- */

/* Transfers as little as the kernel may. */
static long transfer_less(long number, long a, long b, long c, long d)
{
    if (number == SYS_pwritev)
        return c > 1 ? sys_call6(number, a, b, 1, d, 0, 0) : FAILING_KERNEL_PASSES;
    return sys_call6(number, a, b, c > 1 ? 1 : c, d, 0, 0);
}

static bool is_to_fail(struct kernel_fault *fault, uint64_t stack, long number, long a, long b, long c)
{
    if (fault->error == 0)
        return false;
    if (fault->mode == KERNEL_ALWAYS)
        return number == fault->number && can_fail(number, a, b, c, fault->error) &&
               atomic_fetch_add(&fault->met, 1) + 1 != 0;
    if (stack == fault->stack && number == fault->number && can_fail(number, a, b, c, fault->error) &&
        atomic_fetch_add(&fault->met, 1) == 0)
        return true;
    return fault->mode == KERNEL_REST && atomic_load(&fault->met) != 0 &&
           can_fail(number, a, b, c, fault->error);
}

enum { FRAME_MAX = 1 << 20, FRAMES = 32 };

/* Stores the addresses of the call and of its callers in this library, 0 behind the last. *outer
 * tells one call of the program from another. */
static void walk_stack(void *const *frame, uint32_t frames[FRAMES], uintptr_t *outer)
{
    for (int i = 0;; i++) {
        const char *address = frame[1];
        void *const *next = *frame;

        *outer = (uintptr_t)address ^ (uintptr_t)frame;
        if (address < __ehdr_start || address >= etext)
            break;
        if (i < FRAMES)
            frames[i] = (uint32_t)(address - __ehdr_start);
        /* code that a compiler adds may have no frame pointer */
        if ((uintptr_t)next - (uintptr_t)frame > FRAME_MAX || (uintptr_t)next % sizeof *next != 0)
            break;
        frame = next;
    }
}

/* ---- directed faults ---- */

/* Tells whether the function is among those that the addresses return to; the first may be in the
 * wrapper of the call (os/sys.h). */
static bool is_inside(const struct kernel_directed *entry, const uint32_t frames[FRAMES])
{
    int depth = entry->is_caller ? 2 : FRAMES;

    for (int i = 0; i < depth && frames[i] != 0; i++)
        for (int part = 0; part < 2; part++)
            if (frames[i] > entry->code[part].start && frames[i] <= entry->code[part].end)
                return true;
    return false;
}

/* Waits while the runner lets the stranger act. */
static void ask_stranger(struct kernel_control *here, struct kernel_directed *entry)
{
    atomic_store(&entry->asks, 1);
    atomic_fetch_add(&here->asked, 1);
    (void)sys_call6(SYS_futex, (long)&here->asked, FUTEX_WAKE, INT_MAX, 0, 0, 0);
    while (atomic_load(&entry->asks) != 0)
        (void)sys_call6(SYS_futex, (long)&entry->asks, FUTEX_WAIT, 1, 0, 0, 0);
}

/* Returns the error of the entry that fails this call, or 0. */
static int direct(struct kernel_control *here, const uint32_t frames[FRAMES], long number, long b)
{
    int error = 0;

    for (uint32_t i = 0; i < here->directed_count; i++) {
        struct kernel_directed *entry = &here->directed[i];
        uint32_t ordinal;

        if (entry->number != number || (entry->command != -1 && entry->command != b) ||
            !is_inside(entry, frames))
            continue;
        ordinal = atomic_fetch_add(&entry->met, 1) + 1;
        if (ordinal < entry->first || ordinal > entry->last)
            continue;
        if (entry->error == 0)
            ask_stranger(here, entry);
        else
            error = entry->error;
    }
    return error;
}

/* ---- the call ---- */

static long answer(int error, long number, long a, long b, long c, long d)
{
    return error == KERNEL_SHORT ? transfer_less(number, a, b, c, d) : -error;
}

long failing_kernel(long number, long a, long b, long c, long d, long e, long f)
{
    static __thread uintptr_t last;
    struct kernel_control *here = atomic_load(&control);
    uint32_t frames[FRAMES] = {0};
    uintptr_t outer;
    uint64_t stack;
    int error;

    (void)e;
    (void)f;
    if (here == NULL) {
        here = find_control();
        atomic_store(&control, here);
    }
    if (here == &nothing)
        return FAILING_KERNEL_PASSES;
    if (number == SYS_munmap && (uintptr_t)here - (uintptr_t)a < (unsigned long)b)
        return 0; /* a guardian unmaps what its program had mapped */
    walk_stack(__builtin_frame_address(0), frames, &outer);
    error = direct(here, frames, number, b);
    if (error != 0)
        return answer(error, number, a, b, c, d);
    stack = kernel_hash(KERNEL_HASH, frames, KERNEL_FRAMES * sizeof *frames) | 1;
    if (atomic_load(&here->learns) & LEARNS_IMAGES)
        note_images(outer != last || (number == SYS_fcntl && b == F_SETLEASE));
    last = outer;
    if (atomic_load(&here->learns) & LEARNS_CALLS)
        note_call(stack, frames, number, a, b);
    for (int i = 0; i < 2; i++)
        if (is_to_fail(&here->faults[i], stack, number, a, b, c))
            return answer(here->faults[i].error, number, a, b, c, d);
    return FAILING_KERNEL_PASSES;
}
