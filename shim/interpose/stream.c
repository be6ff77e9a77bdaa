/* Wraps stdio. The libc's own calls of open and close there cannot be interposed, so the shim wraps
 * every function that opens or closes a stream. */
#include "interpose/interpose.h"

#include "manage/folders.h"
#include "os/descriptor.h"
#include "os/log.h"
#include "session/buffer.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/*
 * The program's streams. At exit() the shim flushes those on managed descriptors before the last
 * commit; libc does so only after it. This list holds every stream, as dup2() may put a managed
 * descriptor under any of them.
 */
enum { STREAMS_MAX = 4096 };
static SYS_LARGE FILE *streams[STREAMS_MAX];
static int streams_used; /* entries from here on have never been used */
static int streams_overflowed;

static void remember_stream(FILE *stream)
{
    if (stream == NULL || !shim_enabled())
        return;
    for (int i = 0; i < STREAMS_MAX; i++) {
        FILE *expected = NULL;
        int used = i;

        if (__atomic_load_n(&streams[i], __ATOMIC_RELAXED) == stream)
            return;
        if (!__atomic_compare_exchange_n(&streams[i], &expected, stream, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        (void)__atomic_compare_exchange_n(&streams_used, &used, i + 1, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED);
        return;
    }
    __atomic_store_n(&streams_overflowed, 1, __ATOMIC_RELEASE);
}

static void forget_stream(FILE *stream)
{
    int used = __atomic_load_n(&streams_used, __ATOMIC_ACQUIRE);

    for (int i = 0; i < used; i++)
        if (__atomic_load_n(&streams[i], __ATOMIC_ACQUIRE) == stream)
            __atomic_store_n(&streams[i], NULL, __ATOMIC_RELEASE);
}

/* fileno() of a stream without a descriptor sets errno, which the program must not see. */
static int descriptor_of(FILE *stream)
{
    int saved = errno;
    int fd = fileno(stream);

    errno = saved;
    return fd;
}

static bool is_managed_stream(FILE *stream)
{
    struct session_found found;

    return session_identify(descriptor_of(stream), &found) == SESSION_PROGRAM;
}

void shim_flush_streams(void)
{
    if (__atomic_load_n(&streams_overflowed, __ATOMIC_ACQUIRE)) {
        (void)fflush(NULL);
        return;
    }
    if (is_managed_stream(stdout))
        (void)fflush(stdout);
    if (is_managed_stream(stderr))
        (void)fflush(stderr);
    for (int i = 0; i < __atomic_load_n(&streams_used, __ATOMIC_ACQUIRE); i++) {
        FILE *stream = __atomic_load_n(&streams[i], __ATOMIC_ACQUIRE);

        if (stream != NULL && is_managed_stream(stream))
            (void)fflush(stream);
    }
}

/* Returns the open(2) flags of a mode string, or -1 if it is none. */
static int flags_of(const char *mode)
{
    int flags;

    if (*mode == 'r')
        flags = O_RDONLY;
    else if (*mode == 'w')
        flags = O_WRONLY | O_CREAT | O_TRUNC;
    else if (*mode == 'a')
        flags = O_WRONLY | O_CREAT | O_APPEND;
    else
        return -1;
    for (mode++; *mode != '\0' && *mode != ','; mode++)
        if (*mode == '+')
            flags = (flags & ~O_ACCMODE) | O_RDWR;
        else if (*mode == 'x')
            flags |= O_EXCL;
        else if (*mode == 'e')
            flags |= O_CLOEXEC;
    return flags;
}

/* Makes the mode for the second open: of the buffer, which exists, so that 'x' would fail. */
static void without_exclusive(char *target, size_t size, const char *mode)
{
    bool in_letters = true;

    for (; *mode != '\0' && size > 1; mode++) {
        in_letters = in_letters && *mode != ',';
        if (in_letters && *mode == 'x')
            continue;
        *target++ = *mode;
        size--;
    }
    *target = '\0';
}

/* The libc's call that makes the stream. */
struct maker {
    FILE *(*open)(const char *path, const char *mode);
    FILE *(*reopen)(const char *path, const char *mode, FILE *stream);
    bool reopens;
    FILE *stream;
};

static FILE *make_stream(const struct maker *maker, const char *path, const char *mode)
{
    return maker->reopens ? maker->reopen(path, mode, maker->stream) : maker->open(path, mode);
}

/* Without /proc libc cannot open the buffer: lets it open a stand-in, and puts the program's
 * description in the stand-in's place under the stream. */
static FILE *open_early(const struct session *session, const char *mode, const struct maker *maker)
{
    char path[BUFFER_PATH_SIZE];
    FILE *result;
    int fd;

    if (buffer_stand_in(path, shim_config.rescue_dir) != 0) {
        errno = ENOMEM;
        return NULL;
    }
    result = make_stream(maker, path, mode);
    buffer_remove_stand_in(path);
    if (result == NULL)
        return NULL;
    fd = descriptor_of(result);
    (void)sys_dup3(session->early, fd, sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0);
    if (*mode == 'a' && strchr(mode, '+') == NULL) /* an appending stream must know its end */
        (void)sys_lseek(fd, 0, SEEK_END);
    return result;
}

/* Lets libc open the session's buffer as a stream. */
static FILE *open_buffer(const struct session *session, const char *mode, const struct maker *maker)
{
    char path[PROC_PATH_SIZE];
    char second_mode[64];

    without_exclusive(second_mode, sizeof second_mode, mode);
    return session->early >= 0 ? open_early(session, second_mode, maker)
                               : make_stream(maker, descriptor_path(path, session->buffer), second_mode);
}

/* Lets libc open the file of `shared`, and closes that. Its number becomes the stream's, if it is
 * the lowest. */
static FILE *open_shared(int shared, const char *mode, const struct maker *maker)
{
    char path[PROC_PATH_SIZE];
    char second_mode[64];
    FILE *stream;
    int moved = (int)sys_fcntl(shared, F_DUPFD_CLOEXEC, shared + 1);

    if (moved >= 0)
        (void)sys_close(shared);
    else
        moved = shared;
    without_exclusive(second_mode, sizeof second_mode, mode);
    stream = make_stream(maker, descriptor_path(path, moved), second_mode);
    (void)close(moved);
    remember_stream(stream);
    return stream;
}

static FILE *publish_stream(const struct managed_request *request, struct session *session, FILE *stream)
{
    if (stream == NULL) {
        shim_drop(request, session);
        return NULL;
    }
    session_publish(session);
    remember_stream(stream);
    return stream;
}

/* Puts a stream that libc opened for reading on a session, if its file is managed. Its descriptor
 * is still at the start. */
static FILE *take_over(FILE *stream, const struct managed_request *request)
{
    int error = shim_cover(descriptor_of(stream), request);

    if (error >= 0)
        return stream;
    (void)REAL(fclose)(stream); /* and its descriptor, which is still open */
    errno = -error;
    return NULL;
}

static FILE *shim_fopen(const char *path, const char *mode, FILE *(*real)(const char *, const char *))
{
    struct session_found found;
    int flags = shim_enabled() || shim_is_quiet() ? flags_of(mode) : -1;
    const struct managed_request request = {AT_FDCWD, path, flags, 0666, true};
    int result = flags == -1 ? SHIM_PASS : shim_share(&request);
    FILE *stream;

    if (result >= 0)
        return open_shared(result, mode, &(struct maker){.open = real});
    if (result == SHIM_PASS && flags != -1)
        result = shim_begin(&request, &found);
    if (result == SHIM_PASS || result == SHIM_ASK) {
        stream = real(path, mode);
        if (result == SHIM_ASK && stream != NULL)
            stream = take_over(stream, &request);
        remember_stream(stream);
        return stream;
    }
    if (result < 0) {
        errno = -result;
        return NULL;
    }
    return publish_stream(&request, found.session,
                          open_buffer(found.session, mode, &(struct maker){.open = real}));
}

typedef FILE *freopen_function(const char *path, const char *mode, FILE *stream);

/* Returns a path that every process can open for reading. */
static const char *empty_path(void)
{
    struct stat status;

    return sys_fstatat(AT_FDCWD, "/dev/null", &status, 0) == 0 ? "/dev/null" : "/";
}

/* Opens the stream anew on the file at `path`, managed or not. */
static FILE *reopen_managed(const char *path, const char *mode, const struct maker *maker)
{
    struct session_found found;
    int flags = flags_of(mode);
    const struct managed_request request = {AT_FDCWD, path, flags, 0666, false};
    int result = flags == -1 ? SHIM_PASS : shim_share(&request);

    if (result >= 0)
        return open_shared(result, mode, maker);
    found.session = NULL; /* for analysers, which do not know that shim_begin() sets it */
    if (result == SHIM_PASS && flags != -1)
        result = shim_begin(&request, &found);
    if (result == 0)
        return publish_stream(&request, found.session, open_buffer(found.session, mode, maker));
    if (result != SHIM_PASS) {
        /* fails, and leaves the stream as this libc does after a failure */
        (void)maker->reopen("", "r", maker->stream);
        errno = -result;
        return NULL;
    }
    return make_stream(maker, path, mode);
}

/*
 * The old content is committed before the new file is loaded: they may be one. Between the two
 * the stream is on /dev/null, at the same descriptor.
 */
static FILE *reopen_session(struct session *old, const char *path, const char *mode,
                            const struct maker *maker)
{
    ino_t buffer_number = SESSION_GET(old->buffer_number);
    FILE *result = NULL;

    if (maker->reopen(empty_path(), "r", maker->stream) != NULL) {
        (void)session_settle(old, buffer_number);
        result = reopen_managed(path, mode, maker);
    }
    (void)session_settle(old, buffer_number);
    return result;
}

/* Without a path only the mode changes: a session for reading that is to write needs a new session,
 * on the same inode. */
static FILE *change_mode(struct session *old, const char *mode, const struct maker *maker)
{
    ino_t buffer_number = SESSION_GET(old->buffer_number);
    int flags = flags_of(mode);
    char path[PROC_PATH_SIZE];
    FILE *result;
    int inode;

    if (flags == -1 || (flags & O_ACCMODE) == O_RDONLY || (old->flags & SESSION_WRITABLE)) {
        result = make_stream(maker, NULL, mode);
        (void)session_settle(old, buffer_number);
        return result;
    }
    inode = (int)sys_fcntl(old->inode, F_DUPFD_CLOEXEC, 0);
    result = reopen_session(old, descriptor_path(path, inode), mode, maker);
    descriptor_close_if_open(inode);
    return result;
}

static FILE *shim_freopen(const char *path, const char *mode, FILE *stream, freopen_function *real)
{
    struct session_found old;
    enum session_role role = shim_identify(descriptor_of(stream), &old);
    bool is_enabled = shim_is_at_work() || shim_is_quiet();
    struct maker maker = {.reopen = real, .reopens = true, .stream = stream};
    FILE *result;

    forget_stream(stream);
    folders_forget();
    if (role == SESSION_PROGRAM)
        result = path == NULL ? change_mode(old.session, mode, &maker)
                              : reopen_session(old.session, path, mode, &maker);
    else
        result = path == NULL || !is_enabled ? make_stream(&maker, path, mode)
                                             : reopen_managed(path, mode, &maker);
    remember_stream(result);
    if (result != NULL && result == stderr && shim_is_at_work())
        log_remember_stderr();
    return result;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
    return shim_fopen(path, mode, REAL(fopen));
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    return shim_fopen(path, mode, REAL(fopen64));
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
    return shim_freopen(path, mode, stream, REAL(freopen));
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
    return shim_freopen(path, mode, stream, REAL(freopen64));
}

EXPORT FILE *_IO_fopen(const char *path, const char *mode)
{
    return shim_fopen(path, mode, REAL(_IO_fopen));
}

EXPORT FILE *setmntent(const char *path, const char *mode)
{
    return shim_fopen(path, mode, REAL(setmntent));
}

EXPORT FILE *__setmntent(const char *path, const char *mode)
{
    return shim_fopen(path, mode, REAL(__setmntent));
}

EXPORT FILE *fdopen(int fd, const char *mode)
{
    FILE *stream = REAL(fdopen)(fd, mode);

    if (stream != NULL && *mode == 'a')
        shim_note_append(fd); /* the libc has set O_APPEND by an internal call */
    remember_stream(stream);
    return stream;
}

EXPORT FILE *_IO_fdopen(int fd, const char *mode)
{
    return fdopen(fd, mode);
}

/* `success` is the result of `real` unless it fails. */
static int shim_fclose(FILE *stream, int (*real)(FILE *), int success)
{
    struct session_found found = {.session = NULL};
    enum session_role role = SESSION_NONE;
    int result;
    int error;

    folders_forget_number(stream != NULL ? descriptor_of(stream) : -1);
    if (stream != NULL && shim_has_sessions())
        role = shim_identify(descriptor_of(stream), &found);
    forget_stream(stream);
    result = real(stream);
    if (role != SESSION_PROGRAM)
        return result;
    error = session_settle(found.session, found.buffer_number);
    if (error == 0 || result != success)
        return result;
    errno = -error;
    return EOF;
}

EXPORT int fclose(FILE *stream)
{
    return shim_fclose(stream, REAL(fclose), 0);
}

EXPORT int _IO_fclose(FILE *stream)
{
    return shim_fclose(stream, REAL(_IO_fclose), 0);
}

/* endmntent() always returns 1: getmntent(3). */
EXPORT int endmntent(FILE *stream)
{
    (void)shim_fclose(stream, REAL(endmntent), 1);
    return 1;
}

EXPORT int __endmntent(FILE *stream)
{
    (void)shim_fclose(stream, REAL(__endmntent), 1);
    return 1;
}

/* glibc flushes the streams and leaves their descriptors open: then this commits. */
EXPORT int fcloseall(void)
{
    bool any = shim_has_sessions();
    int result = REAL(fcloseall)();
    int error = any ? session_sync_all() : 0;

    if (error == 0 || result != 0)
        return result;
    errno = -error;
    return EOF;
}
