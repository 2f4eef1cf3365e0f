/* out.h: stdout carries the payload, stderr the interface. The writer keeps the first error, so that exit 0 means
 * written. */
#ifndef WK_OUT_H
#define WK_OUT_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/attr.h"
#include "engine/wick.h"

typedef struct wk_out {
    int fd;
    int error; /* errno of the first failed write, 0 = none */
    bool tty;  /* control bytes of model text are shown, not sent */
} wk_out;

wk_out wk_out_stdout(void);
/* false once a write has failed. */
bool wk_out_write(wk_out *o, const char *p, size_t n);
/* Model text: on a terminal control bytes but newline and tab become \xNN. */
bool wk_out_text(wk_out *o, const char *p, size_t n);
/* WICK_OK, or WICK_E_IO with the cause. */
wick_status wk_out_end(wk_out *o, wick_error *err);

/* One line `wick: sentence` on fd 2 by one write. Returns the exit code of the status. */
int wk_report(const wick_error *err);
int wk_exit_code(wick_status s);
/* "context" for WICK_E_CONTEXT. */
const char *wk_status_word(wick_status s, char out[32]);
/* Interface lines on stderr; nothing with quiet. */
void wk_say(bool quiet, const char *fmt, ...) WK_PRINTF(2, 3);

/* A progress line on stderr: redrawn at most ten times a second on a terminal, a line each 10 % elsewhere. */
typedef struct wk_progress {
    bool quiet, tty, color, drawn;
    double begun, last; /* seconds: of the first call, of the last drawing */
    int tenth;          /* the last line's, 0 = none */
} wk_progress;
void wk_progress_init(wk_progress *p, bool quiet, bool color);
/* cached: the part of done that cost nothing, in another shade. true: now is a time to show (also when quiet). */
bool wk_progress_show(wk_progress *p, const char *what, double done, double cached, double total, const char *unit);
void wk_progress_clear(wk_progress *p);

#endif
