/* The name of a session's buffer as the kernel shows it in /proc. No other file knows it. */
#ifndef ATOMSHIM_BUFFER_NAME_H
#define ATOMSHIM_BUFFER_NAME_H

#include <stdbool.h>
#include <stddef.h>

/* The name of every buffer begins so; its record follows (session/open.c). */
#define BUFFER_NAME_PREFIX "atomshim:"

/*
 * Finds the record in the target of a link /proc/PID/fd/N or in the path of a line of
 * /proc/PID/maps (proc(5)): of a memfd, or of an unlinked file where memfd_create(2) is forbidden.
 * Returns what follows BUFFER_NAME_PREFIX, a part of `link`, or NULL if `link` names no buffer.
 */
const char *buffer_name_record(const char *link);

/*
 * Tells whether the `size` bytes at `link`, which no NUL ends, may be such a target. With `cut`,
 * readlink(2) may have dropped bytes behind them, and a part of a name is enough.
 */
bool buffer_name_is_in(const char *link, size_t size, bool cut);

#endif
