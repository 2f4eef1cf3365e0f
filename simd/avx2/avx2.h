/* avx2.h: prototypes of the level, made from avx2.def and the field types of wk_kernels. */
#ifndef WK_AVX2_H
#define WK_AVX2_H

#include "simd/kernels.h"

#define WK_PROTO_rms(fn)                                                                           \
    void fn(float *dst, float *r_out, const float *x, const float *w, int n, float eps);
#define WK_PROTO_add(fn) void fn(float *dst, const float *a, const float *b, int n);
#define WK_PROTO_scale(fn) void fn(float *dst, const float *x, float c, int n);
#define WK_PROTO_fma(fn) void fn(float *dst, const float *y, const float *x, float c, int n);
#define WK_PROTO_softcap(fn) void fn(float *dst, const float *x, float c, float c_inv, int n);
#define WK_PROTO_exp_scaled(fn) void fn(float *dst, const float *x, float max, float c, int n);
#define WK_PROTO_sum(fn) float fn(const float *x, int n);
#define WK_PROTO_argmax(fn) int fn(const float *x, int n);
#define WK_PROTO_attn_page(fn) void fn(wk_partial *out, const wk_attn_page *a);
#define WK_PROTO_attn_merge(fn) void fn(wk_partial *acc, const wk_partial *p, int n_col, int hd);
#define WK_PROTO_read(fn) uint64_t fn(const void *p, size_t n);
#define WK_PROTO_attn_finish(fn)                                                                   \
    void fn(float *dst, size_t ld, const wk_partial *acc, int n_col, int hd);

enum { WK_FEW_AVX2 = 4 }; /* tokens of a pass of few: 16 registers hold the sums of no more */

#define WK_GEMV(fmt, fn) void fn(float *dst, const void *w, const wk_act *x, int n_panel, int k);
#define WK_FEW_OF(fmt, fn, most)                                                                   \
    void fn(float *dst, size_t ld, const void *w, const wk_act *x, int m, int n_panel, int k);
#define WK_EXPAND(fmt, fn) void fn(wk_panel *dst, const void *w, int k0, int klen);
#define WK_GEMM(kind, rows, cols, kc, fn)                                                          \
    void fn(float *dst, size_t ld, const wk_panel *w, int np, const wk_act *x, int m, int klen,    \
            bool first);
#define WK_QUANT(x_kind, fn) void fn(wk_act *dst, int t, const float *x, int k);
#define WK_ROPE(order, fn) void fn(float *x, const float *cs, int n_head, int hd, int n_rot);
#define WK_GLU(act, fn) void fn(float *dst, const float *gate, const float *up, int n);
#define WK_KV_CAST(type, fn) int fn(void *dst, const float *x, int n);
#define WK_FIELD(field, fn) WK_PROTO_##field(fn)
#define WK_PEAK(what, fn) uint64_t fn(uint64_t n);
#include "simd/avx2/avx2.def"
#undef WK_GEMV
#undef WK_FEW_OF
#undef WK_EXPAND
#undef WK_GEMM
#undef WK_QUANT
#undef WK_ROPE
#undef WK_GLU
#undef WK_KV_CAST
#undef WK_FIELD
#undef WK_PEAK

void wk_fill_decode_avx2(wk_kernels *k);

#endif
