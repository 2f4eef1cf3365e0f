/* exec_forward.c: the steps of the way forward, by the kernels of inference, and the small ones of the way back. */
#include <string.h>

#include "engine/train/exec_impl.h"

/* Rows of destination 0 that belong to a rank. */
typedef struct rows {
    int32_t t0, t1;
    size_t dim;
} rows;
static rows rows_of(const wk_texec *x, int32_t v, int rank, int n) {
    const int32_t all = wk_tval_rows(x, v);
    return (rows){wk_share(all, rank, n), wk_share(all, rank + 1, n), (size_t)wk_tval_dim(x, v)};
}

void wk_texec_embed(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const wk_weight *w = &x->plan->weight[s->w];
    const int32_t param = x->g->param_of[s->w];
    float *dst = wk_tval_at(x, s->dst[0]);
    for (int32_t t = r.t0; t < r.t1; t++) {
        float *y = dst + (size_t)t * r.dim;
        const int32_t id = x->b->tok[t];
        if (param >= 0)
            memcpy(y,
                   (const float *)(void *)x->params.p + x->g->param[param].off + (size_t)id * r.dim,
                   r.dim * sizeof(float));
        else
            x->o.k->decode[w->fmt](y, w->data + (size_t)wk_weight_row(w, id) * w->row_bytes, w->k);
        if (s->of->scale != 1.0f) x->o.k->scale(y, y, s->of->scale, (int)r.dim);
    }
}

void wk_texec_rms(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const float *w = wk_tvector(x, s->w), *src = wk_tval_at(x, s->src[0]);
    float *dst = wk_tval_at(x, s->dst[0]), *stat = wk_tval_at(x, s->dst[1]);
    for (int32_t t = r.t0; t < r.t1; t++)
        x->o.k->rms(dst + (size_t)t * r.dim, stat ? stat + t : NULL, src + (size_t)t * r.dim, w,
                    (int)r.dim, s->of->eps);
}

void wk_texec_headrms(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const int32_t hd = s->of->head_dim, n_head = s->of->n_head;
    const float *w = wk_tvector(x, s->w), *src = wk_tval_at(x, s->src[0]);
    float *dst = wk_tval_at(x, s->dst[0]), *stat = wk_tval_at(x, s->dst[1]);
    for (int32_t t = r.t0; t < r.t1; t++)
        for (int32_t h = 0; h < n_head; h++) {
            const size_t at = (size_t)t * r.dim + (size_t)h * (size_t)hd;
            x->o.k->rms(dst + at, stat ? stat + (size_t)t * (size_t)n_head + h : NULL, src + at, w,
                        hd, s->of->eps);
        }
}

void wk_texec_matmul(wk_texec *x, const wk_tstep *s, int rank, int n) {
    (void)rank;
    (void)n;
    const wk_weight *w = &x->plan->weight[s->w];
    const wk_sgemm_thin thin = s->thin >= 0 ? wk_tthin(x, s) : (wk_sgemm_thin){0};
    const wk_sgemm_call c = {.op = WK_SGEMM_NT,
                             .m = wk_tval_rows(x, s->dst[0]),
                             .n = w->n_row,
                             .k = w->k,
                             .a = wk_tval_at(x, s->src[0]),
                             .b = wk_tmatrix(x, s->w, 0, w->n_row),
                             .c = wk_tval_at(x, s->dst[0]),
                             .lda = (size_t)w->k,
                             .ldb = (size_t)w->k,
                             .ldc = (size_t)w->n_row,
                             .thin = s->thin >= 0 ? &thin : NULL};
    wk_sgemm_run(x->o.gemm, &c);
}

void wk_texec_bias(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const float *b = wk_tvector(x, s->w), *src = wk_tval_at(x, s->src[0]);
    float *dst = wk_tval_at(x, s->dst[0]);
    for (int32_t t = r.t0; t < r.t1; t++)
        x->o.k->add(dst + (size_t)t * r.dim, src + (size_t)t * r.dim, b, (int)r.dim);
}

