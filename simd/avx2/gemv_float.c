/* gemv_float.c: one token against panels of floats. Four chunks of 64 k run side by side: eight chains
 * fill the FMA latency; their sums are added in the order of the chunks. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/vec.h"

enum { CHUNK = 64, FLIGHT = 4 };

/* One step of one chain. */
WK_INLINE void step(__m256 *lo, __m256 *hi, const uint8_t *p, const float *x, int fmt) {
    const __m256 v = _mm256_broadcast_ss(x);
    *lo = _mm256_fmadd_ps(v_weight(p, 0, fmt), v, *lo);
    *hi = _mm256_fmadd_ps(v_weight(p, 8, fmt), v, *hi);
}

/* Four chunks; meanwhile the next four are fetched in the order of their addresses. */
WK_INLINE void four_chunks(__m256 *lo, __m256 *hi, const uint8_t *p, const float *x, int fmt) {
    const int row = WK_PANEL * v_weight_bytes(fmt), chunk = CHUNK * row;
    __m256 a[FLIGHT], b[FLIGHT];
    for (int j = 0; j < FLIGHT; j++) a[j] = b[j] = _mm256_setzero_ps();
    for (int i = 0; i < CHUNK; i++) {
        for (int at = 0; at < FLIGHT * row; at += 64) {
            v_fetch(p, (size_t)(FLIGHT * chunk + FLIGHT * row * i + at));
        }
        for (int j = 0; j < FLIGHT; j++)
            step(&a[j], &b[j], p + j * chunk + i * row, x + j * CHUNK + i, fmt);
    }
    for (int j = 0; j < FLIGHT; j++) {
        *lo = _mm256_add_ps(*lo, a[j]);
        *hi = _mm256_add_ps(*hi, b[j]);
    }
}

/* At most 64 k. */
WK_INLINE void one_chunk(__m256 *lo, __m256 *hi, const uint8_t *p, const float *x, int n, int fmt) {
    __m256 a = _mm256_setzero_ps(), b = a;
    for (int i = 0; i < n; i++, p += WK_PANEL * v_weight_bytes(fmt)) step(&a, &b, p, x + i, fmt);
    *lo = _mm256_add_ps(*lo, a);
    *hi = _mm256_add_ps(*hi, b);
}

WK_INLINE void gemv_f(float *dst, const void *w, const wk_act *x, int n_panel, int k, int fmt) {
    const size_t row = (size_t)(WK_PANEL * v_weight_bytes(fmt));
    const size_t panel = ((size_t)k * row + 63) & ~(size_t)63;
    for (int n = 0; n < n_panel; n++) {
        const uint8_t *p = (const uint8_t *)w + (size_t)n * panel;
        __m256 lo = _mm256_setzero_ps(), hi = lo;
        int i = 0;
        for (; i + FLIGHT * CHUNK <= k; i += FLIGHT * CHUNK) {
            four_chunks(&lo, &hi, p + (size_t)i * row, x->x + i, fmt);
        }
        for (; i < k; i += CHUNK) {
            one_chunk(&lo, &hi, p + (size_t)i * row, x->x + i, k - i < CHUNK ? k - i : CHUNK, fmt);
        }
        _mm256_storeu_ps(dst + 16 * n, lo);
        _mm256_storeu_ps(dst + 16 * n + 8, hi);
    }
}

#define GEMV_F(id, name)                                                                           \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        gemv_f(dst, w, x, n_panel, k, WK_FMT_##id);                                                \
    }
GEMV_F(F32, f32)
GEMV_F(F16, f16)
GEMV_F(BF16, bf16)
