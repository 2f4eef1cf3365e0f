/* dotprod.h: prototypes of the level, made from dotprod.def. Contracts: simd/kernels.h. */
#ifndef WK_DOTPROD_H
#define WK_DOTPROD_H

#include "simd/kernels.h"

#define WK_GEMV(id, fn) void fn(float *dst, const void *w, const wk_act *x, int n_panel, int k);
#define WK_GEMM(kind, rows, cols, kc, fn)                                                          \
    void fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,    \
            bool first);
#define WK_PEAK(what, fn) uint64_t fn(uint64_t n);
#include "simd/dotprod/dotprod.def"
#undef WK_GEMV
#undef WK_GEMM
#undef WK_PEAK

#endif
