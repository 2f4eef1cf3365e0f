/* lanes.h: the vector of this level under the names that simd/grad/{attn,rows}_lanes.h are written in. */
#ifndef WK_GRAD_AVX2_LANES_H
#define WK_GRAD_AVX2_LANES_H

#include "simd/avx2/vec.h"

#define G_NAME(x) x##_avx2
#define G_UNROLL V_UNROLL
#define G_LANES 8
#define G_COLS 6     /* columns x */
#define G_DOT_VECS 2 /* vectors of positions: accumulators of a score tile */
#define G_VECS 3     /* 4 rows x so many vectors of dims: accumulators of an update tile */

typedef __m256 g_vec;

WK_INLINE g_vec g_load(const float *p) { return _mm256_loadu_ps(p); }
WK_INLINE void g_store(float *p, g_vec v) { _mm256_storeu_ps(p, v); }
/* The first n lanes, 0 < n < G_LANES; the others load as +0. */
WK_INLINE g_vec g_load_n(const float *p, int n) { return _mm256_maskload_ps(p, v_mask(n)); }
WK_INLINE void g_store_n(float *p, g_vec v, int n) { _mm256_maskstore_ps(p, v_mask(n), v); }
WK_INLINE g_vec g_all(float x) { return _mm256_set1_ps(x); }
WK_INLINE g_vec g_add(g_vec a, g_vec b) { return _mm256_add_ps(a, b); }
WK_INLINE g_vec g_sub(g_vec a, g_vec b) { return _mm256_sub_ps(a, b); }
WK_INLINE g_vec g_mul(g_vec a, g_vec b) { return _mm256_mul_ps(a, b); }
WK_INLINE g_vec g_div(g_vec a, g_vec b) { return _mm256_div_ps(a, b); }
WK_INLINE g_vec g_sqrt(g_vec a) { return _mm256_sqrt_ps(a); }
WK_INLINE g_vec g_fma(g_vec a, g_vec b, g_vec c) { return _mm256_fmadd_ps(a, b, c); }
WK_INLINE g_vec g_fnma(g_vec a, g_vec b, g_vec c) { return _mm256_fnmadd_ps(a, b, c); } /* -a*b + c */
WK_INLINE g_vec g_neg(g_vec a) { return _mm256_xor_ps(a, v_sign_bits()); }
WK_INLINE g_vec g_exp(g_vec a) { return v_exp(a); }
WK_INLINE g_vec g_tanh(g_vec a) { return v_tanh(a); }
/* Lanes i .. i + G_LANES - 1 that lie in lo .. hi - 1; +0 elsewhere. */
WK_INLINE g_vec g_seen(g_vec v, int i, int lo, int hi) {
    const __m256i from = v_mask(lo - i), to = v_mask(hi - i);
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_andnot_si256(from, to)));
}
/* p[l] += p[l + h] for h = 8, 4, 2, 1 over 16 lanes. */
WK_INLINE float g_tree(const g_vec *p) { return v_tree(p[0], p[1]); }

#endif
