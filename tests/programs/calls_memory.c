/* Calls for which the C library and the shim allocate memory: each allocation fails in turn. */
#include "expect.h"

#include <spawn.h>

extern char **environ;

static int countdown; /* the allocation that fails; 0: none */

#ifdef __GLIBC__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static bool has_memory(void)
{
    if (countdown == 0 || --countdown > 0)
        return true;
    errno = ENOMEM;
    return false;
}

void *malloc(size_t size)
{
    return has_memory() ? __libc_malloc(size) : NULL;
}

void *calloc(size_t count, size_t size)
{
    return has_memory() ? __libc_calloc(count, size) : NULL;
}

void *realloc(void *memory, size_t size)
{
    return has_memory() ? __libc_realloc(memory, size) : NULL;
}
#endif

/* Spawns a program that writes "new" to the file. Returns what the first call returned that
 * failed, or 0. */
static int spawn_writer(const char *file)
{
    char *arguments[] = {"echo", "new", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int error;

    EXPECT(posix_spawn_file_actions_init(&actions) == 0);
    error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY | O_TRUNC, 0);
    if (error == 0)
        error = posix_spawn(&child, "/bin/echo", &actions, NULL, arguments, environ);
    countdown = 0;
    if (error == 0)
        expect_exit(child, 0);
    EXPECT(posix_spawn_file_actions_destroy(&actions) == 0);
    return error;
}

static void test_spawn(const char *file)
{
    int lowest = lowest_free();
    int error;
    int n = 0;

    do {
        countdown = ++n;
        error = spawn_writer(file);
        EXPECT(error == 0 || error == ENOMEM);
        EXPECT(lowest_free() == lowest);
        expect_content(file, error == 0 ? "new\n" : "old");
    } while (error != 0);
    EXPECT(n > 1);
}

int main(int argc, char *argv[])
{
    static const struct test_case cases[] = {
#if defined(__GLIBC__) && defined(POSIX_SPAWN_SETSID)
        {"posix_spawn", test_spawn},
#endif
        {NULL, NULL},
    };

    return run_case(cases, argc, argv);
}
