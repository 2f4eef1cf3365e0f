/* gemv.c: one token against packed panels, integer kinds. */
#include "simd/dotprod/dot.h"
#include "simd/dotprod/dotprod.h"
#include "simd/neon/gemv.h"

#define GEMV32(id, name, m, qh, qs, shift)                                                         \
    void wk_gemv_##name##_dotprod(float *dst, const void *w, const wk_act *x, int n_panel, int k) { \
        const field32 f = {(int)sizeof(wk_block_##name), m, qh, qs, shift};                        \
        gemv32(WK_FMT_##id, f, dst, w, x, n_panel, k);                                             \
    }
/*     id      name    m   qh   qs shift */
GEMV32(Q4_0,   q4_0,   0,   0,  32,  4)
GEMV32(Q4_1,   q4_1,  32,   0,  64,  0)
GEMV32(Q5_0,   q5_0,   0,  32,  96,  3)
GEMV32(Q5_1,   q5_1,  32,  64, 128,  0)
GEMV32(Q8_0,   q8_0,   0,   0,  32,  0)
GEMV32(IQ4_NL, iq4_nl, 0,   0,  32,  0)

#define GEMV256(id, name)                                                                          \
    void wk_gemv_##name##_dotprod(float *dst, const void *w, const wk_act *x, int n_panel, int k) { \
        gemv256(WK_FMT_##id, dst, w, x, n_panel, k);                                               \
    }
GEMV256(Q4_K, q4_k)
GEMV256(Q5_K, q5_k)
GEMV256(Q6_K, q6_k)

#define GEMV_BY_TILE(id, name, tile)                                                               \
    void wk_gemv_##name##_dotprod(float *dst, const void *w, const wk_act *x, int n_panel, int k) { \
        gemv_by_tile(WK_FMT_##id, tile, dst, w, x, n_panel, k);                                    \
    }
GEMV_BY_TILE(Q2_K, q2_k, wk_gemm_w256m_16x4_dotprod)
GEMV_BY_TILE(Q3_K, q3_k, wk_gemm_w256_16x4_dotprod)
GEMV_BY_TILE(IQ4_XS, iq4_xs, wk_gemm_s32_16x4_dotprod)
