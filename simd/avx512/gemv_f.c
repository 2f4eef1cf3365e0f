/* gemv_f.c: kind F, one token. The chunks follow each other in memory order, one chain of 64 at a time: the
 * next chunk's chain starts from +0, so out-of-order execution overlaps it. Four chunks in flight
 * (four streams 2 KB apart) reached 0.40 of the read bandwidth on Zen 4, one ascending stream 0.93. */
#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"

WK_INLINE __m512 load_w(const void *w, size_t i, const wk_fmt fmt) {
    if (fmt == WK_FMT_F32) return _mm512_loadu_ps((const float *)w + i);
    if (fmt == WK_FMT_F16) return wk_f16_512((const wk_f16 *)w + i);
    return wk_widen_bf16(_mm256_loadu_si256((const __m256i *)((const wk_bf16 *)w + i)));
}

WK_INLINE __m512 chunk(const void *w, const float *x, int k0, int kn, const wk_fmt fmt) {
    __m512 c = _mm512_setzero_ps();
    for (int k = k0; k < k0 + kn; k++)
        c = _mm512_fmadd_ps(load_w(w, (size_t)k * WK_PANEL, fmt), _mm512_set1_ps(x[k]), c);
    return c;
}

WK_INLINE __m512 chunk64(const void *w, const float *x, int k0, const wk_fmt fmt) {
    const size_t size = fmt == WK_FMT_F32 ? 4 : 2;
    __m512 c = _mm512_setzero_ps();
    for (size_t k = (size_t)k0; k < (size_t)k0 + 64; k += 8) {
        wk_ahead((const char *)w + k * WK_PANEL * size, 8 * WK_PANEL * size);
        WK_UNROLL
        for (size_t i = k; i < k + 8; i++)
            c = _mm512_fmadd_ps(load_w(w, i * WK_PANEL, fmt), _mm512_set1_ps(x[i]), c);
    }
    return c;
}

WK_INLINE __m512 panel_f(const void *w, const float *x, int k, const wk_fmt fmt) {
    __m512 acc = _mm512_setzero_ps();
    int k0 = 0;
    for (; k0 + 64 <= k; k0 += 64) acc = _mm512_add_ps(acc, chunk64(w, x, k0, fmt));
    return k0 < k ? _mm512_add_ps(acc, chunk(w, x, k0, k - k0, fmt)) : acc;
}

#define GEMV_F(name, FMT, SIZE)                                                                    \
    void wk_gemv_##name##_avx512(float *dst, const void *w, const wk_act *x, int n_panel, int k) { \
        const size_t step = ((size_t)k * WK_PANEL * SIZE + 63) & ~(size_t)63;                      \
        for (int p = 0; p < n_panel; p++) {                                                        \
            const __m512 y = panel_f((const char *)w + (size_t)p * step, x->x, k, FMT);            \
            _mm512_storeu_ps(dst + (size_t)p * WK_PANEL, y);                                       \
        }                                                                                          \
    }
GEMV_F(f32, WK_FMT_F32, 4)
GEMV_F(f16, WK_FMT_F16, 2)
GEMV_F(bf16, WK_FMT_BF16, 2)
