/* avx512.c: puts the level's kernels into the table. Integer kinds stay those of the level below. */
#include "simd/avx512/avx512.h"

void wk_kernels_avx512(wk_kernels *k) {
    k->level = "avx512";
    wk_fill_decode_avx512(k);
#define WK_GEMV(id, fn) k->gemv[WK_FMT_##id] = fn;
#define WK_EXPAND(id, fn) k->expand[WK_FMT_##id] = fn;
#define WK_GEMM(kind, rows, cols, kc, fn) k->gemm[WK_KIND_##kind] = (wk_gemm){rows, cols, kc, fn};
#define WK_QUANT(id, fn) k->quant[WK_X_##id] = fn;
#define WK_ROPE(id, fn) k->rope[WK_ROPE_##id] = fn;
#define WK_GLU(id, fn) k->glu[WK_FN_##id] = fn;
#define WK_KV_CAST(id, fn) k->kv_cast[WK_KV_##id] = fn;
#define WK_FIELD(field, fn) k->field = fn;
#define WK_PEAK(what, fn) k->peak[WK_PEAK_##what] = fn;
#include "simd/avx512/avx512.def"
#undef WK_GEMV
#undef WK_EXPAND
#undef WK_GEMM
#undef WK_QUANT
#undef WK_ROPE
#undef WK_GLU
#undef WK_KV_CAST
#undef WK_FIELD
#undef WK_PEAK
}
