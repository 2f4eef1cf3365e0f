/* avx512vnni.c: puts the level's kernels into the table: all integer kinds. */
#include "simd/avx512vnni/avx512vnni.h"

void wk_kernels_avx512vnni(wk_kernels *k) {
    k->level = "avx512vnni";
#define WK_GEMV(id, fn) k->gemv[WK_FMT_##id] = fn;
#define WK_EXPAND(id, fn) k->expand[WK_FMT_##id] = fn;
#define WK_FEW_OF(id, fn, most) k->few[WK_FMT_##id] = (wk_few){fn, WK_FEW, most};
#define WK_GEMM(kind, rows, cols, kc, fn) k->gemm[WK_KIND_##kind] = (wk_gemm){rows, cols, kc, fn};
#define WK_PEAK(what, fn) k->peak[WK_PEAK_##what] = fn;
#include "simd/avx512vnni/avx512vnni.def"
#undef WK_GEMV
#undef WK_EXPAND
#undef WK_FEW_OF
#undef WK_GEMM
#undef WK_PEAK
}
