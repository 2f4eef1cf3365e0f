/* neon_grad.c: puts the level's kernels into the table. Everything is replaced. */
#include "simd/grad/fill.h"

void wk_grad_kernels_neon(wk_grad_kernels *k) {
    k->level = "neon";
    wk_fill_attn_grad_neon(k);
    wk_fill_rows_grad_neon(k);
}
