/* grad.c: builds and prints a training plan. */
#include "engine/train/grad.h"

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/train/grad_impl.h"

enum {
    PER_STEP = 6,
    BESIDE = 16
}; /* training steps that a plan's step becomes: itself, again, and its rule's */

static const char *const names[WK_TOP_COUNT - WK_OP_COUNT] = {
#define WK_TOP(name, operands, equation) #name,
#include "engine/train/pack.def"
#undef WK_TOP
};

const char *wk_top_name(int op) {
    return op < WK_OP_COUNT ? wk_op_name(op) : names[op - WK_OP_COUNT];
}

/* ---- parameters ---------------------------------------------------------------------------------- */

static int list_params(wk_grad *g, const wk_grad_options *o, wk_err *err) {
    const wk_plan *p = g->plan;
    g->param = wk_new_n(wk_param, (size_t)p->n_weight + 1);
    g->param_of = wk_new_n(int32_t, (size_t)p->n_weight + 1);
    if (!g->param || !g->param_of)
        return wk_fail(err, WICK_E_NOMEM, "no memory for the list of parameters");
    for (int32_t i = 0; i < p->n_weight; i++) {
        const wk_weight *w = &p->weight[i];
        g->param_of[i] = -1;
        if (o->is_trained && !o->is_trained(o->ud, w)) continue;
        wk_param *a = &g->param[g->n_param];
        *a = (wk_param){.weight = i, .off = g->n_elem, .decays = !w->is_vector};
        size_t end;
        if (!wk_mul(&a->n, w->is_vector ? 1 : (size_t)w->n_row, (size_t)w->k) ||
            !wk_add(&end, g->n_elem, a->n) || !wk_align(&g->n_elem, end, 16))
            return wk_fail(err, WICK_E_FIT, "the number of parameters overflows");
        g->param_of[i] = g->n_param++;
    }
    if (g->n_param == 0) return wk_fail(err, WICK_E_ARG, "no weight of the model is to be trained");
    return WICK_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static int32_t *filled(size_t n) {
    int32_t *a = wk_new_n(int32_t, n + 1);
    for (size_t i = 0; a && i < n; i++) a[i] = -1;
    return a;
}

static bool take_memory(wk_walk *w) {
    const wk_plan *p = w->p;
    const size_t n_val = (size_t)p->n_val, n_step = (size_t)p->n_step, n_layer = (size_t)p->n_layer;
    w->step_room = p->n_step * PER_STEP + BESIDE; /* a plan has at most 2^20 + 8 steps */
    w->val_room = 2 * w->step_room;
    w->wants = wk_new_n(bool, n_val + 1);
    w->factor = wk_new_n(float, n_val + 1);
    w->n_user = wk_new_n(int32_t, (size_t)w->val_room);
    w->now = filled(n_val);
    w->grad_of = filled(n_val);
    w->extra[0] = filled(n_step);
    w->extra[1] = filled(n_step);
    w->key = filled(n_layer);
    w->value = filled(n_layer);
    w->g->step = wk_new_n(wk_tstep, (size_t)w->step_room);
    w->g->val = wk_new_n(wk_tval, (size_t)w->val_room);
    return w->wants && w->factor && w->n_user && w->now && w->grad_of && w->extra[0] &&
           w->extra[1] && w->key && w->value && w->g->step && w->g->val;
}

static void walk_fini(wk_walk *w) {
    wk_free(w->wants);
    wk_free(w->factor);
    wk_free(w->n_user);
    wk_free(w->now);
    wk_free(w->grad_of);
    wk_free(w->extra[0]);
    wk_free(w->extra[1]);
    wk_free(w->key);
    wk_free(w->value);
}

static int fill(wk_grad *g, const wk_grad_options *o, wk_err *err) {
    wk_walk w = {.g = g, .p = g->plan};
    WK_TRY(list_params(g, o, err));
    int rc = take_memory(&w)
                 ? wk_walk_all(&w, err)
                 : wk_fail(err, WICK_E_NOMEM, "no memory for the training plan of %d steps",
                           g->plan->n_step);
    if (!rc) rc = wk_fuse(g, err);
    if (!rc) rc = wk_place(g, err);
    walk_fini(&w);
    return rc;
}

int wk_grad_build(wk_grad **out, const wk_plan *p, const wk_grad_options *o, wk_err *err) {
    *out = NULL;
    if (o->max_tok < 1 || o->max_tok > p->max_tok)
        return wk_fail(err, WICK_E_ARG, "a micro-batch of %d tokens, wanted 1 .. %d", o->max_tok,
                       p->max_tok);
    wk_grad *g = wk_new(wk_grad);
    if (!g) return wk_fail(err, WICK_E_NOMEM, "no memory for the training plan");
    *g = (wk_grad){.plan = p, .max_tok = o->max_tok, .recompute = o->recompute};
    const int rc = fill(g, o, err);
    if (rc) {
        wk_grad_free(g);
        return rc;
    }
    *out = g;
    return WICK_OK;
}

void wk_grad_free(wk_grad *g) {
    if (!g) return;
    wk_free(g->step);
    wk_free(g->val);
    wk_free(g->param);
    wk_free(g->param_of);
    wk_free(g);
}

/* ---- as text ------------------------------------------------------------------------------------- */

static void put_values(const wk_grad *g, const int32_t *v, size_t n, wk_buf *out) {
    for (size_t i = 0; i < n; i++) {
        if (v[i] < 0) continue;
        const wk_tval *t = &g->val[v[i]];
        (void)wk_buf_addf(out, " v%d[%s,%d]", (int)v[i], t->rows == WK_ROWS_TOK ? "T" : "R",
                          (int)t->dim);
    }
}

void wk_grad_dump(const wk_grad *g, wk_buf *out) {
    (void)wk_buf_addf(out,
                      "%d steps, %d of them forward; %d parameters of %zu elements; %zu bytes of "
                      "values for %d tokens%s\n",
                      (int)g->n_step, (int)g->n_forward, (int)g->n_param, g->n_elem, g->arena_bytes,
                      (int)g->max_tok, g->recompute ? ", layers recomputed" : "");
    for (int32_t i = 0; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        (void)wk_buf_addf(out, "%s%5d %3d %-10s", i == g->n_forward ? "backward\n" : "", (int)i,
                          (int)s->layer, wk_top_name(s->op));
        put_values(g, s->dst, WK_COUNT(s->dst), out);
        (void)wk_buf_adds(out, s->dst[0] < 0 ? " P" : s->add ? " +=" : " =");
        put_values(g, s->src, WK_COUNT(s->src), out);
        if (s->w >= 0) (void)wk_buf_addf(out, " %s", g->plan->weight[s->w].name);
        if (s->thin >= 0) (void)wk_buf_addf(out, ", %s", g->plan->weight[s->thin].name);
        if (s->param >= 0)
            (void)wk_buf_addf(out, " gradient of %s",
                              g->plan->weight[g->param[s->param].weight].name);
        if (s->scale != 1.0f) (void)wk_buf_addf(out, " scale %g", (double)s->scale);
        (void)wk_buf_adds(out, "\n");
    }
}
