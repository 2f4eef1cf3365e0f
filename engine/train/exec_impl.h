/* exec_impl.h: what the executors of a training plan share. */
#ifndef WK_TEXEC_IMPL_H
#define WK_TEXEC_IMPL_H

#include "engine/train/exec.h"

enum { WK_TATTN_COLS = 48 }; /* query heads x tokens of one call of the attention kernels */

/* Memory of one thread: attention. Columns [cols][hd]. */
typedef struct wk_tscratch {
    float *q, *d_o, *o, *d_q; /* [cols][hd] */
    float *p, *ds;            /* [cols][64] */
    float *m, *l, *delta;     /* [cols] */
    float *d_k, *d_v;         /* [positions of the longest sequence][hd] */
    uint8_t *lo, *hi;         /* [cols] */
} wk_tscratch;

struct wk_texec {
    const wk_grad *g;
    const wk_plan *plan;
    wk_texec_options o;
    int n_thread;
    wk_pages params, grads, values, scratch;
    float **vector; /* [n_weight] f32 values of frozen vectors, NULL else */
    float *decoded; /* rows of a frozen matrix, n_decoded floats */
    size_t n_decoded;
    float *thin; /* panels of a thin matrix */
    float **cs, **cs_back; /* per rope kind [max_tok][n_rot]: cos and sin, cos and -sin */
    float *kp, *vp, *k_rows,
        *v_rows;   /* attention: [kv heads][positions][hd] as panels and rows, pages padded */
    size_t n_pos;  /* positions that they hold */
    float *logits; /* [chunk][n_vocab] */
    float *capped; /* [n_thread][n_vocab], where the head has a softcap */
    int32_t chunk;
    double *row_loss;  /* [max_tok] */
    int32_t *out;      /* [max_tok] batch tokens that count */
    wk_tscratch *mine; /* [n_thread] */
    /* of the running call */
    const wk_tbatch *b;
    int32_t n_out;
    bool backward;
    double loss;      /* of the head step */
    double head_back; /* seconds of it that belong to the way back */
    double flops;     /* of attention */
    wk_tclock clock;
    void (*on_layer)(void *ud, int32_t layer);
    void *on_layer_ud;
};

/* One step; ops that are spread over the team get rank and n, those that call products run on the caller alone. */
typedef void wk_texec_fn(wk_texec *x, const wk_tstep *s, int rank, int n);
#define WK_OP(name, class, equation) wk_texec_fn wk_texec_##name;
#include "engine/graph/op.def"
#undef WK_OP
#define WK_TOP(name, operands, equation) wk_texec_fn wk_texec_##name;
#include "engine/train/pack.def"
#undef WK_TOP

static inline float *wk_tval_at(const wk_texec *x, int32_t v) {
    return v < 0 ? NULL : (float *)(void *)(x->values.p + x->g->val[v].off);
}
static inline int32_t wk_tval_rows(const wk_texec *x, int32_t v) {
    return x->g->val[v].rows == WK_ROWS_TOK ? x->b->n_tok : x->n_out;
}
static inline int32_t wk_tval_dim(const wk_texec *x, int32_t v) { return x->g->val[v].dim; }
static inline float *wk_tgrad_at(const wk_texec *x, int32_t param) {
    return (float *)(void *)x->grads.p + x->g->param[param].off;
}
/* Share of rank in n items. */
static inline int32_t wk_share(int32_t n_item, int rank, int n) {
    return (int32_t)((int64_t)n_item * rank / n);
}

double wk_tnow(void); /* seconds of a monotonic clock */
/* f32 values of a vector. */
const float *wk_tvector(const wk_texec *x, int32_t weight);
/* Rows r0 .. r1-1 of a matrix as f32, row-major: the parameter itself, or decoded into x->decoded by the team, where they
 * hold until the next call; (r1 - r0) * k <= n_decoded then. Caller: outside a region. */
const float *wk_tmatrix(wk_texec *x, int32_t weight, int32_t r0, int32_t r1);
bool wk_tmatrix_is_param(const wk_texec *x, int32_t weight);
/* The thin product of a step that has one, its weight as panels in x->thin, where they hold until the next call. */
wk_sgemm_thin wk_tthin(const wk_texec *x, const wk_tstep *s);

/* loss.c: instead of the head step: logits alone. */
void wk_texec_head_logits(wk_texec *x, const wk_tstep *s,
                          void (*on_row)(void *ud, int32_t t, const float *logits), void *ud);

#endif
