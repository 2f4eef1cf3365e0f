/* ck.h: checked size arithmetic. Sizes that come from outside are combined here and nowhere else.
 * Each function returns false on overflow and then leaves *out untouched. */
#ifndef WK_CK_H
#define WK_CK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool wk_mul(size_t *out, size_t a, size_t b) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool wk_add(size_t *out, size_t a, size_t b) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
/* Rounds a up to a multiple of align (a power of two). */
static inline bool wk_align(size_t *out, size_t a, size_t align) {
    size_t r;
    if (__builtin_add_overflow(a, align - 1, &r)) return false;
    *out = r & ~(align - 1);
    return true;
}
static inline bool wk_u64_to_size(size_t *out, uint64_t a) {
    if (a > SIZE_MAX) return false;
    *out = (size_t)a;
    return true;
}

#endif
