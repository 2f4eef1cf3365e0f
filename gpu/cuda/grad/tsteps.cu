/* tsteps.cu: each step of a training plan as launches: one function an operation, in a table. */
#include "gpu/cuda/grad/tdev.h"

/* ---- operands ---------------------------------------------------------------------------------------------------- */

static float *at(const wk_tdev *d, int32_t v) { return v < 0 ? NULL : (float *)(void *)(d->values + d->g->val[v].off); }
static float *dst(const wk_tdev *d, const wk_tstep *s, int i) { return at(d, s->dst[i]); }
static const float *src(const wk_tdev *d, const wk_tstep *s, int i) { return at(d, s->src[i]); }
static int32_t rows(const wk_tdev *d, int32_t v) { return d->g->val[v].rows == WK_ROWS_TOK ? d->n_tok : d->n_out; }
static int32_t dim(const wk_tdev *d, int32_t v) { return d->g->val[v].dim; }
static size_t all(const wk_tdev *d, int32_t v) { return (size_t)rows(d, v) * (size_t)dim(d, v); }
static float *gradient(const wk_tdev *d, const wk_tstep *s) {
    return d->arena[WK_TDEV_GRADS] + d->g->param[s->param].off;
}
static const int32_t *list(const wk_tdev *d, size_t of) { return d->block + of; }

/* ---- there ------------------------------------------------------------------------------------------------------- */

static void do_embed(wk_tdev *d, const wk_tstep *s) {
    const int32_t v = s->dst[0];
    wkc_tembed(d->stream, d->weight[s->w], list(d, d->frame.tok), rows(d, v), dim(d, v), s->of->scale, at(d, v));
}
static void do_rms(wk_tdev *d, const wk_tstep *s) {
    const int32_t v = s->dst[0];
    wkc_trms(d->stream, src(d, s, 0), d->weight[s->w], (size_t)rows(d, v), dim(d, v), s->of->eps, at(d, v), dst(d, s, 1));
}
static void do_headrms(wk_tdev *d, const wk_tstep *s) {
    const size_t n = (size_t)rows(d, s->dst[0]) * (size_t)s->of->n_head;
    wkc_trms(d->stream, src(d, s, 0), d->weight[s->w], n, s->of->head_dim, s->of->eps, dst(d, s, 0), dst(d, s, 1));
}
static void do_matmul(wk_tdev *d, const wk_tstep *s) {
    const wk_weight *w = &d->g->plan->weight[s->w];
    const int32_t n = rows(d, s->dst[0]);
    wkc_tproduct(d, WKC_GEMM_NT, n, w->n_row, w->k, 1.0f, src(d, s, 0), d->weight[s->w], false, dst(d, s, 0));
    if (s->thin < 0) return;
    const wk_weight *b = &d->g->plan->weight[s->thin];
    wkc_tproduct(d, WKC_GEMM_NT, n, b->n_row, b->k, s->scale, src(d, s, 1), d->weight[s->thin], true, dst(d, s, 0));
}
static void do_bias(wk_tdev *d, const wk_tstep *s) {
    wkc_bias(d->stream, src(d, s, 0), d->weight[s->w], rows(d, s->dst[0]), dim(d, s->dst[0]), dst(d, s, 0));
}
static void turn(wk_tdev *d, const wk_tstep *s, float *const *cs) {
    const int32_t v = s->dst[0], r = s->of->rope;
    wkc_rope(d->stream, s->of->pairing, src(d, s, 0), cs[r], rows(d, v), dim(d, v), s->of->head_dim,
             d->g->plan->rope[r].n_rot, at(d, v));
}
static void do_rope(wk_tdev *d, const wk_tstep *s) { turn(d, s, d->cs); }
static void do_rope_dx(wk_tdev *d, const wk_tstep *s) { turn(d, s, d->cs_back); }
static void do_add(wk_tdev *d, const wk_tstep *s) {
    wkc_add(d->stream, src(d, s, 0), src(d, s, 1), all(d, s->dst[0]), dst(d, s, 0));
}
static void do_lora(wk_tdev *d, const wk_tstep *s) {
    wkc_lora(d->stream, s->of->scale, src(d, s, 1), src(d, s, 0), all(d, s->dst[0]), dst(d, s, 0));
}
static void do_glu(wk_tdev *d, const wk_tstep *s) {
    wkc_glu(d->stream, s->of->fn, src(d, s, 0), src(d, s, 1), all(d, s->dst[0]), dst(d, s, 0));
}
static void do_pick(wk_tdev *d, const wk_tstep *s) {
    wkc_pick(d->stream, src(d, s, 0), list(d, d->frame.out), rows(d, s->dst[0]), dim(d, s->dst[0]), dst(d, s, 0));
}

