/* log.c: formats one line and hands it to the sink of the caller. */
#include "engine/base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* The one process-wide setting of the log. Writer: wk_log_set, before any engine exists. Readers: all. */
static struct {
    wk_log_fn *fn;
    void *ud;
    int min_level; /* lines with level > min_level are dropped: ERROR is 0 */
} sink;

void wk_log_set(wk_log_fn *fn, void *ud, int min_level) {
    sink.fn = fn;
    sink.ud = ud;
    sink.min_level = min_level;
}

void wk_log(int level, const char *fmt, ...) {
    if (!sink.fn || level > sink.min_level) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0) return;
    const size_t len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    sink.fn(sink.ud, level, text, len);
}
