/* part.c: which stages, weights and values belong to a part of a plan. */
#include "engine/graph/part.h"

#include <limits.h>

/* Indices into p->order of a stage's steps are consecutive: its row work, then its chains; attention is one step. */
static void each_step(const wk_plan *p, const wk_stage *st, wk_part_step_fn *fn, void *ud) {
    for (int32_t i = 0; i < st->row_n; i++) fn(ud, p, &p->step[p->order[st->row_first + i]]);
    for (int32_t c = 0; c < st->chain_n; c++) {
        const wk_chain *ch = &p->chain[st->chain_first + c];
        for (int32_t i = 0; i < ch->n; i++) fn(ud, p, &p->step[p->order[ch->first + i]]);
    }
    if (st->attn >= 0) fn(ud, p, &p->step[st->attn]);
}

void wk_part_each(const wk_plan *p, const wk_part *part, wk_part_step_fn *fn, void *ud) {
    for (int32_t i = 0; i < part->n_stage; i++) each_step(p, &p->stage[part->stage_first + i], fn, ud);
}

/* Unit of each stage: its layer; n_layer behind the layers; 0 before them. */
static int32_t unit_of(const wk_plan *p, int32_t stage, bool *seen) {
    const int32_t l = p->stage[stage].layer;
    if (l >= 0) {
        *seen = true;
        return l;
    }
    return *seen ? p->n_layer : 0;
}

wk_part wk_part_make(const wk_plan *p, int32_t from, int32_t to) {
    wk_part part = {.layer_first = from < p->n_layer ? from : p->n_layer};
    bool seen = false;
    for (int32_t i = 0; i < p->n_stage; i++) {
        const int32_t unit = unit_of(p, i, &seen);
        if (unit < from) part.stage_first = i + 1;
        if (unit >= from && unit < to) part.n_stage++;
    }
    part.n_layer = (to < p->n_layer ? to : p->n_layer) - part.layer_first;
    return part;
}

typedef struct use {
    int32_t weight;
    bool found;
} use;

static void find_use(void *ud, const wk_plan *p, const wk_step *s) {
    use *u = ud;
    (void)p;
    if (s->w[0] == u->weight || s->w[1] == u->weight) u->found = true;
}

bool wk_part_uses(const wk_plan *p, const wk_part *part, int32_t weight) {
    use u = {.weight = weight};
    if (!part) return true;
    for (int32_t i = 0; i < part->n_stage && !u.found; i++)
        each_step(p, &p->stage[part->stage_first + i], find_use, &u);
    return u.found;
}

typedef struct next_input {
    const wk_part *part;
    const wk_step *bad;
    int32_t above, next; /* the smallest value above `above` that the part reads and does not write */
} next_input;

static void look_at(void *ud, const wk_plan *p, const wk_step *s) {
    next_input *n = ud;
    for (int i = 0; i < 3; i++) {
        const int32_t v = s->src[i];
        if (v < 0 || v <= n->above || v >= n->next) continue;
        const int32_t at = p->val[v].stage_def;
        if (at >= n->part->stage_first && at < n->part->stage_first + n->part->n_stage) continue;
        n->next = v;
        if (p->val[v].type != WK_VAL_F32) n->bad = s;
    }
}

int wk_part_inputs(const wk_plan *p, const wk_part *part, int32_t *val, int32_t n, int32_t *n_val, wk_err *err) {
    next_input in = {.part = part, .above = -1};
    for (*n_val = 0;; in.above = in.next) {
        in.next = INT32_MAX;
        wk_part_each(p, part, look_at, &in);
        if (in.bad)
            return wk_fail(err, WICK_E_SHAPE, "a cut before stage %d tears quantised activations from step %d (%s)",
                           (int)part->stage_first, (int)(in.bad - p->step), wk_op_name(in.bad->op));
        if (in.next == INT32_MAX) return WICK_OK;
        if (*n_val < n) val[*n_val] = in.next;
        ++*n_val;
    }
}
