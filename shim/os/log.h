/* One line per event, "atomshim[PID]: LEVEL: text\n", in one write(2), to stderr or to a file. */
#ifndef ATOMSHIM_LOG_H
#define ATOMSHIM_LOG_H

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines of a higher level than `level` are dropped. `file` is an absolute path to append to, or NULL for
 * descriptor 2; the string stays the caller's and must live on. */
void log_configure(enum log_level level, const char *file);

/*
 * Writes one line. `format` knows %s (NULL prints "(null)"), %d (int), %u (unsigned), %ld, %lu, %x (unsigned)
 * and %%. No malloc, no stdio, no locale, under 1 KiB of stack (the line is put together in a mapping of its
 * own; what does not fit is cut and ends in "..."), control characters as '?', errno untouched,
 * async-signal-safe. A failing write is ignored. A file is opened with O_APPEND|O_CREAT|O_CLOEXEC|O_NOCTTY
 * for each line, so that nothing of ours stays open.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The formatter alone: at most `size` bytes with the NUL, cut where it does not fit. Returns the length. */
size_t log_format(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A negative or positive errno in words, "no space left on device (ENOSPC)"; "unknown error" for a rare one.
 */
const char *log_errno(int error);

#endif
