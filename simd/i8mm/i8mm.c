/* i8mm.c: puts the level's kernels into the table: all integer kinds. */
#include "simd/i8mm/i8mm.h"

void wk_kernels_i8mm(wk_kernels *k) {
    k->level = "i8mm";
#define WK_EXPAND(id, fn) k->expand[WK_FMT_##id] = fn;
#define WK_GEMM(kind, rows, cols, kc, fn) k->gemm[WK_KIND_##kind] = (wk_gemm){rows, cols, kc, fn};
#define WK_PEAK(what, fn) k->peak[WK_PEAK_##what] = fn;
#include "simd/i8mm/i8mm.def"
#undef WK_EXPAND
#undef WK_GEMM
#undef WK_PEAK
}
