/* avx512_grad.c: puts the level's kernels into the table. Everything is replaced. */
#include "simd/grad/fill.h"

void wk_grad_kernels_avx512(wk_grad_kernels *k) {
    k->level = "avx512";
    wk_fill_attn_grad_avx512(k);
    wk_fill_rows_grad_avx512(k);
}
