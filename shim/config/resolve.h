/* Patterns that lead through symbolic links. */
#ifndef ATOMSHIM_RESOLVE_H
#define ATOMSHIM_RESOLVE_H

/*
 * Files are matched by their canonical paths. Returns `patterns` with, behind each pattern that
 * begins with '/' and whose literal part (up to the last '/' before the first special character, or
 * all of it) is not canonical, the pattern that names the same files canonically: "/link/a*"
 * becomes "/link/a*:/real/a*". Both stay, as the link may change later. A folder that does not
 * exist, or that this process may not search, is left as it is.
 *
 * Returns `patterns` itself where nothing is to be added, or if there is no memory; else a list in
 * memory that is never given back. Costs a readlinkat(2) for each component of a literal part, but
 * none for the folder of the pattern before.
 */
const char *config_resolve_patterns(const char *patterns);

#endif
