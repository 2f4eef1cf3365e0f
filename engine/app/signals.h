/* signals.h: what the program does when a signal comes: stop the answer, leave cleanly, give the terminal back.
 *
 * Handlers cannot carry a pointer, so signals.c holds the program's only mutable statics. */
#ifndef WK_SIGNALS_H
#define WK_SIGNALS_H

#include <stdbool.h>

#include "engine/wick.h"

/* From now on SIGINT, SIGTERM and SIGHUP are taken: the watched request is canceled, the flags below tell the rest; a
 * second SIGTERM leaves at once. Fatal signals restore the terminal as it was at this call. */
void wk_signals_open(void);
void wk_signals_close(void); /* everything as it was before */

/* The request that SIGINT and SIGTERM cancel; NULL: none. */
void wk_signals_watch(wick_request *r);
/* Readable after any signal of this file; wk_signals_calm empties it. -1: there is none. */
int wk_signals_fd(void);
void wk_signals_calm(void);

bool wk_signals_interrupted(void); /* SIGINT has come since the last wk_signals_forget */
void wk_signals_forget(void);
int wk_signals_terminated(void); /* 0, or the exit code: 143 for SIGTERM, 129 for SIGHUP */

/* While a line is edited the terminal is raw: SIGWINCH and SIGTSTP are taken too, and bracketed paste is on. */
void wk_signals_edit(bool on);
bool wk_signals_resized(void);   /* reads and clears */
bool wk_signals_suspended(void); /* reads and clears */

#endif
