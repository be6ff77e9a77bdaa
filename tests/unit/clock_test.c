/* os/clock.h: with the kernel's object of vdso(7), and in a process that has none. */
#include "check.h"

#include "os/clock.h"
#include "os/sys.h"

#include <dlfcn.h>
#include <sys/auxv.h>

static bool has_object = true;
static bool was_asked; /* for the object */

/* The code under test calls this function, not the libc's. */
unsigned long getauxval(unsigned long type)
{
    union {
        void *address;
        unsigned long (*function)(unsigned long type);
    } next = {dlsym(RTLD_NEXT, "getauxval")};

    was_asked |= type == AT_SYSINFO_EHDR;
    return type == AT_SYSINFO_EHDR && !has_object ? 0 : next.function(type);
}

static int64_t coarse_time(void)
{
    struct timespec time = {0};

    CHECK_EQUAL(clock_gettime(CLOCK_MONOTONIC_COARSE, &time), 0);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void test_tick(void)
{
    int64_t before = coarse_time();
    int64_t tick = clock_tick();

    CHECK(before <= tick && tick <= coarse_time());
    CHECK(was_asked);
}

/* The kernel's object is looked for once in a process: each case has one of its own. */
static void test_in_child(void)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        test_tick();
        _exit(check_result());
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

int main(void)
{
    test_in_child();
    has_object = false;
    test_in_child();
    return check_result();
}
