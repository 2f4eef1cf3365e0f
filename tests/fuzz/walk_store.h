/* walk_store.h: touches everything that an open store offers, so that a sanitizer sees what a wrong bound
 * would reach. For the fuzz target and the unit test of the container. */
#ifndef WK_WALK_STORE_H
#define WK_WALK_STORE_H

#include "engine/base/attr.h"
#include "engine/file/store.h"
#include "simd/format.h"

static inline uint64_t wk_walk_array(const wk_array *a) {
    uint64_t sum = a->n;
    for (size_t i = 0; i < a->n; i++) {
        if (a->type == WK_META_STR) {
            const wk_str s = wk_array_str(a, i);
            for (size_t k = 0; k < s.n; k++) sum = sum * 31 + (uint8_t)s.p[k];
        } else {
            sum = sum * 31 + (uint64_t)wk_array_int(a, i);
            sum += wk_array_real(a, i) > 0.5;
        }
    }
    return sum;
}

static inline uint64_t wk_walk_meta(const wk_store *s, size_t i) {
    const wk_str key = wk_store_meta_key(s, i);
    uint64_t sum = (uint64_t)wk_store_meta_type(s, i), u;
    double f;
    bool b;
    wk_str str;
    wk_array a;
    wk_err err;
    static const size_t caps[] = {0, 1, 3, 4, 5, 16, 90, 400};
    char text[400], name[300];
    for (size_t c = 0; c < WK_COUNT(caps); c++) sum += wk_store_meta_text(s, i, text, caps[c]);
    if (key.n >= sizeof(name)) return sum;
    memcpy(name, key.p, key.n);
    name[key.n] = '\0';
    if (wk_meta_u64(s, name, 0, UINT64_MAX, &u, &err) == 1) sum += u;
    if (wk_meta_f64(s, name, -1e30, 1e30, &f, &err) == 1) sum += f > 0.5;
    if (wk_meta_bool(s, name, &b, &err) == 1) sum += b;
    if (wk_meta_str(s, name, &str, &err) == 1 && str.n) sum += (uint8_t)str.p[str.n - 1];
    if (wk_meta_array(s, name, &a, &err) == 1) sum += wk_walk_array(&a);
    return sum;
}

/* 0 if the store contradicts itself. */
static inline uint64_t wk_walk_store(const wk_store *s) {
    uint64_t sum = 1;
    for (size_t i = 0; i < wk_store_meta_count(s); i++) sum = sum * 31 + wk_walk_meta(s, i);
    for (size_t i = 0; i < wk_store_tensor_count(s); i++) {
        const wk_tensor *t = wk_store_tensor(s, i);
        const uint64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
        if (wk_store_find(s, t->name) != t) return 0;
        if (t->bytes != wk_row_bytes(t->fmt, (size_t)t->ne[0]) * rows || t->bytes == 0) return 0;
        sum = sum * 31 + t->data[0] + t->data[t->bytes - 1];
    }
    return sum | 1;
}

#endif
