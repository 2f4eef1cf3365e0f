/* gemv_tq.c: one token against packed panels of TQ1_0 and TQ2_0. Numbers 0, 1, 2 (TQ2_0 also 3), one more than the
 * code: the sums begin at -(sum of the activation codes). */
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

/* -(sum of 256 codes). */
WK_INLINE __m512i start(const int16_t *s32) {
    __m512i sum = _mm512_setzero_si512();
    WK_UNROLL
    for (int i = 0; i < 8; i += 2) sum = _mm512_dpwssd_epi32(sum, _mm512_set1_epi16(-1), wk_bcast32(s32 + i));
    return sum;
}

/* n lines of bytes, n_digit digits each (put_digits in expand_tq.c); q: of the first digit's first line. */
WK_INLINE void digits(__m512i sum[5], const uint8_t *qs, const int8_t *q, const int n, const int n_digit) {
    const __m512i one = wk_set8(1);
    for (int g = 0; g < n; g++) {
        __m512i v = wk_line_ahead(qs + 64 * g);
        WK_UNROLL
        for (int i = 0; i < n_digit; i++) {
            const __mmask64 some = _mm512_cmpge_epu8_mask(v, wk_set8(86));
            const __mmask64 two = _mm512_cmpge_epu8_mask(v, wk_set8((char)171));
            const __m512i c = _mm512_maskz_mov_epi8(some, one);
            sum[i] = wk_dot4(sum[i], _mm512_mask_add_epi8(c, two, c, one), q + 4 * (n * i + g));
            v = _mm512_add_epi8(v, _mm512_add_epi8(v, v));
        }
    }
}
WK_INLINE __m512i block_tq1_0(const uint8_t *b, const wk_act *x, const int8_t *q, int i) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i sum[5] = {start(x->s32 + 8 * i), zero, zero, zero, zero};
    digits(sum, b + 32, q, 8, 5);
    digits(sum, b + 32 + 512, q + 160, 4, 5);
    digits(sum, b + 32 + 768, q + 240, 1, 4);
    const __m512i low = _mm512_add_epi32(sum[0], sum[1]), high = _mm512_add_epi32(sum[2], sum[3]);
    return _mm512_add_epi32(_mm512_add_epi32(low, high), sum[4]);
}

/* Bits as Q2_K; they stay where they are, and sums are shifted. */
WK_INLINE __m512i block_tq2_0(const uint8_t *b, const wk_act *x, const int8_t *q, int i) {
    const __m512i zero = _mm512_setzero_si512();
    __m512i sum[4] = {start(x->s32 + 8 * i), zero, zero, zero};
    WK_UNROLL
    for (int g = 0; g < 16; g++) {
        const __m512i v = wk_line_ahead(b + 32 + 64 * g);
        WK_UNROLL
        for (int j = 0; j < 4; j++)
            sum[j] = wk_dot4(sum[j], _mm512_and_si512(v, wk_set8(3 << (2 * j))), q + g / 8 * 128 + 32 * j + g % 8 * 4);
    }
    const __m512i low = _mm512_add_epi32(sum[0], _mm512_srai_epi32(sum[1], 2));
    return _mm512_add_epi32(low, _mm512_add_epi32(_mm512_srai_epi32(sum[2], 4), _mm512_srai_epi32(sum[3], 6)));
}

#define GEMV(id, name)                                                                             \
    void wk_gemv_##name##_avx512vnni(float *dst, const void *w, const wk_act *x, int n_panel,      \
                                     int k) {                                                      \
        const size_t step = wk_panel_bytes(WK_FMT_##id, (size_t)k);                                \
        for (int p = 0; p < n_panel; p++) {                                                        \
            const uint8_t *b = (const uint8_t *)w + (size_t)p * step;                              \
            __m512 acc = _mm512_setzero_ps();                                                      \
            for (int i = 0; i < k / 256; i++, b += 16 * sizeof(wk_block_##name)) {                 \
                const __m512i sum = block_##name(b, x, x->q + 256 * i, i);                         \
                const __m512 a = _mm512_mul_ps(wk_f16_512(b), _mm512_cvtepi32_ps(sum));            \
                acc = _mm512_fmadd_ps(a, _mm512_set1_ps(x->d[i]), acc);                            \
            }                                                                                      \
            _mm512_storeu_ps(dst + (size_t)p * WK_PANEL, acc);                                     \
        }                                                                                          \
    }
GEMV(TQ1_0, tq1_0)
GEMV(TQ2_0, tq2_0)
