/* The `atomshim` command. This file finds the subcommand. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

enum { LINE_SIZE = 16384 }; /* room for two paths and a sentence */

static const struct command {
    const char *name;
    int (*function)(int argc, char *argv[]);
} commands[] = {
    {"run", cli_run},       {"cat", cli_cat},       {"info", cli_info},       {"verify", cli_verify},
    {"doctor", cli_doctor}, {"inject", cli_inject}, {"recover", cli_recover},
};

static const char help[] =
    "usage: atomshim run [OPTION]... [--] PROGRAM [ARG]...   run PROGRAM, its overwrites made atomic\n"
    "       atomshim cat FILE                                print what FILE contains\n"
    "       atomshim info FILE...                            show format, live image, generation, CRCs\n"
    "       atomshim verify FILE...                          check that FILE holds a complete image\n"
    "       atomshim recover [FILE|PATTERN]...               end commits to plain files that died\n"
    "       atomshim doctor [--path PATTERN]... [PROGRAM]    will PROGRAM be covered, and what do the "
    "patterns match?\n"
    "       atomshim inject DIR                              put command and library into DIR, for unchanged "
    "images\n"
    "       atomshim COMMAND --help                          more about a command\n"
    "       atomshim --version\n"
    "\n"
    "example: atomshim run --path '/data/*.cfg' -- sh -c 'date > /data/app.cfg'\n"
    "         atomshim cat /data/app.cfg\n";

const char *cli_self;

/* Prints one line: a file name may hold newlines, a message must not. */
static void put_line(FILE *stream, const char *prefix, const char *format, va_list arguments)
{
    char line[LINE_SIZE];

    if (vsnprintf(line, sizeof line, format, arguments) < 0)
        line[0] = '\0';
    for (char *p = line; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    (void)fprintf(stream, "%s%s\n", prefix, line);
}

void cli_complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    put_line(stderr, "atomshim: ", format, arguments);
    va_end(arguments);
}

void cli_print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    put_line(stdout, "", format, arguments);
    va_end(arguments);
}

int cli_finish(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return status;
    cli_complain("cannot write to standard output: %s", strerror(errno != 0 ? errno : EIO));
    return CLI_BAD;
}

int cli_help(const char *text)
{
    (void)fputs(text, stdout);
    return cli_finish(CLI_GOOD);
}

int main(int argc, char *argv[])
{
    const char *name = argc > 1 ? argv[1] : NULL;

    cli_self = argc > 0 ? argv[0] : "";
    /* with more rights `cat` would read, and `run` would run, what the user may not */
    if (getauxval(AT_SECURE) != 0) {
        cli_complain(
            "does not run set-user-id, set-group-id or with file capabilities: take these off the file");
        return CLI_USAGE;
    }
    if (name == NULL) {
        cli_complain("no command: give run, cat, info, verify, recover, doctor or inject, or --help");
        return CLI_USAGE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].function(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return cli_help(help);
    if (strcmp(name, "--version") == 0)
        return cli_help("atomshim " ATOMSHIM_VERSION "\n");
    cli_complain(
        "unknown %s '%s': accepted are run, cat, info, verify, recover, doctor, inject, --help and --version",
        name[0] == '-' ? "option" : "command", name);
    return CLI_USAGE;
}
