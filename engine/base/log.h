/* log.h: one sink for everything the library has to say beside its results.
 * Off until a sink is set; no line is ever written by the library itself. */
#ifndef WK_LOG_H
#define WK_LOG_H

#include <stddef.h>

#include "engine/base/attr.h"

enum { WK_LOG_ERROR, WK_LOG_WARN, WK_LOG_INFO, WK_LOG_DEBUG };

typedef void wk_log_fn(void *ud, int level, const char *text, size_t len);

/* Set before any engine is opened; not thread-safe against running engines. fn NULL = silence. */
void wk_log_set(wk_log_fn *fn, void *ud, int min_level);
/* One line, no newline, cut at 1 KiB. Thread: any. */
void wk_log(int level, const char *fmt, ...) WK_PRINTF(2, 3);

#endif
