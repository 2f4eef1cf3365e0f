/* lanes.h: the vector of this level under the names that simd/grad/{attn,rows}_lanes.h are written in. */
#ifndef WK_GRAD_AVX512_LANES_H
#define WK_GRAD_AVX512_LANES_H

#include "simd/avx512/vec512.h"

#define G_NAME(x) x##_avx512
#define G_UNROLL WK_UNROLL
#define G_LANES 16
#define G_COLS 8     /* columns x */
#define G_DOT_VECS 2 /* vectors of positions: accumulators of a score tile */
#define G_VECS 4     /* 4 rows x so many vectors of dims: accumulators of an update tile */

typedef __m512 g_vec;

WK_INLINE g_vec g_load(const float *p) { return _mm512_loadu_ps(p); }
WK_INLINE void g_store(float *p, g_vec v) { _mm512_storeu_ps(p, v); }
/* The first n lanes, 0 < n < G_LANES; the others load as +0. */
WK_INLINE g_vec g_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(wk_lanes(n), p); }
WK_INLINE void g_store_n(float *p, g_vec v, int n) { _mm512_mask_storeu_ps(p, wk_lanes(n), v); }
WK_INLINE g_vec g_all(float x) { return _mm512_set1_ps(x); }
WK_INLINE g_vec g_add(g_vec a, g_vec b) { return _mm512_add_ps(a, b); }
WK_INLINE g_vec g_sub(g_vec a, g_vec b) { return _mm512_sub_ps(a, b); }
WK_INLINE g_vec g_mul(g_vec a, g_vec b) { return _mm512_mul_ps(a, b); }
WK_INLINE g_vec g_div(g_vec a, g_vec b) { return _mm512_div_ps(a, b); }
WK_INLINE g_vec g_sqrt(g_vec a) { return _mm512_sqrt_ps(a); }
WK_INLINE g_vec g_fma(g_vec a, g_vec b, g_vec c) { return _mm512_fmadd_ps(a, b, c); }
WK_INLINE g_vec g_fnma(g_vec a, g_vec b, g_vec c) { return _mm512_fnmadd_ps(a, b, c); } /* -a*b + c */
WK_INLINE g_vec g_neg(g_vec a) { return wk_neg512(a); }
WK_INLINE g_vec g_exp(g_vec a) { return wk_exp512(a); }
WK_INLINE g_vec g_tanh(g_vec a) { return wk_tanh512(a); }
/* Lanes i .. i + G_LANES - 1 of 64 that lie in lo .. hi - 1, lo < hi; +0 elsewhere. */
WK_INLINE g_vec g_seen(g_vec v, int i, int lo, int hi) {
    const uint64_t seen = (~0ull >> (64 - hi)) & (~0ull << lo);
    return _mm512_maskz_mov_ps((__mmask16)(seen >> i), v);
}
/* p[l] += p[l + h] for h = 8, 4, 2, 1 over 16 lanes. */
WK_INLINE float g_tree(const g_vec *p) { return wk_tree512(p[0]); }

#endif
