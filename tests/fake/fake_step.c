/* fake_step.c: op.def in plain C: each operation over all rows of the pass. The cache holds plain rows, one per
 * position: what attention wants of them is put together page by page. */
#include <string.h>

#include "simd/dmath.h"
#include "simd/poly.h"
#include "simd/ref/ref.h"
#include "tests/fake/fake.h"

static int32_t rows_of(const wk_exec *x, const wk_step *s) {
    return x->p->val[s->dst >= 0 ? s->dst : s->src[0]].rows == WK_ROWS_TOK ? x->b->n_tok : x->b->n_out;
}
static const float *vector(const wk_exec *x, const wk_step *s) { return (const float *)(const void *)x->w[s->w[0]]; }

static wk_act act_of(const wk_exec *x, int32_t v) {
    const wk_val *val = &x->p->val[v];
    const size_t ldb = wk_val_ldb(val->dim), n = (size_t)fake_max_rows(x->p, v) * ldb;
    uint8_t *m = x->v[v].mem;
    if (val->type == WK_VAL_F32)
        return (wk_act){.n = fake_max_rows(x->p, v), .k = val->dim, .ld = (size_t)val->dim, .x = fake_f32(x, v, 0)};
    wk_act a = {.n = fake_max_rows(x->p, v), .k = val->dim, .ld = 32 * ldb, .ldb = ldb};
    a.q = (int8_t *)m;
    a.d = (float *)(void *)(m + 32 * n);
    a.z32 = (int32_t *)(void *)(m + 36 * n);
    a.f32s = (float *)(void *)(m + 40 * n);
    a.z16 = (int32_t *)(void *)(m + 44 * n);
    a.s32 = (int16_t *)(void *)(m + 52 * n);
    a.s16 = (int16_t *)(void *)(m + 54 * n);
    return a;
}

static void embed(wk_exec *x, const wk_step *s, int32_t t) {
    const wk_weight *w = &x->p->weight[s->w[0]];
    const wk_format *f = &wk_formats[w->fmt];
    const size_t id = (size_t)x->b->tok[t], panel = wk_panel_bytes(w->fmt, (size_t)w->k);
    float *dst = fake_f32(x, s->dst, t);
    f->unpack(x->s.row, x->w[s->w[0]] + id / WK_PANEL * panel, (int)(id % WK_PANEL), w->k);
    f->decode(dst, x->s.row, w->k);
    if (s->scale != 1.0f) x->d->k.scale(dst, dst, s->scale, w->k);
}

/* One panel for all rows, piece by piece of k. */
static void multiply(wk_exec *x, const wk_step *s) {
    const wk_weight *w = &x->p->weight[s->w[0]];
    const wk_format *f = &wk_formats[w->fmt];
    const wk_kernels *k = &x->d->k;
    const wk_gemm *g = &k->gemm[f->kind];
    const wk_act a = act_of(x, s->src[0]);
    const int32_t n = rows_of(x, s);
    for (int32_t r = 0; r < w->n_row; r += WK_PANEL) {
        const uint8_t *panel = x->w[s->w[0]] + (size_t)(r / WK_PANEL) * wk_panel_bytes(w->fmt, (size_t)w->k);
        for (int k0 = 0; k0 < w->k; k0 += WK_REF_KC) {
            const int len = w->k - k0 < WK_REF_KC ? w->k - k0 : WK_REF_KC;
            k->expand[w->fmt](&x->s.panel, panel, k0, len);
            for (int32_t t = 0; t < n; t += g->cols) {
                const wk_act at = wk_act_at(&a, f->act, t, k0);
                g->tile(x->s.sum + (size_t)t * WK_PANEL, WK_PANEL, &x->s.panel, 1, &at,
                        n - t < g->cols ? n - t : g->cols, len, k0 == 0);
            }
        }
        const size_t n_row = (size_t)(w->n_row - r < WK_PANEL ? w->n_row - r : WK_PANEL);
        for (int32_t t = 0; t < n; t++)
            memcpy(fake_f32(x, s->dst, t) + r, x->s.sum + (size_t)t * WK_PANEL, n_row * sizeof(float));
    }
}

static void turn(wk_exec *x, const wk_step *s, float *dst, const float *src, int32_t t) {
    const wk_rope_plan *r = &x->p->rope[s->rope];
    const int32_t half = r->n_rot / 2, dim = x->p->val[s->dst].dim;
    for (int32_t i = 0; i < half; i++) {
        double sn, cn;
        wk_sincos((double)x->pos[t] * r->freq[i], &sn, &cn);
        x->s.cs[i] = (float)(cn * (double)r->mscale);
        x->s.cs[half + i] = (float)(sn * (double)r->mscale);
    }
    memcpy(dst, src, (size_t)dim * sizeof(float));
    x->d->k.rope[s->pairing](dst, x->s.cs, dim / s->head_dim, s->head_dim, r->n_rot);
}

