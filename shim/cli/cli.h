/*
 * Declarations for all subcommands of `atomshim`. The command is an ordinary static program: unlike
 * the shim it may use stdio.
 */
#ifndef ATOMSHIM_CLI_H
#define ATOMSHIM_CLI_H

#include "config/config.h"

#include <stdbool.h>

/* Exit statuses. `run` replaces itself with the program, whose status is its own. */
enum {
    CLI_GOOD = 0,
    CLI_BAD = 1,          /* a damaged file, or the output could not be written */
    CLI_USAGE = 2,        /* a wrong command line or configuration, or a file that cannot be read */
    CLI_CANNOT_RUN = 126, /* as in shells: the program cannot be run with the shim; or no memory */
    CLI_NOT_FOUND = 127,
};

/* Each takes its arguments as main() does; argv[0] is the name of the subcommand. Each returns an
 * exit status. */
int cli_run(int argc, char *argv[]);
int cli_cat(int argc, char *argv[]);
int cli_info(int argc, char *argv[]);
int cli_verify(int argc, char *argv[]);
int cli_recover(int argc, char *argv[]);
int cli_import(int argc, char *argv[]);
int cli_export(int argc, char *argv[]);
int cli_undo(int argc, char *argv[]);
int cli_repair(int argc, char *argv[]);
int cli_watch(int argc, char *argv[]);
int cli_doctor(int argc, char *argv[]);
int cli_inject(int argc, char *argv[]);

/* Recovers the plain files that config->paths names from commits that died, before a program
 * starts. Says what it mended, and what it skipped: it looks at a bounded number of files. */
void recover_patterns(const struct config *config);

/* argv[0] of the process, which leads to the command's file if /proc is not mounted. */
extern const char *cli_self;

/* Prints "atomshim: TEXT\n" to stderr: always one line; control characters become '?'. */
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the command with CLI_CANNOT_RUN and a complaint. */
_Noreturn void cli_end_without_memory(void);

/* Ends the command so unless it has got the memory that it asked for. */
static inline void cli_need_memory(bool is_there)
{
    if (!is_there)
        cli_end_without_memory();
}

/* Prints a warning, a sentence, to stderr. */
void cli_warn(const char *text);

/* Two visitors for config_parse(): one complains of each bad value, the other lets it pass. */
void cli_report_fault(const char *message, void *context);
void cli_ignore_fault(const char *message, void *context);

/* Prints "TEXT\n" to stdout likewise. */
void cli_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True for a terminal that can do more than lines: TERM is not "dumb". */
bool cli_is_terminal(int fd);

/* Shows a state on stderr, a terminal; the next line that is printed takes its place. */
void cli_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells whether the argument asks for help: --help or -h. */
bool cli_is_help(const char *argument);

/* Prints a help text. Returns an exit status. */
int cli_help(const char *text);

/*
 * Flushes stdout. Returns `status`, or CLI_BAD after a complaint if something could not be written.
 */
int cli_finish(int status);

#endif
