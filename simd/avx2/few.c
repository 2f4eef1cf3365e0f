/* few.c: two to four tokens straight from the packed layout. A line is decoded in registers and meets the codes of
 * every token; expanding to a panel first costs a store and a load of every code, which is more than the products of
 * so few tokens. The int16 sums of 16 rows and 4 tokens take 8 registers, so the low and the high nibbles of a block
 * are two passes over its lines, the second out of L1. Q5_K stays with expand and tile: unrolled, as its shifts need,
 * it took gcc 40 s to compile. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"

enum { FEW = WK_FEW_AVX2 };
static_assert((int)FEW <= (int)V_COLS, "a pass takes all tokens");

/* Codes of half a line out of its bytes. */
typedef enum how { HOW_LOW, HOW_HIGH } how;
WK_INLINE __m256i nibble(const uint8_t *p, const how h) {
    return h == HOW_LOW ? v_low4(v_int(p)) : v_high4(v_int(p));
}

/* The activations of one block: q[t] of token t; every other field at the block's first element. */
typedef struct block_act {
    const int8_t *q[FEW];
    const wk_act *x;
    size_t b; /* number of the block */
} block_act;
WK_INLINE void block_act_of(block_act *a, const wk_act *x, size_t b, const int size, const int m) {
    a->x = x;
    a->b = b;
    V_UNROLL
    for (int t = 0; t < m; t++) a->q[t] = x->q + (size_t)t * x->ld + b * (size_t)size;
}

/* Sums of 4-bit codes over 4 lines with k from `k` on. */
WK_INLINE void pass4(__m256i *a, const uint8_t *qs, const how h, const block_act *x, const int k, const int n,
                     const int m) {
    V_UNROLL
    for (int g = 0; g < n; g++) {
        const uint8_t *p = qs + WK_LINE * g;
        v_step(a, nibble(p, h), nibble(p + 32, h), x->q, k + 4 * g, m);
    }
}

/* Each leaves the exact integer sums of 32 codes, 16 rows, zero point removed unless the format has mins. */
WK_INLINE void fours(__m256i *sum, const uint8_t *qs, const block_act *x, const bool zero, const int m) {
    const __m256i one = v_ones();
    __m256i a[V_SUMS];
    if (zero) v_start_8(a, x->x->z32 + x->b, x->x->ldb, m);
    else v_start(a, m);
    pass4(a, qs, HOW_LOW, x, 0, 4, m);
    pass4(a, qs, HOW_HIGH, x, 16, 4, m);
    v_sums(sum, a, one, one, false, m);
}

/* -zero * (sum of codes), out of z of token 0. */
WK_INLINE void add_zero(__m256i *sum, const int32_t *z, size_t ld, const int zero, const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        const __m256i v = v_zero_point(z + (size_t)t * ld, zero);
        sum[2 * t] = _mm256_add_epi32(sum[2 * t], v);
        sum[2 * t + 1] = _mm256_add_epi32(sum[2 * t + 1], v);
    }
}

WK_INLINE void fives(__m256i *sum, const uint8_t *qs, const uint8_t *qh, const block_act *x,
                     const bool zero, const int m) {
    const __m256i one = v_ones();
    __m256i a[V_SUMS], h_lo = v_int(qh), h_hi = v_int(qh + 32);
    v_start(a, m);
    V_UNROLL
    for (int g = 0; g < 4; g++) {
        const uint8_t *p = qs + WK_LINE * g;
        v_step(a, v_five_low(v_int(p), _mm256_srli_epi32(h_lo, g)),
               v_five_low(v_int(p + 32), _mm256_srli_epi32(h_hi, g)), x->q, 4 * g, m);
    }
    v_sums(sum, a, one, one, false, m);
    v_start(a, m);
    V_UNROLL
    for (int g = 0; g < 4; g++) {
        const uint8_t *p = qs + WK_LINE * g;
        v_step(a, v_five_high(v_int(p), _mm256_srli_epi32(h_lo, g)),
               v_five_high(v_int(p + 32), _mm256_srli_epi32(h_hi, g)), x->q, 16 + 4 * g, m);
    }
    v_sums(sum, a, one, one, true, m);
    if (zero) add_zero(sum, x->x->z32 + x->b, x->x->ldb, 16, m);
}

/* Bytes, code + 128: the upper four bits, then the lower. */
WK_INLINE void bytes(__m256i *sum, const uint8_t *qs, const block_act *x, const int m) {
    const __m256i one = v_ones(), sixteen = _mm256_set1_epi16(16);
    __m256i a[V_SUMS];
    v_start_8(a, x->x->z32 + x->b, x->x->ldb, m);
    pass4(a, qs, HOW_HIGH, x, 0, 8, m);
    v_sums(sum, a, sixteen, sixteen, false, m);
    v_start(a, m);
    pass4(a, qs, HOW_LOW, x, 0, 8, m);
    v_sums(sum, a, one, one, true, m);
}

