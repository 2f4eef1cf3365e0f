/* own.h: a folder of files that this user wrote and nobody else can have changed, for caches. Nothing here is an error:
 * what cannot be had, or is not to be believed, is simply not there. */
#ifndef WK_OWN_H
#define WK_OWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The folder stands, made (0700) with its parents if need be; it is this user's, and no other may write in it. */
bool wk_own_dir(const char *path);
/* A regular file, no link, of this user, that no other may write: a descriptor and its size. -1: there is none. */
int wk_own_open(const char *path, uint64_t *size);
bool wk_own_read(int fd, void *p, size_t n, uint64_t at); /* all of it; any thread */
void wk_own_close(int fd);
bool wk_own_private(int fd);         /* nobody else may read or write it */
void wk_own_touch(const char *path); /* used now */
/* Removes files whose name begins with prefix, those used longest ago first, until the rest takes at most max bytes.
 * false: it still takes more. */
bool wk_own_trim(const char *dir, const char *prefix, uint64_t max);

#endif
