/* dotprod.h: prototypes of the level, made from dotprod.def. Contracts: simd/kernels.h. */
#ifndef WK_DOTPROD_H
#define WK_DOTPROD_H

#include "simd/kernels.h"

#define WK_GEMV(id, fn) void fn(float *dst, const void *w, const wk_act *x, int n_panel, int k);
#define WK_GEMM(kind, rows, cols, kc, fn)                                                          \
    void fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,    \
            bool first);
#include "simd/dotprod/dotprod.def"
#undef WK_GEMV
#undef WK_GEMM

/* gemv of every format of an integer kind by expand and tile. */
void wk_fill_gemv_dotprod(wk_kernels *k);

#endif