/* ---- cache and attention ------------------------------------------------------------------------- */

/* 64 rows of K (which 0) or V of one head of a page. */
static uint8_t *slots(const wk_exec *x, uint32_t page, int32_t layer, int which, int32_t head) {
    const size_t row = (size_t)((layer - x->part.layer_first) * 2 + which) * (size_t)x->p->n_head_kv + (size_t)head;
    return x->kv + (size_t)page * x->page_bytes + row * WK_KV_PAGE * x->slot_bytes;
}

static void keep(wk_exec *x, const wk_step *s, const float *src, int32_t t) {
    const uint32_t page = x->b->seq[x->seq[t]].page[x->pos[t] / WK_KV_PAGE];
    const size_t slot = (size_t)(x->pos[t] % WK_KV_PAGE);
    for (int32_t h = 0; h < x->p->n_head_kv; h++) {
        uint8_t *dst = slots(x, page, s->layer, s->which, h) + slot * x->slot_bytes;
        if (x->d->k.kv_cast[x->p->kv_type](dst, src + h * s->head_dim, s->head_dim)) x->bad[t] = 1;
    }
}

/* K as panels of 16 positions; V of a Q8_0 cache as scales, then codes. */
static void open_page(wk_exec *x, wk_attn_page *a, const uint8_t *k, const uint8_t *v) {
    const int fmt = fake_kv_fmt(x->p->kv_type);
    const size_t panel = fmt == WK_FMT_Q8_0 ? wk_panel_bytes(fmt, (size_t)a->hd) : WK_PANEL * x->slot_bytes;
    for (size_t i = 0; i < WK_KV_PAGE / WK_PANEL; i++)
        wk_formats[fmt].pack(x->s.k + i * panel, k + i * WK_PANEL * x->slot_bytes, x->slot_bytes, WK_PANEL, a->hd);
    a->k = x->s.k;
    a->v = v;
    if (fmt != WK_FMT_Q8_0) return;
    const size_t n = (size_t)a->hd / 32 * WK_KV_PAGE;
    for (size_t i = 0; i < n; i++) {
        wk_block_q8_0 b;
        memcpy(&b, v + i * sizeof(b), sizeof(b));
        memcpy(x->s.v + i * sizeof(b.d), &b.d, sizeof(b.d));
        memcpy(x->s.v + n * sizeof(b.d) + 32 * i, b.qs, 32);
    }
    a->v = x->s.v;
}

/* Q8_0: the products are those of any matrix of that format. */
static void products(wk_exec *x, const wk_attn_page *a) {
    for (int c = 0; c < a->n_col; c++) {
        const wk_act q = wk_act_at(&x->s.q8, WK_X_A32, c, 0);
        x->d->k.quant[WK_X_A32](&x->s.q8, c, a->q + (size_t)c * (size_t)a->hd, a->hd);
        x->d->k.gemv[WK_FMT_Q8_0](a->score + c * WK_KV_PAGE, a->k, &q, WK_KV_PAGE / WK_PANEL, a->hd);
    }
}

/* One token against the open page, which holds positions from `first` on. */
static void look(wk_exec *x, const wk_step *s, wk_attn_page *a, const wk_batch_seq *q, int32_t i, int32_t head,
                 int32_t first) {
    const int32_t pos = q->pos0 + i, from = s->window && pos >= s->window ? pos - s->window + 1 : 0;
    const int32_t lo = from > first ? from - first : 0, seen = pos + 1 - first;
    const int32_t hi = seen < WK_KV_PAGE ? seen : WK_KV_PAGE;
    const size_t g = (size_t)a->n_col, hd = (size_t)a->hd;
    if (hi <= lo) return;
    memset(x->s.lo, lo, g);
    memset(x->s.hi, hi, g);
    a->q = fake_f32(x, s->src[0], q->first + i) + (size_t)head * g * hd;
    if (a->type == WK_KV_Q8_0) products(x, a);
    wk_partial acc = {x->s.acc.m + (size_t)i * g, x->s.acc.l + (size_t)i * g, x->s.acc.o + (size_t)i * g * hd};
    x->d->k.attn_page(&acc, a);
}

