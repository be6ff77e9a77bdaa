/*
 * The buffer of a session: a file without a name that holds what the program reads and writes. It
 * is a memfd, or, where there is none, a file that is unlinked as soon as its descriptions are
 * open:
 *
 *   memfd_create() fails      ENOSYS, a seccomp filter, vm.memfd_noexec
 *   a filter may kill for it  see may_use_memfd()
 *   /proc is not mounted      a buffer gets no second description then, and leases count none but
 *                             those of an open
 */
#ifndef ATOMSHIM_BUFFER_H
#define ATOMSHIM_BUFFER_H

#include "os/sys.h"

struct buffer {
    int fd;      /* its description counts for leases */
    int filler;  /* to write the content through: `fd`, or closed after buffer_seal() */
    int program; /* the program's description, where /proc cannot open one later, or -1 */
};

/*
 * Makes the buffer. `name` begins with "atomshim"; `flags` are those of the program's open(2),
 * `writable` says whether writes are committed. `last_directory` (or NULL) is the last place that
 * is tried for a file. All descriptors are close-on-exec. Returns 0 or a negative errno; -ENOMEM,
 * with a line in the log, where there is no place.
 */
int buffer_make(const char *name, bool writable, int flags, const char *last_directory,
                struct buffer *buffer);

/*
 * Says that this process is about to give itself a seccomp filter (prctl(2), seccomp(2)). Until
 * then one look at /proc/thread-self/status is good for all buffers; from now on each buffer needs
 * a look of its own. A filter that the program sets up with a system call instruction of its own,
 * past the C library, escapes this.
 */
void buffer_expect_filters(void);

/* Closes descriptors, of which no two are the same; a negative number is none. Numbers that follow
 * each other cost one call, close_range(2), where no seccomp filter is in force. */
void buffer_close_all(const int *numbers, int count);

/* Makes a buffer that nobody commits unwritable, where the kernel can (F_ADD_SEALS, fcntl(2)). */
void buffer_seal(const struct buffer *buffer);

/* Returns a descriptor of a new temporary file in memory, close-on-exec, or a negative errno. */
int buffer_scratch(const char *last_directory);

/* Makes an empty file with a name, to be removed by buffer_remove_stand_in(), for a libc that opens
 * only names. */
enum { BUFFER_PATH_SIZE = 512 };
int buffer_stand_in(char path[BUFFER_PATH_SIZE], const char *last_directory);
void buffer_remove_stand_in(const char *path);

/*
 * True if a buffer of `size` bytes would take more memory than there is: the kernel would kill
 * this process or another one for it. A buffer has holes until its image is read for a commit.
 * Only sizes from 64 MiB on are looked at; memory_available() counts, less what the buffer has
 * already. False where that cannot be read, and for a buffer on a disk.
 */
bool buffer_is_beyond_memory(int buffer, uint64_t size);

/* True if the content of `inode`, a file of `file_size` bytes, is beyond memory, so that it must
 * not be loaded into the buffer: the kernel would kill programs, not this one in particular. Holes
 * stay holes. */
bool buffer_is_too_small(int buffer, int inode, uint64_t file_size);

/* Tells whether open(2) of a name below /proc returns this where /proc is not mounted. */
bool buffer_is_proc_missing(int error);

#endif
