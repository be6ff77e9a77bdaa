/*
 * inject: puts the command and the library into a folder, for programs whose image stays as it is.
 */
#include "cli/cli.h"
#include "cli/preload.h"
#include "os/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: atomshim inject DIR\n"
    "Puts this command and libatomshim.so into DIR, say a volume that an unchanged image mounts. A file that "
    "is there\n"
    "already is replaced by rename, never written over: programs that have mapped it run on. Needs no other "
    "program.\n"
    "Exit status: 0, 1 a file could not be written, 2 wrong usage.\n"
    "example: atomshim inject /inject    then, in the image: LD_PRELOAD=/inject/libatomshim.so\n";

/* Copies all of `from` to `to` and syncs it. Returns 0 or a positive errno. */
static int copy_bytes(int from, int to)
{
    ssize_t n;

    while ((n = sendfile(to, from, NULL, (size_t)1 << 24)) > 0)
        continue;
    if (n < 0 || fchmod(to, 0755) != 0 || fsync(to) != 0)
        return errno;
    return 0;
}

/* Makes the file at `path` appear in `folder` as `name`. Returns 0 or a positive errno. */
static int put_file(int folder, const char *name, const char *path)
{
    char new_name[64];
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int error = from < 0 ? errno : 0;
    int to = -1;

    (void)snprintf(new_name, sizeof new_name, ".%s.new", name);
    if (error == 0) {
        (void)unlinkat(folder, new_name, 0); /* the rest of an attempt that was killed */
        to = openat(folder, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
        error = to < 0 ? errno : copy_bytes(from, to);
    }
    if (to >= 0)
        (void)close(to); /* fsync() has told of every error */
    if (error == 0 && renameat(folder, new_name, folder, name) != 0)
        error = errno;
    if (to >= 0 && error != 0)
        (void)unlinkat(folder, new_name, 0);
    if (from >= 0)
        (void)close(from);
    return error;
}

static int inject_files(const char *directory)
{
    char command[PATH_MAX];
    char library[PATH_MAX];
    struct program_kind kind;
    int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error;

    if (folder < 0) {
        cli_complain("inject: %s: %s", directory, strerror(errno));
        return CLI_BAD;
    }
    if (!preload_find_command(command) || !preload_find(library, &kind)) {
        (void)close(folder);
        return CLI_BAD;
    }
    error = put_file(folder, SHIM_NAME, library);
    if (error == 0)
        error = put_file(folder, "atomshim", command);
    if (error == 0 && fsync(folder) != 0 && errno != EINVAL)
        error = errno;
    (void)close(folder);
    if (error != 0) {
        cli_complain("inject: %s: %s", directory, strerror(error));
        return CLI_BAD;
    }
    return CLI_GOOD;
}

int cli_inject(int argc, char *argv[])
{
    if (argc == 2 && cli_is_help(argv[1]))
        return cli_help(help);
    if (argc > 1 && strcmp(argv[1], "--") != 0 && argv[1][0] == '-') {
        cli_complain("inject: unknown option '%s': accepted are a DIR and --help", argv[1]);
        return CLI_USAGE;
    }
    if (argc > 1 && strcmp(argv[1], "--") == 0) {
        argc--;
        argv++;
    }
    if (argc == 2)
        return inject_files(argv[1]);
    if (argc < 2)
        cli_complain("inject: no DIR given");
    else
        cli_complain("inject: one DIR at a time, not '%s' too", argv[2]);
    return CLI_USAGE;
}
