/* avx512vnni.h: prototypes of the level. Contracts: simd/kernels.h.
 *
 * Inside of a panel at this level (expand and gemm of every integer kind stand here):
 *   code  [k/4][16][4] unsigned: B32 S32 S16 code + 128, the accumulator starts at z32 or z16;
 *         B32M S32M the code; W256 128 - code*sc, start -128 * sum of 256; W256M code*sc
 *   s     [n_sub][16] scales; W256: -d (the codes are negated, so that -4 * -32 fits)
 *   c     [n_blk][16] as ref
 *   mn    S32M W256M: [n_sub/2][16][2], pairs for vpdpwssd */
#ifndef WK_AVX512VNNI_H
#define WK_AVX512VNNI_H

#include "simd/kernels.h"

#define WK_GEMV(id, fn) void fn(float *dst, const void *w, const wk_act *x, int n_panel, int k);
#define WK_EXPAND(id, fn) void fn(wk_panel *dst, const void *w, int k0, int klen);
#define WK_FEW_OF(id, fn, most)                                                                    \
    void fn(float *dst, size_t ld, const void *w, const wk_act *x, int m, int n_panel, int k);
#define WK_GEMM(kind, rows, cols, kc, fn)                                                          \
    void fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,    \
            bool first);
#define WK_PEAK(what, fn) uint64_t fn(uint64_t n);
#include "simd/avx512vnni/avx512vnni.def"
#undef WK_GEMV
#undef WK_EXPAND
#undef WK_FEW_OF
#undef WK_GEMM
#undef WK_PEAK

#endif
