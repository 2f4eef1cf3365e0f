/* gemm.c: one register tile per kind, 32 rows x 6 tokens, over expanded panels (avx512vnni.h).
 * B32 keeps the running sums in registers (12 int + 12 f32); the kinds of 256 keep the block's sum a there
 * and touch dst once per block. Activations come by broadcast loads, also the start values. */
#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

enum { COLS = 6 };

/* Element i of token j, j a constant: three tokens per base pointer. */
#define TOKEN(b0, b3, ld, j, i) (((j) < 3 ? (b0) : (b3)) + (size_t)((j) % 3) * (ld) + (i))

/* n groups of 4 k: sum[p][j] += codes of panel p . token j. */
WK_INLINE void dot(__m512i sum[2][COLS], const uint8_t *c0, const uint8_t *c1, const int np,
                   const int8_t *q0, const int8_t *q3, size_t ld, const int m, const int n) {
    WK_UNROLL
    for (int g = 0; g < n; g++) {
        const __m512i w0 = wk_line(c0 + 64 * g), w1 = wk_line(c1 + 64 * g);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const __m512i x = wk_bcast32(TOKEN(q0, q3, ld, j, 4 * g));
            sum[0][j] = _mm512_dpbusd_epi32(sum[0][j], w0, x);
            if (np == 2) sum[1][j] = _mm512_dpbusd_epi32(sum[1][j], w1, x);
        }
    }
}

WK_INLINE void start(__m512i sum[2][COLS], const int32_t *z, size_t ld, const int m) {
    WK_UNROLL
    for (int j = 0; j < m; j++) sum[0][j] = sum[1][j] = wk_bcast32(z + (size_t)j * ld);
}
WK_INLINE void start0(__m512i sum[2][COLS], const int m) {
    WK_UNROLL
    for (int j = 0; j < m; j++) sum[0][j] = sum[1][j] = _mm512_setzero_si512();
}

/* B32 and B32M (mins). */
WK_INLINE void tile_b(float *dst, size_t ld, const wk_panel *w, const int np, const wk_act *x,
                      const int m, int klen, bool first, const bool mins) {
    __m512 acc[2][COLS];
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int p = 0; p < np; p++)
            acc[p][j] = first ? _mm512_setzero_ps()
                              : _mm512_loadu_ps(dst + (size_t)j * ld + (size_t)p * WK_PANEL);
    }
    const wk_panel *w1 = w + np - 1;
    const size_t lb = x->ldb;
    for (size_t b = 0; b < (size_t)klen / 32; b++) {
        __m512i sum[2][COLS];
        if (mins) start0(sum, m);
        else start(sum, x->z32 + b, lb, m);
        const int8_t *q = x->q + 32 * b;
        dot(sum, w->code + 512 * b, w1->code + 512 * b, np, q, q + 3 * x->ld, x->ld, m, 8);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const __m512 d = _mm512_set1_ps(x->d[(size_t)j * lb + b]);
            WK_UNROLL
            for (int p = 0; p < np; p++) {
                const wk_panel *wp = p ? w1 : w;
                const __m512 s = _mm512_loadu_ps(wp->s + 16 * b);
                __m512 a = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[p][j]), s);
                if (mins)
                    a = _mm512_fmadd_ps(_mm512_set1_ps(x->f32s[(size_t)j * lb + b]),
                                        _mm512_loadu_ps(wp->c + 16 * b), a);
                acc[p][j] = _mm512_fmadd_ps(a, d, acc[p][j]);
            }
        }
    }
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int p = 0; p < np; p++)
            _mm512_storeu_ps(dst + (size_t)j * ld + (size_t)p * WK_PANEL, acc[p][j]);
    }
}

/* Integer mins of block b: sum of mn * (sums of codes), n pairs, then a = fma(M, c, a). */
WK_INLINE void add_mins(__m512 a[2][COLS], const wk_panel *w, const int np, const int16_t *sums,
                        size_t ls, const int m, size_t b, const int n) {
    __m512i sum[2][COLS];
    const int16_t *m0 = w[0].mn + 32 * (size_t)n * b, *m1 = w[np - 1].mn + 32 * (size_t)n * b;
    start0(sum, m);
    for (int t = 0; t < n; t++) {
        const __m512i v0 = _mm512_loadu_si512(m0 + 32 * t), v1 = _mm512_loadu_si512(m1 + 32 * t);
        WK_UNROLL
        for (int j = 0; j < m; j++) {
            const __m512i s = wk_bcast32(sums + (size_t)j * ls + 2 * t);
            sum[0][j] = _mm512_dpwssd_epi32(sum[0][j], v0, s);
            if (np == 2) sum[1][j] = _mm512_dpwssd_epi32(sum[1][j], v1, s);
        }
    }
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        WK_UNROLL
        for (int p = 0; p < np; p++)
            a[p][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[p][j]),
                                      _mm512_loadu_ps(w[p].c + 16 * b), a[p][j]);
    }
}

/* acc = fma(a, dx, acc), acc in dst. */
WK_INLINE void finish(float *dst, size_t ld, __m512 a[2][COLS], const int np, const float *d,
                      size_t lb, const int m, bool zero) {
    WK_UNROLL
    for (int j = 0; j < m; j++) {
        const __m512 dx = _mm512_set1_ps(d[(size_t)j * lb]);
        WK_UNROLL
        for (int p = 0; p < np; p++) {
            float *y = dst + (size_t)j * ld + (size_t)p * WK_PANEL;
            const __m512 acc = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
            _mm512_storeu_ps(y, _mm512_fmadd_ps(a[p][j], dx, acc));
        }
    }
}

