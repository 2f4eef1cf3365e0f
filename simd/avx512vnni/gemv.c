/* gemv.c: one token straight from the packed layout, blocks of 32. One forward stream per call with software
 * prefetch; the integer work of a block is shorter than the time its bytes take to arrive.
 * Lines are asked for 128 bytes ahead. Share of the read bandwidth of one thread on Zen 4 (29 GB/s), K = 2048, 200 MB, at
 * 64, 128, 256, 1024: Q8_0 1.03 1.02 0.90 0.91; Q4_0, Q4_1, Q5_0 0.97 to 1.02 at all. */
#define WK_AHEAD 128
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

WK_INLINE __m512i start(int32_t z) {
    return _mm512_set1_epi32(z);
}

/* Integer sum of one block at b. High nibbles are taken as 16 * code and their sum shifted once. */
WK_INLINE __m512i sum_nibbles(const uint8_t *qs, const int8_t *q, __m512i lo) {
    __m512i hi = _mm512_setzero_si512();
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = wk_line_ahead(qs + 64 * g);
        lo = wk_dot4(lo, wk_lo4(v), q + 4 * g);
        hi = wk_dot4(hi, _mm512_and_si512(v, wk_set8(-16)), q + 16 + 4 * g);
    }
    return _mm512_add_epi32(lo, _mm512_srai_epi32(hi, 4));
}
WK_INLINE __m512i sum_fives(const uint8_t *qh, const uint8_t *qs, const int8_t *q, __m512i lo) {
    const __m512i h = wk_line_ahead(qh);
    __m512i hi = _mm512_setzero_si512();
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = wk_line_ahead(qs + 64 * g);
        lo = wk_dot4(lo, wk_or_and(wk_lo4(v), wk_shift(h, 4 - g), 0x10), q + 4 * g);
        hi = wk_dot4(hi, wk_or_and(wk_hi4(v), wk_shift(h, -g), 0x10), q + 16 + 4 * g);
    }
    return _mm512_add_epi32(lo, hi);
}
WK_INLINE __m512i sum_q4_0(const uint8_t *b, const int8_t *q, int32_t z) {
    return sum_nibbles(b + 32, q, start(z >> 4));
}
WK_INLINE __m512i sum_q4_1(const uint8_t *b, const int8_t *q, int32_t z) {
    (void)z;
    return sum_nibbles(b + 64, q, start(0));
}
WK_INLINE __m512i sum_q5_0(const uint8_t *b, const int8_t *q, int32_t z) {
    return sum_fives(b + 32, b + 96, q, start(z >> 3));
}
WK_INLINE __m512i sum_q5_1(const uint8_t *b, const int8_t *q, int32_t z) {
    (void)z;
    return sum_fives(b + 64, b + 128, q, start(0));
}
WK_INLINE __m512i sum_q8_0(const uint8_t *b, const int8_t *q, int32_t z) {
    __m512i lo = start(z), hi = _mm512_setzero_si512();
    WK_UNROLL
    for (int g = 0; g < 8; g += 2) {
        lo = wk_dot4(lo, wk_line_ahead(b + 32 + 64 * g), q + 4 * g);
        hi = wk_dot4(hi, wk_line_ahead(b + 96 + 64 * g), q + 4 * g + 4);
    }
    return _mm512_add_epi32(lo, hi);
}
WK_INLINE __m512i sum_table(const uint8_t *qs, const int8_t *q, int32_t z, __m512i table) {
    __m512i lo = start(z), hi = _mm512_setzero_si512();
    WK_UNROLL
    for (int g = 0; g < 4; g++) {
        const __m512i v = wk_line_ahead(qs + 64 * g);
        lo = wk_dot4(lo, _mm512_shuffle_epi8(table, wk_lo4(v)), q + 4 * g);
        hi = wk_dot4(hi, _mm512_shuffle_epi8(table, wk_hi4(v)), q + 16 + 4 * g);
    }
    return _mm512_add_epi32(lo, hi);
}
WK_INLINE __m512i sum_iq4_nl(const uint8_t *b, const int8_t *q, int32_t z) {
    return sum_table(b + 32, q, z, wk_iq4_table());
}
WK_INLINE __m512i sum_mxfp4(const uint8_t *b, const int8_t *q, int32_t z) {
    return sum_table(b + 16, q, z, wk_mxfp4_table());
}

#define GEMV32(name, BYTES, SCALE, MINS)                                                           \
    void wk_gemv_##name##_avx512vnni(float *dst, const void *w, const wk_act *x, int n_panel,      \
                                     int k) {                                                      \
        const size_t n = (size_t)k / 32, step = (n * (16 * (BYTES)) + 63) & ~(size_t)63;           \
        for (int p = 0; p < n_panel; p++) {                                                        \
            const uint8_t *b = (const uint8_t *)w + (size_t)p * step;                              \
            __m512 acc = _mm512_setzero_ps();                                                      \
            for (size_t i = 0; i < n; i++, b += 16 * (BYTES)) {                                    \
                wk_ahead(b, 64);                                                                   \
                const __m512i sum = sum_##name(b, x->q + 32 * i, x->z32[i]);                       \
                __m512 y = _mm512_mul_ps(SCALE(b), _mm512_cvtepi32_ps(sum));                       \
                if (MINS)                                                                          \
                    y = _mm512_fmadd_ps(_mm512_set1_ps(x->f32s[i]), wk_f16_512(b + 32), y);        \
                acc = _mm512_fmadd_ps(y, _mm512_set1_ps(x->d[i]), acc);                            \
            }                                                                                      \
            _mm512_storeu_ps(dst + (size_t)p * WK_PANEL, acc);                                     \
        }                                                                                          \
    }
GEMV32(q4_0, 18, wk_f16_512, false)
GEMV32(q4_1, 20, wk_f16_512, true)
GEMV32(q5_0, 22, wk_f16_512, false)
GEMV32(q5_1, 24, wk_f16_512, true)
GEMV32(q8_0, 34, wk_f16_512, false)
GEMV32(iq4_nl, 18, wk_f16_512, false)
GEMV32(mxfp4, 17, wk_e8m0_half_512, false)
