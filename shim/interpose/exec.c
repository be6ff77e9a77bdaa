/*
 * Calls that hand a session to another program: exec, the libc's own children, messages with
 * descriptors. A program that loads the shim finds the session in its descriptors
 * (session_adopt()); for every other one a guardian is started.
 */
#include "interpose/interpose.h"

#include "guardian/guardian.h"
#include "manage/folders.h"
#include "os/scratch.h"
#include "program/target.h"
#include "store/journal.h"

#include <alloca.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/socket.h>

/* The things that a failed exec must undo. */
struct exec {
    bool is_prepared;
    struct shim_child child;
};

static struct shim_child hand_over(int directory, const char *path, int flags, char *const environment[],
                                   bool is_libcs)
{
    struct shim_child child = {.heir = {target_loads_shim(directory, path, flags, environment), is_libcs}};
    struct session_hand_over result = session_hand_over(child.heir);

    journal_end(); /* the next program knows of no sessions */
    child.beacon = result.beacon;
    session_share();
    if (result.needs_guardian)
        (void)guardian_start(is_libcs ? 0 : sys_getpid());
    return child;
}

/* Called before the program at `path` takes this process's place. */
static struct exec before_exec(int directory, const char *path, int flags, char *const environment[])
{
    struct exec exec = {.is_prepared = false};

    folders_forget(); /* this may be a vfork() child */
    /* a search along PATH tries names that do not exist: nothing will be run */
    if (!shim_has_sessions() || !target_is_there(directory, path, flags))
        return exec;
    exec.is_prepared = true;
    exec.child = hand_over(directory, path, flags, environment, false);
    return exec;
}

/* Does the same for a name that execvp(3) looks up. */
static struct exec before_execvp(const char *file, char *const environment[])
{
    struct scratch scratch;
    struct exec exec = {.is_prepared = false};

    folders_forget();
    if (!shim_has_sessions())
        return exec;
    if (scratch_take(&scratch, PATH_MAX) != 0)
        return before_exec(AT_FDCWD, "/", 0, environment);
    target_find(file, scratch.bytes);
    exec = before_exec(AT_FDCWD, scratch.bytes, 0, environment);
    scratch_give(&scratch);
    return exec;
}

/* Called after an exec that returned, and so has failed: restores everything. */
static int after_exec(int result, struct exec exec)
{
    if (exec.is_prepared)
        session_take_back(exec.child.heir, exec.child.beacon);
    return result;
}

struct shim_child shim_before_child(const char *path, char *const environment[])
{
    struct shim_child child = {.beacon = SHIM_NO_CHILD};

    return shim_has_sessions() ? hand_over(AT_FDCWD, path, 0, environment, true) : child;
}

void shim_after_child(struct shim_child child)
{
    folders_forget();
    if (child.beacon == SHIM_NO_CHILD)
        return;
    session_take_back(child.heir, child.beacon);
    (void)session_settle_closed(false);
}

EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
    struct exec exec = before_exec(AT_FDCWD, path, 0, environment);
    return after_exec(REAL(execve)(path, arguments, environment), exec);
}

EXPORT int execv(const char *path, char *const arguments[])
{
    struct exec exec = before_exec(AT_FDCWD, path, 0, environ);
    return after_exec(REAL(execv)(path, arguments), exec);
}

EXPORT int execvp(const char *file, char *const arguments[])
{
    struct exec exec = before_execvp(file, environ);
    return after_exec(REAL(execvp)(file, arguments), exec);
}

EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
    struct exec exec = before_execvp(file, environment);
    return after_exec(REAL(execvpe)(file, arguments, environment), exec);
}

EXPORT int fexecve(int fd, char *const arguments[], char *const environment[])
{
    struct exec exec = before_exec(fd, "", AT_EMPTY_PATH, environment);
    return after_exec(REAL(fexecve)(fd, arguments, environment), exec);
}

