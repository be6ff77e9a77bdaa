#include "interpose/real.h"

#define CALL(result, name, parameters, fallback) result(*real_##name) parameters = fallback;
#include "interpose/calls.def"
#undef CALL

static void no_cancellation(void)
{
}

void (*real_pthread_testcancel)(void) = no_cancellation;

void (*real_cxa_at_quick_exit)(void (*function)(void *), void *library);
void (*real_at_quick_exit)(void (*function)(void));

void real_resolve(void)
{
    enum {
#define CALL(result, name, parameters, fallback) NUMBER_OF_##name,
#include "interpose/calls.def"
#undef CALL
        CALLS,
        OTHERS = 3,
    };
    static bool found[CALLS + OTHERS];
    static const struct real_name names[CALLS + OTHERS] = {
#define CALL(result, name, parameters, fallback) {#name, (void *)&real_##name, &found[NUMBER_OF_##name]},
#include "interpose/calls.def"
#undef CALL
        {"pthread_testcancel", (void *)&real_pthread_testcancel, &found[CALLS]},
        {"__cxa_at_quick_exit", (void *)&real_cxa_at_quick_exit, &found[CALLS + 1]},
        {"at_quick_exit", (void *)&real_at_quick_exit, &found[CALLS + 2]},
    };

    real_lookup(names, CALLS + OTHERS);
}
