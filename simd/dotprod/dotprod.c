/* dotprod.c: puts the level's kernels into the table: all integer kinds. */
#include "simd/dotprod/dotprod.h"

void wk_kernels_dotprod(wk_kernels *k) {
    k->level = "dotprod";
#define WK_GEMV(id, fn) k->gemv[WK_FMT_##id] = fn;
#define WK_GEMM(kind, rows, cols, kc, fn) k->gemm[WK_KIND_##kind] = (wk_gemm){rows, cols, kc, fn};
#define WK_PEAK(what, fn) k->peak[WK_PEAK_##what] = fn;
#include "simd/dotprod/dotprod.def"
#undef WK_GEMV
#undef WK_GEMM
#undef WK_PEAK
}
