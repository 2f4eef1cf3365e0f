/* few.c: two to WK_FEW tokens straight from the packed layout. A line is decoded once in registers and meets the
 * codes of every token by broadcast operands; expanding to a panel first costs a store and a load of every code,
 * which is more than the products of so few tokens (Llama-1B shape, Q4_0, 2 threads, 4 tokens: 61 -> 28 ms). */
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

enum { FEW = WK_FEW };

/* Two tokens take less time than their line: distances as for one (vec512.h). With more, a line must be asked for
 * far earlier than the out-of-order window reaches. Measured on Zen 4, GB/s of one thread that reads 30: 4 tokens,
 * Q4_0, 1 KB 13, 2 KB 12, 4 KB 18, 8 KB 23, 16 KB 23; 2 tokens 26, 16, 20, 25, 23. Blocks whose fields are read in
 * turns are touched in order first (vec512.h) by 2 tokens; with more, asking early is faster. */
#ifndef FEW_AHEAD
#define FEW_AHEAD 12288
#endif
WK_INLINE void ahead(const uint8_t *p, const int m) {
    _mm_prefetch((const char *)((uintptr_t)p + (m > 2 ? FEW_AHEAD : WK_AHEAD)), _MM_HINT_T1);
}
WK_INLINE __m512i line(const uint8_t *p, const int m) {
    ahead(p, m);
    return wk_line(p);
}

/* sum[j] += codes . 4 activations of token j at q. */
WK_INLINE void dot(__m512i sum[FEW], __m512i codes, const int8_t *q, size_t ld, const int m) {
    WK_UNROLL
    for (int j = 0; j < m; j++)
        sum[j] = _mm512_dpbusd_epi32(sum[j], codes, wk_bcast32(q + (size_t)j * ld));
}
WK_INLINE void start(__m512i sum[FEW], const int32_t *z, size_t ld, const int shift, const int m) {
    WK_UNROLL
    for (int j = 0; j < m; j++) sum[j] = _mm512_set1_epi32(z[(size_t)j * ld] >> shift);
}
WK_INLINE void start0(__m512i sum[FEW], const int m) {
    WK_UNROLL
    for (int j = 0; j < m; j++) sum[j] = _mm512_setzero_si512();
}
/* a[j] = fma(F(sum[j]), s, a[j]). */
WK_INLINE void times(__m512 a[FEW], const __m512i sum[FEW], __m512 s, const int m) {
    WK_UNROLL
    for (int j = 0; j < m; j++) a[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[j]), s, a[j]);
}

/* ---- blocks of 32 ------------------------------------------------------------------------------- */

WK_INLINE void nibbles(__m512i sum[FEW], const uint8_t *qs, const int8_t *q, size_t ld, const int m) {
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = line(qs + 64 * g, m);
        dot(sum, wk_lo4(v), q + 4 * g, ld, m);
        dot(sum, wk_hi4(v), q + 16 + 4 * g, ld, m);
    }
}
WK_INLINE void fives(__m512i sum[FEW], const uint8_t *qh, const uint8_t *qs, const int8_t *q, size_t ld,
                     const int m) {
    const __m512i h = line(qh, m);
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = line(qs + 64 * g, m);
        dot(sum, wk_or_and(wk_lo4(v), wk_shift(h, 4 - g), 0x10), q + 4 * g, ld, m);
        dot(sum, wk_or_and(wk_hi4(v), wk_shift(h, -g), 0x10), q + 16 + 4 * g, ld, m);
    }
}
WK_INLINE void bytes(__m512i sum[FEW], const uint8_t *qs, const int8_t *q, size_t ld, const int m) {
    WK_UNROLL
    for (int g = 0; g < 8; g++) dot(sum, line(qs + 64 * g, m), q + 4 * g, ld, m);
}
WK_INLINE void table(__m512i sum[FEW], const uint8_t *qs, __m512i t, const int8_t *q, size_t ld, const int m) {
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = line(qs + 64 * g, m);
        dot(sum, _mm512_shuffle_epi8(t, wk_lo4(v)), q + 4 * g, ld, m);
        dot(sum, _mm512_shuffle_epi8(t, wk_hi4(v)), q + 16 + 4 * g, ld, m);
    }
}
WK_INLINE void sum_q4_0(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    nibbles(s, b + 32, q, ld, m);
}
WK_INLINE void sum_q4_1(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    nibbles(s, b + 64, q, ld, m);
}
WK_INLINE void sum_q5_0(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    fives(s, b + 32, b + 96, q, ld, m);
}
WK_INLINE void sum_q5_1(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    fives(s, b + 64, b + 128, q, ld, m);
}
WK_INLINE void sum_q8_0(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    bytes(s, b + 32, q, ld, m);
}
WK_INLINE void sum_iq4_nl(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    table(s, b + 32, wk_iq4_table(), q, ld, m);
}
WK_INLINE void sum_mxfp4(__m512i *s, const uint8_t *b, const int8_t *q, size_t ld, const int m) {
    table(s, b + 16, wk_mxfp4_table(), q, ld, m);
}

