/*
 * Descriptors: the shim's and the program's.
 *
 * A session (session.h) owns two private descriptors, of the real inode and of the memfd that
 * stands in for it. They live at high numbers, survive fork, and an exec where session_hand_over()
 * says so, and bear a mark that the kernel keeps with the open file description: the signal set by
 * F_SETSIG. The mark also makes a broken lease harmless (the signal is ignored by default, SIGIO
 * would kill).
 */
#ifndef ATOMSHIM_DESCRIPTOR_H
#define ATOMSHIM_DESCRIPTOR_H

#include "os/sys.h"

#include <errno.h>
#include <sys/resource.h>

enum { PROC_PATH_SIZE = 32 };

#define PROC_DELETED " (deleted)" /* proc(5): ends the path of a file that has lost its name */

/* Closes `fd` unless it is negative. */
static inline void descriptor_close_if_open(int fd)
{
    if (fd >= 0)
        (void)sys_close(fd);
}

/* Tells whether an open(2) with these flags may change the file. */
static inline bool descriptor_wants_writing(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

/*
 * Writes "/proc/self/fd/N": opening it gives a new open file description of the same inode
 * (proc(5)).
 */
const char *descriptor_path(char path[PROC_PATH_SIZE], int fd);

/* Writes "/proc/self/fdinfo/N", where the kernel tells of the description's locks. */
const char *descriptor_info_path(char path[PROC_PATH_SIZE], int fd);

/* Writes "/proc/PROCESS". */
const char *descriptor_process_path(char path[PROC_PATH_SIZE], int process);

/*
 * Moves `fd` to a private number, close-on-exec, and closes `fd`. The caller has marked the
 * description before. Returns the new number; a negative errno (-EMFILE) leaves `fd` open and
 * unmarked.
 */
int descriptor_make_private(int fd);

/* Does the same, but leaves `fd` open: the new number is a copy. */
int descriptor_copy_private(int fd);

/*
 * Returns the first of DESCRIPTOR_BEACONS numbers. One of them is open when a program with private
 * descriptors runs another one: a program that finds all free need not search. The numbers depend
 * on the soft RLIMIT_NOFILE.
 */
int descriptor_beacon(void);
enum { DESCRIPTOR_BEACONS = 8 };

/* Mark the description of `fd` as a private one of a real inode, or of a buffer. */
void descriptor_mark_inode(int fd);
void descriptor_mark_buffer(int fd);

/*
 * The opener of a session is the process that opened the file. The kernel keeps its number with the
 * description of the private inode descriptor `inode` (F_SETOWN_EX, fcntl(2)). Every process that
 * shares the description finds it there, after fork and exec, and a process that gets the same
 * number later is not mistaken for it. `process`: a pid, or DESCRIPTOR_NO_OPENER, which lets the
 * program that adopts the session take the opener's place.
 */
enum { DESCRIPTOR_NO_OPENER = -1 };
void descriptor_set_opener(int inode, int process);

/*
 * Returns the pid of the opener, DESCRIPTOR_NO_OPENER, or 0 if the opener has ended or is not in
 * this pid namespace.
 */
int descriptor_opener(int inode);

/*
 * Notes that the opener has released the session, by its last close or by a proper end. Then the
 * last close commits, whoever makes it. The note is a second value of the mark of `inode`, shared
 * like the first.
 */
void descriptor_release(int inode);
bool descriptor_is_released(int inode);

/* Tells whether the description behind `fd` bears a mark of the shim. A description of O_PATH
 * cannot bear any. */
bool descriptor_is_private(int fd);

/* Tells whether the description behind `fd` bears the mark of a buffer. */
bool descriptor_is_buffer(int fd);

/*
 * Asks the kernel whether `buffer`, a private descriptor of a memfd, belongs to its only open file
 * description anywhere: no program's descriptor in any process and no mapping of one is left. A
 * write lease is granted exactly then (fcntl(2), F_SETLEASE); it is given back at once. Returns 1
 * yes, 0 no, or a negative errno where this kernel, file or user cannot have leases.
 */
int descriptor_is_last(int buffer);

/* Does the same, but after 1 the description has no mark: giving a lease back takes it away. For a
 * buffer that is about to be closed. */
int descriptor_end_if_last(int buffer);

/*
 * Raises the soft RLIMIT_NOFILE to the hard one, so that a call of the program does not fail for
 * want of a number that only the shim needs. Call descriptor_restore_limit() soon: another thread
 * may get a number beyond the limit meanwhile. Returns false if the limit cannot be raised.
 */
bool descriptor_raise_limit(struct rlimit *before);
void descriptor_restore_limit(const struct rlimit *before);

/* Tells whether the program has a number left. */
bool descriptor_is_one_free(void);

/*
 * Makes `call`, and once more with a raised limit if it failed with -EMFILE. Its result is the
 * call's.
 */
#define DESCRIPTOR_INSIST(call)                                                                              \
    ({                                                                                                       \
        struct rlimit insist_before;                                                                         \
        int insist_result = (call);                                                                          \
        if (insist_result == -EMFILE && descriptor_raise_limit(&insist_before)) {                            \
            insist_result = (call);                                                                          \
            descriptor_restore_limit(&insist_before);                                                        \
        }                                                                                                    \
        insist_result;                                                                                       \
    })

/*
 * Calls `visit` with each descriptor of this process, until it returns non-zero. A descriptor may
 * be closed in `visit`. Returns what the last visit returned.
 */
int descriptor_for_each(int (*visit)(int fd, void *context), void *context);

#endif
