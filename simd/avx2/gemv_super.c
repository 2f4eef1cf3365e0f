/* gemv_super.c: one token against packed panels of 256-blocks, straight from the packed bits. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"

/* 16 rows in two registers. */
typedef struct rows {
    __m256 lo, hi;
} rows;

/* acc = fma(a, dx, acc) */
WK_INLINE void add_block(rows *acc, rows a, float d) {
    const __m256 dx = _mm256_set1_ps(d);
    acc->lo = _mm256_fmadd_ps(a.lo, dx, acc->lo);
    acc->hi = _mm256_fmadd_ps(a.hi, dx, acc->hi);
}

/* ---- Q4_K, Q5_K ---- */

/* a = fma(F(M), -dmin, a): bytes of two neighbouring planes make the pairs that madd wants. */
WK_INLINE rows add_mins(rows a, const uint8_t *mn, const uint8_t *dmin, const int16_t *s) {
    __m256i lo = _mm256_setzero_si256(), hi = lo;
    for (int j = 0; j < 8; j += 2) {
        const __m128i even = v_int128(mn + 16 * j), odd = v_int128(mn + 16 * j + 16);
        const __m256i sums = v_all4(s + j);
        const __m256i pair_lo = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(even, odd));
        const __m256i pair_hi = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(even, odd));
        lo = _mm256_add_epi32(lo, _mm256_madd_epi16(pair_lo, sums));
        hi = _mm256_add_epi32(hi, _mm256_madd_epi16(pair_hi, sums));
    }
    return (rows){_mm256_fnmadd_ps(_mm256_cvtepi32_ps(lo), v_f16(dmin), a.lo),
                  _mm256_fnmadd_ps(_mm256_cvtepi32_ps(hi), v_f16(dmin + 16), a.hi)};
}

/* Sums of the two 32s of a quarter, 8 rows. */
typedef struct two_sums {
    __m256i low, high;
} two_sums;

WK_INLINE two_sums quarter4(const uint8_t *qs, const int8_t *q) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (int i = 0; i < 8; i++) {
        const __m256i v = v_int(qs + WK_LINE * i);
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(v_low4(v), v_all4(q + 4 * i)));
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(v_high4(v), v_all4(q + 32 + 4 * i)));
    }
    return (two_sums){v_wide(low), v_wide(high)};
}

WK_INLINE two_sums quarter5(const uint8_t *qs, const uint8_t *qh, const int8_t *q, int c) {
    two_sums s = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int from = 0; from < 8; from += 4) {
        __m256i low = _mm256_setzero_si256(), high = low;
        for (int i = from; i < from + 4; i++) {
            const __m256i v = v_int(qs + WK_LINE * i), h = v_int(qh + WK_LINE * i);
            const __m256i a = _mm256_or_si256(v_low4(v), v_bits_to(h, 2 * c, 4, 16));
            const __m256i b = _mm256_or_si256(v_high4(v), v_bits_to(h, 2 * c + 1, 4, 16));
            low = _mm256_add_epi16(low, _mm256_maddubs_epi16(a, v_all4(q + 4 * i)));
            high = _mm256_add_epi16(high, _mm256_maddubs_epi16(b, v_all4(q + 32 + 4 * i)));
        }
        s.low = _mm256_add_epi32(s.low, v_wide(low));
        s.high = _mm256_add_epi32(s.high, v_wide(high));
    }
    return s;
}

/* a = fma(F(I), d * sc, a) for both 32s of a quarter; the first term rounds as a product. */
WK_INLINE __m256 add_quarter(__m256 a, two_sums s, const uint8_t *sc, __m256 d) {
    a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s.low), _mm256_mul_ps(d, v_u8(sc)), a);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(s.high), _mm256_mul_ps(d, v_u8(sc + 16)), a);
}

