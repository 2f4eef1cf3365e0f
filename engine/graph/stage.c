/* stage.c: from steps to stages, by the classes of op.def alone.
 *
 *   stage = row work, then chains side by side (or one attention step), then a barrier
 *
 * Steps are taken in order and go into the last stage or open the next one, so the steps of a stage are a
 * contiguous run and a value is read in its own stage or later. Inside a stage the row work comes first;
 * chains see it whole but never each other, which is the one condition that opens a stage:
 *
 *   ROW   row work, unless it reads a chain of this stage (whole rows are complete after the barrier)
 *   CUT   begins a chain, unless it reads a chain of this stage
 *   ELEM  joins the chain it reads; two chains of equal length that it reads become one (glu); else row work
 *   HEAD  joins the chain it reads, whose units then hold whole heads; else a chain of its own
 *   ATTN  a stage of its own
 *
 * Grouping by a table of layer shapes was rejected: it would have to know every architecture. */
#include "engine/graph/stage.h"

#include <assert.h>

#include "engine/base/arena.h"
#include "simd/format.h"

static const uint8_t classes[WK_OP_COUNT] = {
#define WK_OP(name, class, equation) [WK_OP_##name] = WK_CLASS_##class,
#include "engine/graph/op.def"
#undef WK_OP
};
static const char *const names[WK_OP_COUNT] = {
#define WK_OP(name, class, equation) [WK_OP_##name] = #name,
#include "engine/graph/op.def"
#undef WK_OP
};

wk_op_class wk_op_class_of(int op) {
    return (wk_op_class)classes[op];
}
const char *wk_op_name(int op) {
    return names[op];
}

enum { ROW_WORK = -1, ATTENTION = -2 };

/* Where each step was put. */
typedef struct place {
    int32_t stage, chain; /* chain: its number in the stage, or ROW_WORK, or ATTENTION */
} place;

typedef struct grouping {
    wk_plan *p;
    place *at;       /* [n_step] */
    int32_t stage;   /* the open one */
    int32_t first;   /* its first step */
    int32_t n_chain; /* chains begun in it; merging leaves gaps */
    bool is_closed;  /* nothing may join it */
} grouping;

static void open_stage(grouping *g, int32_t step) {
    if (step > g->first) g->stage++;
    g->first = step;
    g->n_chain = 0;
    g->is_closed = false;
}

static int32_t source(const grouping *g, int32_t step, int i) {
    return g->p->step[step].src[i];
}

/* Chain of the open stage that wrote a value; ROW_WORK if it is complete before the chains begin. */
static int32_t chain_of(const grouping *g, int32_t value) {
    const place at = g->at[g->p->val[value].def];
    return at.stage == g->stage ? at.chain : ROW_WORK;
}

/* Output rows of a chain: those of its first step. */
static int32_t rows_of_step(const wk_plan *p, const wk_step *s) {
    return p->val[s->dst >= 0 ? s->dst : s->src[0]].dim;
}
static int32_t rows_of_chain(const grouping *g, int32_t chain, int32_t end) {
    for (int32_t i = g->first; i < end; i++)
        if (g->at[i].chain == chain) return rows_of_step(g->p, &g->p->step[i]);
    return 0;
}

static void put(grouping *g, int32_t step, int32_t chain) {
    g->at[step] = (place){g->stage, chain};
}

static void merge(grouping *g, int32_t keep, int32_t gone, int32_t end) {
    for (int32_t i = g->first; i < end; i++)
        if (g->at[i].chain == gone) g->at[i].chain = keep;
}

static bool reads_chain(const grouping *g, int32_t step) {
    for (int i = 0; i < 3; i++)
        if (source(g, step, i) >= 0 && chain_of(g, source(g, step, i)) != ROW_WORK) return true;
    return false;
}

/* The chain that an element-wise or head step may join; ROW_WORK: it reads none; ATTENTION: it cannot join. */
static int32_t chain_to_join(grouping *g, int32_t step) {
    int32_t found = ROW_WORK;
    for (int i = 0; i < 3; i++) {
        const int32_t v = source(g, step, i);
        const int32_t c = v < 0 ? ROW_WORK : chain_of(g, v);
        if (c == ROW_WORK || c == found) continue;
        if (c == ATTENTION) return ATTENTION;
        if (found == ROW_WORK) {
            found = c;
            continue;
        }
        if (rows_of_chain(g, c, step) != rows_of_chain(g, found, step)) return ATTENTION;
        const int32_t keep = c < found ? c : found;
        merge(g, keep, c < found ? found : c, step);
        found = keep;
    }
    return found;
}

static void place_step(grouping *g, int32_t step) {
    const wk_op_class class = wk_op_class_of(g->p->step[step].op);
    if (g->is_closed || class == WK_CLASS_ATTN) open_stage(g, step);
    switch (class) {
    case WK_CLASS_ATTN:
        put(g, step, ATTENTION);
        g->is_closed = true;
        return;
    case WK_CLASS_ROW:
        if (reads_chain(g, step)) open_stage(g, step);
        put(g, step, ROW_WORK);
        return;
    case WK_CLASS_CUT:
        if (reads_chain(g, step)) open_stage(g, step);
        put(g, step, g->n_chain++);
        return;
    case WK_CLASS_ELEM:
    case WK_CLASS_HEAD:
        break;
    }
    int32_t chain = chain_to_join(g, step);
    if (chain == ATTENTION) {
        open_stage(g, step);
        chain = ROW_WORK;
    }
    if (chain == ROW_WORK && class == WK_CLASS_HEAD) chain = g->n_chain++;
    put(g, step, chain);
}

