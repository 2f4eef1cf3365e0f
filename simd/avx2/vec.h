/* vec.h: what the AVX2 kernels share: loads, 16-lane sums, the exp of DESIGN 9.5. Inline code only.
 *
 * A panel line of 16 rows is two registers: rows 0..7 and rows 8..15. Integer products go through
 * maddubs (unsigned code, signed activation) into int16. Where codes are small and unsigned, several
 * steps are added in int16 before the sum is widened: the budget, steps * 2 * code * 127 <= 32767, is
 * 8 steps for 4 bits, 4 for 5 bits, 2 for 6 bits. 8 bits are two sums of 4 bits; signed codes
 * (IQ2, IQ3) take |code| and the activation with the code's sign, one step. */
#ifndef WK_AVX2_VEC_H
#define WK_AVX2_VEC_H

#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "engine/base/attr.h"
#include "simd/kernels.h"
#include "simd/poly.h"

/* Register tiles are arrays indexed by constants: every loop over them must be unrolled whole. */
#if defined(__clang__)
#define V_UNROLL _Pragma("clang loop unroll(full)")
#else
#define V_UNROLL _Pragma("GCC unroll 16")
#endif

/* ---- loads ---- */

WK_INLINE __m256i v_int(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
WK_INLINE void v_put(void *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }
WK_INLINE __m128i v_int128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
WK_INLINE __m256 v_f16(const void *p) { return _mm256_cvtph_ps(v_int128(p)); }
WK_INLINE __m256 v_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v_int128(p)), 16));
}
/* 8 bytes as f32, unsigned and signed. */
WK_INLINE __m256 v_u8(const void *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
WK_INLINE __m256 v_s8(const void *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
/* 2^(e - 128) of 8 bytes e. */
WK_INLINE __m256 v_e8m0_half(const void *p) {
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    const __m256i low = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i high = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
    const __m256i bits = _mm256_blendv_epi8(low, high, _mm256_cmpgt_epi32(e, one));
    return _mm256_castsi256_ps(bits);
}
/* Four activation codes (or two int16 sums) in every lane. */
WK_INLINE __m256i v_all4(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}
/* f32 values of 8 elements of a float weight or cache row; fmt is a constant where it is called. */
WK_INLINE __m256 v_weight(const void *w, size_t i, int fmt) {
    if (fmt == WK_FMT_F16) return v_f16((const wk_f16 *)w + i);
    if (fmt == WK_FMT_BF16) return v_bf16((const wk_bf16 *)w + i);
    return _mm256_loadu_ps((const float *)w + i);
}
WK_INLINE int v_weight_bytes(int fmt) { return fmt == WK_FMT_F32 ? 4 : 2; }
/* The first n (0..8) lanes. */
WK_INLINE __m256i v_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* Fetches one line to L1; the address may lie behind the end of the data, nothing is read there. */
WK_INLINE void v_fetch(const void *p, size_t at) {
    _mm_prefetch((const char *)((uintptr_t)p + at), _MM_HINT_T0);
}
/* Fetches lines to L2, as far ahead as WK_AHEAD. Call it with ascending addresses. Measured over 96 MB,
 * one thread on a loaded machine, GB/s, first with 4 KB ahead to L1, then as it is: Q4_0 25, 26; Q4_K 23,
 * 30; Q5_K 22, 27; Q6_K 11, 29 (and a plain read loop 28). L1 has few outstanding misses, and the three
 * streams inside a Q6_K block do not train the hardware's own prefetch: 10 without any of this. */
enum { WK_AHEAD = 16384 };
WK_INLINE void v_ahead(const void *p, size_t from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)((uintptr_t)p + WK_AHEAD + from + i), _MM_HINT_T1);
    }
}

/* ---- integer products ---- */

WK_INLINE __m256i v_ones(void) { return _mm256_set1_epi16(1); }
/* int16 pairs to int32. */
WK_INLINE __m256i v_wide(__m256i v) { return _mm256_madd_epi16(v, v_ones()); }
/* Signed codes, -128..127, times activations, in pairs. */
WK_INLINE __m256i v_signed(__m256i w, __m256i q) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}
/* 16*high + low of int16 pairs. */
WK_INLINE __m256i v_halves(__m256i high, __m256i low) {
    return _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(16)), v_wide(low));
}
WK_INLINE __m256i v_low4(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
WK_INLINE __m256i v_high4(__m256i v) { return v_low4(_mm256_srli_epi16(v, 4)); }

/* Up to V_COLS tokens side by side: token t has rows 0..7 in element 2t, rows 8..15 in 2t + 1. */
enum { V_COLS = 6, V_SUMS = 2 * V_COLS };

/* a += codes . 4 activations of each token at q[t] + k, in int16. */
WK_INLINE void v_step(__m256i *a, __m256i lo, __m256i hi, const int8_t *const *q, int k, const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        const __m256i v = v_all4(q[t] + k);
        a[2 * t] = _mm256_add_epi16(a[2 * t], _mm256_maddubs_epi16(lo, v));
        a[2 * t + 1] = _mm256_add_epi16(a[2 * t + 1], _mm256_maddubs_epi16(hi, v));
    }
}
WK_INLINE void v_start(__m256i *a, const int m) {
    V_UNROLL
    for (int t = 0; t < 2 * m; t++) a[t] = _mm256_setzero_si256();
}
/* -8 * (sum of codes) into the upper int16 of a pair, out of the stored -128 * (sum of codes), 32 of them. The sums
 * of 16 products with 4-bit codes stay in range: 8*127*16 (codes less 8) + 8*127*16 (the other half's) = 32512. */
