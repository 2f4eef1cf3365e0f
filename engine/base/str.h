/* str.h: slices of bytes that are never NUL-terminated, and foreign text made safe to print. */
#ifndef WK_STR_H
#define WK_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct wk_str {
    const char *p;
    size_t n;
} wk_str;

#define WK_STR(literal) ((wk_str){"" literal, sizeof(literal) - 1})

static inline wk_str wk_cstr(const char *s) { return (wk_str){s, s ? strlen(s) : 0}; }
static inline bool wk_str_eq(wk_str a, wk_str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool wk_str_is(wk_str a, const char *s) { return wk_str_eq(a, wk_cstr(s)); }
static inline bool wk_str_starts(wk_str a, wk_str prefix) {
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}
static inline bool wk_str_ends(wk_str a, wk_str suffix) {
    return a.n >= suffix.n && (suffix.n == 0 || memcmp(a.p + a.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* Foreign text for a message: control bytes, invalid UTF-8 and bidi marks escaped as \xNN, cut at 80
 * bytes with "…". Returned by value so that it can stand in an argument list: wk_show(s).text */
typedef struct wk_shown {
    char text[100];
} wk_shown;
wk_shown wk_show(wk_str s);

#endif
