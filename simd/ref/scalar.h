/* scalar.h: the functions of DESIGN 9.4 and 9.5 on one value, in plain C, in the order the law writes.
 * NaN stays NaN: every choice is a comparison that NaN fails. */
#ifndef WK_SCALAR_H
#define WK_SCALAR_H

#include <math.h>

#include "engine/base/half.h"
#include "simd/poly.h"

static inline float wk_exp_scalar(float x) {
    if (x < WK_EXP_LO) return 0.0f;
    if (x > WK_EXP_HI) x = WK_EXP_HI;
    const float shifted = x * WK_EXP_LOG2E + WK_EXP_SHIFT, n = shifted - WK_EXP_SHIFT;
    float r = fmaf(n, -WK_EXP_LN2_HI, x);
    r = fmaf(n, WK_EXP_LN2_LO, r);
    float p = WK_EXP_C0;
    p = fmaf(p, r, WK_EXP_C1);
    p = fmaf(p, r, WK_EXP_C2);
    p = fmaf(p, r, WK_EXP_C3);
    p = fmaf(p, r, WK_EXP_C4);
    p = fmaf(p, r, WK_EXP_C5);
    p = fmaf(p, r, WK_EXP_C6);
    return p * wk_f32_from_bits((wk_f32_bits(shifted) + 127u) << 23);
}

static inline float wk_tanh_scalar(float y) {
    const uint32_t sign = wk_f32_bits(y) & 0x80000000u;
    const float t = wk_exp_scalar(-2.0f * wk_f32_from_bits(wk_f32_bits(y) & 0x7fffffffu));
    return wk_f32_from_bits(wk_f32_bits((1.0f - t) / (1.0f + t)) | sign);
}

static inline float wk_silu_scalar(float x) { return x / (1.0f + wk_exp_scalar(-x)); }

static inline float wk_gelu_tanh_scalar(float x) {
    const float z = x * fmaf(x * x, WK_GELU_A, WK_GELU_B);
    return x / (1.0f + wk_exp_scalar(-z));
}

static inline float wk_softcap_scalar(float x, float c, float c_inv) {
    return c * wk_tanh_scalar(x * c_inv);
}

/* The last step of a row sum: p[l] += p[l + h]. */
static inline float wk_tree16(float p[16]) {
    for (int h = 8; h > 0; h /= 2) {
        for (int l = 0; l < h; l++) p[l] += p[l + h];
    }
    return p[0];
}

#endif
