/*
 * The paths of folders, remembered for as long as the kernel's coarse clock stands still: one tick,
 * 1 to 10 ms (CLOCK_MONOTONIC_COARSE, clock_gettime(2)). A program that walks a tree opens many
 * files of one folder in that time, and /proc is asked for its path once.
 *
 * A folder that another process renames meanwhile is as if it had been renamed at the next tick. So
 * the answer is good for a file that is opened to be read, and for nothing else.
 */
#ifndef ATOMSHIM_FOLDERS_H
#define ATOMSHIM_FOLDERS_H

#include "os/sys.h"

/*
 * Writes the path of the folder that `fd` is open on, with a NUL, into `path`, which has room for
 * `size` bytes. Returns its length, without the NUL; or -1 if it cannot be told so, and then the
 * caller asks for the file itself.
 */
ssize_t folders_path(int fd, char *path, size_t size);

/* Called after a rename by this process: forgets all paths. */
void folders_forget(void);

/* From now on the functions here make no system call that the program does not make: its filters
 * may kill for one. */
void folders_stop(void);

#endif
