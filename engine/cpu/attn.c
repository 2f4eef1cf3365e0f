/* attn.c: attention over paged KV (DESIGN 9.7): how a batch is cut into tasks, and one task.
 *
 * A sequence that brings one token is cut by kv head and by runs of pages, so that few heads still feed many
 * threads; the first run merges as it goes, the others leave one partial a page, and whoever arrives last merges
 * them in page order. A sequence that brings more is cut by kv head and blocks of tokens, pages ascending. */
#include <string.h>

#include "engine/cpu/exec.h"
#include "simd/poly.h"

enum { RUN_PAGES = 4 }; /* shortest run: 256 positions */

static int32_t group_heads(const wk_plan *p) { return p->n_head / p->n_head_kv; }

/* First position that a token at pos sees. */
static int32_t first_seen(int32_t pos, int32_t window) {
    return window && pos >= window ? pos - window + 1 : 0;
}

/* About four tasks a thread, as many for each: nine for two threads would leave one idle for a ninth. */
static int32_t runs_of(const wk_exec *x, int32_t n_page, const wk_attn_list *l) {
    const int32_t n_thread = x->dev->n_thread, n_list = x->b->n_seq * x->plan->n_head_kv;
    const int32_t most = (n_page + RUN_PAGES - 1) / RUN_PAGES;
    if (n_thread == 1) return 1;
    int32_t want = (4 * n_thread + n_list - 1) / n_list;
    for (int32_t i = 1; want > 1 && i < n_thread && want * n_list % n_thread; i++) want++;
    const size_t slots = (size_t)l->n_slot + (size_t)n_page * (size_t)x->plan->n_head_kv;
    if (slots > x->part_room) return 1;
    return want < most ? want : most;
}

static void plan_one(wk_exec *x, wk_attn_list *l, int32_t seq) {
    const wk_batch_seq *s = &x->b->seq[seq];
    const int32_t first = first_seen(s->pos0, l->window) / WK_KV_PAGE,
                  n_page = s->pos0 / WK_KV_PAGE + 1 - first;
    const int32_t n_run = runs_of(x, n_page, l);
    for (int32_t h = 0; h < x->plan->n_head_kv; h++) {
        wk_attn_task t = {
            .seq = seq, .head = h, .nt = 1, .group = -1, .n_run = n_run, .slot = l->n_slot};
        if (n_run > 1) {
            t.group = l->n_group++;
            l->n_slot += n_page;
        }
        for (t.run = 0; t.run < n_run; t.run++) {
            t.page0 = first + (int32_t)((int64_t)n_page * t.run / n_run);
            t.page1 = first + (int32_t)((int64_t)n_page * (t.run + 1) / n_run);
            l->task[l->n_task++] = t;
        }
    }
}

static void plan_many(wk_exec *x, wk_attn_list *l, int32_t seq) {
    const wk_batch_seq *s = &x->b->seq[seq];
    const int32_t g = group_heads(x->plan), block = x->attn_cols / g > 0 ? x->attn_cols / g : 1;
    const int32_t n_block = (s->n_tok + block - 1) / block;
    /* Last, first, last but one, second: the last sees most, and each thread gets a run of this list first. */
    for (int32_t i = 0; i < n_block; i++) {
        const int32_t b = i % 2 ? i / 2 : n_block - 1 - i / 2;
        const int32_t t0 = b * block, left = s->n_tok - t0, nt = left < block ? left : block;
        wk_attn_task t = {.seq = seq, .t0 = t0, .nt = nt, .group = -1, .n_run = 1};
        t.page0 = first_seen(s->pos0 + t0, l->window) / WK_KV_PAGE;
        t.page1 = (s->pos0 + t0 + nt - 1) / WK_KV_PAGE + 1;
        for (t.head = 0; t.head < x->plan->n_head_kv; t.head++) l->task[l->n_task++] = t;
    }
}

int wk_attn_plan(wk_exec *x) {
    for (int32_t i = 0; i < x->n_attn; i++) {
        wk_attn_list *l = &x->attn[i];
        l->n_task = l->n_group = l->n_slot = 0;
        for (int32_t s = 0; s < x->b->n_seq; s++) {
            if (x->b->seq[s].n_tok == 1)
                plan_one(x, l, s);
            else
                plan_many(x, l, s);
        }
    }
    return WICK_OK;
}

wk_attn_list *wk_attn_list_of(wk_exec *x, int32_t window) {
    for (int32_t i = 0; i < x->n_attn; i++)
        if (x->attn[i].window == window) return &x->attn[i];
    return NULL; /* every attn step's window has a list: made by prepare */
}

