/* avx2.c: fills the table with the AVX2 level: 256-bit vectors, FMA, F16C. Everything is replaced. */
#include "simd/avx2/avx2.h"

void wk_kernels_avx2(wk_kernels *k) {
    k->level = "avx2";
    wk_fill_decode_avx2(k);
#define WK_GEMV(fmt, fn) k->gemv[WK_FMT_##fmt] = fn;
#define WK_FEW_OF(fmt, fn, most) k->few[WK_FMT_##fmt] = (wk_few){fn, WK_FEW_AVX2, most};
#define WK_EXPAND(fmt, fn) k->expand[WK_FMT_##fmt] = fn;
#define WK_GEMM(kind, n_row, n_col, piece, fn)                                                     \
    k->gemm[WK_KIND_##kind] = (wk_gemm){.rows = n_row, .cols = n_col, .kc = piece, .tile = fn};
#define WK_QUANT(x_kind, fn) k->quant[WK_X_##x_kind] = fn;
#define WK_ROPE(order, fn) k->rope[WK_ROPE_##order] = fn;
#define WK_GLU(act, fn) k->glu[WK_FN_##act] = fn;
#define WK_KV_CAST(type, fn) k->kv_cast[WK_KV_##type] = fn;
#define WK_FIELD(field, fn) k->field = fn;
#define WK_PEAK(what, fn) k->peak[WK_PEAK_##what] = fn;
#include "simd/avx2/avx2.def"
#undef WK_GEMV
#undef WK_FEW_OF
#undef WK_EXPAND
#undef WK_GEMM
#undef WK_QUANT
#undef WK_ROPE
#undef WK_GLU
#undef WK_KV_CAST
#undef WK_FIELD
#undef WK_PEAK
}