EXPORT int execveat(int directory, const char *path, char *const arguments[], char *const environment[],
                    int flags)
{
    struct exec exec = before_exec(directory, path, flags, environment);
    return after_exec(REAL(execveat)(directory, path, arguments, environment, flags), exec);
}

/* Makes an array on the caller's stack of the arguments of execl() and its like, from `first` to
 * the NULL, and moves `list` behind them. */
#define ARRAY_OF(array, list, first)                                                                         \
    char **array;                                                                                            \
    do {                                                                                                     \
        size_t count = 1;                                                                                    \
        va_start(list, first);                                                                               \
        for (const char *next = (first); next != NULL; next = va_arg(list, const char *))                    \
            count++;                                                                                         \
        va_end(list);                                                                                        \
        (array) = alloca(count * sizeof *(array));                                                           \
        (array)[0] = (char *)(first);                                                                        \
        va_start(list, first);                                                                               \
        for (size_t i = 1; i < count; i++)                                                                   \
            (array)[i] = va_arg(list, char *);                                                               \
    } while (0)

EXPORT int execl(const char *path, const char *first, ...)
{
    va_list list;
    /* cppcheck-suppress allocaCalled ; as much as the caller gave, as the libc does */
    ARRAY_OF(arguments, list, first);
    va_end(list);
    return execv(path, arguments);
}

EXPORT int execlp(const char *file, const char *first, ...)
{
    va_list list;
    /* cppcheck-suppress allocaCalled ; as much as the caller gave, as the libc does */
    ARRAY_OF(arguments, list, first);
    va_end(list);
    return execvp(file, arguments);
}

EXPORT int execle(const char *path, const char *first, ...)
{
    char *const *environment;
    va_list list;
    /* cppcheck-suppress allocaCalled ; as much as the caller gave, as the libc does */
    ARRAY_OF(arguments, list, first);
    environment = first != NULL ? va_arg(list, char *const *) : NULL;
    va_end(list);
    return execve(path, arguments, environment);
}

/* ---- children of the libc: their exec is its own call ---- */

EXPORT int system(const char *command)
{
    struct shim_child child = shim_before_child("/bin/sh", environ);
    int result = REAL(system)(command);

    shim_after_child(child);
    return result;
}

EXPORT FILE *popen(const char *command, const char *mode)
{
    struct shim_child child = shim_before_child("/bin/sh", environ);
    FILE *result = REAL(popen)(command, mode);

    shim_after_child(child);
    return result;
}

/* ---- descriptors in messages: the receiver gets no private ones ---- */

/* Asks for a guardian for each session of which a descriptor is in the message. Returns true if one
 * is to be started. */
static bool needs_guardian(const struct msghdr *message)
{
    const char *end = (const char *)message->msg_control + message->msg_controllen;
    struct session_found found;
    bool result = false;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR((struct msghdr *)message, part)) {
        const int *fds = (const int *)(const void *)CMSG_DATA(part);

        /* the kernel refuses a malformed message, or a bad address */
        if (!sys_is_readable(part) || part->cmsg_len < CMSG_LEN(0) ||
            part->cmsg_len > (size_t)(end - (const char *)part))
            break;
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (part->cmsg_len - CMSG_LEN(0)) / sizeof *fds; i++)
            if (shim_identify(fds[i], &found) == SESSION_PROGRAM)
                result |= session_want_guardian(found.session) && !session_has_guardian_here(found.session);
    }
    return result;
}

static void before_message(const struct msghdr *message)
{
    if (!sys_is_readable(message) || !needs_guardian(message))
        return;
    session_share();
    (void)guardian_start(0);
}

EXPORT ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    if (shim_has_sessions())
        before_message(message);
    return REAL(sendmsg)(socket, message, flags);
}

EXPORT int sendmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags)
{
    for (unsigned i = 0; shim_has_sessions() && i < count && sys_is_readable(&messages[i]); i++)
        before_message(&messages[i].msg_hdr);
    return REAL(sendmmsg)(socket, messages, count, flags);
}
