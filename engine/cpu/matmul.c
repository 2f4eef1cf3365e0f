/* matmul.c: dst[t, n] = sum_k x[t, k] * w[n, k]: one token straight from the packed panels, more through
 * expanded panels. Both give the same bits (DESIGN 9.2). */
#include <string.h>

#include "engine/cpu/exec.h"

typedef struct mm {
    const wk_ctx *c;
    const wk_weight *w;
    const wk_packed *p;
    wk_act x;
    int x_kind;
    const wk_gemm *g;
} mm;

/* Panels p .. p+np-1 (np = 1 or 2) for tokens t0 .. t1-1 into dst (row of token t0), ld apart. */
static void panels_gemm(const mm *m, int32_t panel, int np, int32_t t0, int32_t t1, float *dst,
                        size_t ld) {
    const wk_kernels *k = &m->c->x->dev->k;
    wk_scratch *s = &m->c->x->scratch[m->c->rank];
    const uint8_t *w = m->p->p + (size_t)panel * m->p->panel_bytes;
    const int kc = m->g->kc, cols = m->g->cols;
    for (int k0 = 0; k0 < m->w->k; k0 += kc) {
        const int left = m->w->k - k0, klen = left < kc ? left : kc;
        for (int i = 0; i < np; i++)
            k->expand[m->w->fmt](&s->panel[i], w + (size_t)i * m->p->panel_bytes, k0, klen);
        for (int32_t t = t0; t < t1; t += cols) {
            const wk_act x = wk_act_at(&m->x, m->x_kind, t, k0);
            m->g->tile(dst + (size_t)(t - t0) * ld, ld, s->panel, np, &x,
                       t1 - t < cols ? t1 - t : cols, klen, k0 == 0);
        }
    }
}

/* The last panel of a matrix whose rows 16 does not divide: through a buffer, then the rows that exist. */
static void tail_panel(const mm *m, int32_t panel, int32_t t0, int32_t t1, float *dst, size_t ld) {
    const wk_exec *x = m->c->x;
    float *tmp = x->scratch[m->c->rank].tail;
    const int32_t rows = m->w->n_row - panel * WK_PANEL;
    if (t1 - t0 == 1) {
        const wk_act a = wk_act_at(&m->x, m->x_kind, t0, 0);
        x->dev->k.gemv[m->w->fmt](tmp, m->p->p + (size_t)panel * m->p->panel_bytes, &a, 1, m->w->k);
    } else {
        panels_gemm(m, panel, 1, t0, t1, tmp, WK_PANEL);
    }
    for (int32_t t = t0; t < t1; t++)
        memcpy(dst + (size_t)(t - t0) * ld, tmp + (size_t)(t - t0) * WK_PANEL,
               (size_t)rows * sizeof(float));
}

void wk_exec_matmul(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    mm m = {
        .c = c, .w = &x->plan->weight[s->w[0]], .p = &x->w[s->w[0]], .x = wk_val_act(c, s->src[0])};
    m.x_kind = wk_formats[m.w->fmt].act;
    m.g = &x->dev->k.gemm[wk_formats[m.w->fmt].kind];
    const size_t ld = (size_t)x->plan->val[s->dst].dim;
    const int32_t whole =
        r.r1 == m.w->n_row ? m.w->n_row / WK_PANEL : r.r1 / WK_PANEL; /* full panels end here */
    int32_t panel = r.r0 / WK_PANEL;
    float *dst = wk_val_f32(c, s->dst, r.t0);
    if (r.t1 - r.t0 == 1 && whole > panel) {
        const wk_act a = wk_act_at(&m.x, m.x_kind, r.t0, 0);
        x->dev->k.gemv[m.w->fmt](dst + panel * WK_PANEL, m.p->p + (size_t)panel * m.p->panel_bytes,
                                 &a, whole - panel, m.w->k);
        panel = whole;
    }
    const int pair = m.g->rows / WK_PANEL;
    while (panel < whole) {
        const int np = whole - panel < pair ? 1 : pair;
        panels_gemm(&m, panel, np, r.t0, r.t1, dst + panel * WK_PANEL, ld);
        panel += np;
    }
    if (whole * WK_PANEL < r.r1) tail_panel(&m, whole, r.t0, r.t1, dst + whole * WK_PANEL, ld);
}
