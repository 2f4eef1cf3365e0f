/* rd.h: the one reader of binary input, little endian. Its only failure is "truncated"; after it the
 * reader stands still and every further read fails too, so a parser may check once per record. */
#ifndef WK_RD_H
#define WK_RD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/str.h"

typedef struct wk_rd {
    const uint8_t *begin, *p, *end;
    bool truncated;
    size_t want; /* bytes asked for by the read that failed */
} wk_rd;

static inline wk_rd wk_rd_of(const void *p, size_t n) {
    const uint8_t *b = (const uint8_t *)p;
    return (wk_rd){.begin = b, .p = b, .end = n ? b + n : b};
}
static inline size_t wk_rd_left(const wk_rd *r) { return (size_t)(r->end - r->p); }
static inline size_t wk_rd_at(const wk_rd *r) { return (size_t)(r->p - r->begin); }
static inline const uint8_t *wk_rd_take(wk_rd *r, size_t n) {
    if (r->truncated || n > wk_rd_left(r)) {
        if (!r->truncated) r->want = n;
        r->truncated = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    return p;
}
#define WK_RD_FIXED(name, type)                                                                    \
    static inline bool wk_rd_##name(wk_rd *r, type *out) {                                         \
        const uint8_t *p = wk_rd_take(r, sizeof(type));                                            \
        if (!p) return false;                                                                      \
        memcpy(out, p, sizeof(type));                                                              \
        return true;                                                                               \
    }
WK_RD_FIXED(u8, uint8_t)
WK_RD_FIXED(u16, uint16_t)
WK_RD_FIXED(u32, uint32_t)
WK_RD_FIXED(u64, uint64_t)
#undef WK_RD_FIXED
static inline bool wk_rd_skip(wk_rd *r, size_t n) { return wk_rd_take(r, n) != NULL; }
/* A byte string behind a u64 length (GGUF v2, v3). */
static inline bool wk_rd_str(wk_rd *r, wk_str *out) {
    uint64_t n = 0;
    if (!wk_rd_u64(r, &n)) return false;
    if (n > wk_rd_left(r)) {
        r->truncated = true;
        r->want = n > SIZE_MAX ? SIZE_MAX : (size_t)n;
        return false;
    }
    const uint8_t *p = wk_rd_take(r, (size_t)n);
    *out = (wk_str){(const char *)p, (size_t)n};
    return p != NULL;
}

#endif
