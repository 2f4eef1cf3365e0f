/* slots.c: value lifetimes -> offsets.
 *
 * First fit over the values in the order of their stages, with the list of those alive sorted by offset: a few
 * entries, so the whole is linear in the number of steps. Best fit and a global search were not needed: with
 * five stages a layer the pattern repeats, and first fit reaches the same sum as the largest stage.
 *
 * In place: an element-wise or head step takes the memory of a source that its own chain wrote and nobody
 * reads later. Row work never does: done redundantly, its source and its result are in different arenas.
 *
 * In a chain: what one chain writes and reads needs no memory of all rows. So that it stays apart, what leaves the
 * chain is not made in its place (gate and up of a feed-forward layer: two thirds of the bytes of a prompt). */
#include "engine/graph/slots.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/ck.h"

enum { ALIGN = 128, PART_ALIGN = 64 };

/* ---- bytes of a value --------------------------------------------------------------------------- */

/* One part of the layout: a number of elements per row, padded to 64 bytes. SIZE_MAX stays. */
static size_t add_part(size_t sum, size_t rows, size_t row_bytes) {
    size_t n;
    if (sum == SIZE_MAX || !wk_mul(&n, rows, row_bytes) || !wk_align(&n, n, PART_ALIGN) ||
        !wk_add(&n, n, sum))
        return SIZE_MAX;
    return n;
}

size_t wk_val_bytes(int type, int32_t dim, size_t rows) {
    const size_t ldb = wk_val_ldb(dim);
    if (type == WK_VAL_F32) return add_part(0, rows, (size_t)dim * sizeof(float));
    const size_t parts[] = {
        32 * ldb,            /* q    [rows][32*ldb] i8 */
        ldb * sizeof(float), /* d    [rows][ldb] */
        ldb * 4,             /* z32  [rows][ldb] i32 */
        ldb * sizeof(float), /* f32s [rows][ldb] */
        2 * ldb * 4,         /* z16  [rows][2*ldb] i32 */
        ldb * 2,             /* s32  [rows][ldb] i16 */
        2 * ldb * 2,         /* s16  [rows][2*ldb] i16 */
    };
    size_t sum = 0;
    for (size_t i = 0; i < WK_COUNT(parts); i++) sum = add_part(sum, rows, parts[i]);
    return sum;
}

static size_t rows_of(const wk_plan *p, const wk_val *v) {
    const int32_t n = v->rows == WK_ROWS_TOK ? p->max_tok : p->max_out;
    return (size_t)(v->in_chain && n > WK_CHAIN_ROWS ? WK_CHAIN_ROWS : n);
}

/* ---- values that share memory ------------------------------------------------------------------- */

typedef struct slotter {
    wk_plan *p;
    int32_t *root;  /* [n_val] the value whose memory it is */
    int32_t *until; /* [n_val] last stage of the whole group, at its root */
    int32_t *chain; /* [n_val] chain that writes it, -1: row work or attention */
    int32_t *count; /* [n_chain] values in it that have memory of their own */
} slotter;

static bool is_same_size(const wk_val *a, const wk_val *b) {
    return a->type == b->type && a->rows == b->rows && a->dim == b->dim;
}

static void alias_step(slotter *s, int32_t step) {
    const wk_step *st = &s->p->step[step];
    const wk_op_class class = wk_op_class_of(st->op);
    if (st->dst < 0 || (class != WK_CLASS_ELEM && class != WK_CLASS_HEAD)) return;
    for (int i = 0; i < 3; i++) {
        if (st->src[i] < 0) continue;
        const wk_val *v = &s->p->val[st->src[i]];
        if (s->chain[st->src[i]] < 0 || s->chain[st->src[i]] != s->chain[st->dst] ||
            v->last != step)
            continue;
        const wk_val *dst = &s->p->val[st->dst];
        if (!is_same_size(v, dst) || v->in_chain != dst->in_chain) continue;
        s->root[st->dst] = s->root[st->src[i]];
        return;
    }
}

/* But what becomes logits is made where they are. */
static void find_in_chain(slotter *s, bool none) {
    wk_plan *p = s->p;
    for (int32_t i = 0; i < p->n_val; i++)
        p->val[i].in_chain = !none && s->chain[i] >= 0 && s->chain[i] != s->chain[p->logits] && p->val[i].last >= 0 &&
                             p->val[i].stage_last == p->val[i].stage_def;
}

static void find_groups(slotter *s, bool keep, bool whole) {
    const wk_plan *p = s->p;
    for (int32_t i = 0; i < p->n_val; i++) {
        s->root[i] = i;
        s->chain[i] = -1;
    }
    for (int32_t c = 0; c < p->n_chain; c++)
        for (int32_t i = 0; i < p->chain[c].n; i++) {
            const int32_t dst = p->step[p->order[p->chain[c].first + i]].dst;
            if (dst >= 0) s->chain[dst] = c;
        }
    find_in_chain(s, keep || whole);
    for (int32_t i = 0; i < p->n_step && !keep; i++) alias_step(s, i);
    for (int32_t i = 0; i < p->n_val; i++) {
        const int32_t r = s->root[i], last = p->val[i].stage_last;
        if (last > s->until[r]) s->until[r] = last;
    }
}

