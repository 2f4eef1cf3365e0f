/* ref.c: the truth. Plain C in the order that DESIGN 9 writes, always built, always complete. */
#include "simd/ref/ref.h"

void wk_kernels_ref(wk_kernels *k) {
    k->level = "ref";
    wk_fill_expand_ref(k);
    wk_fill_gemm_ref(k);
    wk_fill_gemv_ref(k);
    wk_fill_quant_ref(k);
    wk_fill_elem_ref(k);
    wk_fill_attn_ref(k);
    wk_fill_peak_ref(k);
}
