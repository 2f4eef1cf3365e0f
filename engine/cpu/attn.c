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

static int32_t runs_of(const wk_exec *x, int32_t n_page, const wk_attn_list *l) {
    const int32_t per_head = x->b->n_seq * x->plan->n_head_kv,
                  want = (4 * x->dev->n_thread + per_head - 1) / per_head;
    const int32_t most = (n_page + RUN_PAGES - 1) / RUN_PAGES;
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
    for (int32_t b = n_block - 1; b >= 0; b--) { /* the last blocks see most: first */
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
    wk_attn_page a = {.n_col = n_col,
                      .hd = hd,
                      .type = (wk_kv)x->plan->kv_type,
                      .q = sc->q,
                      .lo = sc->lo,
                      .hi = sc->hi,
                      .scale = s->scale,
                      .softcap = s->softcap,
                      .score = sc->score,
                      .softcap_inv = s->softcap > 0 ? (float)(1.0 / (double)s->softcap) : 0.0f};
    wk_partial acc = t->group >= 0 && t->run == 0 ? slot_of(x, t->slot) : sc->acc;
    const bool merges = t->group < 0 || t->run == 0;
    const int32_t first = first_seen(seq->pos0 + t->t0, l->window) / WK_KV_PAGE;
    if (merges) start(&acc, n_col, hd);
    for (int32_t page = t->page0; page < t->page1; page++) {
        set_limits(sc, t, seq->pos0, page, l->window, g);
        const uint8_t *kv = wk_kv_head(x, seq->page[page], s->layer, t->head);
        a.k = kv;
        a.v = kv + x->kv_head_bytes / 2;
        wk_partial p = merges ? sc->page : slot_of(x, t->slot + page - first);
        x->dev->k.attn_page(&p, &a);
        if (merges) x->dev->k.attn_merge(&acc, &p, n_col, hd);
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
