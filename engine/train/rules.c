/* rules.c: one rule per op: what its step becomes on the way back. A rule emits steps and computes nothing.
 *
 * Gradients: grad_of[v] names the training value that holds the gradient of plan value v, times factor[v]. Where two
 * plan values have the same gradient (the branches of an addition) they name the same training value; it may be added to
 * for one of them once the step of the other has been walked over (n_user), else it is copied first. */
#include <assert.h>

#include "engine/base/arena.h"
#include "engine/train/grad_impl.h"

/* ---- emitting ------------------------------------------------------------------------------------ */

static int32_t new_val(wk_walk *w, int rows, int32_t dim) {
    wk_grad *g = w->g;
    if (g->n_val == w->val_room) {
        w->out_of_room = true;
        return 0;
    }
    g->val[g->n_val] = (wk_tval){.rows = (uint8_t)rows, .dim = dim};
    return g->n_val++;
}

static wk_tstep *emit(wk_walk *w, int op, const wk_step *of) {
    wk_grad *g = w->g;
    if (g->n_step == w->step_room) {
        w->out_of_room = true;
        return &g->step[0];
    }
    wk_tstep *s = &g->step[g->n_step++];
    *s = (wk_tstep){.op = (uint16_t)op,
                    .layer = of->layer,
                    .dst = {-1, -1, -1},
                    .src = {-1, -1, -1, -1, -1, -1, -1},
                    .w = -1,
                    .thin = -1,
                    .param = -1,
                    .scale = 1.0f,
                    .of = of};
    return s;
}

static wk_tstep *emit3(wk_walk *w, int op, const wk_step *of, int32_t dst, int32_t src0,
                       int32_t src1) {
    wk_tstep *s = emit(w, op, of);
    s->dst[0] = dst;
    s->src[0] = src0;
    s->src[1] = src1;
    return s;
}

static int32_t like(wk_walk *w, int32_t plan_val) {
    const wk_val *v = &w->p->val[plan_val];
    return new_val(w, v->rows, v->dim);
}

/* ---- forward ------------------------------------------------------------------------------------- */

/* Values that cost less to make again than to keep. */
static bool is_cheap(int op) { return op == WK_OP_rms || op == WK_OP_headrms || op == WK_OP_glu; }

static int32_t param_of(const wk_walk *w, int32_t weight) {
    return weight < 0 ? -1 : w->g->param_of[weight];
}

static int32_t need(wk_walk *w, int32_t v);

/* Dimensions of the second and third destination: row statistics. 0: none. */
static int32_t extra_dim(const wk_step *s) {
    switch (s->op) {
    case WK_OP_rms: return 1;
    case WK_OP_headrms:
    case WK_OP_attn: return s->n_head;
    default: return 0;
    }
}

/* The step itself, on what its sources are now; with its row statistics where they are wanted. */
static void emit_again(wk_walk *w, int32_t index, bool with_extra) {
    const wk_step *s = &w->p->step[index];
    int32_t src[3] = {-1, -1, -1};
    for (int i = 0; i < 3; i++)
        if (s->src[i] >= 0) src[i] = need(w, s->src[i]);
    if (s->op == WK_OP_attn) {
        src[1] = need(w, w->key[s->layer]);
        src[2] = need(w, w->value[s->layer]);
    }
    wk_tstep *t = emit(w, s->op, s);
    for (int i = 0; i < 3; i++) t->src[i] = src[i];
    t->w = s->w[0];
    t->dst[0] = w->now[s->dst] = like(w, s->dst);
    const int rows = w->p->val[s->dst].rows;
    for (int i = 0; i < 2; i++) {
        if (!with_extra || !extra_dim(s) || (i == 1 && s->op != WK_OP_attn)) continue;
        t->dst[1 + i] = w->extra[i][index] = new_val(w, rows, extra_dim(s));
    }
}

/* The training value that holds plan value v here: kept, or made again from what is. Depth: the steps of one layer. */
static int32_t need(wk_walk *w, int32_t v) {
    if (w->now[v] < 0) emit_again(w, w->p->val[v].def, true);
    return w->now[v];
}

static int32_t need_extra(wk_walk *w, const wk_step *s, int which) {
    const int32_t index = (int32_t)(s - w->p->step);
    if (w->extra[which][index] < 0) emit_again(w, index, true);
    return w->extra[which][index];
}

