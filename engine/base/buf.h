/* buf.h: growable bytes with a hard cap. A failed append sets `failed` and keeps what was there, so
 * that a writer checks once at its end. */
#ifndef WK_BUF_H
#define WK_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/attr.h"
#include "engine/base/str.h"

typedef struct wk_buf {
    char *p; /* n bytes, always followed by a NUL once anything was added */
    size_t n, room, cap;
    bool failed;
} wk_buf;

void wk_buf_init(wk_buf *b, size_t cap); /* cap 0 = no limit */
bool wk_buf_add(wk_buf *b, const void *p, size_t n);
bool wk_buf_adds(wk_buf *b, const char *s);
bool wk_buf_addc(wk_buf *b, char c);
bool wk_buf_addf(wk_buf *b, const char *fmt, ...) WK_PRINTF(2, 3);
static inline wk_str wk_buf_str(const wk_buf *b) { return (wk_str){b->p ? b->p : "", b->n}; }
/* n more bytes, zeroed, for the caller to fill; NULL (and failed) if there is no memory or it is over the cap. */
char *wk_buf_room(wk_buf *b, size_t n);
void wk_buf_reset(wk_buf *b); /* keeps the memory */
void wk_buf_fini(wk_buf *b);

#endif