/* Zero points: the start value is z32 (128 times the sum) over 2^shift; with mins there is none. */
#define BODY32(name, BYTES, SCALE, SHIFT, MINS)                                                    \
    WK_INLINE void name##_body(float *dst, size_t ld, const uint8_t *b, const wk_act *x,           \
                               const int m, int k) {                                               \
        __m512 acc[FEW];                                                                           \
        WK_UNROLL                                                                                  \
        for (int j = 0; j < m; j++) acc[j] = _mm512_setzero_ps();                                  \
        for (size_t i = 0; i < (size_t)k / 32; i++, b += 16 * (BYTES)) {                           \
            __m512i sum[FEW];                                                                      \
            if (MINS) start0(sum, m);                                                              \
            else start(sum, x->z32 + i, x->ldb, SHIFT, m);                                         \
            ahead(b, m);                                                                       \
            sum_##name(sum, b, x->q + 32 * i, x->ld, m);                                           \
            const __m512 s = SCALE(b);                                                             \
            WK_UNROLL                                                                              \
            for (int j = 0; j < m; j++) {                                                          \
                const size_t at = (size_t)j * x->ldb + i;                                          \
                __m512 y = _mm512_mul_ps(s, _mm512_cvtepi32_ps(sum[j]));                           \
                if (MINS)                                                                          \
                    y = _mm512_fmadd_ps(_mm512_set1_ps(x->f32s[at]), wk_f16_512(b + 32), y);       \
                acc[j] = _mm512_fmadd_ps(y, _mm512_set1_ps(x->d[at]), acc[j]);                     \
            }                                                                                      \
        }                                                                                          \
        WK_UNROLL                                                                                  \
        for (int j = 0; j < m; j++) _mm512_storeu_ps(dst + (size_t)j * ld, acc[j]);                \
    }
BODY32(q4_0, 18, wk_f16_512, 4, false)
BODY32(q4_1, 20, wk_f16_512, 0, true)
BODY32(q5_0, 22, wk_f16_512, 3, false)
BODY32(q5_1, 24, wk_f16_512, 0, true)
BODY32(q8_0, 34, wk_f16_512, 0, false)
BODY32(iq4_nl, 18, wk_f16_512, 0, false)
BODY32(mxfp4, 17, wk_e8m0_half_512, 0, false)

/* ---- super-blocks of 256 ------------------------------------------------------------------------ */

/* d * scale of plane j of 16 unsigned bytes. */
WK_INLINE __m512 scale_u8(const uint8_t *sc, const int j, __m512 d) {
    return _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_u8_lanes(sc + 16 * j)));
}
/* a = fma(M, -dmin, a), M = sum of mins * sums of 32 codes. */
WK_INLINE void mins_k4(__m512 a[FEW], const uint8_t *mn, const uint8_t *b, const wk_act *x, const int m) {
    __m512i sum[FEW];
    start0(sum, m);
    WK_UNROLL
    for (int i = 0; i < 8; i += 2) {
        const __m512i v = wk_pair16(mn + 16 * i, mn + 16 * i + 16);
        WK_UNROLL
        for (int j = 0; j < m; j++)
            sum[j] = _mm512_dpwssd_epi32(sum[j], v, wk_bcast32(x->s32 + (size_t)j * x->ldb + i));
    }
    times(a, sum, wk_neg512(wk_f16_512(b + 32)), m);
}

