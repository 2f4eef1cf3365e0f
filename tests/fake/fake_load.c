/* fake_load.c: what a part needs of the device: one list, added up by bytes and taken by prepare. */
#include <string.h>

#include "engine/base/ck.h"
#include "simd/ref/ref.h"
#include "tests/fake/fake.h"

/* What is added up (x NULL) or taken. */
typedef struct list {
    const wk_plan *p;
    wk_part part;
    int32_t first, n; /* the part's steps: plan->order */
    uint32_t n_page;
    wk_exec *x;
    wk_err *err;
    size_t total;
    int rc;
} list;

int fake_kv_fmt(int kv_type) {
    static const int fmt[WK_KV_TYPE_COUNT] = {WK_FMT_F16, WK_FMT_F32, WK_FMT_BF16, WK_FMT_Q8_0};
    return fmt[kv_type];
}

static list list_of(const wk_plan *p, const wk_part *part, uint32_t n_page) {
    list l = {.p = p, .part = {0, p->n_stage, 0, p->n_layer}, .n_page = n_page};
    if (part) l.part = *part;
    const int32_t end = l.part.stage_first + l.part.n_stage;
    l.first = l.part.stage_first < p->n_stage ? p->stage[l.part.stage_first].row_first : p->n_order;
    l.n = (end < p->n_stage ? p->stage[end].row_first : p->n_order) - l.first;
    return l;
}

static const wk_step *step_at(const list *l, int32_t i) { return &l->p->step[l->p->order[l->first + i]]; }

static bool uses_weight(const list *l, int32_t w) {
    for (int32_t i = 0; i < l->n; i++)
        if (step_at(l, i)->w[0] == w || step_at(l, i)->w[1] == w) return true;
    return false;
}

static void find_value(const list *l, int32_t v, bool *is_read, bool *is_written) {
    *is_read = *is_written = false;
    for (int32_t i = 0; i < l->n; i++) {
        const wk_step *s = step_at(l, i);
        *is_written |= s->dst == v;
        *is_read |= s->src[0] == v || s->src[1] == v || s->src[2] == v;
    }
}

/* a * b * c bytes at *out. */
static void take(list *l, void *out, size_t a, size_t b, size_t c) {
    size_t n = 0;
    if (l->rc) return;
    if (!wk_mul(&n, a, b) || !wk_mul(&n, n, c) || !wk_add(&l->total, l->total, n)) {
        l->rc = wk_fail(l->err, WICK_E_NOMEM, "fake device: the sizes overflow");
        l->total = SIZE_MAX;
        return;
    }
    if (!l->x) return;
    void *p = fake_take(l->x->d, n, l->err);
    if (!p) l->rc = WICK_E_NOMEM;
    memcpy(out, &p, sizeof(p)); /* pointers of several types */
}

static void take_weights(list *l) {
    for (int32_t i = 0; i < l->p->n_weight; i++) {
        const wk_weight *w = &l->p->weight[i];
        void *out = l->x ? &l->x->w[i] : NULL;
        if (!uses_weight(l, i)) continue;
        if (w->is_vector)
            take(l, out, (size_t)w->k, sizeof(float), 1);
        else
            take(l, out, wk_panel_bytes(w->fmt, (size_t)w->k), ((size_t)w->n_row + WK_PANEL - 1) / WK_PANEL, 1);
    }
}

enum { ACT_BYTES = 32 + 4 + 4 + 4 + 8 + 2 + 4 }; /* per 32 values: q d z32 f32s z16 s32 s16 */

static void take_values(list *l) {
    for (int32_t i = 0; i < l->p->n_val; i++) {
        const wk_val *v = &l->p->val[i];
        const size_t rows = (size_t)fake_max_rows(l->p, i);
        bool is_read, is_written;
        find_value(l, i, &is_read, &is_written);
        if (!is_read && !is_written) continue;
        if (l->x) l->x->v[i].is_input = !is_written;
        void *out = l->x ? &l->x->v[i].mem : NULL;
        if (v->type == WK_VAL_F32)
            take(l, out, rows, (size_t)v->dim, sizeof(float));
        else
            take(l, out, rows, wk_val_ldb(v->dim), ACT_BYTES);
    }
}

static void take_cache(list *l) {
    const wk_plan *p = l->p;
    const size_t slot = wk_row_bytes(fake_kv_fmt(p->kv_type), (size_t)p->head_dim);
    const size_t page = 2 * slot * WK_KV_PAGE * (size_t)p->n_head_kv * (size_t)l->part.n_layer;
    if (l->x) {
        l->x->slot_bytes = slot;
        l->x->page_bytes = page;
    }
    take(l, l->x ? &l->x->kv : NULL, page, l->n_page, 1);
}

static size_t longest_row(const wk_plan *p) {
    size_t n = 64;
    for (int32_t i = 0; i < p->n_weight; i++)
        if (p->weight[i].row_bytes > n) n = p->weight[i].row_bytes;
    return n;
}