static wkc_tattn_args attn_args(const wk_tdev *d, const wk_tstep *s) {
    wkc_tattn_args a = {};
    a.q = src(d, s, 0);
    a.k = src(d, s, 1);
    a.v = src(d, s, 2);
    a.tile = (const wkc_ttile *)(const void *)list(d, d->frame.tile);
    a.n_tile = d->n_tile;
    a.n_head = s->of->n_head;
    a.n_head_kv = s->of->n_head_kv;
    a.hd = s->of->head_dim;
    a.window = s->of->window;
    a.scale = s->of->scale;
    a.softcap = s->of->softcap;
    a.cap_inv = s->of->softcap > 0.0f ? (float)(1.0 / (double)s->of->softcap) : 0.0f;
    return a;
}
static void do_attn(wk_tdev *d, const wk_tstep *s) {
    wkc_tattn_args a = attn_args(d, s);
    a.o = dst(d, s, 0);
    a.m = dst(d, s, 1);
    a.l = dst(d, s, 2);
    wkc_tattn(d->stream, &a);
}

/* ---- loss -------------------------------------------------------------------------------------------------------- */

/* Some tokens at a time, so that there are never more logits than one chunk's. */
static void do_head(wk_tdev *d, const wk_tstep *s) {
    const wk_weight *w = &d->g->plan->weight[s->w];
    const size_t k = (size_t)w->k;
    for (int32_t t = 0; t < d->n_out; t += d->chunk) {
        const int32_t n = d->n_out - t < d->chunk ? d->n_out - t : d->chunk;
        const float *const h = src(d, s, 0) + (size_t)t * k;
        wkc_tproduct(d, WKC_GEMM_NT, n, w->n_row, w->k, 1.0f, h, d->weight[s->w], false, d->logits);
        wkc_tloss(d->stream, d->logits, list(d, d->frame.target) + t, n, w->n_row, s->scale, d->backward, d->loss + t);
        if (!d->backward) continue;
        if (s->dst[0] >= 0)
            wkc_tproduct(d, WKC_GEMM_NN, n, w->k, w->n_row, 1.0f, d->logits, d->weight[s->w], false,
                      dst(d, s, 0) + (size_t)t * k);
        if (s->param >= 0) wkc_tproduct(d, WKC_GEMM_TN, w->n_row, w->k, n, 1.0f, d->logits, h, true, gradient(d, s));
    }
}

/* ---- back -------------------------------------------------------------------------------------------------------- */

