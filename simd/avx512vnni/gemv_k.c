/* gemv_k.c: one token straight from the packed layout, super-blocks of 256.
 * Lines are asked for 256 bytes ahead, those of Q5_K 1024. Share of the read bandwidth of one thread on Zen 4,
 * K = 2048, 400 MiB, at 256, 512, 768, 1024: IQ4_XS 0.87 0.88 0.77 0.62; Q4_K 0.98 1.0 0.97 0.96; Q5_K 0.82 0.88 0.90 0.95;
 * Q6_K 0.89 0.84 0.90 0.81; Q3_K 0.85 0.82 0.84 0.73; Q2_K 0.89 0.83 0.96 0.74. */
#define WK_AHEAD 256
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

WK_INLINE __m512 times(__m512i sum, __m512 s, __m512 a) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), s, a);
}

/* M of n planes of mins. */
WK_INLINE __m512i mins(const uint8_t *mn, const int16_t *sums, const int n) {
    __m512i m = _mm512_setzero_si512();
    WK_UNROLL
    for (int j = 0; j < n; j += 2)
        m = _mm512_dpwssd_epi32(m, wk_pair16(mn + 16 * j, mn + 16 * j + 16), wk_bcast32(sums + j));
    return m;
}

/* One block: the sum a of DESIGN 9.2 before dx. x: a view at the block. */
WK_INLINE __m512 block_q4_k(const uint8_t *b, const wk_act *x) {
    wk_ahead(b, 256);
    uint8_t sc[128] WK_ALIGNED(64), mn[128] WK_ALIGNED(64);
    const __m512 d = wk_f16_512(b);
    __m512 a = _mm512_setzero_ps();
    wk_scales_k4(sc, mn, b + 64);
    for (int c = 0; c < 4; c++) {
        const uint8_t *qs = b + 256 + 512 * c;
        const int8_t *q = x->q + 64 * c;
        __m512i lo = _mm512_setzero_si512(), hi = lo;
        WK_UNROLL
        for (int g = 0; g < 8; g++) {
            const __m512i v = wk_line_ahead(qs + 64 * g);
            lo = wk_dot4(lo, wk_lo4(v), q + 4 * g);
            hi = wk_dot4(hi, _mm512_and_si512(v, wk_set8(-16)), q + 32 + 4 * g);
        }
        const __m512 s0 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_u8_lanes(sc + 32 * c)));
        const __m512 s1 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_u8_lanes(sc + 32 * c + 16)));
        a = times(lo, s0, a);
        a = times(_mm512_srai_epi32(hi, 4), s1, a);
    }
    return times(mins(mn, x->s32, 8), wk_neg512(wk_f16_512(b + 32)), a);
}

enum { FARTHER = 1024 - WK_AHEAD };

/* Groups of chunk c: nibbles and bits 2c, 2c+1 of qh. */
WK_INLINE __m512 chunk_q5_k(__m512 a, const uint8_t *b, const uint8_t *sc, const int8_t *q,
                            __m512 d, const int c) {
    __m512i lo = _mm512_setzero_si512(), hi = lo;
    const uint8_t *qs = b + 768 + 512 * c;
    WK_UNROLL
    for (int g = 0; g < 8; g++) {
        wk_ahead(qs + 64 * g + FARTHER, 64);
        const __m512i v = wk_line(qs + 64 * g), h = wk_line(b + 256 + 64 * g);
        lo = wk_dot4(lo, wk_or_and(wk_lo4(v), wk_shift(h, 4 - 2 * c), 0x10), q + 64 * c + 4 * g);
        hi = wk_dot4(hi, wk_or_and(wk_hi4(v), wk_shift(h, 3 - 2 * c), 0x10), q + 64 * c + 32 + 4 * g);
    }
    const __m512 s0 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_u8_lanes(sc + 32 * c)));
    const __m512 s1 = _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_u8_lanes(sc + 32 * c + 16)));
    return times(hi, s1, times(lo, s0, a));
}
WK_INLINE __m512 block_q5_k(const uint8_t *b, const wk_act *x) {
    uint8_t sc[128] WK_ALIGNED(64), mn[128] WK_ALIGNED(64);
    const __m512 d = wk_f16_512(b);
    __m512 a = _mm512_setzero_ps();
    for (size_t i = 0; i < 768; i += 64) {
        wk_ahead(b + i + FARTHER, 64);
        (void)*(const volatile uint8_t *)(b + i);
    }
    wk_scales_k4(sc, mn, b + 64);
    WK_UNROLL
    for (int c = 0; c < 4; c++) a = chunk_q5_k(a, b, sc, x->q, d, c);
    return times(mins(mn, x->s32, 8), wk_neg512(wk_f16_512(b + 32)), a);
}

