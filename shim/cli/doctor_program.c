/* doctor: tells whether the shim covers the program. */
#include "cli/doctor.h"
#include "cli/reason.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void look_at_libraries(const char *path)
{
    const char *preload = getenv("LD_PRELOAD");
    const char *doubt;

    for (int i = 0; (doubt = reason_of_doubt(path, i)) != NULL; i++)
        doctor_warn("%s %s", path, doubt);
    if (reason_mentions(path, "dlopen"))
        doctor_note("%s may load plug-ins: a plug-in loaded with RTLD_DEEPBIND bypasses the shim", path);
    if ((reason_mentions(path, "libasan.so.8") || reason_mentions(path, "libasan.so.6")) &&
        (preload == NULL || strstr(preload, "libasan") == NULL))
        doctor_problem(
            "%s was built with AddressSanitizer, which exits unless its own library is loaded first: "
            "set LD_PRELOAD=/path/of/libasan.so before `atomshim run`",
            path);
}

void doctor_look_at_program(const char *name, const struct program_kind *shim)
{
    static struct program_answer answer;
    char reason[REASON_PROGRAM_SIZE];
    char path[PATH_MAX];
    int error = program_find(name, getenv("PATH"), path, sizeof path);

    if (error != 0) {
        doctor_problem("%s: %s", name, error == -ENOENT ? "not found" : strerror(-error));
        return;
    }
    if (!reason_loads_shim(path, shim, &answer, reason)) {
        doctor_problem("%s will not be covered: %s", path, reason);
        doctor_note(
            "a program that is not covered reads and writes the raw file: see GUARANTEES in libatomshim(7)");
        return;
    }
    if (answer.scripts == 0)
        doctor_ok("%s will be covered: it is dynamically linked, for %s", path,
                  strstr(answer.other, "musl") != NULL ? "musl" : "glibc");
    else
        doctor_ok("%s will be covered: it is a script for a program that is", path);
    look_at_libraries(path);
}