/* a of one block. head: d, dmin, scales 256 bytes; then qh (Q5_K) 512; then qs 2048. */
WK_INLINE rows block_k4(const uint8_t *p, const wk_act *x, int b, bool five) {
    const uint8_t *qh = p + 256, *qs = five ? p + 768 : qh;
    const __m256 d_lo = v_f16(p), d_hi = v_f16(p + 16);
    rows a = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    k4_scales k;
    k4_scales_of(&k, p + 64);
    for (int c = 0; c < 4; c++, qs += 512) {
        const int8_t *q = x->q + 256 * b + 64 * c;
        v_ahead(p, (size_t)(c * (five ? 704 : 576)), five ? 704 : 576);
        const two_sums lo = five ? quarter5(qs, qh, q, c) : quarter4(qs, q);
        const two_sums hi = five ? quarter5(qs + 32, qh + 32, q, c) : quarter4(qs + 32, q);
        a.lo = add_quarter(a.lo, lo, k.sc + 32 * c, d_lo);
        a.hi = add_quarter(a.hi, hi, k.sc + 32 * c + 8, d_hi);
    }
    return add_mins(a, k.mn, p + 32, x->s32 + 8 * b);
}

/* ---- Q6_K ---- */

/* Sums of the four 16s that share 4 lines: k = 16 i + {0, 32, 64, 96} of a half. Codes are 0..63, so two
 * steps fit int16; z starts them with -32 * (sum of the activation codes). */
WK_INLINE void sums6(__m256i *sum, const uint8_t *ql, const uint8_t *qh, const int8_t *q) {
    for (int j = 0; j < 4; j++) sum[2 * j] = _mm256_setzero_si256();
    const __m256i top = _mm256_set1_epi8(0x30);
    for (int i = 0; i < 4; i += 2) {
        __m256i pair[4];
        for (int g = i; g < i + 2; g++) {
            const __m256i h = v_int(qh + WK_LINE * g), a = v_int(ql + WK_LINE * g);
            const __m256i b = v_int(ql + 512 + WK_LINE * g);
            const __m256i h0 = _mm256_and_si256(_mm256_slli_epi16(h, 4), top);
            const __m256i h1 = _mm256_and_si256(_mm256_slli_epi16(h, 2), top);
            const __m256i h2 = _mm256_and_si256(h, top);
            const __m256i h3 = _mm256_and_si256(_mm256_srli_epi16(h, 2), top);
            const __m256i code[4] = {_mm256_or_si256(v_low4(a), h0), _mm256_or_si256(v_low4(b), h1),
                                     _mm256_or_si256(v_high4(a), h2),
                                     _mm256_or_si256(v_high4(b), h3)};
            for (int j = 0; j < 4; j++) {
                const __m256i p = _mm256_maddubs_epi16(code[j], v_all4(q + 32 * j + 4 * g));
                pair[j] = g == i ? p : _mm256_add_epi16(pair[j], p);
            }
        }
        for (int j = 0; j < 4; j++) sum[2 * j] = _mm256_add_epi32(sum[2 * j], v_wide(pair[j]));
    }
}

/* a += the 8 sub-blocks of one half (128 k), ascending; sum[j] belongs to k = 16 j. */
WK_INLINE __m256 add_half6(__m256 a, const __m256i *sum, const uint8_t *sc, __m256 d,
                           const int32_t *z) {
    for (int j = 0; j < 8; j++) {
        const __m256i i = _mm256_add_epi32(sum[j], v_zero_point(z + j, 32));
        a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(i), _mm256_mul_ps(d, v_s8(sc + 16 * j)), a);
    }
    return a;
}

/* Both rows of a line are used before the next one: two passes over a block would read it twice as fast
 * as it is fetched, and halve the bandwidth. */
