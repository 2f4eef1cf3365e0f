/* gemv_tile.c: formats without a kernel of their own at this level: ref's expand, which writes the inside of a
 * panel that the tiles here read. */
#include "simd/avx2/avx2.h"
#include "simd/ref/by_tile.h"

#define GEMV_BY_TILE(id, name, kind)                                                               \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_of_ref(WK_FMT_##id), wk_gemm_##kind##_16x4_avx2,    \
                        dst, w, x, n_panel, k);                                                    \
    }
GEMV_BY_TILE(IQ2_XXS, iq2_xxs, s32)
GEMV_BY_TILE(IQ2_XS, iq2_xs, s16)
GEMV_BY_TILE(IQ2_S, iq2_s, s16)
GEMV_BY_TILE(IQ3_XXS, iq3_xxs, s32)
GEMV_BY_TILE(IQ3_S, iq3_s, s32)
GEMV_BY_TILE(TQ1_0, tq1_0, w256)
GEMV_BY_TILE(TQ2_0, tq2_0, w256)