/* Nibbles that index a table of 16, low ones then high ones. */
WK_INLINE void pass_table(__m256i *a, const uint8_t *qs, __m256i table, const how h, const block_act *x,
                          const int k, const int m) {
    V_UNROLL
    for (int g = 0; g < 4; g++) {
        const uint8_t *p = qs + WK_LINE * g;
        v_step(a, _mm256_shuffle_epi8(table, nibble(p, h)),
               _mm256_shuffle_epi8(table, nibble(p + 32, h)), x->q, k + 4 * g, m);
    }
}
/* Sub-block j of the block: 32 codes from k on. */
WK_INLINE void iq4(__m256i *sum, const uint8_t *qs, const block_act *x, const int k, const int32_t *z,
                   const int m) {
    const __m256i one = v_ones(), sixteen = _mm256_set1_epi16(16);
    __m256i a[V_SUMS];
    v_start_8(a, z, x->x->ldb, m);
    pass_table(a, qs, v_iq4_high(), HOW_LOW, x, k, m);
    pass_table(a, qs, v_iq4_high(), HOW_HIGH, x, k + 16, m);
    v_sums(sum, a, sixteen, sixteen, false, m);
    v_start(a, m);
    pass_table(a, qs, v_iq4_low(), HOW_LOW, x, k, m);
    pass_table(a, qs, v_iq4_low(), HOW_HIGH, x, k + 16, m);
    v_sums(sum, a, one, one, true, m);
}
WK_INLINE void mxfp4(__m256i *sum, const uint8_t *qs, const block_act *x, const int m) {
    const __m256i one = v_ones();
    __m256i a[V_SUMS];
    v_start(a, m);
    pass_table(a, qs, v_mxfp4_table(16), HOW_LOW, x, 0, m);
    v_sums(sum, a, one, one, false, m);
    v_start(a, m);
    pass_table(a, qs, v_mxfp4_table(16), HOW_HIGH, x, 16, m);
    v_sums(sum, a, one, one, true, m);
    add_zero(sum, x->x->z32 + x->b, x->x->ldb, 16, m);
}

/* ---- blocks of 32 ---- */

WK_INLINE void sum_32(__m256i *sum, const int fmt, const uint8_t *p, const block_act *x, const int m) {
    if (fmt == WK_FMT_Q4_0) fours(sum, p + 32, x, true, m);
    else if (fmt == WK_FMT_Q4_1) fours(sum, p + 64, x, false, m);
    else if (fmt == WK_FMT_Q5_0) fives(sum, p + 96, p + 32, x, true, m);
    else if (fmt == WK_FMT_Q5_1) fives(sum, p + 128, p + 64, x, false, m);
    else if (fmt == WK_FMT_Q8_0) bytes(sum, p + 32, x, m);
    else if (fmt == WK_FMT_IQ4_NL) iq4(sum, p + 32, x, 0, x->x->z32 + x->b, m);
    else mxfp4(sum, p + 16, x, m);
}

/* acc = fma(a, dx, acc), d of token 0. */
WK_INLINE void add_block(__m256 *acc, const __m256 *a, const float *d, size_t ld, const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        const __m256 dx = _mm256_broadcast_ss(d + (size_t)t * ld);
        acc[2 * t] = _mm256_fmadd_ps(a[2 * t], dx, acc[2 * t]);
        acc[2 * t + 1] = _mm256_fmadd_ps(a[2 * t + 1], dx, acc[2 * t + 1]);
    }
}
WK_INLINE void store(float *dst, size_t ld, const __m256 *acc, const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        _mm256_storeu_ps(dst + (size_t)t * ld, acc[2 * t]);
        _mm256_storeu_ps(dst + (size_t)t * ld + 8, acc[2 * t + 1]);
    }
}
WK_INLINE void zeros(__m256 *a, const int m) {
    V_UNROLL
    for (int t = 0; t < 2 * m; t++) a[t] = _mm256_setzero_ps();
}