WK_INLINE void v_start_8(__m256i *a, const int32_t *z, size_t ld, const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++)
        a[2 * t] = a[2 * t + 1] = _mm256_slli_epi32(_mm256_set1_epi32(z[(size_t)t * ld]), 12);
}
/* sum (+)= pairs times `by`. */
WK_INLINE void v_sums(__m256i *sum, const __m256i *a, __m256i by_lo, __m256i by_hi, const bool add,
                      const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        const __m256i lo = _mm256_madd_epi16(a[2 * t], by_lo),
                      hi = _mm256_madd_epi16(a[2 * t + 1], by_hi);
        sum[2 * t] = add ? _mm256_add_epi32(sum[2 * t], lo) : lo;
        sum[2 * t + 1] = add ? _mm256_add_epi32(sum[2 * t + 1], hi) : hi;
    }
}

/* -zero * (sum of codes) out of the stored -128 * (sum of codes), zero a power of two: exact. */
WK_INLINE __m256i v_zero_point(const int32_t *z, int zero) {
    const int shift = zero == 32 ? 2 : zero == 16 ? 3 : 4;
    assert(zero << shift == 128);
    return _mm256_srai_epi32(_mm256_set1_epi32(*z), shift);
}

/* ---- reductions ---- */

/* p[l] += p[l + h] for h = 8, 4, 2, 1 over 16 lanes. */
WK_INLINE float v_tree(__m256 lo, __m256 hi) {
    const __m256 s8 = _mm256_add_ps(lo, hi);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}
WK_INLINE int v_sum_i32(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}
WK_INLINE int v_max_i32(__m256i v) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* ---- functions ---- */

/* exp of DESIGN 9.5 for x <= WK_EXP_HI or NaN. NaN stays NaN: it passes the comparison unchanged, and the power of two
 * is a factor, not an addition to the exponent bits (which could carry a NaN back to a number). */
WK_INLINE __m256 v_exp_down(__m256 x) {
    const __m256 under = _mm256_cmp_ps(x, _mm256_set1_ps(WK_EXP_LO), _CMP_LT_OQ);
    const __m256 shift = _mm256_set1_ps(WK_EXP_SHIFT);
    const __m256 t = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(WK_EXP_LOG2E)), shift);
    const __m256 n = _mm256_sub_ps(t, shift);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(WK_EXP_LN2_HI), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(WK_EXP_LN2_LO), r);
    __m256 p = _mm256_set1_ps(WK_EXP_C0);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(WK_EXP_C1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(WK_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(WK_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(WK_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(WK_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(WK_EXP_C6));
    const __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    const __m256i two_n = _mm256_add_epi32(bits, _mm256_set1_epi32(127 << 23));
    return _mm256_andnot_ps(under, _mm256_mul_ps(p, _mm256_castsi256_ps(two_n)));
}
WK_INLINE __m256 v_exp(__m256 x) {
    const __m256 top = _mm256_set1_ps(WK_EXP_HI);
    return v_exp_down(_mm256_blendv_ps(x, top, _mm256_cmp_ps(x, top, _CMP_GT_OQ)));
}
WK_INLINE __m256 v_sign_bits(void) { return _mm256_set1_ps(-0.0f); }
/* x / (1 + exp(-z)) */
WK_INLINE __m256 v_gate(__m256 x, __m256 z) {
    const __m256 e = v_exp(_mm256_xor_ps(z, v_sign_bits()));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}
WK_INLINE __m256 v_tanh(__m256 y) {
    const __m256 one = _mm256_set1_ps(1.0f), size = _mm256_andnot_ps(v_sign_bits(), y);
    const __m256 t = v_exp(_mm256_mul_ps(_mm256_set1_ps(-2.0f), size));
    const __m256 r = _mm256_div_ps(_mm256_sub_ps(one, t), _mm256_add_ps(one, t));
    return _mm256_or_ps(_mm256_andnot_ps(v_sign_bits(), r), _mm256_and_ps(v_sign_bits(), y));
}

#endif
