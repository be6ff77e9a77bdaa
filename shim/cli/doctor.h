/* Declarations for the parts of `atomshim doctor`. */
#ifndef ATOMSHIM_DOCTOR_H
#define ATOMSHIM_DOCTOR_H

#include "program/program.h"

/*
 * Each prints one finding, a line that begins with ok, note, warning or problem. A problem makes
 * the exit status CLI_BAD.
 */
void doctor_ok(const char *format, ...) __attribute__((format(printf, 1, 2)));
void doctor_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void doctor_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void doctor_problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Tells whether the program that execvp(3) finds for `name` would be covered by a shim of this
 * kind, and what about it may not.
 */
void doctor_look_at_program(const char *name, const struct program_kind *shim);

/*
 * Tells what each of the patterns, a list as given, matches right now, in what state that is, and
 * on what file systems.
 */
void doctor_look_at_patterns(const char *paths);

#endif