WK_INLINE void block_q4_k(__m512 a[FEW], const uint8_t *b, const wk_act *x, const int m) {
    uint8_t sc[128] WK_ALIGNED(64), mn[128] WK_ALIGNED(64);
    const __m512 d = wk_f16_512(b);
    WK_UNROLL
    for (int i = 0; i < 4; i++) ahead(b + 64 * i, m);
    wk_scales_k4(sc, mn, b + 64);
    for (int c = 0; c < 4; c++) {
        const uint8_t *qs = b + 256 + 512 * c;
        const int8_t *q = x->q + 64 * c;
        __m512i lo[FEW], hi[FEW];
        start0(lo, m);
        start0(hi, m);
        WK_UNROLL
        for (int g = 0; g < 8; g++) {
            const __m512i v = line(qs + 64 * g, m);
            dot(lo, wk_lo4(v), q + 4 * g, x->ld, m);
            dot(hi, wk_hi4(v), q + 32 + 4 * g, x->ld, m);
        }
        times(a, lo, scale_u8(sc, 2 * c, d), m);
        times(a, hi, scale_u8(sc, 2 * c + 1, d), m);
    }
    mins_k4(a, mn, b, x, m);
}

WK_INLINE void block_q5_k(__m512 a[FEW], const uint8_t *b, const wk_act *x, const int m) {
    uint8_t sc[128] WK_ALIGNED(64), mn[128] WK_ALIGNED(64);
    const __m512 d = wk_f16_512(b);
    if (m == 2) {
        wk_touch(b, 768);
    } else {
        WK_UNROLL
        for (int i = 0; i < 12; i++) ahead(b + 64 * i, m);
    }
    wk_scales_k4(sc, mn, b + 64);
    WK_UNROLL
    for (int c = 0; c < 4; c++) {
        const uint8_t *qs = b + 768 + 512 * c;
        const int8_t *q = x->q + 64 * c;
        __m512i lo[FEW], hi[FEW];
        start0(lo, m);
        start0(hi, m);
        WK_UNROLL
        for (int g = 0; g < 8; g++) {
            const __m512i v = line(qs + 64 * g, m), h = wk_line(b + 256 + 64 * g);
            dot(lo, wk_or_and(wk_lo4(v), wk_shift(h, 4 - 2 * c), 0x10), q + 4 * g, x->ld, m);
            dot(hi, wk_or_and(wk_hi4(v), wk_shift(h, 3 - 2 * c), 0x10), q + 32 + 4 * g, x->ld, m);
        }
        times(a, lo, scale_u8(sc, 2 * c, d), m);
        times(a, hi, scale_u8(sc, 2 * c + 1, d), m);
    }
    mins_k4(a, mn, b, x, m);
}

/* Sub-blocks of 16 in the order of the sum: quarter r of half n, its two halves. Zero point 32 = 128 / 4. */
WK_INLINE void quarter_q6_k(__m512 a[FEW], const uint8_t *b, const wk_act *x, __m512 d, const int n,
                            const int r, const int m) {
    const uint8_t *ql = b + 1312 + 1024 * n + 512 * (r & 1), *qh = b + 288 + 512 * n;
    WK_UNROLL
    for (int h = 0; h < 2; h++) {
        const int i = 8 * n + 2 * r + h;
        __m512i sum[FEW];
        start(sum, x->z16 + i, 2 * x->ldb, 2, m);
        WK_UNROLL
        for (int g = 4 * h; g < 4 * h + 4; g++) {
            const __m512i v = wk_line(ql + 64 * g), top = wk_line(qh + 64 * g);
            if (m > 2) ahead(b + 64 * (32 * n + 8 * r + g), m); /* the 53 lines of a block in turn, and on */
            const __m512i code = r < 2 ? wk_or_and(wk_lo4(v), wk_shift(top, 4 - 2 * r), 0x30)
                                       : wk_or_and(wk_hi4(v), wk_shift(top, 4 - 2 * r), 0x30);
            dot(sum, code, x->q + 128 * n + 32 * r + 4 * g, x->ld, m);
        }
        times(a, sum, _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_s8_lanes(b + 32 + 16 * i))), m);
    }
}
WK_INLINE void block_q6_k(__m512 a[FEW], const uint8_t *b, const wk_act *x, const int m) {
    const __m512 d = wk_f16_512(b);
    if (m == 2) wk_touch(b, 1312);
    for (int n = 0; n < 2; n++) {
        if (m == 2) wk_touch(b + 1312 + 1024 * n, 1024);
        WK_UNROLL
        for (int r = 0; r < 4; r++) quarter_q6_k(a, b, x, d, n, r, m);
    }
}

