/* tkernels.h: kernels that only training needs, in f32 but for products on request. All are asynchronous; a launch that fails is found by
 * cudaGetLastError. No sum is made by atomics: a run repeats bit for bit. Formulas: simd/grad/grad.h; sums are taken in
 * another order than the CPU's. */
#ifndef WKC_TKERNELS_H
#define WKC_TKERNELS_H

#include "gpu/cuda/kernels.h"
#include "simd/grad/grad.h"

/* ---- products: tgemm.cu, tgemm_bf16.cu --------------------------------------------------------------------------- */

typedef enum wkc_gemm_op { WKC_GEMM_NT, WKC_GEMM_NN, WKC_GEMM_TN } wkc_gemm_op;
/* c[m][n] (+)= alpha * sum over k.  NT: a[m][k] b[n][k]   NN: a[m][k] b[k][n]   TN: a[k][m] b[k][n].  Rows lie dense. */
void wkc_tgemm(cudaStream_t s, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
               float *c);
/* The same; a and b are rounded to bf16 first. From sm_80 on. */
void wkc_tgemm_bf16(cudaStream_t s, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
                    float *c);
void wkc_tround(cudaStream_t s, const float *x, size_t n, uint16_t *dst); /* to bf16 */

/* ---- rows: trows.cu ---------------------------------------------------------------------------------------------- */

void wkc_tembed(cudaStream_t s, const float *w, const int32_t *tok, int32_t n, int32_t dim, float scale, float *dst);
/* r: factor of each row, may be NULL */
void wkc_trms(cudaStream_t s, const float *x, const float *w, size_t n, int32_t dim, float eps, float *dst, float *r);
void wkc_trms_dx(cudaStream_t s, const float *dy, const float *x, const float *r, const float *w, size_t n, int32_t dim,
                 bool add, float *dx);
/* dw[i] += sum over rows of dy x r; x NULL: of dy alone */
void wkc_tcolumns(cudaStream_t s, const float *dy, const float *x, const float *r, int n, int dim, float *dw);
void wkc_tdots(cudaStream_t s, const float *a, const float *b, size_t n, int32_t dim, float *dst); /* of each row */
void wkc_tscale(cudaStream_t s, float c, const float *x, size_t n, float *dst);
void wkc_tglu_dx(cudaStream_t s, int fn, const float *dy, const float *g, const float *u, size_t n, float *dg, float *du);
/* dst row t = src row at[t]; at[t] < 0: zeros */
void wkc_tunpick(cudaStream_t s, const float *src, const int32_t *at, int32_t n, int32_t dim, float *dst);
/* Tokens order[start[i]] .. order[start[i + 1] - 1] have the id of the first: its row is added to, in that order. */
void wkc_tembed_dw(cudaStream_t s, const float *dy, const int32_t *tok, const int32_t *order, const int32_t *start,
                   int32_t n_id, int32_t dim, float scale, float *dw);
void wkc_tnegate_sines(cudaStream_t s, const float *cs, int32_t n, int32_t n_rot, float *back);

/* ---- attention: tattn.cu ----------------------------------------------------------------------------------------- */

enum { WKC_TATTN_ROWS = 8, WKC_TATTN_HD = 256 }; /* queries, or keys, of a block; largest head_dim */
/* Some rows of a sequence: its first token, its length, and the first of the rows inside of it. */
typedef struct wkc_ttile {
    int32_t first, n_tok, at;
} wkc_ttile;
typedef struct wkc_tattn_args {
    const float *q, *k, *v, *d_o, *delta; /* d_o, delta: way back */
    float *o, *m, *l;                     /* m, l may be NULL on the way there */
    float *dq, *dk, *dv;
    const wkc_ttile *tile;
    int32_t n_tile, n_head, n_head_kv, hd, window;
    float scale, softcap, cap_inv;
} wkc_tattn_args;
void wkc_tattn(cudaStream_t s, const wkc_tattn_args *a);
void wkc_tattn_back(cudaStream_t s, const wkc_tattn_args *a);

/* ---- loss, update: tloss.cu -------------------------------------------------------------------------------------- */

/* Rows of logits: loss of each; back: the logits become their gradients. */
void wkc_tloss(cudaStream_t s, float *logits, const int32_t *target, int32_t n, int32_t n_vocab, float softcap, bool back,
               double *loss);
enum { WKC_TNORM_BLOCKS = 256 };
void wkc_tsquares(cudaStream_t s, const float *x, size_t n, double *part); /* [WKC_TNORM_BLOCKS] */
void wkc_tadamw(cudaStream_t s, float *w, float *m, float *v, const float *g, const wk_adamw *a, size_t n);

#endif
