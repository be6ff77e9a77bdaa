/* A walk through a folder and all below it. */
#ifndef ATOMSHIM_TREE_H
#define ATOMSHIM_TREE_H

#include <sys/stat.h>

/*
 * Called for each file and folder, a folder before its entries, with `error` 0; and with a positive
 * errno for what cannot be looked at, or, a second time, for a folder whose entries cannot be
 * read. *status means nothing then. A result other than 0 ends the walk.
 */
typedef int tree_visitor(const char *path, const struct stat *status, int error);

/*
 * Visits `path`, which has less than PATH_MAX bytes, and all below it, the entries of a folder by
 * name; follows no symbolic link; passes over what vanishes in between. Unlike nftw(3), reports it
 * if a folder cannot be read to its end. Returns the visitor's last result.
 */
int tree_walk(const char *path, tree_visitor *visit);

#endif
