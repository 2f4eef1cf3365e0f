/* exec_attn.c: attention of whole sequences, there and back, page by page (DESIGN 9.7; simd/grad/grad.h).
 *
 * Forward is prefill: the same kernel over the same pages of 64 positions with an f32 cache, laid out anew from k and v.
 * Way there: a task is some tokens of the query heads of one kv head. Way back: a task is a sequence's kv head, which
 * alone adds to its dk and dv; tokens ascend, and so do the pages of a token, so every sum has one order. */
#include <string.h>

#include "engine/train/exec_impl.h"
#include "simd/poly.h"

enum { PAGE = WK_KV_SLOTS };

/* The sequences s0 .. s1-1, whose keys and values are laid out; off: first position of s0 in the layout is 0. */
typedef struct job {
    wk_texec *x;
    const wk_tstep *s;
    int32_t s0, s1;
    int32_t hd, g, n_kv; /* head_dim, query heads of a kv head, kv heads */
    bool back;
} job;

static int32_t padded(int32_t n_tok) { return (n_tok + PAGE - 1) / PAGE * PAGE; }

/* One sequence's kv head: its tokens in the values, its pages in the layout. */
typedef struct part {
    int32_t first, n_tok, head;
    size_t at; /* elements from the layout's start */
} part;

/* ---- layout -------------------------------------------------------------------------------------- */

static void fill_page(const job *j, const part *p, int32_t pos, const float *src, float *panels,
                      float *rows) {
    const size_t hd = (size_t)j->hd, dim = (size_t)j->n_kv * hd, at = p->at + (size_t)pos * hd;
    const int32_t left = p->n_tok - pos, n = left < PAGE ? left : PAGE;
    src += ((size_t)p->first + (size_t)pos) * dim + (size_t)p->head * hd;
    if (n < PAGE) {
        if (panels) memset(panels + at, 0, PAGE * hd * sizeof(float));
        if (rows) memset(rows + at, 0, PAGE * hd * sizeof(float));
    }
    for (int32_t i = 0; i < n; i++) {
        const float *row = src + (size_t)i * dim;
        if (rows) memcpy(rows + at + (size_t)i * hd, row, hd * sizeof(float));
        float *lane = panels ? panels + at + (size_t)(i / 16) * 16 * hd + (size_t)(i % 16) : NULL;
        for (size_t d = 0; lane && d < hd; d++) lane[d * 16] = row[d];
    }
}

/* Calls fn for the parts of this rank, dealt out in turn. */
static void each_part(const job *j, int rank, int n,
                      void (*fn)(const job *j, const part *p, int rank)) {
    size_t at = 0;
    int32_t turn = 0;
    for (int32_t s = j->s0; s < j->s1; s++) {
        const wk_tseq *q = &j->x->b->seq[s];
        for (int32_t h = 0; h < j->n_kv; h++, turn++) {
            const part p = {q->first, q->n_tok, h, ((size_t)h * j->x->n_pos + at) * (size_t)j->hd};
            if (turn % n == rank) fn(j, &p, rank);
        }
        at += (size_t)padded(q->n_tok);
    }
}

static void lay_out(const job *j, const part *p, int rank) {
    (void)rank;
    wk_texec *x = j->x;
    for (int32_t pos = 0; pos < p->n_tok; pos += PAGE) {
        fill_page(j, p, pos, wk_tval_at(x, j->s->src[1]), x->kp, j->back ? x->k_rows : NULL);
        fill_page(j, p, pos, wk_tval_at(x, j->s->src[2]), j->back ? x->vp : NULL,
                  j->back ? NULL : x->v_rows);
    }
}
static void lay_out_all(void *ud, int rank) {
    const job *j = ud;
    each_part(j, rank, j->x->n_thread, lay_out);
}

/* ---- columns of a block of tokens ---------------------------------------------------------------- */

static int32_t first_seen(int32_t pos, int32_t window) {
    return window && pos >= window ? pos - window + 1 : 0;
}

static void set_limits(const wk_tscratch *m, const job *j, int32_t t0, int32_t nt, int32_t page) {
    for (int32_t i = 0; i < nt; i++) {
        const int32_t pos = t0 + i, lo = first_seen(pos, j->s->of->window) - page * PAGE,
                      hi = pos + 1 - page * PAGE;
        for (int32_t h = 0; h < j->g; h++) {
            m->lo[i * j->g + h] = (uint8_t)(lo < 0 ? 0 : lo > PAGE ? PAGE : lo);
            m->hi[i * j->g + h] = (uint8_t)(hi < 0 ? 0 : hi > PAGE ? PAGE : hi);
        }
    }
}

