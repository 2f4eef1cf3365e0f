/* vec.h: what the NEON kernels share: loads, 16-lane sums, the exp of DESIGN 9.5. Inline code only.
 *
 * A row of 16 lanes is four registers. vfmaq is fmla, one rounding, and stands only where the law says fma;
 * vmlaq_f32 may be two roundings and is never used. */
#ifndef WK_NEON_VEC_H
#define WK_NEON_VEC_H

#include <arm_neon.h>
#include <assert.h>
#include <string.h>

#include "engine/base/attr.h"
#include "simd/kernels.h"
#include "simd/poly.h"

enum { WK_LINE = 64 }; /* bytes of 16 rows x 4 k */

/* ---- 16 lanes ---- */

/* Lanes 0..3, 4..7, 8..11, 12..15. */
typedef struct v16 {
    float32x4_t a, b, c, d;
} v16;
typedef struct v16i {
    int32x4_t a, b, c, d;
} v16i;

WK_INLINE v16 v16_all(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return (v16){v, v, v, v};
}
WK_INLINE v16 v16_zero(void) { return v16_all(0.0f); }
WK_INLINE v16 v16_load(const float *p) {
    return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
WK_INLINE void v16_store(float *p, v16 v) {
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
    vst1q_f32(p + 8, v.c);
    vst1q_f32(p + 12, v.d);
}
WK_INLINE v16 v16_add(v16 x, v16 y) {
    return (v16){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
WK_INLINE v16 v16_mul(v16 x, v16 y) {
    return (v16){vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
WK_INLINE v16 v16_neg(v16 x) {
    return (v16){vnegq_f32(x.a), vnegq_f32(x.b), vnegq_f32(x.c), vnegq_f32(x.d)};
}
/* fma(x, y, acc) */
WK_INLINE v16 v16_fma(v16 acc, v16 x, v16 y) {
    return (v16){vfmaq_f32(acc.a, x.a, y.a), vfmaq_f32(acc.b, x.b, y.b), vfmaq_f32(acc.c, x.c, y.c),
                 vfmaq_f32(acc.d, x.d, y.d)};
}
WK_INLINE v16 v16_fma1(v16 acc, v16 x, float y) {
    return (v16){vfmaq_n_f32(acc.a, x.a, y), vfmaq_n_f32(acc.b, x.b, y), vfmaq_n_f32(acc.c, x.c, y),
                 vfmaq_n_f32(acc.d, x.d, y)};
}
/* (float)i, exact below 2^24. */
WK_INLINE v16 v16_float(v16i i) {
    return (v16){vcvtq_f32_s32(i.a), vcvtq_f32_s32(i.b), vcvtq_f32_s32(i.c), vcvtq_f32_s32(i.d)};
}

WK_INLINE v16i v16i_zero(void) {
    const int32x4_t z = vdupq_n_s32(0);
    return (v16i){z, z, z, z};
}
WK_INLINE v16i v16i_add(v16i x, v16i y) {
    return (v16i){vaddq_s32(x.a, y.a), vaddq_s32(x.b, y.b), vaddq_s32(x.c, y.c), vaddq_s32(x.d, y.d)};
}
/* acc + x*y for 16 int16 and one int16. */
WK_INLINE v16i v16i_mla1(v16i acc, const int16_t *x, int16_t y) {
    const int16x8_t lo = vld1q_s16(x), hi = vld1q_s16(x + 8);
    return (v16i){vmlal_n_s16(acc.a, vget_low_s16(lo), y), vmlal_high_n_s16(acc.b, lo, y),
                  vmlal_n_s16(acc.c, vget_low_s16(hi), y), vmlal_high_n_s16(acc.d, hi, y)};
}
/* acc + x*y for 16 integers and 16 int16; integer, so a multiply-add rounds nothing. */
WK_INLINE v16i v16i_mla(v16i acc, v16i x, const int16_t *y) {
    const int16x8_t lo = vld1q_s16(y), hi = vld1q_s16(y + 8);
    return (v16i){vmlaq_s32(acc.a, x.a, vmovl_s16(vget_low_s16(lo))),
                  vmlaq_s32(acc.b, x.b, vmovl_high_s16(lo)),
                  vmlaq_s32(acc.c, x.c, vmovl_s16(vget_low_s16(hi))),
                  vmlaq_s32(acc.d, x.d, vmovl_high_s16(hi))};
}

/* ---- loads ---- */

WK_INLINE float32x4_t v_f16(const void *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
WK_INLINE float32x4_t v_bf16(const void *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
WK_INLINE v16 v16_f16(const void *p) {
    const uint8_t *b = p;
    return (v16){v_f16(b), v_f16(b + 8), v_f16(b + 16), v_f16(b + 24)};
}
/* 16 int8 as f32. */
WK_INLINE v16 v16_s8(int8x16_t v) {
    const int16x8_t lo = vmovl_s8(vget_low_s8(v)), hi = vmovl_high_s8(v);
    return v16_float((v16i){vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo),
                            vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)});
}
/* Four f32 of a float weight or cache row, from element i; fmt is a constant where it is called. */
WK_INLINE float32x4_t v_weight(const void *w, size_t i, int fmt) {
    if (fmt == WK_FMT_F16) return v_f16((const wk_f16 *)w + i);
    if (fmt == WK_FMT_BF16) return v_bf16((const wk_bf16 *)w + i);
    return vld1q_f32((const float *)w + i);
}
WK_INLINE v16 v16_weight(const void *w, size_t i, int fmt) {
    return (v16){v_weight(w, i, fmt), v_weight(w, i + 4, fmt), v_weight(w, i + 8, fmt),
                 v_weight(w, i + 12, fmt)};
}
WK_INLINE int v_weight_bytes(int fmt) { return fmt == WK_FMT_F32 ? 4 : 2; }
/* Asks for one line; the address may lie behind the end of the data, nothing is read there. */
WK_INLINE void v_ahead(const void *p, size_t bytes) {
    __builtin_prefetch((const void *)((uintptr_t)p + bytes), 0, 3);
}

/* ---- reductions ---- */

/* p[l] += p[l + h] for h = 8, 4, 2, 1 over 16 lanes. */
WK_INLINE float v_tree(v16 p) {
    const float32x4_t s = vaddq_f32(vaddq_f32(p.a, p.c), vaddq_f32(p.b, p.d));
    const float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(t, 0) + vget_lane_f32(t, 1);
}

/* ---- functions ---- */

/* NaN stays NaN: it passes both comparisons unchanged, and the power of two is a factor, not an
 * addition to the exponent bits (which could carry a NaN back to a number). */
WK_INLINE float32x4_t v_exp(float32x4_t x) {
    const uint32x4_t under = vcltq_f32(x, vdupq_n_f32(WK_EXP_LO));
    const uint32x4_t over = vcgtq_f32(x, vdupq_n_f32(WK_EXP_HI));
    x = vbslq_f32(over, vdupq_n_f32(WK_EXP_HI), x);
    const float32x4_t shift = vdupq_n_f32(WK_EXP_SHIFT);
    const float32x4_t t = vaddq_f32(vmulq_f32(x, vdupq_n_f32(WK_EXP_LOG2E)), shift);
    const float32x4_t n = vsubq_f32(t, shift);
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(WK_EXP_LN2_HI));
    r = vfmaq_f32(r, n, vdupq_n_f32(WK_EXP_LN2_LO));
    float32x4_t p = vdupq_n_f32(WK_EXP_C0);
    p = vfmaq_f32(vdupq_n_f32(WK_EXP_C1), p, r);
    p = vfmaq_f32(vdupq_n_f32(WK_EXP_C2), p, r);
    p = vfmaq_f32(vdupq_n_f32(WK_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(WK_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(WK_EXP_C5), p, r);
    p = vfmaq_f32(vdupq_n_f32(WK_EXP_C6), p, r);
    const uint32x4_t bits = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    const uint32x4_t two_n = vaddq_u32(bits, vdupq_n_u32(127u << 23));
    const float32x4_t y = vmulq_f32(p, vreinterpretq_f32_u32(two_n));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), under));
}
/* x / (1 + exp(-z)) */
WK_INLINE float32x4_t v_gate(float32x4_t x, float32x4_t z) {
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), v_exp(vnegq_f32(z))));
}
WK_INLINE float32x4_t v_tanh(float32x4_t y) {
    const float32x4_t one = vdupq_n_f32(1.0f);
    const float32x4_t t = v_exp(vmulq_f32(vdupq_n_f32(-2.0f), vabsq_f32(y)));
    const float32x4_t r = vdivq_f32(vsubq_f32(one, t), vaddq_f32(one, t));
    const uint32x4_t sign = vdupq_n_u32(0x80000000u);
    return vbslq_f32(sign, y, r);
}

#endif