/* 8 lines of ql of half n: low and high nibbles are the quarters r and r + 2 of its 128 values. */
WK_INLINE void quarters_q6_k(__m512i sum[4][2], const uint8_t *ql, const uint8_t *qh,
                             const int8_t *q, const int r) {
    WK_UNROLL
    for (int g = 0; g < 8; g++) {
        const __m512i h = wk_line(qh + 64 * g), v = wk_line_ahead(ql + 64 * g);
        const __m512i lo = wk_or_and(wk_lo4(v), wk_shift(h, 4 - 2 * r), 0x30);
        const __m512i hi = wk_or_and(wk_hi4(v), wk_shift(h, -2 * r), 0x30);
        sum[r][g / 4] = wk_dot4(sum[r][g / 4], lo, q + 32 * r + 4 * g);
        sum[r + 2][g / 4] = wk_dot4(sum[r + 2][g / 4], hi, q + 32 * r + 64 + 4 * g);
    }
}
/* Half n of Q6_K: 8 sums of 16, zero point 32 = 128 / 4. */
WK_INLINE __m512 half_q6_k(__m512 a, const uint8_t *b, const wk_act *x, __m512 d, const int n) {
    __m512i sum[4][2];
    const uint8_t *qh = b + 288 + 512 * n, *ql = b + 1312 + 1024 * n;
    WK_UNROLL
    for (int j = 0; j < 8; j++) sum[j / 2][j % 2] = _mm512_set1_epi32(x->z16[8 * n + j] >> 2);
    quarters_q6_k(sum, ql, qh, x->q + 128 * n, 0);
    quarters_q6_k(sum, ql + 512, qh, x->q + 128 * n, 1);
    WK_UNROLL
    for (int j = 0; j < 8; j++) {
        const __m512i sc = wk_s8_lanes(b + 32 + 16 * (8 * n + j));
        a = times(sum[j / 2][j % 2], _mm512_mul_ps(d, _mm512_cvtepi32_ps(sc)), a);
    }
    return a;
}
WK_INLINE __m512 block_q6_k(const uint8_t *b, const wk_act *x) {
    const __m512 d = wk_f16_512(b);
    wk_touch(b, 1312);
    return half_q6_k(half_q6_k(_mm512_setzero_ps(), b, x, d, 0), b, x, d, 1);
}

WK_INLINE __m512 block_iq4_xs(const uint8_t *b, const wk_act *x) {
    const __m512 d = wk_f16_512(b);
    const __m512i table = wk_iq4_table();
    const __m512i sh = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(b + 32)));
    __m512 a = _mm512_setzero_ps();
    wk_ahead(b, 128);
    WK_UNROLL
    for (int j = 0; j < 8; j++) {
        const int8_t *q = x->q + 32 * j;
        __m512i lo = _mm512_set1_epi32(x->z32[j]), hi = _mm512_setzero_si512();
        WK_UNROLL
        for (int g = 0; g < 4; g++) {
            const __m512i v = wk_line_ahead(b + 128 + 64 * (4 * j + g));
            lo = wk_dot4(lo, _mm512_shuffle_epi8(table, wk_lo4(v)), q + 4 * g);
            hi = wk_dot4(hi, _mm512_shuffle_epi8(table, wk_hi4(v)), q + 16 + 4 * g);
        }
        const __m512 s = _mm512_mul_ps(d, _mm512_cvtepi32_ps(wk_scale_iq4_xs(b + 64, sh, j)));
        a = times(_mm512_add_epi32(lo, hi), s, a);
    }
    return a;
}

/* Q2_K and Q3_K scale in integers: a sum of 16 fits int16, so dpwssd by the scale in the low half adds it.
 * Q2_K: codes stay at their bits (times 4^j) until the sum is shifted back. */
WK_INLINE __m512i half_q2_k(__m512i all, const uint8_t *b, const wk_act *x, const int n) {
    __m512i sum[4][2];
    const int8_t *q = x->q + 128 * n;
    WK_UNROLL
    for (int j = 0; j < 8; j++) sum[j / 2][j % 2] = _mm512_setzero_si512();
    WK_UNROLL
    for (int g = 0; g < 8; g++) {
        const __m512i v = wk_line_ahead(b + 320 + 64 * (8 * n + g));
        WK_UNROLL
        for (int j = 0; j < 4; j++)
            sum[j][g / 4] = wk_dot4(sum[j][g / 4], _mm512_and_si512(v, wk_set8(3 << (2 * j))),
                                 q + 32 * j + 4 * g);
    }
    WK_UNROLL
    for (int j = 0; j < 8; j++) {
        const __m512i sc = _mm512_and_si512(wk_u8_lanes(b + 64 + 16 * (8 * n + j)),
                                            _mm512_set1_epi32(15));
        const __m512i s = _mm512_srai_epi32(sum[j / 2][j % 2], (unsigned)(2 * (j / 2)));
        all = _mm512_dpwssd_epi32(all, s, sc);
    }
    return all;
}
WK_INLINE __m512 block_q2_k(const uint8_t *b, const wk_act *x) {
    wk_ahead(b, 320);
    uint8_t mn[256] WK_ALIGNED(64);
    WK_UNROLL
    for (int j = 0; j < 4; j++)
        _mm512_store_si512(mn + 64 * j, wk_hi4(wk_line(b + 64 + 64 * j)));
    const __m512i all = half_q2_k(half_q2_k(_mm512_setzero_si512(), b, x, 0), b, x, 1);
    const __m512 a = _mm512_mul_ps(wk_f16_512(b), _mm512_cvtepi32_ps(all));
    return times(mins(mn, x->s16, 16), wk_neg512(wk_f16_512(b + 32)), a);
}