static wk_partial slot_of(const wk_exec *x, int32_t slot) {
    const size_t g = (size_t)group_heads(x->plan), hd = (size_t)x->plan->head_dim;
    float *p = x->part + (size_t)slot * g * (hd + 2);
    return (wk_partial){p, p + g, p + 2 * g};
}

static void start(const wk_partial *p, int32_t n_col, int32_t hd) {
    for (int32_t i = 0; i < n_col; i++) p->m[i] = WK_ATTN_M0;
    memset(p->l, 0, (size_t)n_col * sizeof(float));
    memset(p->o, 0, (size_t)n_col * (size_t)hd * sizeof(float));
}

/* What each column sees of a page. */
static void set_limits(const wk_scratch *sc, const wk_attn_task *t, int32_t pos0, int32_t page,
                       int32_t window, int32_t g) {
    for (int32_t j = 0; j < t->nt; j++) {
        const int32_t pos = pos0 + t->t0 + j, lo = first_seen(pos, window) - page * WK_KV_PAGE,
                      hi = pos + 1 - page * WK_KV_PAGE;
        for (int32_t i = 0; i < g; i++) {
            sc->lo[j * g + i] = (uint8_t)(lo < 0 ? 0 : lo > WK_KV_PAGE ? WK_KV_PAGE : lo);
            sc->hi[j * g + i] = (uint8_t)(hi < 0 ? 0 : hi > WK_KV_PAGE ? WK_KV_PAGE : hi);
        }
    }
}

static void merge_group(const wk_ctx *c, const wk_attn_task *t, int32_t n_page, float *dst) {
    const wk_kernels *k = &c->x->dev->k;
    const int32_t g = group_heads(c->x->plan), hd = c->x->plan->head_dim;
    wk_partial acc = slot_of(c->x, t->slot);
    for (int32_t i = (int32_t)((int64_t)n_page / t->n_run); i < n_page; i++) {
        const wk_partial p = slot_of(c->x, t->slot + i);
        k->attn_merge(&acc, &p, g, hd);
    }
    k->attn_finish(dst, (size_t)hd, &acc, g, hd);
}

/* ---- Q8_0 cache: the products are those of a matrix of 64 rows ------------------------------------ */

size_t wk_attn_act_bytes(const wk_plan *p, size_t cols) {
    if (p->kv_type != WK_KV_Q8_0) return 0;
    const size_t ldb = wk_val_ldb(p->head_dim);
    return cols * ldb * (32 + 3 * 4) + (size_t)WK_KV_PAGE * (size_t)p->head_dim * sizeof(float);
}

void wk_attn_place_act(wk_scratch *s, uint8_t *at, const wk_plan *p, size_t cols) {
    if (p->kv_type != WK_KV_Q8_0) return;
    const size_t ldb = wk_val_ldb(p->head_dim), n = cols * ldb;
    s->wide = (float *)(void *)at;
    at += (size_t)WK_KV_PAGE * (size_t)p->head_dim * sizeof(float);
    s->q8 = (wk_act){.n = (int)cols, .k = p->head_dim, .ld = 32 * ldb, .ldb = ldb};
    s->q8.q = (int8_t *)at;
    s->q8.d = (float *)(void *)(at + 32 * n);
    s->q8.z32 = (int32_t *)(void *)(at + 36 * n);
    s->q8.f32s = (float *)(void *)(at + 40 * n);
}

/* Panels that hold a slot that some column sees: [p0, p1). */
static void panels_seen(const wk_attn_page *a, int *p0, int *p1) {
    int lo = WK_KV_PAGE, hi = 0;
    for (int c = 0; c < a->n_col; c++) {
        if (a->hi[c] <= a->lo[c]) continue;
        if (a->lo[c] < lo) lo = a->lo[c];
        if (a->hi[c] > hi) hi = a->hi[c];
    }
    *p0 = lo / WK_PANEL;
    *p1 = (hi + WK_PANEL - 1) / WK_PANEL;
}

enum { GEMV_COLS = 3 }; /* so few columns cost less straight from the packed panels than their expansion */

