/* matmul.c: dst[t, n] = sum_k x[t, k] * w[n, k]: one token straight from the packed panels, more through
 * expanded panels. Both give the same bits (DESIGN 9.2). */
#include <string.h>

#include "engine/cpu/exec.h"

enum { PAIR = 2, MAX_CLOSE = 256 }; /* panels of a tile, at most; rows so far apart stay in L1 and L2 together */

typedef struct mm {
    const wk_ctx *c;
    const wk_weight *w;
    const wk_packed *p;
    wk_act x;
    int x_kind;
    const wk_gemm *g;
} mm;

/* A row that is little longer than a piece is one piece: a short rest costs as much as half of one. */
static int piece_of(const mm *m) {
    const int kc = m->g->kc;
    return m->w->k <= kc + kc / 4 && m->w->k <= WK_KC_WHOLE ? m->w->k : kc;
}

/* A piece of np panels as the tiles read it. F32 panels are that already: they are read where they lie. */
static void get_piece(const mm *m, wk_panel dst[PAIR], const uint8_t *w, int np, int k0, int klen) {
    const wk_scratch *s = &m->c->x->scratch[m->c->rank];
    for (int i = 0; i < np; i++, w += m->p->panel_bytes) {
        dst[i] = s->panel[i];
        if (m->w->fmt == WK_FMT_F32)
            dst[i].f = (float *)(uintptr_t)(w + (size_t)k0 * WK_PANEL * sizeof(float));
        else
            m->c->x->dev->k.expand[m->w->fmt](&dst[i], w, k0, klen);
    }
}

/* Panels first .. first+np-1 (np = 1 or 2) for tokens t0 .. t1-1 into dst (row of token t0), ld apart. Sums of several pieces
 * wait in a block of their own: rows of dst may lie a power of two apart, where they push each other out; not those
 * of a block. */
static void panels_gemm(const mm *m, int32_t first, int np, int32_t t0, int32_t t1, float *dst,
                        size_t ld) {
    wk_panel panel[PAIR];
    const uint8_t *w = m->p->p + (size_t)first * m->p->panel_bytes;
    const int kc = piece_of(m), cols = m->g->cols;
    const bool apart = kc < m->w->k && ld > MAX_CLOSE;
    float *y = apart ? m->c->x->scratch[m->c->rank].acc_rows : dst;
    const size_t ly = apart ? (size_t)np * WK_PANEL : ld;
    for (int k0 = 0; k0 < m->w->k; k0 += kc) {
        const int left = m->w->k - k0, klen = left < kc ? left : kc;
        get_piece(m, panel, w, np, k0, klen);
        for (int32_t t = t0; t < t1; t += cols) {
            const wk_act x = wk_act_at(&m->x, m->x_kind, t, k0);
            m->g->tile(y + (size_t)(t - t0) * ly, ly, panel, np, &x,
                       t1 - t < cols ? t1 - t : cols, klen, k0 == 0);
        }
    }
    for (int32_t t = 0; apart && t < t1 - t0; t++)
        memcpy(dst + (size_t)t * ld, y + (size_t)t * ly, ly * sizeof(float));
}

static_assert((int)WK_TOK_BLOCK <= (int)UINT8_MAX, "wk_few.most can name every number of tokens");

/* n panels for tokens t0 .. t1-1: the way for their number. */
static void panels(const mm *m, int32_t panel, int32_t n, int32_t t0, int32_t t1, float *dst, size_t ld) {
    const wk_kernels *k = &m->c->x->dev->k;
    const uint8_t *w = m->p->p + (size_t)panel * m->p->panel_bytes;
    const wk_few *few = &k->few[m->w->fmt];
    const int32_t n_tok = t1 - t0;
    const int pair = m->g->rows / WK_PANEL;
    if (n_tok == 1) {
        const wk_act a = wk_act_at(&m->x, m->x_kind, t0, 0);
        k->gemv[m->w->fmt](dst, w, &a, n, m->w->k);
    } else if (n_tok <= few->most) { /* passes behind the first find the panel in L1 or L2 */
        const int32_t n_pass = (n_tok + few->cols - 1) / few->cols;
        for (int32_t i = 0; i < n; i += n_pass == 1 ? n : 1)
            for (int32_t j = 0; j < n_pass; j++) {
                const int32_t a0 = n_tok * j / n_pass, a1 = n_tok * (j + 1) / n_pass;
                const wk_act a = wk_act_at(&m->x, m->x_kind, t0 + a0, 0);
                few->run(dst + (size_t)a0 * ld + (size_t)i * WK_PANEL, ld, w + (size_t)i * m->p->panel_bytes, &a,
                         a1 - a0, n_pass == 1 ? n : 1, m->w->k);
            }
    } else {
        for (int32_t i = 0; i < n; i += pair)
            panels_gemm(m, panel + i, n - i < pair ? 1 : pair, t0, t1, dst + (size_t)i * WK_PANEL, ld);
    }
}

/* Tokens t0 .. t1-1, at most WK_TOK_BLOCK, into dst (row of token t0, column of row r0). The last panel of a matrix whose
 * rows 16 does not divide goes through a buffer. */
static void token_block(const mm *m, wk_range r, float *dst, size_t ld) {
    const int32_t end = r.r1 == m->w->n_row ? m->w->n_row / WK_PANEL : r.r1 / WK_PANEL;
    const int32_t first = r.r0 / WK_PANEL, rest = r.r1 - end * WK_PANEL;
    float *tail = m->c->x->scratch[m->c->rank].tail;
    if (end > first) panels(m, first, end - first, r.t0, r.t1, dst, ld);
    if (rest <= 0) return;
    panels(m, end, 1, r.t0, r.t1, tail, WK_PANEL);
    for (int32_t t = 0; t < r.t1 - r.t0; t++)
        memcpy(dst + (size_t)t * ld + (size_t)(end * WK_PANEL - r.r0), tail + (size_t)t * WK_PANEL,
               (size_t)rest * sizeof(float));
}

void wk_exec_matmul(const wk_ctx *c, const wk_step *s, wk_range r) {
    const wk_exec *x = c->x;
    mm m = {
        .c = c, .w = &x->plan->weight[s->w[0]], .p = &x->w[s->w[0]], .x = wk_val_act(c, s->src[0])};
    m.x_kind = wk_formats[m.w->fmt].act;
    m.g = &x->dev->k.gemm[wk_formats[m.w->fmt].kind];
    for (int32_t t = r.t0; t < r.t1; t += WK_TOK_BLOCK) {
        const wk_range b = {r.r0, r.r1, t, r.t1 - t < WK_TOK_BLOCK ? r.t1 : t + WK_TOK_BLOCK};
        const wk_piece dst = wk_val_piece(c, s->dst, b);
        token_block(&m, b, dst.p, dst.ld);
    }
}
