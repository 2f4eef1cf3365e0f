/* gemv.c: one token against packed panels of 32-blocks, straight from the packed bits.
 *
 * A panel is one forward stream, and panels follow each other. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"

/* ---- sums over 32 codes of 8 rows; the zero point is still in them where z is not given ---- */

/* 4 bits unsigned: 8 steps fit int16. */
WK_INLINE __m256i sum_nibbles(const uint8_t *qs, const int8_t *q) {
    __m256i a = _mm256_setzero_si256();
    for (int g = 0; g < 4; g++) {
        const __m256i v = v_int(qs + WK_LINE * g);
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(v_low4(v), v_all4(q + 4 * g)));
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(v_high4(v), v_all4(q + 16 + 4 * g)));
    }
    return v_wide(a);
}

/* 5 bits unsigned: 4 steps. */
WK_INLINE __m256i sum_fives(const uint8_t *qs, const uint8_t *qh, const int8_t *q) {
    __m256i a = _mm256_setzero_si256(), b = a, h = v_int(qh);
    for (int g = 0; g < 4; g++, h = _mm256_srli_epi32(h, 1)) {
        const __m256i v = v_int(qs + WK_LINE * g);
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(v_five_low(v, h), v_all4(q + 4 * g)));
        b = _mm256_add_epi16(b, _mm256_maddubs_epi16(v_five_high(v, h), v_all4(q + 16 + 4 * g)));
    }
    return _mm256_add_epi32(v_wide(a), v_wide(b));
}

/* MXFP4, 4..28 after the zero point of 16: 4 steps. */
WK_INLINE __m256i sum_mxfp4(const uint8_t *qs, const int8_t *q) {
    const __m256i table = v_mxfp4_table(16);
    __m256i a = _mm256_setzero_si256(), b = a;
    for (int g = 0; g < 4; g++) {
        const __m256i v = v_int(qs + WK_LINE * g);
        const __m256i low = _mm256_shuffle_epi8(table, v_low4(v));
        const __m256i high = _mm256_shuffle_epi8(table, v_high4(v));
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(low, v_all4(q + 4 * g)));
        b = _mm256_add_epi16(b, _mm256_maddubs_epi16(high, v_all4(q + 16 + 4 * g)));
    }
    return _mm256_add_epi32(v_wide(a), v_wide(b));
}

/* Stored as code + 128: 16*high + low - 128 (codes.h, sum_table). */
WK_INLINE __m256i sum_bytes(const uint8_t *qs, const int8_t *q, const int32_t *z) {
    __m256i a = _mm256_slli_epi32(_mm256_set1_epi32(*z), 12), b = _mm256_setzero_si256();
    for (int g = 0; g < 8; g++) {
        const __m256i v = v_int(qs + WK_LINE * g), x = v_all4(q + 4 * g);
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(v_high4(v), x));
        b = _mm256_add_epi16(b, _mm256_maddubs_epi16(v_low4(v), x));
    }
    return v_halves(a, b);
}

/* ---- one panel ---- */

/* Where the fields of a packed block stand, and the zero point. */
typedef struct field32 {
    int bytes, m, qh, qs, zero; /* m, qh: 0 where there is none */
} field32;

/* a of 8 rows, `half` of the panel's line: s * F(I), with the min where there is one. */
WK_INLINE __m256 block_value(int fmt, field32 f, const uint8_t *p, int half, const wk_act *x,
                             int b) {
    const int8_t *q = x->q + 32 * b;
    const uint8_t *qs = p + f.qs + 32 * half;
    __m256i i;
    if (fmt == WK_FMT_Q8_0)
        i = sum_bytes(qs, q, x->z32 + b);
    else if (fmt == WK_FMT_IQ4_NL)
        i = sum_table(qs, q, x->z32 + b);
    else if (fmt == WK_FMT_MXFP4)
        i = sum_mxfp4(qs, q);
    else if (f.qh)
        i = sum_fives(qs, p + f.qh + 32 * half, q);
    else
        i = sum_nibbles(qs, q);
    if (f.zero) i = _mm256_add_epi32(i, v_zero_point(x->z32 + b, f.zero));
    const __m256 s = fmt == WK_FMT_MXFP4 ? v_e8m0_half(p + 8 * half) : v_f16(p + 16 * half);
    const __m256 a = _mm256_mul_ps(s, _mm256_cvtepi32_ps(i));
    if (!f.m) return a;
    return _mm256_fmadd_ps(_mm256_broadcast_ss(x->f32s + b), v_f16(p + f.m + 16 * half), a);
}

WK_INLINE void gemv32(int fmt, field32 f, float *dst, const void *w, const wk_act *x, int n_panel,
                      int k) {
    const size_t block = (size_t)f.bytes * WK_PANEL;
    const size_t panel = ((size_t)(k / 32) * block + 63) & ~(size_t)63;
    for (int n = 0; n < n_panel; n++) {
        const uint8_t *p = (const uint8_t *)w + (size_t)n * panel;
        __m256 lo = _mm256_setzero_ps(), hi = lo;
        for (int b = 0; b < k / 32; b++, p += block) {
            v_ahead(p, 0, block);
            const __m256 dx = _mm256_broadcast_ss(x->d + b);
            lo = _mm256_fmadd_ps(block_value(fmt, f, p, 0, x, b), dx, lo);
            hi = _mm256_fmadd_ps(block_value(fmt, f, p, 1, x, b), dx, hi);
        }
        _mm256_storeu_ps(dst + 16 * n, lo);
        _mm256_storeu_ps(dst + 16 * n + 8, hi);
    }
}

#define GEMV32(id, name, m, qh, qs, zero)                                                          \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        const field32 f = {(int)sizeof(wk_block_##name), m, qh, qs, zero};                         \
        gemv32(WK_FMT_##id, f, dst, w, x, n_panel, k);                                             \
    }
/* clang-format off */
/*     id      name    m   qh   qs  zero */
GEMV32(Q4_0,   q4_0,   0,   0,  32,  8)
GEMV32(Q4_1,   q4_1,  32,   0,  64,  0)
GEMV32(Q5_0,   q5_0,   0,  32,  96, 16)
GEMV32(Q5_1,   q5_1,  32,  64, 128,  0)
GEMV32(Q8_0,   q8_0,   0,   0,  32,  0)
GEMV32(IQ4_NL, iq4_nl, 0,   0,  32,  0)
GEMV32(MXFP4,  mxfp4,  0,   0,  16, 16)
/* clang-format on */
