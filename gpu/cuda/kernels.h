/* kernels.h: what backend.cu runs: one function an operation, on device memory and a stream. All are asynchronous and
 * return nothing: a launch that fails is found by cudaGetLastError (steps.cu). Values are f32, dense, [rows][dim], but where a
 * step's value is A32 or A256: then its bytes are matrix.cu's own affair (wkc_act_bytes, wkc_quant, wkc_matmul).
 *
 * A launch's shape depends on host numbers only (rows, dims, max_page), never on what lies in device memory: so a pass of
 * the same numbers can be replayed as a CUDA graph. */
#ifndef WKC_KERNELS_H
#define WKC_KERNELS_H

#include "engine/graph/backend.h"
#include "gpu/cuda/launch.h"

/* ---- weights and products: matrix.cu gemv.cu gemm.cu quant.cu formats.cuh ---------------------------------------- */

/* A matrix on the device, repacked at upload so that loads are aligned and coalesced. */
typedef struct wkc_mat {
    uint8_t *p;       /* device */
    int fmt;          /* wk_fmt of the file */
    int32_t n_row, k;
    size_t plane[4];  /* where its planes (codes, scales, ...) begin, from p */
} wkc_mat;

/* Bytes on the device, a multiple of 256; 0: this format has no kernels. Vectors (w->is_vector) are f32. */
size_t wkc_mat_bytes(const wk_weight *w);
void wkc_mat_init(wkc_mat *m, const wk_weight *w, uint8_t *p);
/* Uploads n rows from row on: repacks them into stage (host, pinned, wkc_stage_bytes) on up to n_thread threads, at least
 * one, and copies from there; stage may be used again when the stream has passed. Rows go through wk_weight_row. False: a value is not finite; *bad is its row. */
size_t wkc_stage_bytes(const wk_weight *w, int32_t n);
bool wkc_mat_upload(const wkc_mat *m, const wk_weight *w, int32_t row, int32_t n, uint8_t *stage, int n_thread,
                    cudaStream_t s, int32_t *bad);

/* A value of type WK_VAL_F32, A32, A256. rows: that it has room for. */
size_t wkc_act_bytes(int type, int32_t dim, size_t rows);
void wkc_quant(cudaStream_t s, int type, const float *x, int32_t n, int32_t dim, size_t rows, void *dst);
void wkc_embed(cudaStream_t s, const wkc_mat *m, const int32_t *tok, int32_t n, float scale, float *dst);
/* dst[n][n_row] = x[n][k] . m^T. x: of x_type, with room for x_rows. scratch: wkc_matmul_scratch of the largest n. */
size_t wkc_matmul_scratch(const wk_weight *w, int32_t n);
void wkc_matmul(cudaStream_t s, const wkc_mat *m, const void *x, int x_type, int32_t n, size_t x_rows, float *dst,
                void *scratch);

/* ---- row work: rows.cu ------------------------------------------------------------------------------------------- */

void wkc_rms(cudaStream_t s, const float *x, const float *w, int32_t n, int32_t dim, float eps, float *dst);
/* heads of head_dim values, each by itself, one w[head_dim] */
void wkc_headrms(cudaStream_t s, const float *x, const float *w, int32_t n, int32_t dim, int32_t head_dim, float eps,
                 float *dst);
void wkc_bias(cudaStream_t s, const float *x, const float *b, int32_t n, int32_t dim, float *dst);
void wkc_add(cudaStream_t s, const float *a, const float *b, size_t n, float *dst);
void wkc_lora(cudaStream_t s, float c, const float *x, const float *y, size_t n, float *dst); /* fma(c, x, y) */
void wkc_glu(cudaStream_t s, int fn, const float *gate, const float *up, size_t n, float *dst);
void wkc_softcap(cudaStream_t s, float c, const float *x, size_t n, float *dst);
void wkc_pick(cudaStream_t s, const float *x, const int32_t *row, int32_t n, int32_t dim, float *dst);
/* cs[n][n_rot]: n_rot/2 cosines, then sines, of pos; freq is on the device */
void wkc_rope_table(cudaStream_t s, const double *freq, int32_t n_rot, float mscale, const int32_t *pos, int32_t n,
                    float *cs);
void wkc_rope(cudaStream_t s, int pairing, const float *x, const float *cs, int32_t n, int32_t dim, int32_t head_dim,
              int32_t n_rot, float *dst);
/* The id of the largest of each row, the lowest of equals; -1 where some value is not finite. dim > 0. */
void wkc_top(cudaStream_t s, const float *x, int32_t n, int32_t dim, int32_t *top);

/* ---- cache and attention: kv.cu attn.cu -------------------------------------------------------------------------- */

/* The part's layers, WK_KV_PAGE positions a page; the order of bytes inside a page is kv.cu's own affair. */
typedef struct wkc_kv {
    uint8_t *p; /* device, [n_page][page_bytes] */
    int kv_type;
    int32_t head_dim, n_head_kv, layer_first, n_layer;
    size_t head_bytes, page_bytes; /* K and V of one head of one page; all layers and heads of it */
} wkc_kv;

/* What of a batch lies on the device. */
typedef struct wkc_batch {
    int32_t n_tok, n_seq, n_out; /* host numbers; with padded graphs the kernels' own rows may be fewer */
    int32_t max_page;            /* pages of the longest sequence, at least */
    const int32_t *tok, *pos, *seq_of;           /* [n_tok] */
    const int32_t *out;                          /* [n_out] */
    const int32_t *first, *count, *pos0, *table; /* [n_seq]; table: where a sequence's pages begin in page */
    const uint32_t *page;
    uint8_t *bad_tok;                            /* [n_tok] */
} wkc_batch;

bool wkc_kv_init(wkc_kv *kv, int kv_type, int32_t head_dim, int32_t n_head_kv, int32_t layer_first, int32_t n_layer);
/* zero[n_zero] pages, then copy[2 n_copy] (dst, src); device memory */
void wkc_kv_pages(cudaStream_t s, const wkc_kv *kv, const uint32_t *zero, int32_t n_zero, const uint32_t *copy,
                  int32_t n_copy);
/* which: 0 K, 1 V. A value that does not fit the cache type sets bad_tok. */
void wkc_kv_put(cudaStream_t s, const wkc_kv *kv, int32_t layer, int which, const float *x, const wkc_batch *b);
size_t wkc_attn_scratch(const wkc_kv *kv, int32_t n_head, int32_t max_tok, uint32_t n_page);
/* q, dst: [n_tok][n_head * head_dim]. window: positions seen, 0 all. */
void wkc_attn(cudaStream_t s, const wkc_kv *kv, int32_t layer, int32_t n_head, float scale, float softcap, int32_t window,
              const float *q, float *dst, const wkc_batch *b, void *scratch);

#endif
