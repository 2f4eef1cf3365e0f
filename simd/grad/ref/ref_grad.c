/* ref_grad.c: the truth, always built, always complete. */
#include "simd/grad/fill.h"

void wk_grad_kernels_ref(wk_grad_kernels *k) {
    k->level = "ref";
    wk_fill_attn_grad_ref(k);
    wk_fill_rows_grad_ref(k);
    wk_fill_pairs_ref(k);
}
