/*
 * The memory of a session: a file without a name that holds what the program reads and writes. A memfd; where that
 * cannot be had, a file that is unlinked as soon as its descriptions are open:
 *
 *   memfd_create() fails      ENOSYS, a seccomp filter, vm.memfd_noexec
 *   a filter may kill for it  see may_use_memfd()
 *   /proc is not mounted      a memfd gets no second description then, and leases count none but those of an open
 */
#ifndef ATOMSHIM_MEMORY_H
#define ATOMSHIM_MEMORY_H

#include "sys.h"

struct memory {
    int fd;      /* of a description that leases count */
    int filler;  /* to write the content with: may be `fd`, and else is to be closed after memory_finish() */
    int program; /* the program's description, where /proc cannot open one later, or -1 */
};

/*
 * Makes the memory. `name` begins with "atomshim"; `flags` are those of the program's open(2), `writable` says whether
 * what is written is committed. `last_directory` (or NULL) is tried for a file when no other place is left. All
 * descriptors are close-on-exec. Returns 0 or a negative errno; -ENOMEM, told in the log, where there is no place.
 */
int memory_make(const char *name, bool writable, int flags, const char *last_directory,
                struct memory *memory);

/* Takes from a memory that nobody commits the means to write to it, where the kernel has one. */
void memory_seal(const struct memory *memory);

/* A memory for the moment, close-on-exec, or a negative errno. */
int memory_scratch(const char *last_directory);

/* Makes an empty file with a name, to be removed by memory_no_stand_in(), for a libc that opens nothing but names. */
enum { MEMORY_PATH_SIZE = 512 };
int memory_stand_in(char path[MEMORY_PATH_SIZE], const char *last_directory);
void memory_no_stand_in(const char *path);

/* Is this what open(2) of a name below /proc returns where it is not mounted? */
bool memory_is_proc_missing(int error);

/* What stands behind "atomshim:" in the name of a memory, as /proc has it, or NULL if `link` is none. */
const char *memory_name_in(const char *link);

#endif
