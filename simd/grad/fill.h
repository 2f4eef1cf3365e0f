/* fill.h: the parts of each level of simd/grad, each filling its fields of the table, and what they share. */
#ifndef WK_GRAD_FILL_H
#define WK_GRAD_FILL_H

#include "simd/grad/grad.h"
#include "simd/poly.h"

#define WK_GELU_A3 (3.0f * WK_GELU_A) /* rounded once, by the compiler */

void wk_fill_attn_grad_ref(wk_grad_kernels *k);
void wk_fill_rows_grad_ref(wk_grad_kernels *k);
void wk_fill_pairs_ref(wk_grad_kernels *k);
void wk_fill_attn_grad_avx2(wk_grad_kernels *k);
void wk_fill_rows_grad_avx2(wk_grad_kernels *k);
void wk_fill_attn_grad_avx512(wk_grad_kernels *k);
void wk_fill_rows_grad_avx512(wk_grad_kernels *k);
void wk_fill_attn_grad_neon(wk_grad_kernels *k);
void wk_fill_rows_grad_neon(wk_grad_kernels *k);

#endif