/* ---- shared arena ------------------------------------------------------------------------------- */

typedef struct live {
    size_t off, end;
    int32_t until;
} live;

static void drop_dead(live *a, int32_t *n, int32_t stage) {
    int32_t kept = 0;
    for (int32_t i = 0; i < *n; i++)
        if (a[i].until >= stage) a[kept++] = a[i];
    *n = kept;
}

/* The lowest gap that holds bytes, kept sorted. false: overflow. */
static bool take(live *a, int32_t *n, size_t bytes, int32_t until, size_t *off) {
    size_t at = 0, end = 0;
    int32_t i = 0;
    while (i < *n && a[i].off - at < bytes)
        at = a[i++].end; /* at <= a[i].off: no overlap in the list */
    if (!wk_add(&end, at, bytes)) return false;
    memmove(&a[i + 1], &a[i], (size_t)(*n - i) * sizeof(*a));
    a[i] = (live){at, end, until};
    ++*n;
    *off = at;
    return true;
}

/* KEEP: one after another. */
static bool append(size_t at, size_t bytes, size_t *off) {
    size_t end = 0;
    *off = at;
    return wk_add(&end, at, bytes);
}

static int place_shared(slotter *s, bool keep, wk_err *err) {
    wk_plan *p = s->p;
    const int32_t in_logits = s->root[p->logits];
    live *a = wk_new_n(live, (size_t)p->n_val);
    if (!a) return wk_fail(err, WICK_E_NOMEM, "no memory to place %d values", (int)p->n_val);
    int32_t n = 0;
    int rc = WICK_OK;
    p->arena_bytes = 0;
    for (int32_t i = 0; i < p->n_val && !rc; i++) {
        wk_val *v = &p->val[i];
        if (i > 0 && v->stage_def > p->val[i - 1].stage_def) drop_dead(a, &n, v->stage_def);
        if (s->root[i] != i) {
            v->off = p->val[s->root[i]].off;
            continue;
        }
        size_t bytes = 0;
        v->off = SIZE_MAX;
        if (i == in_logits) continue;
        size_t *const off = &v->off;
        if (!wk_align(&bytes, v->bytes, ALIGN) ||
            !(keep ? append(p->arena_bytes, bytes, off) : take(a, &n, bytes, s->until[i], off)))
            rc = wk_fail(err, WICK_E_FIT, "the values of %d tokens overflow the address space",
                         (int)p->max_tok);
        else if (v->off + bytes > p->arena_bytes)
            p->arena_bytes = v->off + bytes;
    }
    wk_free(a);
    return rc;
}

/* Places among the values of a chain. */
static void number_in_chains(slotter *s) {
    for (int32_t i = 0; i < s->p->n_val; i++) {
        wk_val *v = &s->p->val[i];
        if (!v->in_chain) continue;
        v->chain_at = s->root[i] == i ? s->count[s->chain[i]]++ : s->p->val[s->root[i]].chain_at;
    }
}

/* ---- private arenas ----------------------------------------------------------------------------- */

/* Row work of a stage is a handful of values: they simply follow each other. */
static int place_private(wk_plan *p, wk_err *err) {
    size_t at = 0;
    p->priv_bytes = 0;
    for (int32_t i = 0; i < p->n_val; i++) {
        wk_val *v = &p->val[i];
        if (i == 0 || v->stage_def > p->val[i - 1].stage_def) at = 0;
        v->priv_off = 0;
        if (!v->in_row) continue;
        size_t bytes = wk_val_bytes(v->type, v->dim, WK_REDUNDANT);
        v->priv_off = at;
        if (!wk_align(&bytes, bytes, ALIGN) || !wk_add(&at, at, bytes))
            return wk_fail(err, WICK_E_FIT, "the row values overflow the address space");
        if (at > p->priv_bytes) p->priv_bytes = at;
    }
    return WICK_OK;
}

int wk_slots_place(wk_plan *p, bool keep, bool whole, wk_err *err) {
    const size_t n = (size_t)p->n_val;
    slotter s = {.p = p,
                 .root = wk_new_n(int32_t, n),
                 .until = wk_new_n(int32_t, n),
                 .chain = wk_new_n(int32_t, n),
                 .count = wk_new_n(int32_t, (size_t)p->n_chain + 1)};
    int rc = WICK_OK;
    if (!s.root || !s.until || !s.chain || !s.count) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory to place %zu values", n);
        goto out;
    }
    find_groups(&s, keep, whole);
    for (int32_t i = 0; i < p->n_val; i++)
        p->val[i].bytes = wk_val_bytes(p->val[i].type, p->val[i].dim, rows_of(p, &p->val[i]));
    number_in_chains(&s);
    if ((rc = place_shared(&s, keep, err))) goto out;
    rc = place_private(p, err);
out:
    wk_free(s.root);
    wk_free(s.until);
    wk_free(s.chain);
    wk_free(s.count);
    return rc;
}
