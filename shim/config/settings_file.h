/* The settings file for programs that /etc/ld.so.preload gives the shim. */
#ifndef ATOMSHIM_SETTINGS_FILE_H
#define ATOMSHIM_SETTINGS_FILE_H

#define SETTINGS_FILE "/etc/atomshim.conf"

/*
 * Returns `environment` ("NAME=value" strings, NULL-terminated) followed by the lines of the file
 * at `path`, so that config_parse() finds the environment's first. A line is NAME=value, with a
 * name that begins with ATOMSHIM_; blank lines and those that begin with '#' count for nothing. A
 * file that is missing adds nothing. A file that does not belong to root, that others may write to,
 * or that has any other line is ignored as a whole: then *fault says why, a sentence of static
 * storage, else it is NULL. The result lives as long as the process. Raw system calls; one, if
 * there is no file.
 */
char **config_add_file(char **environment, const char *path, const char **fault);

#endif
