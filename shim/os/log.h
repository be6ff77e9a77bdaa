/*
 * The log: one line per event, "atomshim[PID]: LEVEL: text\n", in one write(2), to stderr or to a
 * file.
 */
#ifndef ATOMSHIM_LOG_H
#define ATOMSHIM_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/*
 * Drops lines of a higher level than `level` from now on. `file` is the absolute path of a file to
 * append to, or NULL for stderr; the string stays the caller's and must live on. The log opens the
 * file for each line, so that nothing of ours stays open, and refuses a symbolic link, a FIFO, a
 * socket and a block device. If the file cannot be used, the log says so once, and lines go to
 * stderr.
 */
void log_configure(enum log_level level, const char *file);

/*
 * Declares that descriptor 2 is stderr now: at the start of the process, and when the program
 * itself has put something there by dup2(2), dup3(2) or freopen(3). From then on lines go to
 * descriptor 2 only while it is the same file: a program that has closed its stderr may get number
 * 2 for a database, and a line would go into its data. The lines are lost then.
 */
void log_remember_stderr(void);

/*
 * After log_go_quiet() a line costs no system call but write(2), and openat(2) and close(2) for a
 * log file: a seccomp filter may kill for any other. log_be_loud() undoes that.
 */
void log_go_quiet(void);
void log_be_loud(void);

/*
 * Writes one line. `format` knows %s (NULL prints "(null)"), %d (int), %u and %x (unsigned), %ld,
 * %lu, %lx and %%. No malloc, no stdio, no locale, under 1 KiB of stack (the line is put together
 * in a mapping of its own; what does not fit is cut and ends in "..."), control characters as '?',
 * errno untouched, async-signal-safe. Ignores an error of write(2), and never blocks on a log file.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True if lines of this level are written. A caller asks before it collects text that is costly. */
extern enum log_level log_configured_level; /* see log_configure() */
static inline bool log_wants(enum log_level level)
{
    return level <= log_configured_level;
}

/* Formats as log_line() does, into at most `size` bytes with the NUL; a longer text is cut. Returns
 * the length. */
size_t log_format(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Returns a negative or positive errno in words, "no space left on device (ENOSPC)"; "unknown
 * error" for a rare one. */
const char *log_errno(int error);

#endif