WK_INLINE rows block_q6(const uint8_t *p, const wk_act *x, int b) {
    const __m256 d_lo = v_f16(p), d_hi = v_f16(p + 16);
    rows a = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int half = 0; half < 2; half++) {
        const uint8_t *qh = p + 288 + 512 * half, *ql = p + 1312 + 1024 * half;
        const uint8_t *sc = p + 32 + 128 * half;
        const int8_t *q = x->q + 256 * b + 128 * half;
        const int32_t *z = x->z16 + 16 * b + 8 * half;
        __m256i lo[8], hi[8];
        for (int i = 0; i < 2; i++) {
            v_ahead(p, (size_t)(1664 * half + 832 * i), half & i ? 896 : 832);
            sums6(lo + i, ql + 256 * i, qh + 256 * i, q + 16 * i);
            sums6(hi + i, ql + 256 * i + 32, qh + 256 * i + 32, q + 16 * i);
        }
        a.lo = add_half6(a.lo, lo, sc, d_lo, z);
        a.hi = add_half6(a.hi, hi, sc + 8, d_hi, z);
    }
    return a;
}

/* ---- Q2_K, Q3_K ---- */

/* Two bits of a line, with the third bit of Q3_K where there is one: 0..7, 4 too many. */
WK_INLINE __m256i code3(__m256i v, const uint8_t *hmask, int n, int j) {
    const __m256i low = v_bits_to(v, 2 * j, 0, 3);
    return hmask ? _mm256_or_si256(low, v_bits_to(v_int(hmask), 4 * n + j, 2, 4)) : low;
}

/* The 4 lines of the 16s k = 128 n + 16 i + {0, 32, 64, 96}: sum of sc * code for 8 rows. n, i: constants. */
WK_INLINE __m256i sum_lines(const uint8_t *qs, const uint8_t *hmask, const int16_t *sc,
                            const int8_t *q, int n, int i) {
    __m256i s[4], total = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) s[j] = _mm256_setzero_si256();
    for (int g = 4 * i; g < 4 * i + 4; g++) {
        const __m256i v = v_int(qs + WK_LINE * (8 * n + g));
        for (int j = 0; j < 4; j++) {
            const __m256i code = code3(v, hmask ? hmask + WK_LINE * g : NULL, n, j);
            const __m256i a = v_all4(q + 128 * n + 32 * j + 4 * g);
            s[j] = _mm256_add_epi16(s[j], _mm256_maddubs_epi16(code, a));
        }
    }
    for (int j = 0; j < 4; j++) {
        const __m256i by = twice(sc + 16 * (8 * n + 2 * j + i));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(s[j], by));
    }
    return total;
}

/* Sum over 256 of sc * code for 8 rows; fetches bytes of what comes later. */
WK_INLINE __m256i sum_whole(const uint8_t *qs, const uint8_t *hmask, const int16_t *sc,
                            const int8_t *q, size_t from, size_t bytes) {
    v_ahead(qs, from, bytes / 2);
    __m256i total = sum_lines(qs, hmask, sc, q, 0, 0);
    total = _mm256_add_epi32(total, sum_lines(qs, hmask, sc, q, 0, 1));
    v_ahead(qs, from + bytes / 2, bytes / 2);
    total = _mm256_add_epi32(total, sum_lines(qs, hmask, sc, q, 1, 0));
    return _mm256_add_epi32(total, sum_lines(qs, hmask, sc, q, 1, 1));
}

WK_INLINE rows block_q2(const uint8_t *p, const wk_act *x, int b) {
    int16_t sc[256], mn[256];
    min_pairs pairs;
    scales_q2_k(sc, mn, p + 64);
    min_pairs_of(&pairs, mn, 8);
    const int8_t *q = x->q + 256 * b;
    const rows_int m = sum_pairs(&pairs, x->s16 + 16 * b, 8);
    const __m256 lo = _mm256_cvtepi32_ps(sum_whole(p + 320, NULL, sc, q, 0, 768));
    const __m256 hi = _mm256_cvtepi32_ps(sum_whole(p + 352, NULL, sc + 8, q, 768, 768));
    const rows a = {_mm256_mul_ps(v_f16(p), lo), _mm256_mul_ps(v_f16(p + 16), hi)};
    return (rows){_mm256_fnmadd_ps(_mm256_cvtepi32_ps(m.lo), v_f16(p + 32), a.lo),
                  _mm256_fnmadd_ps(_mm256_cvtepi32_ps(m.hi), v_f16(p + 48), a.hi)};
}

