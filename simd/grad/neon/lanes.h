/* lanes.h: the vector of this level under the names that simd/grad/{attn,rows}_lanes.h are written in. */
#ifndef WK_GRAD_NEON_LANES_H
#define WK_GRAD_NEON_LANES_H

#include "simd/neon/vec.h"

#define G_NAME(x) x##_neon
/* Register tiles are arrays indexed by constants: every loop over them must be unrolled whole. */
#if defined(__clang__)
#define G_UNROLL _Pragma("clang loop unroll(full)")
#else
#define G_UNROLL _Pragma("GCC unroll 16")
#endif
#define G_LANES 4
#define G_COLS 4     /* columns x */
#define G_DOT_VECS 4 /* vectors of positions: accumulators of a score tile */
#define G_VECS 4     /* 4 rows x so many vectors of dims: accumulators of an update tile */

typedef float32x4_t g_vec;

WK_INLINE g_vec g_load(const float *p) { return vld1q_f32(p); }
WK_INLINE void g_store(float *p, g_vec v) { vst1q_f32(p, v); }
/* The first n lanes, 0 < n < G_LANES; the others load as +0. */
WK_INLINE g_vec g_load_n(const float *p, int n) {
    float t[4] = {0};
    memcpy(t, p, (size_t)n * sizeof(float));
    return vld1q_f32(t);
}
WK_INLINE void g_store_n(float *p, g_vec v, int n) {
    float t[4];
    vst1q_f32(t, v);
    memcpy(p, t, (size_t)n * sizeof(float));
}
WK_INLINE g_vec g_all(float x) { return vdupq_n_f32(x); }
WK_INLINE g_vec g_add(g_vec a, g_vec b) { return vaddq_f32(a, b); }
WK_INLINE g_vec g_sub(g_vec a, g_vec b) { return vsubq_f32(a, b); }
WK_INLINE g_vec g_mul(g_vec a, g_vec b) { return vmulq_f32(a, b); }
WK_INLINE g_vec g_div(g_vec a, g_vec b) { return vdivq_f32(a, b); }
WK_INLINE g_vec g_sqrt(g_vec a) { return vsqrtq_f32(a); }
WK_INLINE g_vec g_fma(g_vec a, g_vec b, g_vec c) { return vfmaq_f32(c, a, b); }
WK_INLINE g_vec g_fnma(g_vec a, g_vec b, g_vec c) { return vfmsq_f32(c, a, b); } /* -a*b + c */
WK_INLINE g_vec g_neg(g_vec a) { return vnegq_f32(a); }
WK_INLINE g_vec g_exp(g_vec a) { return v_exp(a); }
WK_INLINE g_vec g_tanh(g_vec a) { return v_tanh(a); }
/* Lanes i .. i + G_LANES - 1 that lie in lo .. hi - 1; +0 elsewhere. */
WK_INLINE g_vec g_seen(g_vec v, int i, int lo, int hi) {
    static const int32_t lane[4] = {0, 1, 2, 3};
    const int32x4_t slot = vaddq_s32(vld1q_s32(lane), vdupq_n_s32(i));
    const uint32x4_t seen = vandq_u32(vcgeq_s32(slot, vdupq_n_s32(lo)), vcltq_s32(slot, vdupq_n_s32(hi)));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), seen));
}
/* p[l] += p[l + h] for h = 8, 4, 2, 1 over 16 lanes. */
WK_INLINE float g_tree(const g_vec *p) { return v_tree((v16){p[0], p[1], p[2], p[3]}); }

#endif
