/* dump.c: a plan as text: stages as headings, one line a step. No sizes of memory, so that the text of an
 * architecture changes only when its plan does. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/graph/plan.h"
#include "models/arch.h"
#include "simd/format.h"

static const char *const val_types[] = {
    [WK_VAL_F32] = "f32", [WK_VAL_A32] = "a32", [WK_VAL_A256] = "a256"};

typedef struct cell {
    char p[64];
} cell;

/* "v3 [T,64] f32" */
static cell value_text(const wk_plan *p, int32_t v) {
    cell c = {""};
    if (v < 0) return c;
    const wk_val *x = &p->val[v];
    (void)snprintf(c.p, sizeof(c.p), "v%d [%s,%d] %s", (int)v, x->rows == WK_ROWS_TOK ? "T" : "R",
                   (int)x->dim, val_types[x->type]);
    return c;
}

static cell sources_text(const wk_step *s) {
    cell c = {""};
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        if (s->src[i] < 0) continue;
        const int put = snprintf(c.p + n, sizeof(c.p) - n, "%sv%d", n ? ", " : "", (int)s->src[i]);
        n += put > 0 ? (size_t)put : 0;
    }
    return c;
}

static void add_weight(wk_buf *out, const wk_weight *w) {
    (void)wk_buf_addf(out, "  %s %s ", w->name, wk_formats[w->fmt].name);
    if (w->is_vector)
        (void)wk_buf_addf(out, "[%d]", (int)w->k);
    else
        (void)wk_buf_addf(out, "[%d,%d]", (int)w->n_row, (int)w->k);
    if (w->unrotate) (void)wk_buf_addf(out, " unrotate %d", (int)w->unrotate);
}

static void add_real(wk_buf *out, const char *name, float f) {
    (void)wk_buf_addf(out, "  %s %.9g", name, (double)f);
}

static void add_args(wk_buf *out, const wk_step *s) {
    static const char *const fns[] = {[WK_ACT_SILU] = "silu", [WK_ACT_GELU_TANH] = "gelu_tanh"};
    if (s->head_dim) (void)wk_buf_addf(out, "  %d x %d", (int)s->n_head, (int)s->head_dim);
    if (s->op == WK_OP_rms || s->op == WK_OP_headrms) add_real(out, "eps", s->eps);
    if (s->op == WK_OP_rope)
        (void)wk_buf_addf(out, "  rope %d %s", (int)s->rope,
                          s->pairing == WK_ROPE_HALF ? "halves" : "neighbours");
    if (s->op == WK_OP_kvput) (void)wk_buf_addf(out, "  %s", s->which ? "V" : "K");
    if (s->op == WK_OP_glu) (void)wk_buf_addf(out, "  %s", fns[s->fn]);
    if (s->op == WK_OP_attn) (void)wk_buf_addf(out, "  kv heads %d", (int)s->n_head_kv);
    if (s->scale != 0.0f) add_real(out, "scale", s->scale);
    if (s->softcap != 0.0f) add_real(out, "cap", s->softcap);
    if (s->window) (void)wk_buf_addf(out, "  window %d", (int)s->window);
}

static void add_step(wk_buf *out, const wk_plan *p, int32_t index) {
    const wk_step *s = &p->step[index];
    cell layer = {"-"};
    if (s->layer >= 0) (void)snprintf(layer.p, sizeof(layer.p), "%d", (int)s->layer);
    const size_t from = out->n;
    (void)wk_buf_addf(out, "    %-7s %3s  %-21s %s %-12s", wk_op_name(s->op), layer.p,
                      value_text(p, s->dst).p, s->src[0] >= 0 ? "=" : " ", sources_text(s).p);
    for (int i = 0; i < 2; i++)
        if (s->w[i] >= 0) add_weight(out, &p->weight[s->w[i]]);
    add_args(out, s);
    while (out->n > from && out->p[out->n - 1] == ' ') out->p[--out->n] = '\0';
    (void)wk_buf_addc(out, '\n');
}

static void add_stage(wk_buf *out, const wk_plan *p, int32_t index) {
    const wk_stage *s = &p->stage[index];
    (void)wk_buf_addf(out, "\nstage %d", (int)index);
    if (s->layer >= 0) (void)wk_buf_addf(out, "  layer %d", (int)s->layer);
    (void)wk_buf_addc(out, '\n');
    if (s->row_n) (void)wk_buf_adds(out, "  row work\n");
    for (int32_t i = 0; i < s->row_n; i++) add_step(out, p, p->order[s->row_first + i]);
    if (s->attn >= 0) {
        (void)wk_buf_adds(out, "  cut by sequence, kv head, pages\n");
        add_step(out, p, s->attn);
    }
    for (int32_t c = 0; c < s->chain_n; c++) {
        const wk_chain *ch = &p->chain[s->chain_first + c];
        (void)wk_buf_addf(out, "  cut into %d x %d of %d rows\n", (int)ch->n_unit, (int)ch->unit,
                          (int)ch->rows);
        for (int32_t i = 0; i < ch->n; i++) add_step(out, p, p->order[ch->first + i]);
    }
}

static void add_weights(wk_buf *out, const wk_plan *p) {
    int32_t count[WK_FMT_COUNT] = {0};
    for (int32_t i = 0; i < p->n_weight; i++) count[p->weight[i].fmt]++;
    (void)wk_buf_addf(out, "weights %d, %zu bytes:", (int)p->n_weight, p->weight_bytes);
    for (int f = 0; f < WK_FMT_COUNT; f++)
        if (count[f]) (void)wk_buf_addf(out, " %s %d", wk_formats[f].name, (int)count[f]);
    (void)wk_buf_addc(out, '\n');
}

void wk_plan_dump(const wk_plan *p, wk_buf *out) {
    (void)wk_buf_addf(
        out,
        "%s: %d layers, dim %d, heads %d, kv heads %d, head_dim %d, ffn %d, vocab %d, context %d\n",
        p->arch->name, (int)p->n_layer, (int)p->dim, (int)p->n_head, (int)p->n_head_kv,
        (int)p->head_dim, (int)p->n_ff, (int)p->n_vocab, (int)p->n_ctx_train);
    add_weights(out, p);
    for (int32_t i = 0; i < p->n_rope; i++) {
        const wk_rope_plan *r = &p->rope[i];
        (void)wk_buf_addf(out, "rope %d: %d values a head, frequencies %.6g .. %.6g, times %.6g\n",
                          (int)i, (int)r->n_rot, r->freq[0], r->freq[r->n_rot / 2 - 1],
                          (double)r->mscale);
    }
    (void)wk_buf_addf(out, "steps %d in %d stages; T tokens, R rows whose logits are wanted\n",
                      (int)p->n_step, (int)p->n_stage);
    for (int32_t i = 0; i < p->n_stage; i++) add_stage(out, p, i);
}
