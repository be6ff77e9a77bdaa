/* The files that the C library opens by itself. */
#ifndef ATOMSHIM_LIBC_FILES_H
#define ATOMSHIM_LIBC_FILES_H

#include <stdbool.h>

/*
 * Tells whether the C library opens the file at `path` (absolute, canonical) inside itself, as
 * getpwnam(3), getaddrinfo(3), tzset(3) or the loader do. Such an open is a call within the
 * library, which no preloaded library sees: its reader finds the raw bytes even in a wrapped
 * program. The table counts in every folder that may be the root of a container or of chroot(2), so
 * "/srv/root/etc/passwd" is such a file too. No allocation, no system call.
 */
bool config_is_read_by_libc(const char *path);

#endif