/* Rows of the heads of this part, tokens t0 .. t0+nt-1, between a value and columns that stand together. */
static float *row_of(const job *j, const part *p, int32_t v, int32_t t) {
    return wk_tval_at(j->x, v) +
           ((size_t)(p->first + t) * (size_t)j->n_kv + (size_t)p->head) * (size_t)(j->g * j->hd);
}
static void gather(const job *j, const part *p, int32_t v, int32_t t0, int32_t nt, float *columns) {
    const size_t row = (size_t)(j->g * j->hd);
    for (int32_t i = 0; i < nt; i++)
        memcpy(columns + (size_t)i * row, row_of(j, p, v, t0 + i), row * sizeof(float));
}

/* Numbers by (token, head): m, l, delta. */
static float *stat_of(const job *j, const part *p, int32_t v, int32_t t) {
    return wk_tval_at(j->x, v) + (size_t)(p->first + t) * (size_t)(j->n_kv * j->g) +
           (size_t)(p->head * j->g);
}

static int32_t tokens_of_block(const job *j) {
    const int32_t n = WK_TATTN_COLS / j->g;
    return n > 0 ? n : 1;
}

/* ---- there --------------------------------------------------------------------------------------- */

static void finish_block(const job *j, const part *p, const wk_tscratch *m, int32_t t0,
                         int32_t nt) {
    const int32_t g = j->g;
    for (int32_t i = 0; i < nt; i++) {
        const wk_partial one = {m->m + i * g, m->l + i * g, m->o + (size_t)i * (size_t)(g * j->hd)};
        j->x->o.k->attn_finish(row_of(j, p, j->s->dst[0], t0 + i), (size_t)j->hd, &one, g, j->hd);
        if (j->s->dst[1] < 0) continue;
        memcpy(stat_of(j, p, j->s->dst[1], t0 + i), one.m, (size_t)g * sizeof(float));
        memcpy(stat_of(j, p, j->s->dst[2], t0 + i), one.l, (size_t)g * sizeof(float));
    }
}

static void block_there(const job *j, const part *p, int rank, int32_t t0, int32_t nt) {
    wk_texec *x = j->x;
    const wk_tscratch *m = &x->mine[rank];
    const wk_step *of = j->s->of;
    const int32_t n_col = nt * j->g;
    gather(j, p, j->s->src[0], t0, nt, m->q);
    wk_attn_page a = {.n_col = n_col,
                      .hd = j->hd,
                      .type = WK_KV_F32,
                      .merge = true,
                      .q = m->q,
                      .lo = m->lo,
                      .hi = m->hi,
                      .scale = of->scale,
                      .softcap = of->softcap,
                      .softcap_inv = of->softcap > 0 ? (float)(1.0 / (double)of->softcap) : 0.0f,
                      .score = m->p};
    wk_partial acc = {m->m, m->l, m->o};
    for (int32_t i = 0; i < n_col; i++) m->m[i] = WK_ATTN_M0;
    memset(m->l, 0, (size_t)n_col * sizeof(float));
    memset(m->o, 0, (size_t)n_col * (size_t)j->hd * sizeof(float));
    for (int32_t page = first_seen(t0, of->window) / PAGE; page <= (t0 + nt - 1) / PAGE; page++) {
        set_limits(m, j, t0, nt, page);
        a.k = x->kp + p->at + (size_t)page * PAGE * (size_t)j->hd;
        a.v = x->v_rows + p->at + (size_t)page * PAGE * (size_t)j->hd;
        x->o.k->attn_page(&acc, &a);
    }
    finish_block(j, p, m, t0, nt);
}

static void run_there(void *ud, int rank) {
    const job *j = ud;
    const int32_t step = tokens_of_block(j);
    size_t at = 0;
    int32_t turn = 0;
    for (int32_t s = j->s0; s < j->s1; s++) {
        const wk_tseq *q = &j->x->b->seq[s];
        for (int32_t t = 0; t < q->n_tok; t += step)
            for (int32_t h = 0; h < j->n_kv; h++, turn++) {
                const part p = {q->first, q->n_tok, h,
                                ((size_t)h * j->x->n_pos + at) * (size_t)j->hd};
                if (turn % j->x->n_thread == rank)
                    block_there(j, &p, rank, t, q->n_tok - t < step ? q->n_tok - t : step);
            }
        at += (size_t)padded(q->n_tok);
    }
}

/* ---- back ---------------------------------------------------------------------------------------- */

