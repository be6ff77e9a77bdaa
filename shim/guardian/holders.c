#include "guardian/holders.h"

#include "guardian/guardian.h"
#include "os/buffer_name.h"
#include "os/descriptor.h"
#include "os/mapping.h"
#include "os/process.h"
#include "session/buffer.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

static _Alignas(struct dirent64) char processes[8192]; /* of one scan at a time */
static _Alignas(struct dirent64) char entries[4096];
static char link_text[PATH_MAX];

/* Calls `visit` with each name in the folder, until it returns true; returns that. */
static bool for_each_name(int folder, char *buffer, size_t size,
                          bool (*visit)(const char *name, void *context), void *context)
{
    long n;

    while ((n = sys_getdents(folder, buffer, size)) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *entry = (const struct dirent64 *)(buffer + at);

            if (*entry->d_name != '.' && visit(entry->d_name, context))
                return true;
            at += entry->d_reclen;
        }
    return false;
}

/* ---- one process ---- */

struct search {
    const struct session *session;
    int process;
    int folder; /* of its descriptors */
    bool has_private;
    bool has_other;
};

/* "pos:\t123", proc(5); -1 if there is none. */
static int64_t position_of(int process, const char *name)
{
    char file[sizeof "fdinfo/1234567"] = "fdinfo/";
    char text[64] = "";
    int64_t position = 0;
    ssize_t n;
    int fd;

    if (strlen(name) >= sizeof file - strlen(file))
        return -1;
    memcpy(file + strlen(file), name, strlen(name) + 1);
    fd = process_open_file(process, file, O_RDONLY);
    n = fd < 0 ? fd : sys_read(fd, text, sizeof text - 1);
    if (fd >= 0)
        (void)sys_close(fd);
    if (n <= 5)
        return -1;
    for (const char *at = text + 5; *at >= '0' && *at <= '9'; at++)
        position = position * 10 + (*at - '0');
    return position;
}

/* The private description is the one that we have, too: its offset is like no other (session_set_base), and changes. */
static bool is_private(const struct search *search, const char *name)
{
    int64_t own;

    do {
        own = sys_lseek(search->session->buffer, 0, SEEK_CUR);
        if (position_of(search->process, name) == own)
            return true;
    } while (sys_lseek(search->session->buffer, 0, SEEK_CUR) != own);
    return false;
}

static bool note_memory(const char *name, void *context)
{
    struct search *search = context;
    struct stat status;
    ssize_t n = sys_readlinkat(search->folder, name, link_text, sizeof link_text - 1);

    /* a look at what the link leads to may take long (a file system that hangs): only where it can be ours */
    link_text[n < 0 ? 0 : n] = '\0';
    if (buffer_name_record(link_text) == NULL || sys_fstatat(search->folder, name, &status, 0) != 0 ||
        !session_is_buffer(search->session, &status))
        return false;
    if (is_private(search, name))
        search->has_private = true;
    else
        search->has_other = true;
    return search->has_private && search->has_other;
}

struct maps {
    const struct session *session;
    bool has_memory;
    bool has_shim;
};

static int look_at_mapping(const struct mapping *mapping, void *context)
{
    struct maps *maps = context;

    maps->has_shim |= mapping->is_shim;
    maps->has_memory |= mapping->is_buffer && mapping->number == maps->session->buffer_number;
    return maps->has_shim && maps->has_memory;
}

static bool is_guardian(int process)
{
    char name[sizeof GUARDIAN_NAME] = "";
    int fd = process_open_file(process, "comm", O_RDONLY);
    ssize_t n = fd < 0 ? fd : sys_read(fd, name, sizeof name - 1);

    if (fd >= 0)
        (void)sys_close(fd);
    return n == sizeof name - 1 && strcmp(name, GUARDIAN_NAME) == 0;
}

enum holder holders_look(int process, const struct session *session, bool by_mapping)
{
    struct search search = {.session = session,
                            .process = process,
                            .folder = process_open_file(process, "fd", O_RDONLY | O_DIRECTORY)};
    struct maps maps = {.session = session};

