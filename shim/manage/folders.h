/*
 * Remembers what the kernel said of folders for as long as its coarse clock stands still: one tick,
 * 1 to 10 ms (os/clock.h), or until this process changes a name or makes a child. A program that
 * opens many files asks for the path of each folder once in that time.
 *
 * A change by another process in between counts from the next tick on.
 */
#ifndef ATOMSHIM_FOLDERS_H
#define ATOMSHIM_FOLDERS_H

#include "os/sys.h"

/* A tick of the clock and of this process's own changes. */
struct folders_moment {
    int64_t tick;
    unsigned changes;
};

/* To be called before the kernel is asked for what is to be remembered. */
struct folders_moment folders_now(void);

/*
 * Writes the path of the folder that `fd` is open on, with a NUL, into `path`, which has room for
 * `size` bytes. Returns its length, without the NUL; or -1 if it cannot be told so, and then the
 * caller asks for the file itself. A folder that another process renames may keep its old path for
 * a tick: the answer is good for a file that is opened to be read, and for nothing else. One system
 * call (readlink), or none if the path is remembered.
 */
ssize_t folders_path(int fd, char *path, size_t size);

/* False if no pattern matches a file right in that folder, whatever its name. Costs as much, and is
 * good for as much. */
bool folders_may_match(int fd);

/*
 * To be called before the descriptor `fd` may come to mean another folder: when it is closed. A
 * number that the program closes past the libc, by an instruction of its own, and opens again, also
 * past us, within a tick may keep its old path.
 */
enum { FOLDERS_NUMBERS = 8 };
extern int folders_numbers[FOLDERS_NUMBERS]; /* atomic: a remembered descriptor + 1; or 0 */
static inline void folders_forget_number(int fd)
{
    int *number = &folders_numbers[(unsigned)fd % FOLDERS_NUMBERS];

    if (__atomic_load_n(number, __ATOMIC_RELAXED) == fd + 1)
        __atomic_store_n(number, 0, __ATOMIC_RELAXED);
}

/*
 * Remembers that the kernel gave `path`, of `length` bytes, as that of a folder, or of a file's,
 * that was reached by its name: there is no symbolic link on the way. `moment` is from before the
 * kernel was asked.
 */
void folders_remember(const char *path, size_t length, struct folders_moment moment);

/*
 * Tells whether that is remembered of this path, and then whether a pattern may match a file right
 * in the folder. So the path is the canonical one of whatever folder lies there now, moved or
 * mounted: only a symbolic link that takes the place of a folder changes that. No system call.
 */
enum folders_answer { FOLDERS_UNKNOWN, FOLDERS_ELSEWHERE, FOLDERS_MAY_MATCH };
enum folders_answer folders_know(const char *path, size_t length);

/* Forgets all. To be called when this process has changed a name, or made a child that may, or
 * closes a folder of which only the libc knows the number. */
void folders_forget(void);

/* From now on the functions here make no system call that the program does not make: its filters
 * may kill for one. */
void folders_stop(void);

#endif
