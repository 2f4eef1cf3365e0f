/* steps.cu: the steps of a part as launches, in order on one stream. */
#include "gpu/cuda/exec.h"

static const float *f32(const wk_exec *x, int32_t v) { return (const float *)x->val[v]; }
static const float *vec(const wk_exec *x, int32_t w) { return (const float *)x->w[w].p; }
static size_t room(const wk_exec *x, int32_t v) {
    return (size_t)(x->plan->val[v].rows == WK_ROWS_TOK ? x->plan->max_tok : x->plan->max_out);
}

static void product(wk_exec *x, const wk_step *s, int32_t n, float *dst) {
    const wk_val *in = &x->plan->val[s->src[0]];
    wkc_matmul(x->stream, &x->w[s->w[0]], x->val[s->src[0]], in->type, n, room(x, s->src[0]), dst, x->mat_scratch);
}

static void rope(wk_exec *x, const wk_step *s, int32_t n, int32_t dim, float *dst) {
    wkc_rope(x->stream, s->pairing, f32(x, s->src[0]), x->cs[s->rope], n, dim, s->head_dim, x->plan->rope[s->rope].n_rot, dst);
}

/* Operands as in cpu/elem.c. */
static void launch(wk_exec *x, const wk_step *s, const wkc_batch *b) {
    const cudaStream_t st = x->stream;
    const wk_val *v = s->dst >= 0 ? &x->plan->val[s->dst] : NULL;
    const int32_t n = v && v->rows == WK_ROWS_OUT ? b->n_out : b->n_tok, dim = v ? v->dim : 0;
    const size_t all = (size_t)n * (size_t)dim;
    const float *a = s->src[0] >= 0 ? f32(x, s->src[0]) : NULL, *c = s->src[1] >= 0 ? f32(x, s->src[1]) : NULL;
    float *dst = v ? (float *)x->val[s->dst] : NULL;
    if (n < 1) return;
    switch ((wk_op)s->op) {
    case WK_OP_embed: wkc_embed(st, &x->w[s->w[0]], b->tok, n, s->scale, dst); break;
    case WK_OP_rms: wkc_rms(st, a, vec(x, s->w[0]), n, dim, s->eps, dst); break;
    case WK_OP_headrms: wkc_headrms(st, a, vec(x, s->w[0]), n, dim, s->head_dim, s->eps, dst); break;
    case WK_OP_quant: wkc_quant(st, v->type, a, n, dim, room(x, s->dst), dst); break;
    case WK_OP_matmul: product(x, s, n, dst); break;
    case WK_OP_bias: wkc_bias(st, a, vec(x, s->w[0]), n, dim, dst); break;
    case WK_OP_rope: rope(x, s, n, dim, dst); break;
    case WK_OP_kvput: wkc_kv_put(st, &x->kv, s->layer, s->which, a, b); break;
    case WK_OP_attn:
        wkc_attn(st, &x->kv, s->layer, s->n_head, s->scale, s->softcap, s->window, a, dst, b, x->attn_scratch);
        break;
    case WK_OP_add: wkc_add(st, a, c, all, dst); break;
    case WK_OP_lora: wkc_lora(st, s->scale, c, a, all, dst); break;
    case WK_OP_glu: wkc_glu(st, s->fn, a, c, all, dst); break;
    case WK_OP_softcap: wkc_softcap(st, s->softcap, a, all, dst); break;
    case WK_OP_pick: wkc_pick(st, a, b->out, n, dim, dst); break;
    case WK_OP_COUNT: break;
    }
}

static int mark(wk_exec *x, int32_t i, wk_err *err) {
    if (x->is_traced) WKC_TRY(x->dev, err, cudaEventRecord, x->mark[i], x->stream);
    return WICK_OK;
}

static int ask(const wk_exec *x, wk_err *err) {
    return wkc_is_faulty(x->dev, "launch") ? wkc_faulted(x->dev, "launch", err) : WICK_OK;
}

/* Marks: the steps begin at 0, and step i ends at i + 1. */
int wkc_launch_steps(wk_exec *x, const wkc_batch *b, bool top, wk_err *err) {
    const wk_plan *p = x->plan;
    for (int32_t i = 0; i < p->n_rope; i++)
        if (x->rope_used[i])
            wkc_rope_table(x->stream, x->freq[i], p->rope[i].n_rot, p->rope[i].mscale, b->pos, b->n_tok, x->cs[i]);
    WK_TRY(mark(x, 0, err));
    for (int32_t i = 0; i < x->n_step; i++) {
        WK_TRY(ask(x, err));
        launch(x, &p->step[x->step[i]], b);
        WK_TRY(mark(x, i + 1, err));
    }
    if (top && b->n_out) wkc_top(x->stream, x->logits, b->n_out, p->n_vocab, x->top);
    return wkc_judge(x->dev, cudaGetLastError(), "launch", err);
}