static void do_unpick(wk_tdev *d, const wk_tstep *s) {
    wkc_tunpick(d->stream, src(d, s, 0), list(d, d->frame.back), d->n_tok, dim(d, s->dst[0]), dst(d, s, 0));
}
static void do_scale(wk_tdev *d, const wk_tstep *s) {
    wkc_tscale(d->stream, s->scale, src(d, s, 0), all(d, s->dst[0]), dst(d, s, 0));
}
static void do_matmul_dx(wk_tdev *d, const wk_tstep *s) {
    const wk_weight *w = &d->g->plan->weight[s->w];
    const int32_t n = rows(d, s->dst[0]);
    if (s->thin >= 0) {
        const wk_weight *a = &d->g->plan->weight[s->thin];
        wkc_tproduct(d, WKC_GEMM_NN, n, a->k, a->n_row, s->scale, src(d, s, 1), d->weight[s->thin], s->add,
                  dst(d, s, 0));
    }
    wkc_tproduct(d, WKC_GEMM_NN, n, w->k, w->n_row, 1.0f, src(d, s, 0), d->weight[s->w], s->add || s->thin >= 0,
              dst(d, s, 0));
}
static void do_matmul_dw(wk_tdev *d, const wk_tstep *s) {
    const wk_weight *w = &d->g->plan->weight[s->w];
    wkc_tproduct(d, WKC_GEMM_TN, w->n_row, w->k, rows(d, s->src[0]), 1.0f, src(d, s, 0), src(d, s, 1), true,
              gradient(d, s));
}
static void do_bias_db(wk_tdev *d, const wk_tstep *s) {
    wkc_tcolumns(d->stream, src(d, s, 0), NULL, NULL, rows(d, s->src[0]), dim(d, s->src[0]), gradient(d, s));
}
static void do_rms_dx(wk_tdev *d, const wk_tstep *s) {
    const int32_t v = s->dst[0];
    wkc_trms_dx(d->stream, src(d, s, 0), src(d, s, 1), src(d, s, 2), d->weight[s->w], (size_t)rows(d, v), dim(d, v), s->add,
                at(d, v));
}
static void do_rms_dw(wk_tdev *d, const wk_tstep *s) {
    wkc_tcolumns(d->stream, src(d, s, 0), src(d, s, 1), src(d, s, 2), rows(d, s->src[0]), dim(d, s->src[0]),
                 gradient(d, s));
}
static void do_headrms_dx(wk_tdev *d, const wk_tstep *s) {
    const size_t n = (size_t)rows(d, s->dst[0]) * (size_t)s->of->n_head;
    wkc_trms_dx(d->stream, src(d, s, 0), src(d, s, 1), src(d, s, 2), d->weight[s->w], n, s->of->head_dim, s->add,
                dst(d, s, 0));
}
static void do_headrms_dw(wk_tdev *d, const wk_tstep *s) {
    wkc_tcolumns(d->stream, src(d, s, 0), src(d, s, 1), src(d, s, 2), rows(d, s->src[0]) * s->of->n_head, s->of->head_dim,
                 gradient(d, s));
}
static void do_attn_delta(wk_tdev *d, const wk_tstep *s) {
    const size_t n = (size_t)rows(d, s->dst[0]) * (size_t)s->of->n_head;
    wkc_tdots(d->stream, src(d, s, 0), src(d, s, 1), n, s->of->head_dim, dst(d, s, 0));
}
static void do_attn_dx(wk_tdev *d, const wk_tstep *s) {
    wkc_tattn_args a = attn_args(d, s);
    a.d_o = src(d, s, 3);
    a.m = at(d, s->src[4]);
    a.l = at(d, s->src[5]);
    a.delta = src(d, s, 6);
    a.dq = dst(d, s, 0);
    a.dk = dst(d, s, 1);
    a.dv = dst(d, s, 2);
    wkc_tattn_back(d->stream, &a);
}
static void do_glu_dx(wk_tdev *d, const wk_tstep *s) {
    wkc_tglu_dx(d->stream, s->of->fn, src(d, s, 0), src(d, s, 1), src(d, s, 2), all(d, s->dst[0]), dst(d, s, 0),
                dst(d, s, 1));
}
static void do_add_dx(wk_tdev *d, const wk_tstep *s) {
    wkc_add(d->stream, dst(d, s, 0), src(d, s, 0), all(d, s->dst[0]), dst(d, s, 0));
}
static void do_embed_dw(wk_tdev *d, const wk_tstep *s) {
    wkc_tembed_dw(d->stream, src(d, s, 0), list(d, d->frame.tok), list(d, d->frame.order), list(d, d->frame.start),
                  d->n_id, dim(d, s->src[0]), s->scale, gradient(d, s));
}

/* ---- table ------------------------------------------------------------------------------------------------------- */

typedef void step_fn(wk_tdev *d, const wk_tstep *s);

/* Not there: what a training plan never holds. */
static step_fn *const do_quant = NULL, *const do_kvput = NULL, *const do_softcap = NULL;

typedef struct row {
    const char *name;
    step_fn *fn;
} row;
static const row table[WK_TOP_COUNT] = {
#define WK_OP(name, class, equation) {#name, do_##name},
#include "engine/graph/op.def"
#undef WK_OP
#define WK_TOP(name, operands, equation) {#name, do_##name},
#include "engine/train/pack.def"
#undef WK_TOP
};

const char *wkc_top_name(int op) { return table[op].name; }

int wkc_tcan(const wk_grad *g, wk_err *err) {
    for (int32_t i = 0; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        const bool glu = s->op == WK_OP_glu || s->op == WK_TOP_glu_dx, rope = s->op == WK_OP_rope || s->op == WK_TOP_rope_dx;
        if (!table[s->op].fn || (glu && s->of->fn >= WK_FN_COUNT) || (rope && s->of->pairing >= WK_ROPE_COUNT))
            return wkc_fail(err, WICK_E_UNSUPPORTED, "the operation %s has no kernel for training on a cuda device",
                            wkc_top_name(s->op));
        if (s->op == WK_OP_attn && s->of->head_dim > WKC_TATTN_HD)
            return wkc_fail(err, WICK_E_UNSUPPORTED, "heads of %d values, training on a cuda device takes at most %d",
                            (int)s->of->head_dim, (int)WKC_TATTN_HD);
    }
    return WICK_OK;
}

int wkc_tstep(wk_tdev *d, const wk_tstep *s, wk_err *err) {
    WK_TRY(wkc_task(d, err));
    table[s->op].fn(d, s);
    WK_TRY(wkc_tproduct_judge(d, err));
    return wkc_judge(d->dev, cudaGetLastError(), table[s->op].name, err);
}
