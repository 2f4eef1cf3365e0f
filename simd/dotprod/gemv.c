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

/* ---- every other format of an integer kind, by its kind's tile ---- */

/* Kind F has kernels for all its formats. */
static gemv_tile *const tile_of[WK_KIND_COUNT] = {
    [WK_KIND_B32] = wk_gemm_b32_16x4_dotprod,     [WK_KIND_B32M] = wk_gemm_b32m_16x4_dotprod,
    [WK_KIND_S32] = wk_gemm_s32_16x4_dotprod,     [WK_KIND_S32M] = wk_gemm_s32m_16x4_dotprod,
    [WK_KIND_S16] = wk_gemm_s16_16x4_dotprod,     [WK_KIND_W256] = wk_gemm_w256_16x4_dotprod,
    [WK_KIND_W256M] = wk_gemm_w256m_16x4_dotprod};

#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    static void gemv_##id(float *dst, const void *w, const wk_act *x, int n_panel, int k) {        \
        gemv_by_tile(WK_FMT_##id, tile_of[WK_KIND_##kind], dst, w, x, n_panel, k);                 \
    }
#include "simd/formats.def"
#undef WK_FORMAT

void wk_fill_gemv_dotprod(wk_kernels *k) {
#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    if (WK_KIND_##kind != WK_KIND_F) k->gemv[WK_FMT_##id] = gemv_##id;
#include "simd/formats.def"
#undef WK_FORMAT
}