/* v and the statistics of its step are not kept. */
static void forget(wk_walk *w, int32_t index) {
    const wk_step *s = &w->p->step[index];
    if (s->dst >= 0) w->now[s->dst] = -1;
    w->extra[0][index] = w->extra[1][index] = -1;
}

static void forget_layer(wk_walk *w, int32_t layer) {
    for (int32_t i = 0; i < w->p->n_step; i++)
        if (w->p->step[i].layer == layer) forget(w, i);
}

static void forget_cheap(wk_walk *w) {
    for (int32_t i = 0; i < w->p->n_step; i++)
        if (w->p->step[i].layer >= 0 && is_cheap(w->p->step[i].op)) forget(w, i);
}

static void note_wants(wk_walk *w, const wk_step *s) {
    if (s->dst < 0) return;
    bool wants = param_of(w, s->w[0]) >= 0;
    for (int i = 0; i < 3; i++)
        if (s->src[i] >= 0 && w->wants[s->src[i]]) wants = true;
    if (s->op == WK_OP_attn)
        wants = wants || w->wants[w->key[s->layer]] || w->wants[w->value[s->layer]];
    w->wants[s->dst] = wants;
}

/* All steps up to the last projection, which is the head's (it is never made as such: loss.c). Returns its index. */
static int32_t walk_forward(wk_walk *w) {
    const wk_plan *p = w->p;
    int32_t head = -1;
    for (int32_t i = 0; i < p->n_step; i++) {
        const wk_step *s = &p->step[i];
        if (s->op == WK_OP_kvput) {
            (s->which ? w->value : w->key)[s->layer] = s->src[0];
            continue;
        }
        note_wants(w, s);
        if (s->op == WK_OP_matmul && p->val[s->dst].rows == WK_ROWS_OUT) {
            head = i;
            break;
        }
        const bool is_kept = !w->g->recompute || s->layer == p->n_layer - 1 || s->layer < 0;
        emit_again(w, i, is_kept && (s->layer < 0 || !is_cheap(s->op)));
    }
    return head;
}

/* ---- gradients ----------------------------------------------------------------------------------- */

/* Plan value v gets training value `val` times factor as its gradient; it has none yet. */
static void set_grad(wk_walk *w, int32_t v, int32_t val, float factor) {
    assert(w->grad_of[v] < 0);
    w->grad_of[v] = val;
    w->factor[v] = factor;
    w->n_user[val]++;
}

/* Where a step may write (*add false) or add the gradient of plan value v. */
static int32_t give(wk_walk *w, int32_t v, const wk_step *of, bool *add) {
    *add = w->grad_of[v] >= 0;
    if (!*add) {
        set_grad(w, v, like(w, v), 1.0f);
        return w->grad_of[v];
    }
    const int32_t old = w->grad_of[v];
    if (w->n_user[old] == 1 && w->factor[v] == 1.0f) return old;
    const int32_t own = like(w, v); /* somebody else still reads it, or it has a factor */
    emit3(w, WK_TOP_scale, of, own, old, -1)->scale = w->factor[v];
    w->n_user[old]--;
    w->grad_of[v] = -1;
    set_grad(w, v, own, 1.0f);
    return own;
}

/* The gradient of plan value v without a factor. */
static int32_t plain_grad(wk_walk *w, int32_t v, const wk_step *of) {
    if (w->factor[v] == 1.0f) return w->grad_of[v];
    bool add;
    return give(w, v, of, &add);
}

/* dy is also a part of the gradient of v. */
static void pass(wk_walk *w, int32_t v, int32_t dy, float factor, const wk_step *of) {
    if (!w->wants[v]) return;
    if (w->grad_of[v] < 0) {
        set_grad(w, v, dy, factor);
        return;
    }
    if (factor != 1.0f) {
        const int32_t scaled = like(w, v);
        emit3(w, WK_TOP_scale, of, scaled, dy, -1)->scale = factor;
        dy = scaled;
    }
    bool add;
    const int32_t dst = give(w, v, of, &add);
    emit3(w, WK_TOP_add_dx, of, dst, dy, -1)->add = true;
}

/* ---- rules: s is the plan's step, dy the gradient of its destination ------------------------------- */

static void rule_add(wk_walk *w, const wk_step *s, int32_t dy) {
    for (int i = 0; i < 2; i++) pass(w, s->src[i], dy, w->factor[s->dst], s);
}

/* dst = y + c a: both have the gradient of dst, a times c. */
static void rule_lora(wk_walk *w, const wk_step *s, int32_t dy) {
    pass(w, s->src[0], dy, w->factor[s->dst], s);
    pass(w, s->src[1], dy, w->factor[s->dst] * s->scale, s);
}

