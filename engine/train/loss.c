/* loss.c: the head: logits, cross-entropy and their gradients, some tokens at a time, so that there are never more
 * logits than one chunk's. Only counted tokens come here. A frozen matrix is decoded some rows at a time. */
#include <string.h>

#include "engine/train/exec_impl.h"
#include "simd/dmath.h"

enum { VOCAB_SUM = 4096 }; /* values summed in f32 before they go into a double (DESIGN 9.8) */

typedef struct chunk {
    wk_texec *x;
    const wk_tstep *s;
    int32_t t0, n, n_vocab; /* rows of the head's source */
} chunk;

/* Rows of the matrix at a time: all of a parameter. */
static int32_t vocab_step(const wk_texec *x, int32_t weight) {
    const wk_weight *w = &x->plan->weight[weight];
    if (wk_tmatrix_is_param(x, weight)) return w->n_row;
    const size_t n =
        x->n_decoded / (size_t)w->k / 64 * 64; /* whole chunks of kind F: the bits of one product */
    return n < (size_t)w->n_row ? (int32_t)n : w->n_row;
}

static void make_logits(const chunk *c) {
    wk_texec *x = c->x;
    const wk_weight *w = &x->plan->weight[c->s->w];
    const int32_t step = vocab_step(x, c->s->w);
    for (int32_t r = 0; r < w->n_row; r += step) {
        const int32_t n = w->n_row - r < step ? w->n_row - r : step;
        const wk_sgemm_call g = {.op = WK_SGEMM_NT,
                                 .m = c->n,
                                 .n = n,
                                 .k = w->k,
                                 .a = wk_tval_at(x, c->s->src[0]) + (size_t)c->t0 * (size_t)w->k,
                                 .b = wk_tmatrix(x, c->s->w, r, r + n),
                                 .c = x->logits + r,
                                 .lda = (size_t)w->k,
                                 .ldb = (size_t)w->k,
                                 .ldc = (size_t)w->n_row};
        wk_sgemm_run(x->o.gemm, &g);
    }
}

static float cap_inv(const wk_tstep *s) {
    return s->scale > 0.0f ? (float)(1.0 / (double)s->scale) : 0.0f;
}

/* loss = log(sum exp(x - max)) + max - x[target]; p in place of x. */
static double cross_entropy(const wk_kernels *k, float *row, int32_t n, int32_t target,
                            float *inv) {
    const int at = k->argmax(row, n);
    const float max = at < 0 ? 0.0f : row[at], hit = row[target];
    double sum = 0.0;
    for (int32_t i = 0; i < n; i += VOCAB_SUM) {
        const int len = n - i < VOCAB_SUM ? n - i : VOCAB_SUM;
        k->exp_scaled(row + i, row + i, max, 1.0f, len);
        sum += (double)k->sum(row + i, len);
    }
    *inv = (float)(1.0 / sum);
    /* A sum that is not a number, or infinite, has no logarithm: NaN. */
    return sum > 0.0 && sum < 1e300 ? wk_dlog(sum) + (double)max - (double)hit
                                    : (sum - sum) / (sum - sum);
}

/* d loss / d logit = p - [i == target]; behind a softcap the capped logits are kept beside for its gradient. */
static void loss_rows(void *ud, int rank) {
    const chunk *c = ud;
    wk_texec *x = c->x;
    const size_t n = (size_t)c->n_vocab;
    float *capped = x->capped + (size_t)rank * n;
    for (int32_t i = wk_share(c->n, rank, x->n_thread); i < wk_share(c->n, rank + 1, x->n_thread);
         i++) {
        float *row = x->logits + (size_t)i * n, inv;
        const int32_t target = x->b->target[x->out[c->t0 + i]];
        if (c->s->scale > 0.0f) {
            x->o.k->softcap(row, row, c->s->scale, cap_inv(c->s), c->n_vocab);
            memcpy(capped, row, n * sizeof(float));
        }
        x->row_loss[c->t0 + i] = cross_entropy(x->o.k, row, c->n_vocab, target, &inv);
        if (!x->backward) continue;
        x->o.k->scale(row, row, inv, c->n_vocab);
        row[target] = row[target] - 1.0f;
        if (c->s->scale > 0.0f) x->o.gk->softcap(row, row, capped, cap_inv(c->s), c->n_vocab);
    }
}

/* dh = dlogits W, P += dlogits^t h. */
static void push_back(const chunk *c) {
    wk_texec *x = c->x;
    const wk_weight *w = &x->plan->weight[c->s->w];
    const size_t k = (size_t)w->k, ld = (size_t)w->n_row;
    const int32_t step = vocab_step(x, c->s->w);
    for (int32_t r = 0; r < w->n_row && c->s->dst[0] >= 0; r += step) {
        const int32_t n = w->n_row - r < step ? w->n_row - r : step;
        const wk_sgemm_call g = {.op = WK_SGEMM_NN,
                                 .m = c->n,
                                 .n = w->k,
                                 .k = n,
                                 .a = x->logits + r,
                                 .b = wk_tmatrix(x, c->s->w, r, r + n),
                                 .c = wk_tval_at(x, c->s->dst[0]) + (size_t)c->t0 * k,
                                 .lda = ld,
                                 .ldb = k,
                                 .ldc = k,
                                 .add = r > 0};
        wk_sgemm_run(x->o.gemm, &g);
    }
    if (c->s->param < 0) return;
    const wk_sgemm_call g = {.op = WK_SGEMM_TN,
                             .m = w->n_row,
                             .n = w->k,
                             .k = c->n,
                             .a = x->logits,
                             .b = wk_tval_at(x, c->s->src[0]) + (size_t)c->t0 * k,
                             .c = wk_tgrad_at(x, c->s->param),
                             .lda = ld,
                             .ldb = k,
                             .ldc = k,
                             .add = true};
    wk_sgemm_run(x->o.gemm, &g);
}

void wk_texec_head(wk_texec *x, const wk_tstep *s, int rank, int n_rank) {
    (void)rank;
    (void)n_rank;
    chunk c = {.x = x, .s = s, .n_vocab = x->plan->weight[s->w].n_row};
    double sum = 0.0;
    for (; c.t0 < x->n_out; c.t0 += c.n) {
        c.n = x->n_out - c.t0 < x->chunk ? x->n_out - c.t0 : x->chunk;
        make_logits(&c);
        wk_team_run(x->o.team, loss_rows, &c);
        const double t0 = wk_tnow();
        if (x->backward) push_back(&c);
        x->head_back += wk_tnow() - t0;
    }
    for (int32_t i = 0; i < x->n_out; i++) sum += x->row_loss[i];
    x->loss = sum;
}

void wk_texec_head_logits(wk_texec *x, const wk_tstep *s,
                          void (*on_row)(void *ud, int32_t t, const float *logits), void *ud) {
    chunk c = {.x = x, .s = s, .n_vocab = x->plan->weight[s->w].n_row};
    for (; c.t0 < x->n_out; c.t0 += c.n) {
        c.n = x->n_out - c.t0 < x->chunk ? x->n_out - c.t0 : x->chunk;
        make_logits(&c);
        for (int32_t i = 0; i < c.n; i++) {
            float *row = x->logits + (size_t)i * (size_t)c.n_vocab;
            if (s->scale > 0.0f) x->o.k->softcap(row, row, s->scale, cap_inv(s), c.n_vocab);
            on_row(ud, x->out[c.t0 + i], row);
        }
    }
}
