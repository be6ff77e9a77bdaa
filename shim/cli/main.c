/* The `atomshim` command. This file finds the subcommand. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

enum { LINE_SIZE = 16384 }; /* room for two paths and a sentence */

static const struct command {
    const char *name;
    int (*function)(int argc, char *argv[]);
} commands[] = {
    {"run", cli_run},         {"cat", cli_cat},       {"info", cli_info},     {"verify", cli_verify},
    {"recover", cli_recover}, {"import", cli_import}, {"export", cli_export}, {"undo", cli_undo},
    {"repair", cli_repair},   {"watch", cli_watch},   {"doctor", cli_doctor}, {"inject", cli_inject},
};

static const char help[] =
    "usage: atomshim run [OPTION]... [--] PROGRAM [ARG]...   run PROGRAM, its overwrites made atomic\n"
    "       atomshim cat [--previous] FILE                   print what FILE contains, or did before\n"
    "       atomshim info [-r] [--json] FILE...              show format, live image, generation, CRCs\n"
    "       atomshim verify [-r] [-q] [--json] FILE...       check that FILE holds a complete image\n"
    "       atomshim recover [FILE|PATTERN]...               end commits to plain files that died\n"
    "       atomshim import [-r] [-q] FILE...                make plain files sized, in place\n"
    "       atomshim export [-r] [-q] FILE...                make sized files plain, in place\n"
    "       atomshim undo FILE...                            the content before the last commit again\n"
    "       atomshim repair [--yes] FILE...                  save what is left of a damaged file\n"
    "       atomshim watch [--exec COMMAND] PATTERN...       a line for each commit\n"
    "       atomshim doctor [OPTION]... [PROGRAM]            will PROGRAM be covered, what do the patterns "
    "match?\n"
    "       atomshim inject DIR                              put command and library into DIR, for unchanged "
    "images\n"
    "       atomshim help [COMMAND]                          more about a command; also COMMAND --help\n"
    "       atomshim version\n"
    "\n"
    "example: atomshim run --path '/data/*.cfg' -- sh -c 'date > /data/app.cfg'\n"
    "         atomshim cat /data/app.cfg\n"
    "Manual: man atomshim\n";

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const char *cli_self;

static bool progress_is_shown;

/* Takes a state of progress off the terminal. */
static void clear_progress(void)
{
    if (progress_is_shown)
        (void)fputs("\r\033[K", stderr);
    progress_is_shown = false;
}

bool cli_is_terminal(int fd)
{
    const char *name = getenv("TERM");

    return isatty(fd) && (name == NULL || strcmp(name, "dumb") != 0);
}

void cli_progress(const char *format, ...)
{
    va_list arguments;

    clear_progress();
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    progress_is_shown = true;
}

/* Prints one line: a file name may hold newlines, a message must not. */
static void put_line(FILE *stream, const char *prefix, const char *format, va_list arguments)
{
    char line[LINE_SIZE] = "";

    clear_progress();
    (void)vsnprintf(line, sizeof line, format, arguments);
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

void cli_end_without_memory(void)
{
    cli_complain("%s", strerror(ENOMEM));
    exit(CLI_CANNOT_RUN);
}

void cli_warn(const char *text)
{
    cli_complain("warning: %s", text);
}

void cli_report_fault(const char *message, void *context)
{
    (void)context;
    cli_complain("%s", message);
}

void cli_ignore_fault(const char *message, void *context)
{
    (void)message;
    (void)context;
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
    clear_progress();
    errno = 0;
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return status;
    cli_complain("cannot write to standard output: %s", strerror(errno != 0 ? errno : EIO));
    return CLI_BAD;
}

bool cli_is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

int cli_help(const char *text)
{
    (void)fputs(text, stdout);
    return cli_finish(CLI_GOOD);
}

/* Says that there is no such command, and lists the commands. */
static int refuse_command(const char *name)
{
    char list[LINE_SIZE] = "";

    for (size_t i = 0; i < COMMANDS; i++)
        (void)strcat(strcat(list, commands[i].name), ", ");
    if (name == NULL)
        cli_complain("no command: accepted are %shelp and version", list);
    else
        cli_complain("unknown %s '%s': accepted are %shelp and version",
                     name[0] == '-' ? "option" : "command", name, list);
    return CLI_USAGE;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static int show_help(const char *name)
{
    char option[] = "--help";
    char *argv[] = {(char *)name, option, NULL};
    const struct command *command = name == NULL ? NULL : find_command(name);

    if (command != NULL)
        return command->function(2, argv);
    return name == NULL ? cli_help(help) : refuse_command(name);
}

static bool is_one_of(const char *name, const char *word, const char *longer, const char *shorter)
{
    return strcmp(name, word) == 0 || strcmp(name, longer) == 0 || strcmp(name, shorter) == 0;
}

int main(int argc, char *argv[])
{
    const char *name = argc > 1 ? argv[1] : NULL;
    const struct command *command;

    cli_self = argc > 0 ? argv[0] : "";
    /* with more rights `cat` would read files, and `run` run programs, that the user may not */
    if (getauxval(AT_SECURE) != 0) {
        cli_complain(
            "refuses to run set-user-id, set-group-id or with file capabilities: remove these from the "
            "file %s",
            cli_self);
        return CLI_USAGE;
    }
    if (name == NULL)
        return refuse_command(NULL);
    command = find_command(name);
    if (command != NULL)
        return command->function(argc - 1, argv + 1);
    if (is_one_of(name, "help", "--help", "-h"))
        return show_help(name[0] == '-' || argc < 3 || argv[2][0] == '-' ? NULL : argv[2]);
    if (is_one_of(name, "version", "--version", "-V") && argc > 2 && argv[2][0] == '-')
        return cli_help("usage: atomshim version\n");
    if (is_one_of(name, "version", "--version", "-V"))
        return cli_help("atomshim " ATOMSHIM_VERSION "\n");
    return refuse_command(name);
}