static void matmul_dw(wk_walk *w, const wk_step *s, int32_t dy, int32_t x) {
    wk_tstep *t = emit3(w, WK_TOP_matmul_dw, s, -1, dy, x);
    t->w = s->w[0];
    t->param = param_of(w, s->w[0]);
}

/* A factor of dy (an adapter's scale) is put on the narrower side: dy (c x), and c (dy W). */
static void rule_matmul(wk_walk *w, const wk_step *s, int32_t dy) {
    const int32_t x = s->src[0];
    float c = w->factor[s->dst];
    if (c != 1.0f && (w->p->val[x].dim >= w->p->val[s->dst].dim || w->grad_of[x] >= 0)) {
        dy = plain_grad(w, s->dst, s);
        c = 1.0f;
    }
    if (param_of(w, s->w[0]) >= 0) {
        int32_t in = need(w, x);
        if (c != 1.0f) {
            const int32_t scaled = like(w, x);
            emit3(w, WK_TOP_scale, s, scaled, in, -1)->scale = c;
            in = scaled;
        }
        matmul_dw(w, s, dy, in);
    }
    if (!w->wants[x]) return;
    bool add;
    const int32_t dst = give(w, x, s, &add);
    wk_tstep *t = emit3(w, WK_TOP_matmul_dx, s, dst, dy, -1);
    t->add = add;
    t->w = s->w[0];
    if (c != 1.0f) emit3(w, WK_TOP_scale, s, dst, dst, -1)->scale = c;
}

static void rule_bias(wk_walk *w, const wk_step *s, int32_t dy) {
    if (param_of(w, s->w[0]) >= 0) {
        dy = plain_grad(w, s->dst, s);
        emit3(w, WK_TOP_bias_db, s, -1, dy, -1)->param = param_of(w, s->w[0]);
    }
    pass(w, s->src[0], dy, w->factor[s->dst], s);
}

/* rms and headrms: op names the pair of steps. */
static void norm(wk_walk *w, const wk_step *s, int32_t dy, int op_dx, int op_dw) {
    const int32_t x = need(w, s->src[0]), r = need_extra(w, s, 0);
    if (param_of(w, s->w[0]) >= 0) {
        wk_tstep *t = emit3(w, op_dw, s, -1, dy, x);
        t->src[2] = r;
        t->param = param_of(w, s->w[0]);
    }
    if (!w->wants[s->src[0]]) return;
    bool add;
    const int32_t dst = give(w, s->src[0], s, &add);
    wk_tstep *t = emit3(w, op_dx, s, dst, dy, x);
    t->add = add;
    t->src[2] = r;
    t->w = s->w[0];
}

static void rule_rms(wk_walk *w, const wk_step *s, int32_t dy) {
    norm(w, s, dy, WK_TOP_rms_dx, WK_TOP_rms_dw);
}
static void rule_headrms(wk_walk *w, const wk_step *s, int32_t dy) {
    norm(w, s, dy, WK_TOP_headrms_dx, WK_TOP_headrms_dw);
}

/* A gradient that nothing has been added to yet: such steps write. */
static int32_t give_first(wk_walk *w, int32_t v, const wk_step *of) {
    bool add;
    const int32_t dst = give(w, v, of, &add);
    assert(!add);
    return dst;
}

static void rule_rope(wk_walk *w, const wk_step *s, int32_t dy) {
    if (!w->wants[s->src[0]]) return;
    emit3(w, WK_TOP_rope_dx, s, give_first(w, s->src[0], s), dy, -1);
}

static void rule_attn(wk_walk *w, const wk_step *s, int32_t dy) {
    const int32_t key = w->key[s->layer], value = w->value[s->layer];
    const int32_t q = need(w, s->src[0]), k = need(w, key), v = need(w, value), o = need(w, s->dst);
    const int32_t m = need_extra(w, s, 0), l = need_extra(w, s, 1),
                  delta = new_val(w, WK_ROWS_TOK, s->n_head);
    emit3(w, WK_TOP_attn_delta, s, delta, dy, o);
    const int32_t dq = give_first(w, s->src[0], s), dk = give_first(w, key, s),
                  dv = give_first(w, value, s);
    wk_tstep *t = emit(w, WK_TOP_attn_dx, s);
    const int32_t dst[3] = {dq, dk, dv}, src[7] = {q, k, v, dy, m, l, delta};
    for (int i = 0; i < 3; i++) t->dst[i] = dst[i];
    for (int i = 0; i < 7; i++) t->src[i] = src[i];
}