static size_t longest_rope(const wk_plan *p) {
    int32_t n = 1;
    for (int32_t i = 0; i < p->n_rope; i++)
        if (p->rope[i].n_rot > n) n = p->rope[i].n_rot;
    return (size_t)n;
}

static void take_scratch(list *l) {
    const wk_plan *p = l->p;
    fake_scratch none, *s = l->x ? &l->x->s : &none;
    const size_t g = (size_t)(p->n_head / p->n_head_kv), hd = (size_t)p->head_dim, n = (size_t)p->max_tok,
                 slot = wk_row_bytes(fake_kv_fmt(p->kv_type), hd);
    take(l, &s->panel.code, WK_PANEL_CODE, 1, 1);
    take(l, &s->panel.f, WK_PANEL_CODE, 4, 1);
    take(l, &s->panel.s, WK_PANEL_SUB, 4, 1);
    take(l, &s->panel.c, WK_PANEL_SUB, 4, 1);
    take(l, &s->panel.mn, WK_PANEL_SUB, 2, 1);
    take(l, &s->panel.sc, WK_PANEL_SUB, 2, 1);
    take(l, &s->sum, n, WK_PANEL, 4);
    take(l, &s->row, longest_row(p), 1, 1);
    take(l, &s->acc.m, n, g, 4);
    take(l, &s->acc.l, n, g, 4);
    take(l, &s->acc.o, n * g, hd, 4);
    take(l, &s->score, g, WK_KV_PAGE, 4);
    take(l, &s->wide, WK_KV_PAGE, hd, 4);
    take(l, &s->lo, g, 1, 1);
    take(l, &s->hi, g, 1, 1);
    take(l, &s->k, WK_KV_PAGE + WK_PANEL, slot, 1); /* a panel may end behind its rows, at 64 bytes */
    take(l, &s->v, WK_KV_PAGE, slot, 1);
    take(l, &s->q8.q, g, wk_val_ldb(p->head_dim), 32);
    take(l, &s->q8.d, g, wk_val_ldb(p->head_dim), 4);
    take(l, &s->q8.z32, g, wk_val_ldb(p->head_dim), 4);
    take(l, &s->q8.f32s, g, wk_val_ldb(p->head_dim), 4);
    take(l, &s->cs, longest_rope(p), 4, 1);
    if (!l->x) return;
    s->q8.n = (int)g;
    s->q8.k = p->head_dim;
    s->q8.ldb = wk_val_ldb(p->head_dim);
    s->q8.ld = 32 * s->q8.ldb;
}

static void take_results(list *l) {
    const wk_plan *p = l->p;
    wk_exec *x = l->x;
    take(l, x ? &x->logits : NULL, (size_t)p->max_out, (size_t)p->n_vocab + 1, 4);
    take(l, x ? &x->top : NULL, (size_t)p->max_out, 4, 1);
    take(l, x ? &x->bad : NULL, (size_t)p->max_tok, 1, 1);
}

static void take_all(list *l) {
    take_weights(l);
    take_values(l);
    take_cache(l);
    take_scratch(l);
    take_results(l);
}

size_t fake_bytes(const wk_plan *p, const wk_part *part, uint32_t n_page, int n_thread) {
    (void)n_thread; /* the cpu's */
    list l = list_of(p, part, n_page);
    take_all(&l);
    return l.total;
}

/* ---- copies -------------------------------------------------------------------------------------- */

static int not_finite(const wk_weight *w, int32_t row, wk_err *err) {
    if (w->is_vector) return wk_fail(err, WICK_E_FORMAT, "%s holds a value that is not a finite number", w->name);
    return wk_fail(err, WICK_E_FORMAT, "%s holds a value that is not a finite number (row %d of %d)", w->name, (int)row,
                   (int)w->n_row);
}

/* A panel from file rows, one of them taken at a time: they may stand in another order. */
static int copy_panel(const wk_weight *w, uint8_t *dst, int32_t row, uint8_t *rows, wk_err *err) {
    const wk_format *f = &wk_formats[w->fmt];
    int n = 0;
    for (; n < WK_PANEL && row + n < w->n_row; n++) {
        const uint8_t *src = w->data + (size_t)wk_weight_row(w, row + n) * w->row_bytes;
        if (f->find_nonfinite(src, w->k) >= 0) return not_finite(w, row + n, err);
        memcpy(rows + (size_t)n * w->row_bytes, src, w->row_bytes);
    }
    f->pack(dst, rows, w->row_bytes, n, w->k);
    return WICK_OK;
}

static int copy_weight(wk_exec *x, int32_t weight, uint8_t *rows, wk_err *err) {
    const wk_weight *w = &x->p->weight[weight];
    const wk_format *f = &wk_formats[w->fmt];
    if (fake_fails(x->d, FAKE_UPLOAD))
        return wk_fail(err, WICK_E_DEVICE, "fake device %d: %s could not be copied", x->d->index, w->name);
    if (w->is_vector) {
        if (f->find_nonfinite(w->data, w->k) >= 0) return not_finite(w, 0, err);
        f->decode((float *)(void *)x->w[weight], w->data, w->k);
        return WICK_OK;
    }
    uint8_t *dst = x->w[weight];
    for (int32_t i = 0; i < w->n_row; i += WK_PANEL, dst += wk_panel_bytes(w->fmt, (size_t)w->k))
        WK_TRY(copy_panel(w, dst, i, rows, err));
    return WICK_OK;
}

