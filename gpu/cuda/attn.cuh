/* attn.cuh: what the kernels of attention share. A sequence's query heads of one kv head, token by token, are columns:
 * column c is head c % group of token c / group. Both kernels take runs of columns, wherever tokens begin and end in them,
 * so that any group fills them; K and V are read once for a run.
 *
 *   split   sequences that bring WKC_FEW tokens or less: pages are shared out among blocks, a second kernel merges
 *   tile    the others: 64 columns a block, which walks the pages that they see
 */
#ifndef WKC_ATTN_CUH
#define WKC_ATTN_CUH

#include "gpu/cuda/kv.cuh"

enum { WKC_FEW = 4 };

/* A maximum of nothing (DESIGN 9.7): a finite start, so that no Inf is subtracted from another. */
#define WKC_M0 (-0x1p127f)
#define WKC_LOG2E 1.44269504f

typedef struct wkc_attn_args {
    wkc_kv_head kv;
    const float *q;
    float *dst;
    const int32_t *first, *count, *pos0, *table;
    const uint32_t *page;
    int n_seq, n_head, n_head_kv, group, window;
    float scale, softcap, softcap_inv;
    int n_split;       /* pieces of a sequence's positions */
    bool by_row;       /* a token's partial results lie by its row of the batch; else by sequence, WKC_FEW each */
    float *o;          /* [token][head][split][hd], where n_split > 1 */
    float2 *ml;        /* [token][head][split]: maximum, sum */
} wkc_attn_args;

/* Columns of a sequence, as a run of them. */
typedef struct wkc_cols {
    int seq, first, pos0, n; /* its first row of the batch, position of that, columns */
} wkc_cols;

static inline __device__ int wkc_first_seen(int pos, int window) { return window && pos >= window ? pos - window + 1 : 0; }

/* Where column c of kv head h stands in q and dst. */
static inline __device__ size_t wkc_col_at(const wkc_attn_args *a, const wkc_cols *s, int h, int c) {
    const size_t row = (size_t)(s->first + c / a->group);
    return (row * (size_t)a->n_head + (size_t)(h * a->group + c % a->group)) * (size_t)a->kv.hd;
}

/* A scaled score in powers of two. */
static inline __device__ float wkc_score(const wkc_attn_args *a, float s) {
    if (a->softcap > 0.0f) s = a->softcap * tanhf(s * a->softcap_inv);
    return s * WKC_LOG2E;
}

static inline __device__ const uint8_t *wkc_page_of(const wkc_attn_args *a, int seq, int h, int page) {
    return a->kv.p + a->page[a->table[seq] + page] * a->kv.page + (size_t)h * a->kv.head;
}

/* Launches; type is the cache's. n_col: columns that are read for at once; 1, 2, 4, 8. */
void wkc_attn_split(cudaStream_t s, int type, const wkc_attn_args *a, int n_col);
void wkc_attn_tile(cudaStream_t s, int type, const wkc_attn_args *a, int n_tok);

#endif