    if (search.folder < 0)
        return search.folder == -ENOENT || search.folder == -ESRCH ? HOLDER_NONE : HOLDER_HIDDEN;
    (void)for_each_name(search.folder, entries, sizeof entries, note_memory, &search);
    (void)sys_close(search.folder);
    if (search.has_private || (by_mapping && !search.has_other))
        (void)mapping_for_each(process, look_at_mapping, &maps);
    if ((!search.has_private && !search.has_other && !maps.has_memory) || is_guardian(process))
        return HOLDER_NONE;
    /* what is about to be run has not adopted the session yet, but has its descriptors */
    if (!search.has_private || !maps.has_shim)
        return HOLDER_UNCOVERED;
    return search.has_other || maps.has_memory ? HOLDER_COVERED : HOLDER_KEEPER;
}

/* ---- all of them ---- */

/* Later on numbers may have been given out all over again: then each process is asked when it was started. */
enum { NUMBERS_TRUSTED = 60 * 100 }; /* clock ticks: user space has 100 a second, everywhere */

struct scan {
    const struct session *session;
    enum holders_scope scope;
    void (*visit)(int process, enum holder holder, void *context);
    void *context;
    int self;
    uint64_t since; /* when this process was started */
    bool by_number; /* what is new has a higher number than this process */
};

/* The last number that was given to a process: the fifth field, proc(5). 0 if that cannot be read. */
static int last_number(void)
{
    char text[128];
    int fd = sys_openat(AT_FDCWD, "/proc/loadavg", O_RDONLY | O_CLOEXEC, 0);
    ssize_t n = fd < 0 ? fd : sys_read(fd, text, sizeof text - 1);
    char *blank;

    if (fd >= 0)
        (void)sys_close(fd);
    text[n < 0 ? 0 : n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    blank = strrchr(text, ' ');
    return blank != NULL ? descriptor_parse_number(blank + 1) : 0;
}

static uint64_t ticks_now(void)
{
    struct timespec time = {0, 0};

    (void)SYS_CALL(SYS_clock_gettime, CLOCK_BOOTTIME, &time, 0, 0, 0, 0);
    return (uint64_t)time.tv_sec * 100 + (uint64_t)time.tv_nsec / 10000000;
}

static bool is_new(const struct scan *scan, int process)
{
    struct process_stat stat;

    if (scan->by_number)
        return process > scan->self;
    return process_stat(process, &stat) == 0 && stat.start >= scan->since;
}

static bool is_dying(int process)
{
    struct process_stat stat;

    return process_stat(process, &stat) == 0 && stat.exiting && !stat.ended;
}

static bool look_at_process(const char *name, void *context)
{
    const struct scan *scan = context;
    int process = descriptor_parse_number(name);
    enum holder holder;
    bool new;

    if (process <= 0 || process == scan->self)
        return false;
    new = is_new(scan, process);
    if (!new && scan->scope == HOLDERS_NEW)
        return false;
    holder = holders_look(process, scan->session, new);
    if (new && (holder == HOLDER_NONE || holder == HOLDER_HIDDEN) && is_dying(process))
        holder = HOLDER_DYING;
    if (holder != HOLDER_NONE && (holder != HOLDER_HIDDEN || new))
        scan->visit(process, holder, scan->context);
    return false;
}

void holders_for_each(int proc, const struct session *session, enum holders_scope scope,
                      void (*visit)(int process, enum holder holder, void *context), void *context)
{
    struct scan scan = {session, scope, visit, context, .self = sys_getpid()};
    struct process_stat own;

    if (process_stat(scan.self, &own) == 0) {
        scan.since = own.start;
        scan.by_number = ticks_now() - own.start < NUMBERS_TRUSTED && last_number() >= scan.self;
    }
    if (sys_lseek(proc, 0, SEEK_SET) == 0)
        (void)for_each_name(proc, processes, sizeof processes, look_at_process, &scan);
}
