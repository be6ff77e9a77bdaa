/* Remembers the images that this process has committed itself, and need not look for before its
 * next commit. */
#include "store/calls.h"
#include "store/internal.h"

#include <linux/magic.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

/* A file, as the last commit of this process has left it. */
struct known {
    dev_t device;
    ino_t number;            /* atomic */
    struct timespec changed; /* st_ctim */
    struct store_image image;
    int is_taken; /* atomic: a thread uses the entry, or died while it did */
};

/*
 * A file has the place that its inode number says; the last one stays. Once as many files have lost
 * theirs as there are few places, the process gets many, of which it uses the pages that it needs.
 */
enum { FEW = 64, MANY = 1 << 17 };

static SYS_LARGE struct known few_places[FEW];
static struct known *many_places; /* atomic; NULL: not yet, or there is no memory */

static struct known *find_place(const struct stat *status)
{
    struct known *many = __atomic_load_n(&many_places, __ATOMIC_ACQUIRE);

    return many != NULL ? &many[status->st_ino % MANY] : &few_places[status->st_ino % FEW];
}

static struct known *take_place(const struct stat *status)
{
    struct known *known = find_place(status);

    return __atomic_exchange_n(&known->is_taken, 1, __ATOMIC_ACQUIRE) == 0 ? known : NULL;
}

/* Called when another file takes this place. */
static void note_lost_place(const struct known *known, const struct stat *status)
{
    static unsigned lost; /* atomic */
    void *many;

    if (known->number == 0 || (known->number == status->st_ino && known->device == status->st_dev) ||
        __atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED) != FEW)
        return;
    many = sys_mmap(NULL, MANY * sizeof *known, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!sys_is_error(many))
        __atomic_store_n(&many_places, many, __ATOMIC_RELEASE);
}

static void give_place(struct known *known)
{
    __atomic_store_n(&known->is_taken, 0, __ATOMIC_RELEASE);
}

/* "6.13" or later: then the kernel gives a file another time at each change that follows a look at
 * its times (Documentation/filesystems/multigrain-ts.rst). */
static bool is_kernel_fine(void)
{
    struct utsname name;
    int major = 0;
    int minor = 0;
    const char *at = name.release;

    if (SYS_CALL(SYS_uname, &name, 0, 0, 0, 0, 0) != 0)
        return false;
    while (*at >= '0' && *at <= '9')
        major = major * 10 + (*at++ - '0');
    if (*at == '.')
        at++;
    while (*at >= '0' && *at <= '9')
        minor = minor * 10 + (*at++ - '0');
    return major > 6 || (major == 6 && minor >= 13);
}

/* True if no two states of a file on this device ever have the same time. A file system with a
 * coarse clock gives all changes within a tick one time. */
static bool has_fine_times(int inode, dev_t device)
{
    static dev_t asked;  /* atomic: the device of the last answer; 0: none */
    static bool is_fine; /* atomic */
    struct statfs system;
    bool fine;

    if (__atomic_load_n(&asked, __ATOMIC_ACQUIRE) == device)
        return __atomic_load_n(&is_fine, __ATOMIC_RELAXED);
    fine = is_kernel_fine() && sys_fstatfs(inode, &system) == 0 &&
           ((unsigned)system.f_type == EXT4_SUPER_MAGIC || (unsigned)system.f_type == XFS_SUPER_MAGIC ||
            (unsigned)system.f_type == BTRFS_SUPER_MAGIC || (unsigned)system.f_type == TMPFS_MAGIC);
    __atomic_store_n(&asked, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&is_fine, fine, __ATOMIC_RELAXED);
    __atomic_store_n(&asked, device, __ATOMIC_RELEASE);
    return fine;
}

void store_note_left(int inode, const struct store_left *left)
{
    const struct stat *status = &left->status;
    struct known *known =
        left->image.generation != 0 && has_fine_times(inode, status->st_dev) ? take_place(status) : NULL;

    if (known == NULL)
        return;
    note_lost_place(known, status);
    known->device = status->st_dev;
    __atomic_store_n(&known->number, status->st_ino, __ATOMIC_RELAXED);
    known->changed = status->st_ctim;
    known->image = left->image;
    known->image.file_size = (uint64_t)status->st_size;
    give_place(known);
}

static bool is_as_left(const struct known *known, const struct stat *status)
{
    return known->number == status->st_ino && known->device == status->st_dev &&
           known->image.file_size == (uint64_t)status->st_size &&
           known->changed.tv_sec == status->st_ctim.tv_sec &&
           known->changed.tv_nsec == status->st_ctim.tv_nsec;
}

bool store_recall(const struct stat *status, struct store_image *image)
{
    /* most files cost no atomic exchange */
    const bool may_be = __atomic_load_n(&find_place(status)->number, __ATOMIC_RELAXED) == status->st_ino;
    struct known *known = may_be ? take_place(status) : NULL;
    bool result;

    if (known == NULL)
        return false;
    result = is_as_left(known, status);
    if (result)
        *image = known->image;
    give_place(known);
    return result;
}

bool store_has_left(const struct stat *status)
{
    struct store_image image;

    return store_recall(status, &image);
}
