/* vec512.h: pieces that the 512-bit kernels share. Only inlined code: every user has the level's flags. */
#ifndef WK_VEC512_H
#define WK_VEC512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/attr.h"
#include "simd/kernels.h"
#include "simd/poly.h"

/* Register tiles are arrays indexed by constants: every loop over them must be unrolled whole. */
#if defined(__clang__)
#define WK_UNROLL _Pragma("clang loop unroll(full)")
#else
#define WK_UNROLL _Pragma("GCC unroll 16")
#endif

/* Bytes of software prefetch, into L2. Measured on Zen 4, one thread, share of the read probe: the hardware
 * prefetchers alone and 0.5-1 KB give the same, 2 KB loses up to a third on blocks of several fields, 4 KB and
 * more on all; into L1 at 8 KB 0.95 for plain nibbles, 0.35-0.75 for the rest (too few miss buffers). Intel
 * cores are said to want 2-11 KB: to be measured there with -DWK_AHEAD. */
#ifndef WK_AHEAD
#define WK_AHEAD 1024
#endif

/* Bring the lines of [p + WK_AHEAD, + bytes) towards the core. Never faults: may point past the end. */
WK_INLINE void wk_ahead(const void *p, const size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)((uintptr_t)p + WK_AHEAD + i), _MM_HINT_T1);
}

/* Read the lines of [p, + bytes) in ascending order before they are used in another: hardware prefetchers
 * follow ascending misses only, and of loads only (prefetch instructions: 0.8 of this on Zen 4). */
WK_INLINE void wk_touch(const uint8_t *p, const size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        wk_ahead(p + i, 64);
        (void)*(const volatile uint8_t *)(p + i);
    }
}

/* Lanes 0 .. n-1, n <= 16. */
WK_INLINE __mmask16 wk_lanes(int n) {
    return (__mmask16)((1u << n) - 1u);
}

WK_INLINE __m512 wk_f16_512(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
WK_INLINE __m512 wk_widen_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* p[l] += p[l+h] for h = 8, 4, 2, 1 (DESIGN 9.4). */
WK_INLINE float wk_tree512(__m512 p) {
    const __m256 hi8 = _mm512_extractf32x8_ps(p, 1);
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(p), hi8);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* DESIGN 9.5 where mask is set, else +0; x <= WK_EXP_HI or NaN there. Comparisons and not min/max, so that NaN
 * stays NaN. */
WK_INLINE __m512 wk_exp512_masked(__mmask16 mask, __m512 x) {
    const __m512 shift = _mm512_set1_ps(WK_EXP_SHIFT);
    const __mmask16 keep = _mm512_mask_cmp_ps_mask(mask, x, _mm512_set1_ps(WK_EXP_LO), _CMP_NLT_UQ);
    const __m512 t = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(WK_EXP_LOG2E)), shift);
    const __m512 n = _mm512_sub_ps(t, shift);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(WK_EXP_LN2_HI), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(WK_EXP_LN2_LO), r);
    __m512 p = _mm512_set1_ps(WK_EXP_C0);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(WK_EXP_C1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(WK_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(WK_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(WK_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(WK_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(WK_EXP_C6));
    return _mm512_maskz_scalef_ps(keep, p, n);
}
WK_INLINE __m512 wk_exp512(__m512 x) {
    const __m512 top = _mm512_set1_ps(WK_EXP_HI);
    return wk_exp512_masked(0xffff, _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, top, _CMP_GT_OQ), top));
}

WK_INLINE __m512 wk_neg512(__m512 x) {
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

WK_INLINE __m512 wk_tanh512(__m512 y) {
    const __m512 sign = _mm512_set1_ps(-0.0f), one = _mm512_set1_ps(1.0f);
    const __m512 a = _mm512_andnot_ps(sign, y);
    const __m512 t = wk_exp512(_mm512_mul_ps(_mm512_set1_ps(-2.0f), a));
    const __m512 q = _mm512_div_ps(_mm512_sub_ps(one, t), _mm512_add_ps(one, t));
    return _mm512_or_ps(q, _mm512_and_ps(sign, y));
}

#endif