static uint64_t file_bytes(const wk_exec *x, int32_t n_weight) {
    uint64_t n = 0;
    for (int32_t i = 0; i < n_weight; i++)
        if (x->w[i]) n += (uint64_t)x->p->weight[i].n_row * x->p->weight[i].row_bytes;
    return n;
}

static int copy_weights(wk_exec *x, wk_err *err) {
    const wk_host *h = &x->d->host;
    const uint64_t total = file_bytes(x, x->p->n_weight);
    uint8_t *rows = fake_host(x->d, WK_PANEL * longest_row(x->p), err);
    int rc = rows ? WICK_OK : WICK_E_NOMEM;
    for (int32_t i = 0; i < x->p->n_weight && !rc; i++) {
        if (x->w[i]) rc = copy_weight(x, i, rows, err);
        if (!rc && h->progress && !h->progress(h->ud, file_bytes(x, i + 1), total))
            rc = wk_fail(err, WICK_E_CANCELED, "loading was cancelled");
    }
    fake_free(x->d, rows);
    return rc;
}

/* What a plan must be for any part of it to run: a caller's mistake is said here and not found as a wrong number. */
static int check_part(const list *l, wk_err *err) {
    const wk_part *a = &l->part;
    if (a->stage_first < 0 || a->n_stage < 0 || a->stage_first + a->n_stage > l->p->n_stage || a->layer_first < 0 ||
        a->n_layer < 0 || a->layer_first + a->n_layer > l->p->n_layer)
        return wk_fail(err, WICK_E_ARG, "fake device: stages %d+%d, layers %d+%d are no part of a plan of %d and %d",
                       (int)a->stage_first, (int)a->n_stage, (int)a->layer_first, (int)a->n_layer, (int)l->p->n_stage,
                       (int)l->p->n_layer);
    for (int32_t i = 0; i < l->n; i++) {
        const wk_step *s = step_at(l, i);
        const bool caches = s->op == WK_OP_kvput || s->op == WK_OP_attn;
        if (caches && (s->layer < a->layer_first || s->layer >= a->layer_first + a->n_layer))
            return wk_fail(err, WICK_E_ARG, "fake device: a step of layer %d, the part keeps K and V of layers %d+%d",
                           (int)s->layer, (int)a->layer_first, (int)a->n_layer);
    }
    return WICK_OK;
}

static int make_tables(wk_exec *x, wk_err *err) {
    const wk_plan *p = x->p;
    x->w = fake_host(x->d, ((size_t)p->n_weight + 1) * sizeof(*x->w), err);
    x->v = x->w ? fake_host(x->d, ((size_t)p->n_val + 1) * sizeof(*x->v), err) : NULL;
    x->pos = x->v ? fake_host(x->d, (size_t)p->max_tok * sizeof(int32_t), err) : NULL;
    x->seq = x->pos ? fake_host(x->d, (size_t)p->max_tok * sizeof(int32_t), err) : NULL;
    return x->seq ? WICK_OK : WICK_E_NOMEM;
}

int fake_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page, wk_err *err) {
    list l = list_of(p, part, n_page);
    WK_TRY(check_part(&l, err));
    wk_exec *x = fake_host(d, sizeof(*x), err);
    if (!x) return WICK_E_NOMEM;
    *x = (wk_exec){.d = d, .p = p, .part = l.part, .n_page = n_page, .step_first = l.first, .n_step = l.n};
    int rc = make_tables(x, err);
    if (rc) goto out;
    l.x = x;
    l.err = err;
    take_all(&l);
    if ((rc = l.rc)) goto out;
    if ((rc = copy_weights(x, err))) goto out;
    *out = x;
    x = NULL;
out:
    fake_unprepare(x);
    return rc;
}

void fake_unprepare(wk_exec *x) {
    if (!x) return;
    wk_dev *d = x->d;
    fake_scratch *s = &x->s;
    void *const scratch[] = {s->panel.code, s->panel.f, s->panel.s, s->panel.c, s->panel.mn, s->panel.sc,
                             s->sum,        s->row,     s->acc.m,   s->acc.l,   s->acc.o,    s->score,
                             s->wide,       s->lo,      s->hi,      s->k,       s->v,        s->q8.q,
                             s->q8.d,       s->q8.z32,  s->q8.f32s, s->cs,      x->kv,       x->logits,
                             x->top,        x->bad,     x->pos,     x->seq};
    for (size_t i = 0; i < sizeof(scratch) / sizeof(*scratch); i++) fake_free(d, scratch[i]);
    for (int32_t i = 0; x->w && i < x->p->n_weight; i++) fake_free(d, x->w[i]);
    for (int32_t i = 0; x->v && i < x->p->n_val; i++) fake_free(d, x->v[i].mem);
    fake_free(d, x->w);
    fake_free(d, x->v);
    fake_free(d, x);
}
