/* by_tile.c: formats without kernels of their own at this level: ref's expand, then the inside of a panel as this
 * level has it (avx512vnni.h); gemv is that and a tile of one token. */
#include "simd/ref/by_tile.h"

#include "simd/avx512vnni/avx512vnni.h"
#include "simd/avx512vnni/codes.h"

/* B32, S32, S16: code + 128. */
static void add_128(uint8_t *code, int klen) {
    for (uint8_t *end = code + 16 * klen; code < end; code += 64) {
        _mm512_storeu_si512(code, _mm512_xor_si512(wk_line(code), wk_set8(-128)));
    }
}

/* W256: 128 - code * sc, and -d. Products of even and odd bytes by 16-bit ones; their low bytes are exact. */
static void fold_scales(wk_panel *p, int klen) {
    const __m512i even = _mm512_set1_epi16(0x00ff);
    for (int g = 0; g < klen / 4; g++) {
        const __m512i v = wk_line(p->code + 64 * g);
        const __m512i t = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256((const __m256i *)(const void *)(p->sc + g / 4 * 16)));
        const __m512i sc = _mm512_or_si512(t, _mm512_slli_epi32(t, 16));
        const __m512i p0 = _mm512_mullo_epi16(v, sc);
        const __m512i p1 = _mm512_mullo_epi16(_mm512_andnot_si512(even, v), sc);
        const __m512i product = _mm512_ternarylogic_epi32(even, p0, p1, 0xca);
        _mm512_storeu_si512(p->code + 64 * g, _mm512_sub_epi8(wk_set8(-128), product));
    }
    for (int b = 0; b < klen / 256; b++) {
        _mm512_storeu_ps(p->s + 16 * b, wk_neg512(_mm512_loadu_ps(p->s + 16 * b)));
    }
}

static void finish(wk_panel *dst, int klen, int kind) {
    if (kind == WK_KIND_W256) fold_scales(dst, klen);
    else add_128(dst->code, klen);
}

#define BY_TILE(id, name, kinds)                                                                   \
    void wk_expand_##name##_avx512vnni(wk_panel *dst, const void *w, int k0, int klen) {           \
        wk_expand_of_ref(WK_FMT_##id)(dst, w, k0, klen);                                           \
        finish(dst, klen, wk_formats[WK_FMT_##id].kind);                                           \
    }                                                                                              \
    void wk_gemv_##name##_avx512vnni(float *dst, const void *w, const wk_act *x, int n_panel,      \
                                     int k) {                                                      \
        wk_gemv_by_tile(WK_FMT_##id, wk_expand_##name##_avx512vnni,                                \
                        wk_gemm_##kinds##_32x6_avx512vnni, dst, w, x, n_panel, k);                 \
    }
BY_TILE(IQ2_XXS, iq2_xxs, s32)
BY_TILE(IQ2_XS, iq2_xs, s16)
BY_TILE(IQ2_S, iq2_s, s16)
BY_TILE(IQ3_XXS, iq3_xxs, s32)
BY_TILE(IQ3_S, iq3_s, s32)
BY_TILE(TQ1_0, tq1_0, w256)
BY_TILE(TQ2_0, tq2_0, w256)
