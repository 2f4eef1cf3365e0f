/* gemv_list.h: the gemv of every format of an integer kind, by the dot.h and with the name ending
 * WK_OF_LEVEL(function) that the including file has chosen. Included by one file per level. */
#ifndef WK_NEON_GEMV_LIST_H
#define WK_NEON_GEMV_LIST_H

#include "simd/neon/gemv.h"
#include "simd/neon/neon.h"
#include "simd/ref/by_tile.h"

#define GEMV(name)                                                                                 \
    void WK_OF_LEVEL(wk_gemv_##name)(float *dst, const void *w, const wk_act *x, int n_panel, int k)

#define GEMV32(id, name, m, qh, qs, shift)                                                         \
    GEMV(name) {                                                                                   \
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
GEMV32(MXFP4,  mxfp4,  0,   0,  16,  0)

#define GEMV256(id, name)                                                                          \
    GEMV(name) { gemv256(WK_FMT_##id, dst, w, x, n_panel, k); }
GEMV256(Q2_K, q2_k)
GEMV256(Q3_K, q3_k)
GEMV256(Q4_K, q4_k)
GEMV256(Q5_K, q5_k)
GEMV256(Q6_K, q6_k)
GEMV256(IQ4_XS, iq4_xs)

/* Without a kernel of their own: NEON's expand and the level's tile. */
#define BY_TILE(id, name, kind)                                                                    \
    GEMV(name) {                                                                                   \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_##name##_neon, WK_OF_LEVEL(wk_gemm_##kind##_16x4),  \
                        dst, w, x, n_panel, k);                                                    \
    }
BY_TILE(IQ2_XXS, iq2_xxs, s32)
BY_TILE(IQ3_XXS, iq3_xxs, s32)
BY_TILE(IQ3_S, iq3_s, s32)
BY_TILE(IQ2_XS, iq2_xs, s16)
BY_TILE(IQ2_S, iq2_s, s16)
BY_TILE(TQ1_0, tq1_0, w256)
BY_TILE(TQ2_0, tq2_0, w256)

#endif
