/* fuse.c: products of an adapter that would go over a wide value for a few multiply-adds are put into the product that
 * makes the value, which adds them while it is in the cache:
 *
 *   y = x Wt, b = u Bt, out = y + c b     becomes  out = x Wt + c (u Bt)     in the place of the last
 *   dx (+)= du A, dx += dy W              becomes  dx (+)= du A + dy W       in the place of the last
 *
 * The sums keep their order, so no bit changes. */
#include "engine/base/arena.h"
#include "engine/train/grad_impl.h"

enum { THIN_MOST = 512 /* rank: one piece of the products */ };

/* By training value: how many steps touch it, and the last one that wrote it. */
typedef struct uses {
    int32_t *n, *writer;
} uses;

static void count(uses *u, const wk_grad *g) {
    for (int32_t i = 0; i < g->n_val; i++) u->writer[i] = -1;
    for (int32_t i = 0; i < g->n_step; i++) {
        const wk_tstep *s = &g->step[i];
        for (size_t j = 0; j < WK_COUNT(s->dst); j++)
            if (s->dst[j] >= 0) {
                u->n[s->dst[j]]++;
                u->writer[s->dst[j]] = i;
            }
        for (size_t j = 0; j < WK_COUNT(s->src); j++)
            if (s->src[j] >= 0) u->n[s->src[j]]++;
    }
}

static bool is_thin(const wk_grad *g, int32_t weight) {
    const wk_weight *w = &g->plan->weight[weight];
    return g->param_of[weight] >= 0 && (w->is_lora_b ? w->k : w->n_row) <= THIN_MOST;
}

/* The product that made v, which only one other step touches; NULL: it is no such. */
static wk_tstep *product_of(const wk_grad *g, const uses *u, int32_t v) {
    wk_tstep *s = u->writer[v] >= 0 ? &g->step[u->writer[v]] : NULL;
    return s && s->op == WK_OP_matmul && s->thin < 0 && u->n[v] == 2 ? s : NULL;
}

static void drop(wk_tstep *s) { s->op = WK_TOP_COUNT; }

static void fuse_lora(const wk_grad *g, const uses *u, wk_tstep *s) {
    wk_tstep *y = product_of(g, u, s->src[0]), *b = product_of(g, u, s->src[1]);
    if (!y || !b || !g->plan->weight[b->w].is_lora_b || !is_thin(g, b->w)) return;
    const int32_t out = s->dst[0], in = b->src[0], thin = b->w;
    const float scale = s->of->scale;
    *s = *y;
    s->dst[0] = out;
    s->src[1] = in;
    s->thin = thin;
    s->scale = scale;
    drop(y);
    drop(b);
}

static void fuse_dx(const wk_grad *g, wk_tstep *a, wk_tstep *s) {
    const wk_weight *w = &g->plan->weight[a->w];
    if (s->op != WK_TOP_matmul_dx || s->dst[0] != a->dst[0] || !s->add || w->lora_of < 0 || w->is_lora_b || !is_thin(g, a->w))
        return;
    s->src[1] = a->src[0];
    s->thin = a->w;
    s->add = a->add;
    drop(a);
}

static void close_ranks(wk_grad *g) {
    int32_t n = 0, n_forward = 0;
    for (int32_t i = 0; i < g->n_step; i++) {
        if (i == g->n_forward) n_forward = n;
        if (g->step[i].op != WK_TOP_COUNT) g->step[n++] = g->step[i];
    }
    g->n_forward = g->n_forward == g->n_step ? n : n_forward;
    g->n_step = n;
}

int wk_fuse(wk_grad *g, wk_err *err) {
    uses u = {wk_new_n(int32_t, (size_t)g->n_val + 1), wk_new_n(int32_t, (size_t)g->n_val + 1)};
    int rc = WICK_OK;
    if (u.n && u.writer) {
        count(&u, g);
        for (int32_t i = 0; i < g->n_step; i++) {
            wk_tstep *s = &g->step[i];
            if (s->op == WK_OP_lora) fuse_lora(g, &u, s);
            if (s->op == WK_TOP_matmul_dx && i + 1 < g->n_step) fuse_dx(g, s, s + 1);
        }
        close_ranks(g);
    } else {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory for the training plan of %d steps", (int)g->n_step);
    }
    wk_free(u.n);
    wk_free(u.writer);
    return rc;
}