/* Ungrouped: one step a stage. */
static void place_alone(grouping *g, int32_t step) {
    const wk_op_class class = wk_op_class_of(g->p->step[step].op);
    const bool row = class == WK_CLASS_ROW || class == WK_CLASS_ELEM;
    g->at[step] = (place){step, class == WK_CLASS_ATTN ? ATTENTION : row ? ROW_WORK : 0};
}

/* ---- from places to lists ----------------------------------------------------------------------- */

static int32_t gcd(int32_t a, int32_t b) {
    while (b) {
        const int32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* Whole panels, and whole heads where a step needs them; all rows where both do not fit. */
static int32_t unit_of(const wk_plan *p, const wk_chain *c) {
    int32_t unit = WK_PANEL;
    bool heads = false, cut = false;
    for (int32_t i = 0; i < c->n; i++) {
        const wk_step *s = &p->step[p->order[c->first + i]];
        cut |= wk_op_class_of(s->op) == WK_CLASS_CUT;
        if (wk_op_class_of(s->op) != WK_CLASS_HEAD) continue;
        heads = true;
        unit = unit / gcd(unit, s->head_dim) * s->head_dim;
    }
    if (unit > c->rows || !cut || (heads && c->rows % unit)) return c->rows;
    return unit;
}

static void list_chain(wk_plan *p, const place *at, int32_t from, int32_t end, int32_t chain) {
    wk_chain c = {.first = p->n_order};
    for (int32_t i = from; i < end; i++)
        if (at[i].chain == chain) p->order[p->n_order++] = i;
    c.n = p->n_order - c.first;
    if (c.n == 0) return; /* merged into another */
    c.rows = rows_of_step(p, &p->step[p->order[c.first]]);
    c.unit = unit_of(p, &c);
    c.n_unit = (c.rows + c.unit - 1) / c.unit;
    p->chain[p->n_chain++] = c;
}

/* Steps from .. end-1 are one stage. Its layer is that of what its chains compute. */
static void list_stage(wk_plan *p, const place *at, int32_t from, int32_t end) {
    wk_stage s = {.row_first = p->n_order, .chain_first = p->n_chain, .attn = -1};
    int32_t n_chain = 0;
    s.layer = p->step[end - 1].layer;
    for (int32_t i = from; i < end; i++) {
        if (at[i].chain == ROW_WORK) p->order[p->n_order++] = i;
        if (at[i].chain >= n_chain) n_chain = at[i].chain + 1;
        if (at[i].chain == ATTENTION) s.attn = i;
    }
    s.row_n = p->n_order - s.row_first;
    if (s.attn >= 0) p->order[p->n_order++] = s.attn;
    for (int32_t c = 0; c < n_chain; c++) list_chain(p, at, from, end, c);
    s.chain_n = p->n_chain - s.chain_first;
    p->stage[p->n_stage++] = s;
}

static void list_all(wk_plan *p, const place *at) {
    int32_t from = 0;
    for (int32_t i = 1; i <= p->n_step; i++) {
        if (i < p->n_step && at[i].stage == at[from].stage) continue;
        list_stage(p, at, from, i);
        from = i;
    }
}

static void mark_values(wk_plan *p, const place *at) {
    for (int32_t i = 0; i < p->n_val; i++) {
        wk_val *v = &p->val[i];
        v->stage_def = at[v->def].stage;
        v->stage_last = v->last >= 0 ? at[v->last].stage : v->stage_def;
        v->in_row = at[v->def].chain == ROW_WORK;
        v->escapes = v->in_row && v->stage_last > v->stage_def;
        assert(v->stage_last >= v->stage_def);
    }
}

int wk_stage_build(wk_plan *p, bool ungrouped, wk_err *err) {
    const size_t n = (size_t)p->n_step;
    grouping g = {.p = p, .at = wk_new_n(place, n)};
    p->order = wk_new_n(int32_t, n);
    p->chain = wk_new_n(wk_chain, n); /* a step opens one chain and one stage at most */
    p->stage = wk_new_n(wk_stage, n);
    if (!g.at || !p->order || !p->chain || !p->stage) {
        wk_free(g.at);
        return wk_fail(err, WICK_E_NOMEM, "no memory for the stages of %d steps", (int)p->n_step);
    }
    p->n_order = p->n_chain = p->n_stage = 0;
    for (int32_t i = 0; i < p->n_step; i++) {
        if (ungrouped)
            place_alone(&g, i);
        else
            place_step(&g, i);
    }
    list_all(p, g.at);
    mark_values(p, g.at);
    assert(p->n_order == p->n_step);
    wk_free(g.at);
    return WICK_OK;
}