WK_INLINE void panel_32(const int fmt, const size_t block, float *dst, size_t ld, const uint8_t *p,
                        const wk_act *x, const int m, int k) {
    const bool mins = fmt == WK_FMT_Q4_1 || fmt == WK_FMT_Q5_1;
    __m256 acc[V_SUMS], y[V_SUMS];
    zeros(acc, m);
    for (size_t b = 0; b < (size_t)k / 32; b++, p += block) {
        __m256i sum[V_SUMS];
        block_act v;
        v_ahead(p, 0, block);
        block_act_of(&v, x, b, 32, m);
        sum_32(sum, fmt, p, &v, m);
        const __m256 lo = fmt == WK_FMT_MXFP4 ? v_e8m0_half(p) : v_f16(p),
                     hi = fmt == WK_FMT_MXFP4 ? v_e8m0_half(p + 8) : v_f16(p + 16);
        V_UNROLL
        for (int t = 0; t < m; t++) {
            y[2 * t] = _mm256_mul_ps(lo, _mm256_cvtepi32_ps(sum[2 * t]));
            y[2 * t + 1] = _mm256_mul_ps(hi, _mm256_cvtepi32_ps(sum[2 * t + 1]));
            if (mins) {
                const __m256 s = _mm256_broadcast_ss(x->f32s + (size_t)t * x->ldb + b);
                y[2 * t] = _mm256_fmadd_ps(s, v_f16(p + 32), y[2 * t]);
                y[2 * t + 1] = _mm256_fmadd_ps(s, v_f16(p + 48), y[2 * t + 1]);
            }
        }
        add_block(acc, y, x->d + b, x->ldb, m);
    }
    store(dst, ld, acc, m);
}

/* ---- blocks of 256 ---- */

/* a = fma(F(I), s, a) */
WK_INLINE void add_terms(__m256 *a, const __m256i *sum, __m256 lo, __m256 hi, const int m) {
    V_UNROLL
    for (int t = 0; t < m; t++) {
        a[2 * t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[2 * t]), lo, a[2 * t]);
        a[2 * t + 1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[2 * t + 1]), hi, a[2 * t + 1]);
    }
}

/* a = fma(F(M), -dmin, a), M = sum of mins * sums of 32 codes. */
WK_INLINE void mins_k4(__m256 *a, const uint8_t *mn, const uint8_t *dmin, const block_act *x, const int m) {
    const int16_t *s = x->x->s32 + 8 * x->b;
    __m256i sum[V_SUMS];
    v_start(sum, m);
    V_UNROLL
    for (int j = 0; j < 8; j += 2) {
        const __m128i even = v_int128(mn + 16 * j), odd = v_int128(mn + 16 * j + 16);
        const __m256i lo = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(even, odd));
        const __m256i hi = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(even, odd));
        V_UNROLL
        for (int t = 0; t < m; t++) {
            const __m256i v = v_all4(s + (size_t)t * x->x->ldb + j);
            sum[2 * t] = _mm256_add_epi32(sum[2 * t], _mm256_madd_epi16(lo, v));
            sum[2 * t + 1] = _mm256_add_epi32(sum[2 * t + 1], _mm256_madd_epi16(hi, v));
        }
    }
    V_UNROLL
    for (int t = 0; t < m; t++) {
        a[2 * t] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(sum[2 * t]), v_f16(dmin), a[2 * t]);
        a[2 * t + 1] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(sum[2 * t + 1]), v_f16(dmin + 16), a[2 * t + 1]);
    }
}

/* a = fma(F(I), d * sc, a); p: the block, sc: bytes. */
WK_INLINE void add_k4(__m256 *a, const __m256i *sum, const uint8_t *p, const uint8_t *sc, const int m) {
    add_terms(a, sum, _mm256_mul_ps(v_f16(p), v_u8(sc)), _mm256_mul_ps(v_f16(p + 16), v_u8(sc + 8)), m);
}

WK_INLINE void block_q4_k(__m256 *a, const uint8_t *p, const block_act *x, const int m) {
    const __m256i one = v_ones();
    k4_scales k;
    k4_scales_of(&k, p + 64);
    for (int c = 0; c < 4; c++) {
        const uint8_t *qs = p + 256 + 512 * c;
        v_ahead(p, (size_t)c * 576, 576);
        V_UNROLL
        for (int h = 0; h < 2; h++) {
            __m256i s[V_SUMS];
            v_start(s, m);
            pass4(s, qs, (how)h, x, 64 * c + 32 * h, 8, m);
            v_sums(s, s, one, one, false, m);
            add_k4(a, s, p, k.sc + 32 * c + 16 * h, m);
        }
    }
    mins_k4(a, k.mn, p + 32, x, m);
}

/* Half a line of quarter r: a nibble of ql and two bits of qh. */
WK_INLINE __m256i code_q6(const uint8_t *ql, const uint8_t *qh, const int r) {
    return _mm256_or_si256(nibble(ql, r < 2 ? HOW_LOW : HOW_HIGH), v_bits_to(v_int(qh), 2 * r, 4, 0x30));
}

/* Two lines, which fit int16; k: value of their block. */
WK_INLINE void pass_q6(__m256i *sum, const uint8_t *ql, const uint8_t *qh, const int r, const block_act *x,
                       const int k, const bool add, const int m) {
    const __m256i one = v_ones();
    __m256i s[V_SUMS];
    v_start(s, m);
    V_UNROLL
    for (int g = 0; g < 2; g++, ql += WK_LINE, qh += WK_LINE)
        v_step(s, code_q6(ql, qh, r), code_q6(ql + 32, qh + 32, r), x->q, k + 4 * g, m);
    v_sums(sum, s, one, one, add, m);
}