/* score[c][i] = q_c . k_i by kind B32, for all panels that are seen. */
static void q8_products(const wk_ctx *c, const wk_attn_page *a) {
    const wk_kernels *k = &c->x->dev->k;
    const wk_gemm *g = &k->gemm[WK_KIND_B32];
    wk_scratch *sc = &c->x->scratch[c->rank];
    const size_t panel = wk_panel_bytes(WK_FMT_Q8_0, (size_t)a->hd);
    int p0, p1;
    panels_seen(a, &p0, &p1);
    if (a->n_col <= GEMV_COLS) {
        for (int i = 0; i < a->n_col && p1 > p0; i++) {
            const wk_act q = wk_act_at(&sc->q8, WK_X_A32, i, 0);
            k->gemv[WK_FMT_Q8_0](a->score + (size_t)i * WK_KV_PAGE + WK_PANEL * p0,
                                 (const uint8_t *)a->k + (size_t)p0 * panel, &q, p1 - p0, a->hd);
        }
        return;
    }
    const uint8_t *w = a->k;
    const int most = g->rows / WK_PANEL;
    for (int p = p0, np; p < p1; p += np) {
        np = p1 - p < most ? p1 - p : most;
        for (int k0 = 0; k0 < a->hd; k0 += g->kc) {
            const int klen = a->hd - k0 < g->kc ? a->hd - k0 : g->kc;
            for (int i = 0; i < np; i++)
                k->expand[WK_FMT_Q8_0](&sc->panel[i], w + (size_t)(p + i) * panel, k0, klen);
            for (int i = 0; i < a->n_col; i += g->cols) {
                const wk_act q = wk_act_at(&sc->q8, WK_X_A32, i, k0);
                const int m = a->n_col - i < g->cols ? a->n_col - i : g->cols;
                g->tile(a->score + (size_t)i * WK_KV_PAGE + WK_PANEL * p, WK_KV_PAGE, sc->panel, np, &q, m, klen,
                        k0 == 0);
            }
        }
    }
}

void wk_attn_run(const wk_ctx *c, const wk_step *s, const wk_attn_list *l, int32_t task) {
    wk_exec *x = c->x;
    const wk_attn_task *t = &l->task[task];
    const wk_batch_seq *seq = &x->b->seq[t->seq];
    wk_scratch *sc = &x->scratch[c->rank];
    const int32_t hd = s->head_dim, g = s->n_head / s->n_head_kv, n_col = t->nt * g;
    const size_t row = (size_t)g * (size_t)hd; /* heads of one kv head stand together */
    for (int32_t j = 0; j < t->nt; j++)
        memcpy(sc->q + (size_t)j * row,
               wk_val_f32(c, s->src[0], seq->first + t->t0 + j) + (size_t)t->head * row,
               row * sizeof(float));
    const bool is_q8 = x->plan->kv_type == WK_KV_Q8_0;
    for (int32_t i = 0; is_q8 && i < n_col; i++)
        x->dev->k.quant[WK_X_A32](&sc->q8, i, sc->q + (size_t)i * (size_t)hd, hd);
    wk_attn_page a = {.n_col = n_col,
                      .hd = hd,
                      .type = (wk_kv)x->plan->kv_type,
                      .q = sc->q,
                      .lo = sc->lo,
                      .hi = sc->hi,
                      .scale = s->scale,
                      .softcap = s->softcap,
                      .score = sc->score,
                      .wide = sc->wide,
                      .softcap_inv = s->softcap > 0 ? (float)(1.0 / (double)s->softcap) : 0.0f};
    wk_partial acc = t->group >= 0 && t->run == 0 ? slot_of(x, t->slot) : sc->acc;
    const bool merges = t->group < 0 || t->run == 0;
    const int32_t first = first_seen(seq->pos0 + t->t0, l->window) / WK_KV_PAGE;
    if (merges) start(&acc, n_col, hd);
    a.merge = merges;
    for (int32_t page = t->page0; page < t->page1; page++) {
        set_limits(sc, t, seq->pos0, page, l->window, g);
        const uint8_t *kv = wk_kv_head(x, seq->page[page], s->layer, t->head);
        a.k = kv;
        a.v = kv + wk_kv_k_bytes(x->plan->kv_type, hd);
        const bool last = page + 1 == t->page1;
        a.ahead = last ? 0 : wk_kv_head(x, seq->page[page + 1], s->layer, t->head) - kv;
        wk_partial p = merges ? acc : slot_of(x, t->slot + page - first);
        if (is_q8) q8_products(c, &a);
        x->dev->k.attn_page(&p, &a);
    }
    float *dst = wk_val_f32(c, s->dst, seq->first + t->t0) + (size_t)t->head * row;
    if (t->group < 0) {
        for (int32_t j = 0; j < t->nt; j++) {
            const wk_partial p = {acc.m + j * g, acc.l + j * g, acc.o + (size_t)j * row};
            x->dev->k.attn_finish(dst + (size_t)j * (size_t)x->plan->val[s->dst].dim, (size_t)hd,
                                  &p, g, hd);
        }
        return;
    }
    if (atomic_fetch_add_explicit(&x->arrive[t->group], 1, memory_order_acq_rel) == t->n_run - 1) {
        atomic_store_explicit(&x->arrive[t->group], 0, memory_order_relaxed);
        merge_group(c, t, seq->pos0 / WK_KV_PAGE + 1 - first, dst);
    }
}
