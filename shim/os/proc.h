/* Reads the text of /proc, proc(5). */
#ifndef ATOMSHIM_PROC_H
#define ATOMSHIM_PROC_H

#include "os/sys.h"

/* In place of a process's number. */
enum { PROC_SELF = 0, PROC_THREAD = -1 /* the calling thread; since Linux 3.17 */ };

/*
 * Opens /proc/PROCESS/NAME with these flags, close-on-exec, also where the program's descriptors
 * are at their soft limit. `name` has at most 13 bytes. Returns a descriptor or a negative errno:
 * -ENOENT without /proc or such a process, -EACCES where this user may not look.
 */
int proc_open(int process, const char *name, int flags);

/*
 * Reads the file from its start: at most `size` - 1 bytes and a NUL. Returns the length or a
 * negative errno, and "" then.
 */
ssize_t proc_read(int process, const char *name, char *text, size_t size);
/* Does the same with a file that is open as `fd`, and closes it. A negative `fd`, an errno, is the
 * result. */
ssize_t proc_read_open(int fd, char *text, size_t size);

/*
 * Calls `visit` with each whole line that can be read from `fd`, without its newline, until it
 * returns non-zero. The line lies in `buffer`, of `size` bytes. Returns the last result of `visit`,
 * or a negative errno: that of read(2), or -EOVERFLOW for a line that does not fit.
 */
int proc_for_each_line(int fd, char *buffer, size_t size, int (*visit)(char *line, void *context),
                       void *context);

/*
 * Reads the number at `text` in base 8, 10 or 16, lower case as /proc has it; 0 where there is
 * none. Returns where it ends.
 */
const char *proc_parse_number(const char *text, unsigned base, uint64_t *value);

/*
 * Finds the line "NAME:\tNUMBER" in the text of a file such as /proc/PID/status, and reads the
 * number. Returns false, with *value as it was, if no line begins so.
 */
bool proc_find_field(const char *text, const char *name, unsigned base, uint64_t *value);

#endif