WK_INLINE rows block_q3(const uint8_t *p, const wk_act *x, int b) {
    int16_t sc[256];
    min_pairs pairs;
    scales_q3_k(sc, p + 32);
    min_pairs_of(&pairs, sc, 8);
    const int8_t *q = x->q + 256 * b;
    const rows_int z = sum_pairs(&pairs, x->s16 + 16 * b, 8); /* times 4: what is too many */
    const __m256i lo = sum_whole(p + 736, p + 224, sc, q, 0, 1024);
    const __m256i hi = sum_whole(p + 768, p + 256, sc + 8, q, 1024, 1024);
    const __m256i i_lo = _mm256_sub_epi32(lo, _mm256_slli_epi32(z.lo, 2));
    const __m256i i_hi = _mm256_sub_epi32(hi, _mm256_slli_epi32(z.hi, 2));
    return (rows){_mm256_mul_ps(v_f16(p), _mm256_cvtepi32_ps(i_lo)),
                  _mm256_mul_ps(v_f16(p + 16), _mm256_cvtepi32_ps(i_hi))};
}

/* ---- IQ4_XS ---- */

WK_INLINE rows block_xs(const uint8_t *p, const wk_act *x, int b) {
    const __m256 d_lo = v_f16(p), d_hi = v_f16(p + 16);
    rows a = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    v_ahead(p, 0, 128);
    for (int j = 0; j < 8; j++) {
        const uint8_t *qs = p + 128 + 256 * j;
        const int8_t *q = x->q + 256 * b + 32 * j;
        v_ahead(qs, 0, 256);
        const int32_t *z = x->z32 + 8 * b + j;
        const __m256 s_lo = _mm256_mul_ps(d_lo, scale_iq4_xs(p + 32, p + 64, j));
        const __m256 s_hi = _mm256_mul_ps(d_hi, scale_iq4_xs(p + 48, p + 72, j));
        a.lo = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum_table(qs, q, z)), s_lo, a.lo);
        a.hi = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum_table(qs + 32, q, z)), s_hi, a.hi);
    }
    return a;
}

/* ---- panels ---- */

WK_INLINE rows block_value(int fmt, const uint8_t *p, const wk_act *x, int b) {
    if (fmt == WK_FMT_Q2_K) return block_q2(p, x, b);
    if (fmt == WK_FMT_Q3_K) return block_q3(p, x, b);
    if (fmt == WK_FMT_Q6_K) return block_q6(p, x, b);
    if (fmt == WK_FMT_IQ4_XS) return block_xs(p, x, b);
    return block_k4(p, x, b, fmt == WK_FMT_Q5_K);
}

WK_INLINE void gemv256(int fmt, size_t block, float *dst, const void *w, const wk_act *x,
                       int n_panel, int k) {
    const size_t panel = ((size_t)(k / 256) * block + 63) & ~(size_t)63;
    for (int n = 0; n < n_panel; n++) {
        const uint8_t *p = (const uint8_t *)w + (size_t)n * panel;
        rows acc = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (int b = 0; b < k / 256; b++, p += block) {
            add_block(&acc, block_value(fmt, p, x, b), x->d[b]);
        }
        _mm256_storeu_ps(dst + 16 * n, acc.lo);
        _mm256_storeu_ps(dst + 16 * n + 8, acc.hi);
    }
}

#define GEMV256(id, name)                                                                          \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        gemv256(WK_FMT_##id, sizeof(wk_block_##name) * WK_PANEL, dst, w, x, n_panel, k);           \
    }
GEMV256(Q2_K, q2_k)
GEMV256(Q3_K, q3_k)
GEMV256(Q4_K, q4_k)
GEMV256(Q5_K, q5_k)
GEMV256(Q6_K, q6_k)
GEMV256(IQ4_XS, iq4_xs)
