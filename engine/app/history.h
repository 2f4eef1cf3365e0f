/* history.h: what was typed, kept in a file: an entry a line, newline as \n and backslash as \\. */
#ifndef WK_HISTORY_H
#define WK_HISTORY_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

enum { WK_HISTORY_ENTRIES = 1000, WK_HISTORY_BYTES = 1 << 20, WK_HISTORY_ENTRY = 1 << 16 };

/* Appends the entries of the file to out, each followed by a NUL, the oldest first. No file: none. */
int wk_history_load(wk_buf *out, const char *path, wk_err *err);
/* One entry more, the oldest dropped beyond the limits. The file is read again first, so that two chats add to each
 * other's history, and is replaced whole (mode 0600). The folder is made if need be. Entries over 64 KiB are not kept. */
int wk_history_add(const char *path, wk_str entry, wk_err *err);

#endif
