/* exec_backward.c: products and row work of the way back. Where a gradient is a sum over tokens it is cut by its
 * elements, never by tokens: one thread owns an element and adds in the order of the tokens. */
#include "engine/base/arena.h"
#include "engine/train/exec_impl.h"

enum { COLUMN = 16 }; /* columns of a rank's share: a multiple of this, a cache line */

static int32_t column_share(int32_t n_col, int rank, int n) {
    const int32_t at = wk_share((n_col + COLUMN - 1) / COLUMN, rank, n) * COLUMN;
    return at < n_col ? at : n_col;
}

void wk_texec_matmul_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    (void)rank;
    (void)n;
    const wk_weight *w = &x->plan->weight[s->w];
    const wk_sgemm_thin thin = s->thin >= 0 ? wk_tthin(x, s) : (wk_sgemm_thin){0};
    const wk_sgemm_call c = {.op = WK_SGEMM_NN,
                             .m = wk_tval_rows(x, s->dst[0]),
                             .n = w->k,
                             .k = w->n_row,
                             .a = wk_tval_at(x, s->src[0]),
                             .b = wk_tmatrix(x, s->w, 0, w->n_row),
                             .c = wk_tval_at(x, s->dst[0]),
                             .lda = (size_t)w->n_row,
                             .ldb = (size_t)w->k,
                             .ldc = (size_t)w->k,
                             .add = s->add,
                             .thin = s->thin >= 0 ? &thin : NULL};
    wk_sgemm_run(x->o.gemm, &c);
}

void wk_texec_matmul_dw(wk_texec *x, const wk_tstep *s, int rank, int n) {
    (void)rank;
    (void)n;
    const wk_weight *w = &x->plan->weight[s->w];
    const wk_sgemm_call c = {.op = WK_SGEMM_TN,
                             .m = w->n_row,
                             .n = w->k,
                             .k = wk_tval_rows(x, s->src[0]),
                             .a = wk_tval_at(x, s->src[0]),
                             .b = wk_tval_at(x, s->src[1]),
                             .c = wk_tgrad_at(x, s->param),
                             .lda = (size_t)w->n_row,
                             .ldb = (size_t)w->k,
                             .ldc = (size_t)w->k,
                             .add = true};
    wk_sgemm_run(x->o.gemm, &c);
}

void wk_texec_bias_db(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t dim = wk_tval_dim(x, s->src[0]), c0 = column_share(dim, rank, n),
                  c1 = column_share(dim, rank + 1, n);
    x->o.gk->col_sum(wk_tgrad_at(x, s->param) + c0, wk_tval_at(x, s->src[0]) + c0, (size_t)dim,
                     wk_tval_rows(x, s->src[0]), c1 - c0);
}

void wk_texec_rms_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t all = wk_tval_rows(x, s->dst[0]), dim = wk_tval_dim(x, s->dst[0]);
    const float *w = wk_tvector(x, s->w), *r = wk_tval_at(x, s->src[2]);
    for (int32_t t = wk_share(all, rank, n); t < wk_share(all, rank + 1, n); t++) {
        const size_t at = (size_t)t * (size_t)dim;
        x->o.gk->rms(wk_tval_at(x, s->dst[0]) + at, wk_tval_at(x, s->src[0]) + at,
                     wk_tval_at(x, s->src[1]) + at, w, r[t], dim, s->add);
    }
}

void wk_texec_rms_dw(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t dim = wk_tval_dim(x, s->src[0]), c0 = column_share(dim, rank, n),
                  c1 = column_share(dim, rank + 1, n);
    x->o.gk->rms_w(wk_tgrad_at(x, s->param) + c0, wk_tval_at(x, s->src[0]) + c0,
                   wk_tval_at(x, s->src[1]) + c0, wk_tval_at(x, s->src[2]), (size_t)dim,
                   wk_tval_rows(x, s->src[0]), c1 - c0);
}

void wk_texec_headrms_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t all = wk_tval_rows(x, s->dst[0]), dim = wk_tval_dim(x, s->dst[0]);
    const int32_t hd = s->of->head_dim, n_head = s->of->n_head;
    const float *w = wk_tvector(x, s->w), *r = wk_tval_at(x, s->src[2]);
    for (int32_t t = wk_share(all, rank, n); t < wk_share(all, rank + 1, n); t++)
        for (int32_t h = 0; h < n_head; h++) {
            const size_t at = (size_t)t * (size_t)dim + (size_t)h * (size_t)hd;
            x->o.gk->rms(wk_tval_at(x, s->dst[0]) + at, wk_tval_at(x, s->src[0]) + at,
                         wk_tval_at(x, s->src[1]) + at, w,
                         r[(size_t)t * (size_t)n_head + (size_t)h], hd, s->add);
        }
}

/* Heads of a token one after another: a value is a matrix of tokens * heads rows. */
void wk_texec_headrms_dw(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t hd = s->of->head_dim, c0 = column_share(hd, rank, n),
                  c1 = column_share(hd, rank + 1, n);
    x->o.gk->rms_w(wk_tgrad_at(x, s->param) + c0, wk_tval_at(x, s->src[0]) + c0,
                   wk_tval_at(x, s->src[1]) + c0, wk_tval_at(x, s->src[2]), (size_t)hd,
                   wk_tval_rows(x, s->src[0]) * s->of->n_head, c1 - c0);
}

void wk_texec_attn_delta(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t all = wk_tval_rows(x, s->dst[0]), n_head = s->of->n_head, hd = s->of->head_dim;
    const size_t dim = (size_t)n_head * (size_t)hd;
    for (int32_t t = wk_share(all, rank, n); t < wk_share(all, rank + 1, n); t++)
        for (int32_t h = 0; h < n_head; h++) {
            const size_t at = (size_t)t * dim + (size_t)h * (size_t)hd;
            wk_tval_at(x, s->dst[0])[(size_t)t * (size_t)n_head + (size_t)h] =
                x->o.gk->dot(wk_tval_at(x, s->src[0]) + at, wk_tval_at(x, s->src[1]) + at, hd);
        }
}

/* A rank owns the rows of some ids, so each row is added to in the order of the tokens. */
void wk_texec_embed_dw(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const int32_t dim = wk_tval_dim(x, s->src[0]);
    const float *dy = wk_tval_at(x, s->src[0]);
    for (int32_t t = 0; t < x->b->n_tok; t++)
        if (x->b->tok[t] % n == rank)
            x->o.gk->axpy(wk_tgrad_at(x, s->param) + (size_t)x->b->tok[t] * (size_t)dim,
                          dy + (size_t)t * (size_t)dim, s->scale, dim);
}
