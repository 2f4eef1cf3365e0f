/* buf.c: growable bytes with a hard cap; see buf.h. */
#include "engine/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"

enum { FIRST_ROOM = 64 };

void wk_buf_init(wk_buf *b, size_t cap) { *b = (wk_buf){.cap = cap}; }

static bool refuse(wk_buf *b) {
    b->failed = true;
    return false;
}

/* Makes room for n more bytes and the NUL; false and `failed` if that passes the cap or the memory. */
static bool reserve(wk_buf *b, size_t n) {
    size_t len, need;
    if (b->failed || !wk_add(&len, b->n, n) || !wk_add(&need, len, 1)) return refuse(b);
    if (b->cap && len > b->cap) return refuse(b);
    if (need <= b->room) return true;
    size_t room = b->room ? b->room : FIRST_ROOM;
    while (room < need)
        if (!wk_mul(&room, room, 2)) room = need;
    if (b->cap && room > b->cap && b->cap < SIZE_MAX) room = b->cap + 1;
    char *p = (char *)wk_realloc_array(b->p, room, 1);
    if (!p) return refuse(b);
    b->p = p;
    b->room = room;
    return true;
}

bool wk_buf_add(wk_buf *b, const void *p, size_t n) {
    if (!reserve(b, n)) return false;
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
    return true;
}

char *wk_buf_room(wk_buf *b, size_t n) {
    if (!reserve(b, n)) return NULL;
    char *p = b->p + b->n;
    memset(p, 0, n + 1);
    b->n += n;
    return p;
}

bool wk_buf_adds(wk_buf *b, const char *s) { return wk_buf_add(b, s, strlen(s)); }

bool wk_buf_addc(wk_buf *b, char c) { return wk_buf_add(b, &c, 1); }

bool wk_buf_addf(wk_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return refuse(b);
    if (!reserve(b, (size_t)n)) return false;
    va_start(ap, fmt);
    (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap); /* measured above */
    va_end(ap);
    b->n += (size_t)n;
    return true;
}

void wk_buf_reset(wk_buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p) b->p[0] = '\0';
}

void wk_buf_fini(wk_buf *b) {
    wk_free(b->p);
    *b = (wk_buf){.cap = b->cap};
}