WK_INLINE void block_iq4_xs(__m512 a[FEW], const uint8_t *b, const wk_act *x, const int m) {
    const __m512 d = wk_f16_512(b);
    const __m512i sh = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(b + 32)));
    if (m == 2) wk_touch(b, 2176);
    ahead(b, m);
    ahead(b + 64, m);
    WK_UNROLL
    for (int i = 0; i < 8; i++) {
        __m512i sum[FEW];
        start(sum, x->z32 + i, x->ldb, 0, m);
        table(sum, b + 128 + 256 * i, wk_iq4_table(), x->q + 32 * i, x->ld, m);
        const __m512i s = wk_scale_iq4_xs(b + 64, sh, i);
        times(a, sum, _mm512_mul_ps(d, _mm512_cvtepi32_ps(s)), m);
    }
}

#define BODY256(name, BYTES)                                                                       \
    WK_INLINE void name##_body(float *dst, size_t ld, const uint8_t *b, const wk_act *x,           \
                               const int m, int k) {                                               \
        wk_act v = *x;                                                                             \
        __m512 acc[FEW], a[FEW];                                                                   \
        WK_UNROLL                                                                                  \
        for (int j = 0; j < m; j++) acc[j] = _mm512_setzero_ps();                                  \
        for (int i = 0; i < k / 256; i++, b += 16 * (BYTES)) {                                     \
            WK_UNROLL                                                                              \
            for (int j = 0; j < m; j++) a[j] = _mm512_setzero_ps();                                \
            block_##name(a, b, &v, m);                                                             \
            WK_UNROLL                                                                              \
            for (int j = 0; j < m; j++)                                                            \
                acc[j] =                                                                           \
                    _mm512_fmadd_ps(a[j], _mm512_set1_ps(x->d[(size_t)j * x->ldb + (size_t)i]), acc[j]); \
            v.q += 256;                                                                            \
            v.z32 += 8;                                                                            \
            v.s32 += 8;                                                                            \
            v.z16 += 16;                                                                           \
        }                                                                                          \
        WK_UNROLL                                                                                  \
        for (int j = 0; j < m; j++) _mm512_storeu_ps(dst + (size_t)j * ld, acc[j]);                \
    }
BODY256(q4_k, 144)
BODY256(q5_k, 176)
BODY256(q6_k, 210)
BODY256(iq4_xs, 136)

#define ONE(name, M)                                                                               \
    static void name##_##M(float *dst, size_t ld, const uint8_t *b, const wk_act *x, int k) {      \
        name##_body(dst, ld, b, x, M, k);                                                          \
    }
#define FEW_OF(name, BLOCK, BYTES)                                                                 \
    ONE(name, 2)                                                                                   \
    ONE(name, 3)                                                                                   \
    ONE(name, 4)                                                                                   \
    ONE(name, 5)                                                                                   \
    ONE(name, 6)                                                                                   \
    ONE(name, 7)                                                                                   \
    ONE(name, 8)                                                                                   \
    void wk_few_##name##_avx512vnni(float *dst, size_t ld, const void *w, const wk_act *x, int m,  \
                                    int n_panel, int k) {                                          \
        static void (*const of[FEW - 1])(float *, size_t, const uint8_t *, const wk_act *, int) = { \
            name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8};                 \
        const size_t step = ((size_t)k / (BLOCK) * (16 * (BYTES)) + 63) & ~(size_t)63;             \
        assert(m >= 2 && m <= FEW);                                                                \
        for (int p = 0; p < n_panel; p++)                                                          \
            of[m - 2](dst + (size_t)p * WK_PANEL, ld, (const uint8_t *)w + (size_t)p * step, x, k); \
    }
FEW_OF(q4_0, 32, 18)
FEW_OF(q4_1, 32, 20)
FEW_OF(q5_0, 32, 22)
FEW_OF(q5_1, 32, 24)
FEW_OF(q8_0, 32, 34)
FEW_OF(iq4_nl, 32, 18)
FEW_OF(mxfp4, 32, 17)
FEW_OF(q4_k, 256, 144)
FEW_OF(q5_k, 256, 176)
FEW_OF(q6_k, 256, 210)
FEW_OF(iq4_xs, 256, 136)
