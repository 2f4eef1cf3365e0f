/* i8mm.h: prototypes of the level, made from i8mm.def. Contracts: simd/kernels.h.
 *
 * The inside of a panel: code [k/8][8 pairs of rows][2][8], 128 bytes per 8 k; the rest as ref has it. */
#ifndef WK_I8MM_H
#define WK_I8MM_H

#include "simd/kernels.h"

enum { WK_I8MM_STEP = 8 * WK_PANEL }; /* bytes of 16 rows x 8 k */

#define WK_EXPAND(id, fn) void fn(wk_panel *dst, const void *w, int k0, int klen);
#define WK_GEMM(kind, rows, cols, kc, fn)                                                          \
    void fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,    \
            bool first);
#define WK_PEAK(what, fn) uint64_t fn(uint64_t n);
#include "simd/i8mm/i8mm.def"
#undef WK_EXPAND
#undef WK_GEMM
#undef WK_PEAK

#endif