static void attend_head(wk_exec *x, const wk_step *s, const wk_batch_seq *q, int32_t head) {
    const int g = s->n_head / s->n_head_kv, hd = s->head_dim;
    const size_t n = (size_t)q->n_tok * (size_t)g;
    wk_attn_page a = {.n_col = g, .hd = hd, .type = (wk_kv)x->p->kv_type, .merge = true, .lo = x->s.lo, .hi = x->s.hi,
                      .scale = s->scale, .softcap = s->softcap, .score = x->s.score, .wide = x->s.wide};
    if (s->softcap > 0) a.softcap_inv = (float)(1.0 / (double)s->softcap);
    for (size_t i = 0; i < n; i++) x->s.acc.m[i] = WK_ATTN_M0;
    memset(x->s.acc.l, 0, n * sizeof(float));
    memset(x->s.acc.o, 0, n * (size_t)hd * sizeof(float));
    const int32_t oldest = s->window && q->pos0 >= s->window ? q->pos0 - s->window + 1 : 0;
    for (int32_t p = oldest / WK_KV_PAGE; p * WK_KV_PAGE < q->pos0 + q->n_tok; p++) {
        open_page(x, &a, slots(x, q->page[p], s->layer, 0, head), slots(x, q->page[p], s->layer, 1, head));
        for (int32_t i = 0; i < q->n_tok; i++) look(x, s, &a, q, i, head, p * WK_KV_PAGE);
    }
    for (int32_t i = 0; i < q->n_tok; i++) {
        const size_t c = (size_t)i * (size_t)g;
        const wk_partial acc = {x->s.acc.m + c, x->s.acc.l + c, x->s.acc.o + c * (size_t)hd};
        float *dst = fake_f32(x, s->dst, q->first + i) + (size_t)(head * g) * (size_t)hd;
        x->d->k.attn_finish(dst, (size_t)hd, &acc, g, hd);
    }
}

static void attend(wk_exec *x, const wk_step *s) {
    for (int32_t i = 0; i < x->b->n_seq; i++)
        for (int32_t h = 0; h < s->n_head_kv; h++) attend_head(x, s, &x->b->seq[i], h);
}

/* ---- one row ------------------------------------------------------------------------------------- */

static void step_row(wk_exec *x, const wk_step *s, int32_t t) {
    const wk_kernels *k = &x->d->k;
    float *dst = s->dst >= 0 && x->p->val[s->dst].type == WK_VAL_F32 ? fake_f32(x, s->dst, t) : NULL;
    const int32_t dim = x->p->val[s->dst >= 0 ? s->dst : s->src[0]].dim;
    const int32_t t0 = s->op == WK_OP_pick ? x->b->out[t] : t;
    const float *a = s->src[0] >= 0 ? fake_f32(x, s->src[0], t0) : NULL;
    const float *b = s->src[1] >= 0 ? fake_f32(x, s->src[1], t) : NULL;
    switch ((wk_op)s->op) {
    case WK_OP_embed: embed(x, s, t); return;
    case WK_OP_rms: k->rms(dst, NULL, a, vector(x, s), dim, s->eps); return;
    case WK_OP_headrms:
        for (int32_t i = 0; i < dim; i += s->head_dim) k->rms(dst + i, NULL, a + i, vector(x, s), s->head_dim, s->eps);
        return;
    case WK_OP_quant: {
        wk_act q = act_of(x, s->dst);
        k->quant[x->p->val[s->dst].type == WK_VAL_A32 ? WK_X_A32 : WK_X_A256](&q, t, a, dim);
        return;
    }
    case WK_OP_bias: k->add(dst, a, vector(x, s), dim); return;
    case WK_OP_rope: turn(x, s, dst, a, t); return;
    case WK_OP_kvput: keep(x, s, a, t); return;
    case WK_OP_add: k->add(dst, a, b, dim); return;
    case WK_OP_lora: k->fma(dst, a, b, s->scale, dim); return;
    case WK_OP_glu: k->glu[s->fn](dst, a, b, dim); return;
    case WK_OP_softcap: k->softcap(dst, a, s->softcap, (float)(1.0 / (double)s->softcap), dim); return;
    case WK_OP_pick: memcpy(dst, a, (size_t)dim * sizeof(float)); return;
    case WK_OP_matmul:
    case WK_OP_attn:
    case WK_OP_COUNT: return; /* not by rows */
    }
}

/* The lowest bit of the last value, or of the last code; of V's last value in the cache. */
static void spoil(wk_exec *x, const wk_step *s, int32_t n) {
    if (s->dst < 0) {
        const uint32_t page = x->b->seq[x->seq[n - 1]].page[x->pos[n - 1] / WK_KV_PAGE];
        const size_t slot = (size_t)(x->pos[n - 1] % WK_KV_PAGE) + 1;
        slots(x, page, s->layer, 1, s->n_head_kv - 1)[slot * x->slot_bytes - 2] ^= 1;
        return;
    }
    const wk_val *v = &x->p->val[s->dst];
    if (v->type == WK_VAL_F32)
        *(uint32_t *)(void *)(fake_f32(x, s->dst, n) - 1) ^= 1;
    else
        x->v[s->dst].mem[(size_t)(n - 1) * 32 * wk_val_ldb(v->dim) + (size_t)v->dim - 1] ^= 1;
}

void fake_step(wk_exec *x, const wk_step *s, bool wrong) {
    const int32_t n = rows_of(x, s);
    if (s->op == WK_OP_matmul) multiply(x, s);
    if (s->op == WK_OP_attn) attend(x, s);
    for (int32_t t = 0; t < n; t++) step_row(x, s, t);
    if (wrong && n) spoil(x, s, n);
}
