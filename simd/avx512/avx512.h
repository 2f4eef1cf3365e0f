/* avx512.h: prototypes of the level. Contracts: simd/kernels.h. */
#ifndef WK_AVX512_H
#define WK_AVX512_H

#include "simd/kernels.h"

#define WK_GEMV(id, fn) void fn(float *dst, const void *w, const wk_act *x, int n_panel, int k);
#define WK_EXPAND(id, fn) void fn(wk_panel *dst, const void *w, int k0, int klen);
#define WK_GEMM(kind, rows, cols, kc, fn)                                                          \
    void fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,    \
            bool first);
#define WK_QUANT(id, fn) void fn(wk_act *dst, int t, const float *x, int k);
#define WK_ROPE(id, fn) void fn(float *x, const float *cs, int n_head, int hd, int n_rot);
#define WK_GLU(id, fn) void fn(float *dst, const float *gate, const float *up, int n);
#define WK_KV_CAST(id, fn) int fn(void *dst, const float *x, int n);
#define WK_FIELD(field, fn)
#define WK_PEAK(what, fn) uint64_t fn(uint64_t n);
#include "simd/avx512/avx512.def"
#undef WK_GEMV
#undef WK_EXPAND
#undef WK_GEMM
#undef WK_QUANT
#undef WK_ROPE
#undef WK_GLU
#undef WK_KV_CAST
#undef WK_FIELD
#undef WK_PEAK

void wk_rms_avx512(float *dst, float *r_out, const float *x, const float *w, int n, float eps);
uint64_t wk_read_avx512(const void *p, size_t n);
void wk_add_avx512(float *dst, const float *a, const float *b, int n);
void wk_scale_avx512(float *dst, const float *x, float c, int n);
void wk_fma_avx512(float *dst, const float *y, const float *x, float c, int n);
void wk_softcap_avx512(float *dst, const float *x, float c, float c_inv, int n);
void wk_exp_scaled_avx512(float *dst, const float *x, float max, float c, int n);
float wk_sum_avx512(const float *x, int n);
int wk_argmax_avx512(const float *x, int n);
void wk_attn_page_avx512(wk_partial *out, const wk_attn_page *a);
void wk_attn_merge_avx512(wk_partial *acc, const wk_partial *p, int n_col, int hd);
void wk_attn_finish_avx512(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd);

void wk_fill_decode_avx512(wk_kernels *k);

#endif
