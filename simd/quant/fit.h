/* fit.h: finding scales for the K-quants: what their encoders share. A scale is fitted by weighted least squares over a
 * few candidates, the sums in the order of the values, so that the bytes are those of the public reference
 * (ggml_quantize_chunk without importance matrix; tests/check/check_format.c compares them). */
#ifndef WK_FIT_H
#define WK_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/half.h"

/* Sub-blocks in a row that are fitted side by side: x, weights and codes hold n values of the first, n of the second,
 * ...; scale and min one value each. */
enum { WK_FIT_LANES = 4 };

/* Sub-blocks whose values are scale * code - min, codes 0 .. top, min >= 0. */
typedef struct wk_fit_how {
    int n, top;        /* values of a sub-block: 16, 32 */
    float first, step; /* candidates: scales for top + first, top + first + step, ... codes over the range */
    int n_step;        /* the last candidate's number */
    bool absolute;     /* errors by size, else by square */
} wk_fit_how;
void wk_fit_with_min(uint8_t *code, float *scale, float *min, const float *x, const float *w,
                     const wk_fit_how *how);

/* Sub-blocks of 16 whose values are scale * (code - top), codes 0 .. 2 top - 1; weights x^2. nearest: the best of 19
 * scales. walk: codes improved one by one from the first guess; one sub-block. */
void wk_fit_nearest(uint8_t *code, float *scale, const float *x, int top);
float wk_fit_walk(uint8_t *code, const float *x, int top);

/* Q4_K, Q5_K: d, dmin, packed scales and mins, and the 256 codes 0 .. top. */
typedef struct wk_fit_k4 {
    wk_f16 d, dmin;
    uint8_t scales[12], code[256];
} wk_fit_k4;
void wk_fit_super(wk_fit_k4 *out, const float *x, const wk_fit_how *how);

/* Nearest integer in lo .. hi, ties to even; NaN gives lo. |lo|, |hi| <= 2^20. */
static inline int wk_fit_round(float v, int lo, int hi) {
    const float low = (float)lo, high = (float)hi;
    const float in = v > low ? (v < high ? v : high) : low;
    return (int)(wk_f32_bits(in + 0x1.8p23f) & 0x7fffffu) - 0x400000;
}

#endif
