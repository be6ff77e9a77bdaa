/* The mappings of a process, as /proc/PID/maps tells them: proc(5). */
#ifndef ATOMSHIM_MAPPING_H
#define ATOMSHIM_MAPPING_H

#include "os/sys.h"

struct mapping {
    uintptr_t start;
    uintptr_t end; /* the first address behind the mapping */
    uint64_t offset;
    int protection; /* PROT_READ and so on */
    bool shared;
    ino_t number;   /* the inode number of the file, or 0 */
    bool is_buffer; /* the file is a session's buffer: buffer_name_record() */
    bool is_shim;   /* the file is called libatomshim.so, or was before it lost its name */
};

/*
 * Calls `visit` for each mapping of the process, 0 for this one, in the order of the addresses,
 * until it returns non-zero; *mapping is valid during that call. Returns what the last visit
 * returned, or a negative errno: -ENOENT or -ESRCH if there is no such process, -ENOENT without
 * /proc, -EACCES or -EPERM where its mappings are not for this user, -EMFILE, -ENFILE, -ENOMEM. See
 * proc(5).
 */
int mapping_for_each(int process, int (*visit)(const struct mapping *mapping, void *context), void *context);

/*
 * Does the same without /proc for this process's shared mappings, page by page: tells `start`,
 * `end` and `shared`, and nothing else. `visit` may unmap the page, and always returns 0. Gives up
 * after a million looks, as where terabytes are mapped: then it has missed low addresses.
 */
void mapping_for_each_shared(int (*visit)(const struct mapping *mapping, void *context), void *context);

/*
 * Reads a line of /proc/PID/maps, "START-END PERMS OFFSET DEVICE INODE PATH" without a newline.
 * Returns false if it is none.
 */
bool mapping_parse(const char *line, struct mapping *mapping);

#endif
