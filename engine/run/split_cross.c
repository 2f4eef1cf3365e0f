/* split_cross.c: what crosses the borders between parts. */
#include "engine/run/split_cross.h"

#include "engine/base/arena.h"
#include "engine/base/ck.h"
#include "engine/graph/part.h"

static size_t value_bytes(const wk_plan *p, int32_t val) {
    const wk_val *v = &p->val[val];
    const size_t rows = (size_t)(v->rows == WK_ROWS_TOK ? p->max_tok : p->max_out);
    size_t n;
    if (!wk_mul(&n, rows, (size_t)v->dim) || !wk_mul(&n, n, sizeof(float)) || !wk_align(&n, n, 64))
        return SIZE_MAX;
    return n;
}

enum { INPUTS_MAX = 16 }; /* of one part: what the layers before leave, one or two in all known models */

/* Values that enter the part, ascending. */
static int part_inputs(const wk_plan *p, const wk_part *part, int32_t val[INPUTS_MAX], int32_t *n, wk_err *err) {
    WK_TRY(wk_part_inputs(p, part, val, INPUTS_MAX, n, err));
    if (*n <= INPUTS_MAX) return WICK_OK;
    return wk_fail(err, WICK_E_SHAPE, "a cut before stage %d crosses %d values, at most %d can be carried",
                   (int)part->stage_first, (int)*n, (int)INPUTS_MAX);
}

size_t wk_split_bytes(const wk_plan *p, const wk_part *part, int32_t n) {
    size_t total = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t val[INPUTS_MAX], n_val = 0;
        if (part_inputs(p, &part[i], val, &n_val, NULL)) return SIZE_MAX;
        for (int32_t j = 0; j < n_val; j++)
            if (!wk_add(&total, total, value_bytes(p, val[j]))) return SIZE_MAX;
    }
    return total;
}

int32_t wk_split_part_of(const wk_split_part *part, int32_t n, int32_t stage) {
    for (int32_t i = 0; i < n; i++)
        if (stage < part[i].part.stage_first + part[i].part.n_stage) return i;
    return -1;
}

static const wk_split_crossing *find_crossing(const wk_split_cross *x, int32_t val) {
    for (int32_t i = 0; i < x->n; i++)
        if (x->c[i].val == val) return &x->c[i];
    return NULL;
}

/* One crossing more, of part `to`; its memory is that of the value's first one. */
static void add_crossing(wk_split_cross *x, const wk_plan *p, int32_t val, int32_t from, int32_t to, size_t *used) {
    const wk_split_crossing *first = find_crossing(x, val);
    wk_split_crossing *c = &x->c[x->n];
    *c = (wk_split_crossing){.val = val, .from = from, .to = to, .fetches = !first};
    c->at = first ? first->at : x->staging + *used / sizeof(float);
    if (!first) *used += value_bytes(p, val);
    x->n++;
}

/* Bytes of all values of all borders; a value that crosses twice is counted twice and stored once. */
static int count_bytes(const wk_plan *p, const wk_split_part *part, int32_t n, size_t *total, wk_err *err) {
    int32_t val[INPUTS_MAX], n_val = 0;
    *total = 0;
    for (int32_t i = 0; i < n; i++) {
        WK_TRY(part_inputs(p, &part[i].part, val, &n_val, err));
        for (int32_t j = 0; j < n_val; j++)
            if (!wk_add(total, *total, value_bytes(p, val[j])))
                return wk_fail(err, WICK_E_SHAPE, "the size of what is carried between devices overflows");
    }
    return WICK_OK;
}

int wk_split_cross_plan(wk_split_cross *x, const wk_plan *p, const wk_split_part *part, int32_t n, wk_err *err) {
    int32_t val[INPUTS_MAX], n_val = 0;
    size_t total = 0, used = 0;
    WK_TRY(count_bytes(p, part, n, &total, err));
    x->c = wk_new_n(wk_split_crossing, (size_t)n * INPUTS_MAX);
    x->staging = wk_alloc_aligned(total);
    if (!x->c || !x->staging)
        return wk_fail(err, WICK_E_NOMEM, "no memory for %zu MiB carried between devices", total >> 20);
    for (int32_t i = 0; i < n; i++) {
        WK_TRY(part_inputs(p, &part[i].part, val, &n_val, err));
        for (int32_t j = 0; j < n_val; j++)
            add_crossing(x, p, val[j], wk_split_part_of(part, n, p->val[val[j]].stage_def), i, &used);
    }
    for (int32_t i = 0; i < x->n; i++)
        if (x->c[i].from < 0 || x->c[i].from >= x->c[i].to)
            return wk_fail(err, WICK_E_SHAPE, "value %d is read by part %d, but no part before it writes it",
                           (int)x->c[i].val, (int)x->c[i].to);
    return WICK_OK;
}

void wk_split_cross_free(wk_split_cross *x) {
    wk_free(x->c);
    wk_free_aligned(x->staging);
}
