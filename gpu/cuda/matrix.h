/* matrix.h: what matrix.cu, quant.cu, gemv.cu, gemm.cu and their f32 sisters share. */
#ifndef WKC_MATRIX_H
#define WKC_MATRIX_H

#include "gpu/cuda/kernels.h"
#include "gpu/cuda/layout.h"

/* A quantised matrix as a kernel's argument: planes of layout.h. */
typedef struct wkc_w {
    const uint8_t *code, *high, *d, *sc;
    uint32_t table[4]; /* 16 values, for formats with a table */
    float factor;      /* of d */
    int32_t n_row, n_unit;
} wkc_w;

/* Quantised activations: plane after plane, each with room for the same number of rows. Sums of 16 codes serve the
 * zero points and the mins of every format: a sum of 32 is two of them, 4 bytes in one load. */
typedef struct wkc_a {
    const int8_t *q;    /* [rows][dim] */
    const float *d;     /* [rows][dim / 32 or dim / 256] */
    const int16_t *s16; /* [rows][dim / 16] */
} wkc_a;

static inline int wkc_act_block(int type) { return type == WK_VAL_A256 ? 256 : 32; }
static inline size_t wkc_act_d(int32_t dim, size_t rows) { return wkc_align(rows * (size_t)dim); }
static inline size_t wkc_act_s16(int type, int32_t dim, size_t rows) {
    return wkc_act_d(dim, rows) + wkc_align(rows * (size_t)(dim / wkc_act_block(type)) * sizeof(float));
}
static inline wkc_a wkc_act_of(int type, const void *x, int32_t dim, size_t rows) {
    const uint8_t *p = (const uint8_t *)x;
    return {(const int8_t *)p, (const float *)(p + wkc_act_d(dim, rows)),
            (const int16_t *)(p + wkc_act_s16(type, dim, rows))};
}

/* At most this many rows of activations go through gemv, which reads the weights once for all of them. */
enum { WKC_GEMV_MAX = 8 };

void wkc_gemv(cudaStream_t s, int fmt, const wkc_w *w, const wkc_a *x, int32_t n, float *dst);
void wkc_gemm(cudaStream_t s, int fmt, const wkc_w *w, const wkc_a *x, int32_t n, float *dst);
/* F32, F16, BF16: rows of wkc_pad(k) values, x f32 rows of k. */
void wkc_gemv_f(cudaStream_t s, const wkc_mat *m, const float *x, int32_t n, float *dst);
void wkc_gemm_f(cudaStream_t s, const wkc_mat *m, const float *x, int32_t n, float *dst);
wkc_w wkc_w_of(const wkc_mat *m);

#endif
