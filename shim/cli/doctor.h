/* Declarations for the parts of `atomshim doctor`. */
#ifndef ATOMSHIM_DOCTOR_H
#define ATOMSHIM_DOCTOR_H

#include "cli/inspect.h"
#include "config/config.h"
#include "program/program.h"

/*
 * Each prints one finding, a line that begins with ok, note, warning or problem. A problem makes
 * the exit status CLI_BAD.
 */
void doctor_ok(const char *format, ...) __attribute__((format(printf, 1, 2)));
void doctor_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void doctor_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void doctor_problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells whether a shim of this kind would cover the program that execvp(3) finds for `name`, and
 * which parts of the program may escape it. */
void doctor_look_at_program(const char *name, const struct program_kind *shim);

/* Tells which files each pattern of `config` (not resolved) matches right now, their states, and
 * their file systems. */
void doctor_look_at_patterns(const struct config *config);

/*
 * Tells in which format the content of a file lies, which format its next commit writes and why,
 * and what protects a plain one against kills and power cuts. `path` is canonical, the patterns of
 * `config` are resolved.
 */
void doctor_look_at_format(const struct inspect_file *file, const char *path, const struct config *config);

/*
 * Finds how long a value of the extended attribute user.atomshim may be in a folder, by trying it
 * on a file without a name. Returns 0 and sets *room; or an errno of setxattr(2): such attributes
 * cannot be set there; or a negative errno: nothing can be tried there.
 */
int doctor_find_room(const char *folder, size_t *room);

/* Returns the largest content, in bytes, whose record fits into `room` bytes, with blocks of
 * `block` bytes, if the content before is as long. */
size_t doctor_content_room(size_t room, uint64_t block);

/*
 * Writes, kills and reads back a scratch file in the folder of the pattern, or in the current one,
 * where the pattern names none, and removes it.
 */
void doctor_self_test(const char *pattern);

#endif
