/* gemm_f.c: kind F: expand to f32 in L1, register tile of 32 rows x 8 tokens.
 * The tile keeps the chunk sums c (16 registers); the running sum lives in dst and is touched once per 64 k.
 * 32 x 12 was tried: 0.89 of the f32 peak against 0.96 on Zen 4, whose L1 two f32 panels fill. */
#include "simd/avx512/avx512.h"
#include "simd/avx512/vec512.h"

enum { COLS = 8 };

/* Rows of 16 values; those of the next piece, which is expanded after the products of this one, are fetched. */
#define EXPAND(name, type, LOAD)                                                                   \
    void wk_expand_##name##_avx512(wk_panel *dst, const void *w, int k0, int klen) {               \
        const type *p = (const type *)w + (size_t)k0 * WK_PANEL;                                   \
        const size_t n = (size_t)klen * WK_PANEL;                                                  \
        for (size_t i = 0; i < n; i += WK_PANEL) {                                                 \
            _mm_prefetch((const char *)(p + n + i), _MM_HINT_T1);                                  \
            _mm512_storeu_ps(dst->f + i, LOAD(p + i));                                             \
        }                                                                                          \
    }
WK_INLINE __m512 load_bf16(const wk_bf16 *p) {
    return wk_widen_bf16(_mm256_loadu_si256((const __m256i *)p));
}
EXPAND(f32, float, _mm512_loadu_ps)
EXPAND(f16, wk_f16, wk_f16_512)
EXPAND(bf16, wk_bf16, load_bf16)

/* One chunk of kn <= 64 values. x: three tokens per base pointer, so that the address is base + {0,1,2}*ld. */
WK_INLINE void chunk_f(float *dst, size_t ld, const wk_panel *w, const int np, const wk_act *x,
                       const int m, int k0, int kn, bool first) {
    __m512 c[2][COLS];
    const float *w0 = w[0].f + (size_t)k0 * WK_PANEL, *w1 = w[np - 1].f + (size_t)k0 * WK_PANEL;
    const size_t lx = x->ld;
    const float *b0 = x->x + k0, *b1 = b0 + 3 * lx, *b2 = b0 + 6 * lx;
    WK_UNROLL
    for (int j = 0; j < m; j++) c[0][j] = c[1][j] = _mm512_setzero_ps();
    for (int k = 0; k < kn; k++) {
        const __m512 v0 = _mm512_loadu_ps(w0 + (size_t)k * WK_PANEL);
        const __m512 v1 = _mm512_loadu_ps(w1 + (size_t)k * WK_PANEL);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const float *b = j < 3 ? b0 : j < 6 ? b1 : b2;
            const __m512 t = _mm512_set1_ps(b[(size_t)(j % 3) * lx + (size_t)k]);
            c[0][j] = _mm512_fmadd_ps(v0, t, c[0][j]);
            if (np == 2) c[1][j] = _mm512_fmadd_ps(v1, t, c[1][j]);
        }
    }
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int p = 0; p < np; p++) {
            float *d = dst + (size_t)j * ld + (size_t)p * WK_PANEL;
            _mm512_storeu_ps(d, first ? c[p][j] : _mm512_add_ps(_mm512_loadu_ps(d), c[p][j]));
        }
    }
}

#define TILE(NP, M)                                                                                \
    static void tile_##NP##_##M(float *dst, size_t ld, const wk_panel *w, const wk_act *x,         \
                                int klen, bool first) {                                            \
        for (int k0 = 0; k0 < klen; k0 += 64) {                                                    \
            const int kn = klen - k0 < 64 ? klen - k0 : 64;                                        \
            chunk_f(dst, ld, w, NP, x, M, k0, kn, first && k0 == 0);                               \
        }                                                                                          \
    }
TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4) TILE(1, 5) TILE(1, 6) TILE(1, 7) TILE(1, 8)
TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(2, 5) TILE(2, 6) TILE(2, 7) TILE(2, 8)

typedef void (*tile_fn)(float *, size_t, const wk_panel *, const wk_act *, int, bool);

#define ROW(NP)                                                                                    \
    {tile_##NP##_1, tile_##NP##_2, tile_##NP##_3, tile_##NP##_4,                                   \
     tile_##NP##_5, tile_##NP##_6, tile_##NP##_7, tile_##NP##_8}

void wk_gemm_f_32x8_avx512(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m,
                            int klen, bool first) {
    static const tile_fn tiles[2][COLS] = {ROW(1), ROW(2)};
    assert(np >= 1 && np <= 2 && m >= 1 && m <= COLS);
    tiles[np - 1][m - 1](dst, ld, w, x, klen, first);
}