static void rule_glu(wk_walk *w, const wk_step *s, int32_t dy) {
    const int32_t gate = need(w, s->src[0]), up = need(w, s->src[1]);
    const int32_t dg = give_first(w, s->src[0], s), du = give_first(w, s->src[1], s);
    wk_tstep *t = emit3(w, WK_TOP_glu_dx, s, dg, dy, gate);
    t->dst[1] = du;
    t->src[2] = up;
}

static void rule_pick(wk_walk *w, const wk_step *s, int32_t dy) {
    if (w->wants[s->src[0]]) emit3(w, WK_TOP_unpick, s, give_first(w, s->src[0], s), dy, -1);
}

static void rule_embed(wk_walk *w, const wk_step *s, int32_t dy) {
    if (param_of(w, s->w[0]) < 0) return;
    wk_tstep *t = emit3(w, WK_TOP_embed_dw, s, -1, dy, -1);
    t->param = param_of(w, s->w[0]);
    t->scale = s->scale;
}

typedef struct rule {
    void (*fn)(wk_walk *w, const wk_step *s, int32_t dy);
    bool takes_factor; /* else the factor has been multiplied in */
} rule;
static const rule rules[WK_OP_COUNT] = {
    [WK_OP_embed] = {rule_embed, false},     [WK_OP_rms] = {rule_rms, false},
    [WK_OP_headrms] = {rule_headrms, false}, [WK_OP_matmul] = {rule_matmul, true},
    [WK_OP_bias] = {rule_bias, true},        [WK_OP_rope] = {rule_rope, false},
    [WK_OP_attn] = {rule_attn, false},       [WK_OP_add] = {rule_add, true},
    [WK_OP_glu] = {rule_glu, false},         [WK_OP_pick] = {rule_pick, false},
    [WK_OP_lora] = {rule_lora, true},
};

/* ---- the whole ----------------------------------------------------------------------------------- */

/* logits, loss and the gradient of the last norm's output in one step; a softcap behind it is its scale. */
static void emit_head(wk_walk *w, int32_t index) {
    const wk_plan *p = w->p;
    const wk_step *s = &p->step[index];
    const int32_t h = s->src[0], in = need(w, h);
    wk_tstep *t = emit3(w, WK_TOP_head, s, -1, in, -1);
    t->w = s->w[0];
    t->param = param_of(w, s->w[0]);
    t->scale = 0.0f;
    for (int32_t i = index + 1; i < p->n_step; i++)
        if (p->step[i].op == WK_OP_softcap) t->scale = p->step[i].softcap;
    if (w->wants[h]) t->dst[0] = give_first(w, h, s);
    w->g->n_forward = w->g->n_step;
}

static void walk_back(wk_walk *w, int32_t head) {
    int32_t layer = w->p->n_layer - 1;
    for (int32_t i = head - 1; i >= 0; i--) {
        const wk_step *s = &w->p->step[i];
        if (s->op == WK_OP_kvput || !w->wants[s->dst] || w->grad_of[s->dst] < 0) continue;
        if (w->g->recompute && s->layer >= 0 && s->layer < layer) forget_layer(w, s->layer);
        if (s->layer >= 0) layer = s->layer;
        const rule *r = &rules[s->op];
        const int32_t dy = r->takes_factor ? w->grad_of[s->dst] : plain_grad(w, s->dst, s);
        r->fn(w, s, dy);
        w->n_user[w->grad_of[s->dst]]--;
    }
}

int wk_walk_all(wk_walk *w, wk_err *err) {
    const int32_t head = walk_forward(w);
    if (head < 0)
        return wk_fail(err, WICK_E_UNSUPPORTED,
                       "the plan ends without a projection to the vocabulary");
    for (int32_t i = 0; i < head; i++) {
        const int op = w->p->step[i].op;
        if (op != WK_OP_kvput && !rules[op].fn)
            return wk_fail(err, WICK_E_UNSUPPORTED, "the operation %s cannot be trained through",
                           wk_op_name(op));
    }
    emit_head(w, head);
    forget_cheap(w);
    walk_back(w, head);
    return w->out_of_room
               ? wk_fail(err, WICK_E_FIT, "the training plan has more than %d steps", w->step_room)
               : WICK_OK;
}
