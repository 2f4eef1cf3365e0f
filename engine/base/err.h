/* err.h: status codes inside the engine, and the one way to fill an error record. */
#ifndef WK_ERR_H
#define WK_ERR_H

#include "engine/base/attr.h"
#include "engine/wick_status.h"

typedef wick_error wk_err;

/* Fills err (NULL allowed) with a formatted sentence and returns code: `return wk_fail(err, …)`.
 * Foreign text in the arguments must have gone through wk_show() (str.h). */
int wk_fail(wk_err *err, int code, const char *fmt, ...) WK_PRINTF(3, 4);

/* Puts "prefix: " before the message that err already holds, unless it begins so; returns err->code. */
int wk_fail_at(wk_err *err, const char *fmt, ...) WK_PRINTF(2, 3);

/* Forwards a failure of f to the caller. */
#define WK_TRY(f)                                                                                  \
    do {                                                                                           \
        const int wk_try_rc = (f);                                                                 \
        if (wk_try_rc) return wk_try_rc;                                                           \
    } while (0)

#endif
