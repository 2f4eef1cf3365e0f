/* ref.h: the parts of the reference level, each filling its fields of the table. */
#ifndef WK_REF_H
#define WK_REF_H

#include "simd/kernels.h"

/* Expand of one format. */
typedef void wk_expand_fn(wk_panel *dst, const void *w, int k0, int klen);

void wk_fill_expand_ref(wk_kernels *k);
void wk_fill_gemm_ref(wk_kernels *k);
void wk_fill_gemv_ref(wk_kernels *k);
void wk_fill_quant_ref(wk_kernels *k);
void wk_fill_elem_ref(wk_kernels *k);
void wk_fill_attn_ref(wk_kernels *k);
void wk_fill_peak_ref(wk_kernels *k);

/* Geometry of every kind: small enough for any L1, wide enough for a compiler's vectors. */
enum { WK_REF_ROWS = 32, WK_REF_COLS = 4, WK_REF_KC = 256 };

#endif