static void block_back(const job *j, const part *p, const wk_tscratch *m, int32_t t0, int32_t nt) {
    wk_texec *x = j->x;
    const wk_step *of = j->s->of;
    const int32_t *src = j->s->src, g = j->g, n_col = nt * g;
    gather(j, p, src[0], t0, nt, m->q);
    gather(j, p, src[3], t0, nt, m->d_o);
    for (int32_t i = 0; i < nt; i++) {
        memcpy(m->m + i * g, stat_of(j, p, src[4], t0 + i), (size_t)g * sizeof(float));
        memcpy(m->delta + i * g, stat_of(j, p, src[6], t0 + i), (size_t)g * sizeof(float));
        for (int32_t h = 0; h < g; h++) m->l[i * g + h] = 1.0f / stat_of(j, p, src[5], t0 + i)[h];
    }
    memset(m->d_q, 0, (size_t)n_col * (size_t)j->hd * sizeof(float));
    wk_attn_grad a = {.n_col = n_col,
                      .hd = j->hd,
                      .q = m->q,
                      .d_o = m->d_o,
                      .m = m->m,
                      .l_inv = m->l,
                      .delta = m->delta,
                      .lo = m->lo,
                      .hi = m->hi,
                      .scale = of->scale,
                      .softcap = of->softcap,
                      .softcap_inv = of->softcap > 0 ? (float)(1.0 / (double)of->softcap) : 0.0f,
                      .p = m->p,
                      .ds = m->ds,
                      .d_q = m->d_q};
    for (int32_t page = first_seen(t0, of->window) / PAGE; page <= (t0 + nt - 1) / PAGE; page++) {
        const size_t at = (size_t)page * PAGE * (size_t)j->hd;
        set_limits(m, j, t0, nt, page);
        a.kp = x->kp + p->at + at;
        a.vp = x->vp + p->at + at;
        a.k = x->k_rows + p->at + at;
        a.d_k = m->d_k + at;
        a.d_v = m->d_v + at;
        x->o.gk->attn(&a);
    }
    const size_t row = (size_t)(g * j->hd);
    for (int32_t i = 0; i < nt; i++)
        memcpy(row_of(j, p, j->s->dst[0], t0 + i), m->d_q + (size_t)i * row, row * sizeof(float));
}

static void part_back(const job *j, const part *p, int rank) {
    const wk_tscratch *m = &j->x->mine[rank];
    const int32_t step = tokens_of_block(j);
    const size_t hd = (size_t)j->hd, n = (size_t)padded(p->n_tok) * hd, dim = (size_t)j->n_kv * hd;
    memset(m->d_k, 0, n * sizeof(float));
    memset(m->d_v, 0, n * sizeof(float));
    for (int32_t t = 0; t < p->n_tok; t += step)
        block_back(j, p, m, t, p->n_tok - t < step ? p->n_tok - t : step);
    for (int32_t t = 0; t < p->n_tok; t++) {
        const size_t at = (size_t)(p->first + t) * dim + (size_t)p->head * hd;
        memcpy(wk_tval_at(j->x, j->s->dst[1]) + at, m->d_k + (size_t)t * hd, hd * sizeof(float));
        memcpy(wk_tval_at(j->x, j->s->dst[2]) + at, m->d_v + (size_t)t * hd, hd * sizeof(float));
    }
}
static void run_back(void *ud, int rank) {
    const job *j = ud;
    each_part(j, rank, j->x->n_thread, part_back);
}

/* ---- both ---------------------------------------------------------------------------------------- */

/* Pairs of a query and a key that it sees. */
static double pairs(int32_t n_tok, int32_t window) {
    const double n = n_tok, w = window && window < n_tok ? window : n_tok;
    return w * (w + 1) / 2 + (n - w) * w;
}

/* In groups of sequences whose pages the layout holds: each fits alone (exec.c sizes it so). */
static void run(wk_texec *x, const wk_tstep *s, bool back) {
    job j = {.x = x,
             .s = s,
             .hd = s->of->head_dim,
             .g = s->of->n_head / s->of->n_head_kv,
             .n_kv = s->of->n_head_kv,
             .back = back};
    for (j.s0 = 0; j.s0 < x->b->n_seq; j.s0 = j.s1) {
        size_t n = 0;
        for (j.s1 = j.s0; j.s1 < x->b->n_seq; j.s1++) {
            n += (size_t)padded(x->b->seq[j.s1].n_tok);
            if (n > x->n_pos && j.s1 > j.s0) break;
            /* two products of hd there, five on the way back */
            x->flops += pairs(x->b->seq[j.s1].n_tok, s->of->window) * s->of->n_head *
                        s->of->head_dim * (back ? 10 : 4);
        }
        wk_team_run(x->o.team, lay_out_all, &j);
        wk_team_run(x->o.team, back ? run_back : run_there, &j);
    }
}

void wk_texec_attn(wk_texec *x, const wk_tstep *s, int rank, int n) {
    (void)rank;
    (void)n;
    run(x, s, false);
}
void wk_texec_attn_dx(wk_texec *x, const wk_tstep *s, int rank, int n) {
    (void)rank;
    (void)n;
    run(x, s, true);
}