/* Sub-blocks of 16 in the order of the sum: half n, quarter r, its two halves. */
WK_INLINE void block_q6(__m256 *a, const uint8_t *p, const block_act *x, const int m) {
    for (int n = 0; n < 2; n++) {
        V_UNROLL
        for (int i = 0; i < 8; i++) {
            const int r = i / 2, at = WK_LINE * (4 * (i % 2)), j = 8 * n + i;
            const uint8_t *ql = p + 1312 + 1024 * n + 512 * (r & 1) + at, *qh = p + 288 + 512 * n + at;
            const uint8_t *sc = p + 32 + 16 * j;
            __m256i sum[V_SUMS];
            v_ahead(p, (size_t)(1680 * n + 210 * i), 210);
            pass_q6(sum, ql, qh, r, x, 16 * j, false, m);
            pass_q6(sum, ql + 2 * WK_LINE, qh + 2 * WK_LINE, r, x, 16 * j + 8, true, m);
            add_zero(sum, x->x->z16 + 16 * x->b + (size_t)j, 2 * x->x->ldb, 32, m);
            add_terms(a, sum, _mm256_mul_ps(v_f16(p), v_s8(sc)),
                      _mm256_mul_ps(v_f16(p + 16), v_s8(sc + 8)), m);
        }
    }
}

WK_INLINE void block_xs(__m256 *a, const uint8_t *p, const block_act *x, const int m) {
    v_ahead(p, 0, 128);
    for (int j = 0; j < 8; j++) {
        const uint8_t *qs = p + 128 + 256 * j;
        __m256i sum[V_SUMS];
        v_ahead(qs, 0, 256);
        iq4(sum, qs, x, 32 * j, x->x->z32 + 8 * x->b + (size_t)j, m);
        add_terms(a, sum, _mm256_mul_ps(v_f16(p), scale_iq4_xs(p + 32, p + 64, j)),
                  _mm256_mul_ps(v_f16(p + 16), scale_iq4_xs(p + 48, p + 72, j)), m);
    }
}

WK_INLINE void panel_256(const int fmt, const size_t block, float *dst, size_t ld, const uint8_t *p,
                         const wk_act *x, const int m, int k) {
    __m256 acc[V_SUMS], a[V_SUMS];
    zeros(acc, m);
    for (size_t b = 0; b < (size_t)k / 256; b++, p += block) {
        block_act v;
        block_act_of(&v, x, b, 256, m);
        zeros(a, m);
        if (fmt == WK_FMT_Q6_K) block_q6(a, p, &v, m);
        else if (fmt == WK_FMT_IQ4_XS) block_xs(a, p, &v, m);
        else block_q4_k(a, p, &v, m);
        add_block(acc, a, x->d + b, x->ldb, m);
    }
    store(dst, ld, acc, m);
}

/* ---- calls ---- */

#define ONE(id, name, size, M)                                                                     \
    static void name##_##M(float *dst, size_t ld, const uint8_t *p, const wk_act *x, int k) {      \
        panel_##size(WK_FMT_##id, sizeof(wk_block_##name) * WK_PANEL, dst, ld, p, x, M, k);        \
    }
#define FEW_OF(id, name, size)                                                                     \
    ONE(id, name, size, 2)                                                                         \
    ONE(id, name, size, 3)                                                                         \
    ONE(id, name, size, 4)                                                                         \
    void wk_few_##name##_avx2(float *dst, size_t ld, const void *w, const wk_act *x, int m,        \
                              int n_panel, int k) {                                                \
        static void (*const of[FEW - 1])(float *, size_t, const uint8_t *, const wk_act *, int) = { \
            name##_2, name##_3, name##_4};                                                         \
        const size_t block = sizeof(wk_block_##name) * WK_PANEL;                                   \
        const size_t step = ((size_t)k / (size) * block + 63) & ~(size_t)63;                       \
        assert(m >= 2 && m <= FEW);                                                                \
        for (int p = 0; p < n_panel; p++)                                                          \
            of[m - 2](dst + (size_t)p * WK_PANEL, ld, (const uint8_t *)w + (size_t)p * step, x, k); \
    }
FEW_OF(Q4_0, q4_0, 32)
FEW_OF(Q4_1, q4_1, 32)
FEW_OF(Q5_0, q5_0, 32)
FEW_OF(Q5_1, q5_1, 32)
FEW_OF(Q8_0, q8_0, 32)
FEW_OF(IQ4_NL, iq4_nl, 32)
FEW_OF(MXFP4, mxfp4, 32)
FEW_OF(Q4_K, q4_k, 256)
FEW_OF(Q6_K, q6_k, 256)
FEW_OF(IQ4_XS, iq4_xs, 256)
