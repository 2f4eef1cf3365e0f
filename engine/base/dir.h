/* dir.h: folders and whole small files, for programs that leave something behind: made beside, synced, renamed. */
#ifndef WK_DIR_H
#define WK_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/str.h"

/* All errors: WICK_E_IO with path and cause. */
int wk_dir_make(const char *path, wk_err *err); /* with its parents; there already is fine */
bool wk_dir_exists(const char *path);           /* a folder, or a link to one */
bool wk_file_exists(const char *path);
/* Calls fn for every name in the folder but . and .., in byte order. */
int wk_dir_list(const char *path, void (*fn)(void *ud, const char *name), void *ud, wk_err *err);
/* The folder's plain files and links, then the folder; folders inside it are E_IO. Absent is fine. */
int wk_dir_remove(const char *path, wk_err *err);
int wk_dir_sync(const char *path, wk_err *err);
/* from becomes to, within one folder's file system; to must not exist or be a file; the folder of to is synced. */
int wk_file_rename(const char *from, const char *to, wk_err *err);
/* a and b change names, at once where the system can (else b is away for a moment, as b.away). */
int wk_dir_exchange(const char *a, const char *b, wk_err *err);
int wk_file_remove(const char *path, wk_err *err); /* absent is fine */
/* A whole small file (os.h, wk_out_file). */
int wk_file_write(const char *path, wk_str text, wk_err *err);
/* path becomes a link to target (a name in the same folder), whatever it was before: there is one at every moment. */
int wk_file_link(const char *path, const char *target, wk_err *err);
/* Bytes free for this user on the file system of path; UINT64_MAX if that cannot be found out. */
uint64_t wk_disk_free(const char *path);

#endif
