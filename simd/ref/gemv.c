/* gemv.c: a GEMV is expand and a tile of one token, piece by piece. One function for every format: only the
 * ids differ. */
#include "engine/base/attr.h"
#include "simd/ref/ref.h"

typedef struct scratch {
    float f[WK_REF_KC * 16];
    uint8_t code[WK_REF_KC * 16];
    float s[WK_REF_KC], c[WK_REF_KC]; /* [KC/16][16] */
    int16_t mn[WK_REF_KC], sc[WK_REF_KC];
} scratch;

static void gemv(float *dst, const void *w, const wk_act *x, int n_panel, int k, int fmt) {
    wk_kernels ref;
    wk_fill_expand_ref(&ref);
    wk_fill_gemm_ref(&ref);
    WK_ALIGNED(64) scratch mem;
    wk_panel panel = {
        .code = mem.code, .f = mem.f, .s = mem.s, .c = mem.c, .mn = mem.mn, .sc = mem.sc};
    const wk_format *f = &wk_formats[fmt];
    const size_t bytes = wk_panel_bytes(fmt, (size_t)k);
    for (int p = 0; p < n_panel; p++) {
        const uint8_t *wp = (const uint8_t *)w + (size_t)p * bytes;
        for (int k0 = 0; k0 < k; k0 += WK_REF_KC) {
            const int klen = k - k0 < WK_REF_KC ? k - k0 : WK_REF_KC;
            const wk_act piece = wk_act_at(x, f->act, 0, k0);
            ref.expand[fmt](&panel, wp, k0, klen);
            ref.gemm[f->kind].tile(dst + 16 * p, 16, &panel, 1, &piece, 1, klen, k0 == 0);
        }
    }
}

#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    static void wk_gemv_##id##_ref(float *dst, const void *w, const wk_act *x, int n_panel,        \
                                   int k) {                                                        \
        gemv(dst, w, x, n_panel, k, WK_FMT_##id);                                                  \
    }
#include "simd/formats.def"
#undef WK_FORMAT

void wk_fill_gemv_ref(wk_kernels *k) {
#define WK_FORMAT(id, gguf, block, bytes, type, kind, act, note)                                   \
    k->gemv[WK_FMT_##id] = wk_gemv_##id##_ref;                                                     \
    k->few[WK_FMT_##id] = (wk_few){NULL, 0, 0};
#include "simd/formats.def"
#undef WK_FORMAT
}
