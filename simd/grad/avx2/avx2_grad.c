/* avx2_grad.c: puts the level's kernels into the table. Everything is replaced. */
#include "simd/grad/fill.h"

void wk_grad_kernels_avx2(wk_grad_kernels *k) {
    k->level = "avx2";
    wk_fill_attn_grad_avx2(k);
    wk_fill_rows_grad_avx2(k);
}