/* Positions are those inside a sequence: cs has a row per token. */
static void turn(wk_texec *x, const wk_tstep *s, float *const *cs, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const int32_t n_rot = x->plan->rope[s->of->rope].n_rot;
    const float *src = wk_tval_at(x, s->src[0]);
    float *dst = wk_tval_at(x, s->dst[0]);
    if (dst != src)
        memcpy(dst + (size_t)r.t0 * r.dim, src + (size_t)r.t0 * r.dim,
               (size_t)(r.t1 - r.t0) * r.dim * sizeof(float));
    for (int32_t t = r.t0; t < r.t1; t++)
        x->o.k->rope[s->of->pairing](dst + (size_t)t * r.dim,
                                     cs[s->of->rope] + (size_t)t * (size_t)n_rot,
                                     (int)r.dim / s->of->head_dim, s->of->head_dim, n_rot);
}
void wk_texec_rope(wk_texec *x, const wk_tstep *s, int rank, int n) { turn(x, s, x->cs, rank, n); }
void wk_texec_rope_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    turn(x, s, x->cs_back, rank, n);
}

/* Element by element: the range of a rank, on one line. */
typedef struct range {
    size_t at;
    int n;
} range;
static range range_of(const wk_texec *x, int32_t v, int rank, int n) {
    const rows r = rows_of(x, v, rank, n);
    return (range){(size_t)r.t0 * r.dim, (int)((size_t)(r.t1 - r.t0) * r.dim)};
}

void wk_texec_add(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const range r = range_of(x, s->dst[0], rank, n);
    x->o.k->add(wk_tval_at(x, s->dst[0]) + r.at, wk_tval_at(x, s->src[0]) + r.at,
                wk_tval_at(x, s->src[1]) + r.at, r.n);
}

void wk_texec_lora(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const range r = range_of(x, s->dst[0], rank, n);
    x->o.k->fma(wk_tval_at(x, s->dst[0]) + r.at, wk_tval_at(x, s->src[0]) + r.at,
                wk_tval_at(x, s->src[1]) + r.at, s->of->scale, r.n);
}

void wk_texec_add_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const range r = range_of(x, s->dst[0], rank, n);
    float *dst = wk_tval_at(x, s->dst[0]) + r.at;
    x->o.k->add(dst, dst, wk_tval_at(x, s->src[0]) + r.at, r.n);
}

void wk_texec_scale(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const range r = range_of(x, s->dst[0], rank, n);
    x->o.k->scale(wk_tval_at(x, s->dst[0]) + r.at, wk_tval_at(x, s->src[0]) + r.at, s->scale, r.n);
}

void wk_texec_glu(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const range r = range_of(x, s->dst[0], rank, n);
    x->o.k->glu[s->of->fn](wk_tval_at(x, s->dst[0]) + r.at, wk_tval_at(x, s->src[0]) + r.at,
                           wk_tval_at(x, s->src[1]) + r.at, r.n);
}

void wk_texec_glu_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const range r = range_of(x, s->dst[0], rank, n);
    x->o.gk->glu[s->of->fn](wk_tval_at(x, s->dst[0]) + r.at, wk_tval_at(x, s->dst[1]) + r.at,
                            wk_tval_at(x, s->src[0]) + r.at, wk_tval_at(x, s->src[1]) + r.at,
                            wk_tval_at(x, s->src[2]) + r.at, r.n);
}

void wk_texec_pick(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const float *src = wk_tval_at(x, s->src[0]);
    for (int32_t t = r.t0; t < r.t1; t++)
        memcpy(wk_tval_at(x, s->dst[0]) + (size_t)t * r.dim, src + (size_t)x->out[t] * r.dim,
               r.dim * sizeof(float));
}

/* x->out ascends: what lies between two of its tokens is zero. */
void wk_texec_unpick(wk_texec *x, const wk_tstep *s, int rank, int n) {
    const rows r = rows_of(x, s->dst[0], rank, n);
    const float *src = wk_tval_at(x, s->src[0]);
    float *dst = wk_tval_at(x, s->dst[0]);
    memset(dst + (size_t)r.t0 * r.dim, 0, (size_t)(r.t1 - r.t0) * r.dim * sizeof(float));
    for (int32_t i = 0; i < x->n_out; i++)
        if (x->out[i] >= r.t0 && x->out[i] < r.t1)
            memcpy(dst + (size_t)x->out[i] * r.dim, src + (size_t)i * r.dim, r.dim * sizeof(float));
}
