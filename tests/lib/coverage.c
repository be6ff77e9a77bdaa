/*
 * What clang's profile runtime lacks for a library that runs before it, and under other C
 * libraries: scripts/coverage links this file to each program.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

uint64_t *__llvm_profile_begin_counters(void);
uint64_t *__llvm_profile_end_counters(void);
extern intptr_t __llvm_profile_counter_bias; /* from a static counter to the mapped one, in bytes */

/*
 * Adds what was counted up to now to the mapped file. The runtime calls this function when it has
 * mapped the counters' file, to free the pages of the static counters, and so would forget
 * them. The library and the loader have run code by then.
 */
__attribute__((visibility("hidden"))) int madvise(void *address, size_t size, int advice)
{
    (void)address, (void)size, (void)advice;
    for (uint64_t *counter = __llvm_profile_begin_counters(); counter < __llvm_profile_end_counters();
         counter++) {
        uint64_t *mapped = (uint64_t *)((intptr_t)counter + __llvm_profile_counter_bias);

        (void)__atomic_fetch_add(mapped, __atomic_exchange_n(counter, 0, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    }
    return 0;
}

/* musl has no fortified functions, which the runtime was compiled with. */
__attribute__((visibility("hidden"))) int __fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
    va_list list;
    int length;

    (void)flag;
    va_start(list, format);
    length = vfprintf(stream, format, list);
    va_end(list);
    return length;
}

__attribute__((visibility("hidden"))) int __snprintf_chk(char *text, size_t room, int flag, size_t size,
                                                         const char *format, ...)
{
    va_list list;
    int length;

    (void)flag, (void)size;
    va_start(list, format);
    length = vsnprintf(text, room, format, list);
    va_end(list);
    return length;
}
