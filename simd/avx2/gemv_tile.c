/* gemv_tile.c: formats without kernels of their own at this level: ref's expand, then the inside of a panel as this
 * level has it (codes.h); gemv is that and a tile of one token. */
#include "simd/avx2/avx2.h"
#include "simd/avx2/codes.h"
#include "simd/ref/by_tile.h"

/* S32, S16: signed codes as they are. W256: 4 more. */
static void finish(wk_panel *dst, int klen, int kind) {
    const __m256i four = _mm256_set1_epi8(4);
    if (kind != WK_KIND_W256) {
        wk_width_put(dst, WK_WIDTH_SIGNED);
        return;
    }
    for (int i = 0; i < 16 * klen; i += 32)
        v_put(dst->code + i, _mm256_add_epi8(v_int(dst->code + i), four));
}

#define BY_TILE(id, name, kinds)                                                                   \
    void wk_expand_##name##_avx2(wk_panel *dst, const void *w, int k0, int klen) {                 \
        wk_expand_of_ref(WK_FMT_##id)(dst, w, k0, klen);                                           \
        finish(dst, klen, wk_formats[WK_FMT_##id].kind);                                           \
    }                                                                                              \
    void wk_gemv_##name##_avx2(float *dst, const void *w, const wk_act *x, int n_panel, int k) {   \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_##name##_avx2, wk_gemm_##kinds##_16x4_avx2, dst, w, \
                        x, n_panel, k);                                                            \
    }
BY_TILE(IQ2_XXS, iq2_xxs, s32)
BY_TILE(IQ2_XS, iq2_xs, s16)
BY_TILE(IQ2_S, iq2_s, s16)
BY_TILE(IQ3_XXS, iq3_xxs, s32)
BY_TILE(IQ3_S, iq3_s, s32)
BY_TILE(TQ1_0, tq1_0, w256)
BY_TILE(TQ2_0, tq2_0, w256)