/* S32, S32M (mins) and S16: n_sub sub-blocks of 256 / n_sub. a starts at +0: fma(F, s, 0) = s*F. */
WK_INLINE void tile_s(float *dst, size_t ld, const wk_panel *w, const int np, const wk_act *x,
                      const int m, int klen, bool first, const int n_sub, const bool mins) {
    const wk_panel *w1 = w + np - 1;
    const size_t groups = 64 / (size_t)n_sub, lz = n_sub == 16 ? 2 * x->ldb : x->ldb;
    for (size_t b = 0; b < (size_t)klen / 256; b++) {
        __m512 a[2][COLS];
        WK_UNROLL
        for (int j = 0; j < m; j++) a[0][j] = a[1][j] = _mm512_setzero_ps();
        for (size_t i = b * (size_t)n_sub; i < (b + 1) * (size_t)n_sub; i++) {
            __m512i sum[2][COLS];
            if (mins) start0(sum, m);
            else start(sum, (n_sub == 16 ? x->z16 : x->z32) + i, lz, m);
            const int8_t *q = x->q + 4 * groups * i;
            const size_t at = 64 * groups * i;
            dot(sum, w->code + at, w1->code + at, np, q, q + 3 * x->ld, x->ld, m, (int)groups);
            WK_UNROLL
            for (int p = 0; p < np; p++) {
                const __m512 s = _mm512_loadu_ps((p ? w1 : w)->s + 16 * i);
                WK_UNROLL
                for (int j = 0; j < m; j++)
                    a[p][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[p][j]), s, a[p][j]);
            }
        }
        if (mins) add_mins(a, w, np, x->s32 + 8 * b, x->ldb, m, b, 4);
        finish(dst, ld, a, np, x->d + b, x->ldb, m, first && b == 0);
    }
}

/* W256 and W256M (mins): one integer sum over 256. */
WK_INLINE void tile_w(float *dst, size_t ld, const wk_panel *w, const int np, const wk_act *x,
                      const int m, int klen, bool first, const bool mins) {
    const wk_panel *w1 = w + np - 1;
    const __m512i zp = _mm512_set1_epi16(-128);
    for (size_t b = 0; b < (size_t)klen / 256; b++) {
        __m512i sum[2][COLS];
        __m512 a[2][COLS];
        start0(sum, m);
        if (!mins) {
            WK_UNROLL
            for (int j = 0; j < m; j++) {
                WK_UNROLL
                for (int t = 0; t < 8; t += 2) {
                    const __m512i s = wk_bcast32(x->s32 + (size_t)j * x->ldb + 8 * b + (size_t)t);
                    sum[0][j] = _mm512_dpwssd_epi32(sum[0][j], zp, s);
                }
                sum[1][j] = sum[0][j];
            }
        }
        for (size_t i = 8 * b; i < 8 * b + 8; i++) {
            const int8_t *q = x->q + 32 * i;
            dot(sum, w->code + 512 * i, w1->code + 512 * i, np, q, q + 3 * x->ld, x->ld, m, 8);
        }
        WK_UNROLL
        for (int p = 0; p < np; p++) {
            const __m512 s = _mm512_loadu_ps((p ? w1 : w)->s + 16 * b);
            WK_UNROLL
            for (int j = 0; j < m; j++) a[p][j] = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[p][j]), s);
        }
        if (mins) add_mins(a, w, np, x->s16 + 16 * b, 2 * x->ldb, m, b, 8);
        finish(dst, ld, a, np, x->d + b, x->ldb, m, first && b == 0);
    }
}

typedef void (*tile_fn)(float *, size_t, const wk_panel *, const wk_act *, int, bool);

#define TILE(kind, NP, M, BODY, ...)                                                               \
    static void kind##_##NP##_##M(float *dst, size_t ld, const wk_panel *w, const wk_act *x,       \
                                  int klen, bool first) {                                          \
        BODY(dst, ld, w, NP, x, M, klen, first, __VA_ARGS__);                                      \
    }
#define TILES(kind, NP, BODY, ...)                                                                 \
    TILE(kind, NP, 1, BODY, __VA_ARGS__)                                                           \
    TILE(kind, NP, 2, BODY, __VA_ARGS__)                                                           \
    TILE(kind, NP, 3, BODY, __VA_ARGS__)                                                           \
    TILE(kind, NP, 4, BODY, __VA_ARGS__)                                                           \
    TILE(kind, NP, 5, BODY, __VA_ARGS__)                                                           \
    TILE(kind, NP, 6, BODY, __VA_ARGS__)
#define ROW(kind, NP)                                                                              \
    {kind##_##NP##_1, kind##_##NP##_2, kind##_##NP##_3,                                            \
     kind##_##NP##_4, kind##_##NP##_5, kind##_##NP##_6}
#define GEMM(kind, BODY, ...)                                                                      \
    TILES(kind, 1, BODY, __VA_ARGS__)                                                              \
    TILES(kind, 2, BODY, __VA_ARGS__)                                                              \
    void wk_gemm_##kind##_32x6_avx512vnni(float *dst, size_t ld, const wk_panel *w, int np,        \
                                          const wk_act *x, int m, int klen, bool first) {          \
        static const tile_fn tiles[2][COLS] = {ROW(kind, 1), ROW(kind, 2)};                        \
        assert(np >= 1 && np <= 2 && m >= 1 && m <= COLS);                                         \
        tiles[np - 1][m - 1](dst, ld, w, x, klen, first);                                          \
    }

GEMM(b32, tile_b, false)
GEMM(b32m, tile_b, true)
GEMM(s32, tile_s, 8, false)
GEMM(s32m, tile_s, 8, true)
GEMM(s16, tile_s, 16, false)
GEMM(w256, tile_w, false)
GEMM(w256m, tile_w, true)