/* Q3_K, half n, quarter j: code + 4 times 4^min(j, 2). The two low bits stay where they are (quarter 3 moves
 * down to quarter 2), the high bit is brought above them; both by shifts that the quarters share. */
WK_INLINE __m512i scaled_q3(__m512i v, __m512i h, const int n, const int j) {
    const int at = j < 3 ? 2 * j : 4;
    const __m512i low = _mm512_and_si512(j < 3 ? v : wk_shift(v, -2), wk_set8(3 << at));
    return wk_or_and(low, wk_shift(h, at + 2 - 4 * n - j), 4 << at);
}
WK_INLINE __m512i half_q3_k(__m512i all, const uint8_t *b, const uint8_t *sc, const wk_act *x,
                            const int n) {
    __m512i sum[4][2];
    const int8_t *q = x->q + 128 * n;
    WK_UNROLL
    for (int j = 0; j < 8; j++) { /* zero point 4 = 128 / 32 */
        const int at = j < 6 ? j / 2 * 2 : 4;
        sum[j / 2][j % 2] = _mm512_set1_epi32(x->z16[8 * n + j] >> (5 - at));
    }
    WK_UNROLL
    for (int g = 0; g < 8; g++) {
        const __m512i v = wk_line_ahead(b + 736 + 64 * (8 * n + g)), h = wk_line(b + 224 + 64 * g);
        WK_UNROLL
        for (int j = 0; j < 4; j++)
            sum[j][g / 4] = wk_dot4(sum[j][g / 4], scaled_q3(v, h, n, j), q + 32 * j + 4 * g);
    }
    WK_UNROLL
    for (int j = 0; j < 8; j++) {
        const int at = j < 6 ? j / 2 * 2 : 4;
        const __m512i s = _mm512_srai_epi32(sum[j / 2][j % 2], (unsigned)at);
        const __m512i t =
            _mm512_sub_epi16(wk_u8_lanes(sc + 16 * (8 * n + j)), _mm512_set1_epi32(32));
        all = _mm512_dpwssd_epi32(all, s, t);
    }
    return all;
}
WK_INLINE __m512 block_q3_k(const uint8_t *b, const wk_act *x) {
    uint8_t sc[256] WK_ALIGNED(64);
    wk_touch(b, 736);
    wk_scales_q3(sc, b + 32);
    const __m512i all = half_q3_k(half_q3_k(_mm512_setzero_si512(), b, sc, x, 0), b, sc, x, 1);
    return _mm512_mul_ps(wk_f16_512(b), _mm512_cvtepi32_ps(all));
}

#define GEMV256(name, BYTES)                                                                       \
    void wk_gemv_##name##_avx512vnni(float *dst, const void *w, const wk_act *x, int n_panel,      \
                                     int k) {                                                      \
        const size_t step = ((size_t)k / 256 * (16 * (BYTES)) + 63) & ~(size_t)63;                 \
        for (int p = 0; p < n_panel; p++) {                                                        \
            const uint8_t *b = (const uint8_t *)w + (size_t)p * step;                              \
            wk_act v = *x;                                                                         \
            __m512 acc = _mm512_setzero_ps();                                                      \
            for (int i = 0; i < k / 256; i++, b += 16 * (BYTES)) {                                 \
                acc = _mm512_fmadd_ps(block_##name(b, &v), _mm512_set1_ps(x->d[i]), acc);          \
                v.q += 256;                                                                        \
                v.z32 += 8;                                                                        \
                v.s32 += 8;                                                                        \
                v.z16 += 16;                                                                       \
                v.s16 += 16;                                                                       \
            }                                                                                      \
            _mm512_storeu_ps(dst + (size_t)p * WK_PANEL, acc);                                     \
        }                                                                                          \
    }
GEMV256(q4_k, 144)
GEMV256(q5_k, 176)
GEMV256(q6_k, 210)
GEMV256(iq4_xs, 136)
GEMV256(q2_k, 84)
GEMV256(q3_k, 110)
