/* eval_text.c: running text: perplexity as llama.cpp reckons it, bits per byte, and the distance to another model.
 *
 *   window of --ctx tokens:  [BOS] t1 t2 ... | t(n/2+1) ... t(n-1)      the next window begins behind it
 *                             context          scored
 *
 * The first token of a window makes room for BOS where the model wants one; what is left behind the last window is not
 * read. Without another tokenizer's word for it, perplexities compare models of one vocabulary only; bits per byte
 * compare all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/bench_stat.h"
#include "engine/app/eval_impl.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/hash.h"

enum { KL_ROWS_MOST = 1 << 22 };

typedef struct windows {
    wk_tokens all, one;
    size_t n_ctx, n; /* tokens of a window, windows */
} windows;

static void windows_fini(windows *w) {
    wk_eval_tokens_fini(&w->all);
    wk_eval_tokens_fini(&w->one);
}

static wick_status windows_open(wk_eval *e, windows *w, wk_eval_task task, wick_error *err) {
    wk_eval_file f;
    wick_status rc = wk_eval_file_open(&f, e->data[task], err);
    w->n_ctx = (size_t)e->m.n_ctx;
    if (!rc) rc = wk_eval_tokens(&e->m, f.rest, true, &w->all, err);
    if (!rc && w->all.n < w->n_ctx)
        rc = wk_fail(err, WICK_E_ARG, "%s has %zu tokens, one window of --ctx wants %zu", wk_show(wk_cstr(f.path)).text,
                     w->all.n, w->n_ctx);
    w->n = w->all.n / w->n_ctx;
    if (e->limit && (size_t)e->limit < w->n) w->n = (size_t)e->limit;
    w->one.t = rc ? NULL : wk_new_n(wick_token, w->n_ctx);
    if (!rc && !w->one.t) rc = wk_fail(err, WICK_E_NOMEM, "no memory for a window of %zu tokens", w->n_ctx);
    w->one.n = w->n_ctx;
    wk_eval_file_close(&f);
    return rc;
}

static void window_at(const wk_eval *e, windows *w, size_t i) {
    memcpy(w->one.t, w->all.t + i * w->n_ctx, w->n_ctx * sizeof(*w->one.t));
    if (e->m.bos >= 0) w->one.t[0] = e->m.bos;
}

/* ---- ppl ----------------------------------------------------------------------------------------- */

typedef struct sums {
    double half, half_2, all, bytes; /* of -log p; of its square; over every token; their bytes */
    uint64_t n_half, n_all;
} sums;

static void add_window(wk_eval *e, const windows *w, const double *log_p, sums *s) {
    const double half = s->half, n_half = (double)s->n_half;
    for (size_t i = 1; i < w->n_ctx; i++) {
        const double nll = -log_p[i];
        s->all += nll;
        s->n_all++;
        s->bytes += (double)wk_eval_bytes(&e->m, w->one.t[i]);
        if (i <= w->n_ctx / 2) continue; /* llama.cpp scores positions n/2 .. n-2, which say n/2+1 .. n-1 */
        s->half += nll;
        s->half_2 += nll * nll;
        s->n_half++;
    }
    wk_eval_unit(e, (s->half - half) / ((double)s->n_half - n_half));
}

static void put_ppl(wk_eval *e, const sums *s, size_t n_window) {
    const double n = (double)s->n_half, mean = s->half / n;
    const double error = n > 1 ? sqrt(fmax(s->half_2 / n - mean * mean, 0) / (n - 1)) : 0;
    wk_eval_row *r = wk_eval_row_add(e, WK_EVAL_PPL, "perplexity", exp(mean), s->n_half, "tokens");
    if (r && n > 1) {
        r->low = exp(mean - 1.959963984540054 * error);
        r->high = exp(mean + 1.959963984540054 * error);
    }
    (void)wk_eval_row_add(e, WK_EVAL_PPL, "loss", mean, s->n_half, "tokens");
    (void)wk_eval_row_add(e, WK_EVAL_PPL, "loss of all tokens", s->all / (double)s->n_all, s->n_all, "tokens");
    if (s->bytes > 0)
        (void)wk_eval_row_add(e, WK_EVAL_PPL, "bits per byte", s->all / log(2.0) / s->bytes, (uint64_t)s->bytes,
                              "bytes");
    (void)wk_eval_row_add(e, WK_EVAL_PPL, "windows", (double)n_window, n_window, "windows");
}

wick_status wk_eval_ppl(wk_eval *e, wick_error *err) {
    windows w = {0};
    sums s = {0};
    wick_status rc = windows_open(e, &w, WK_EVAL_PPL, err);
    double *log_p = rc ? NULL : wk_new_n(double, w.n_ctx);
    if (!rc) e->read[e->second] = wk_hash_bytes((wk_hash){w.n_ctx, w.n}, w.all.t, w.all.n * sizeof(*w.all.t)).lo;
    if (!rc && !log_p) rc = wk_fail(err, WICK_E_NOMEM, "no memory for a window of %zu tokens", w.n_ctx);
    for (size_t i = 0; !rc && i < w.n; i++) {
        const wk_eval_score out = {.log_p = log_p};
        window_at(e, &w, i);
        rc = wk_eval_score_run(&e->m, &w.one, 1, &out, err);
        if (rc) break;
        add_window(e, &w, log_p, &s);
        rc = wk_eval_step(e, "ppl", (double)(i + 1), (double)w.n, "windows", err);
    }
    if (!rc) put_ppl(e, &s, w.n);
    wk_free(log_p);
    windows_fini(&w);
    return rc;
}

/* ---- kl ------------------------------------------------------------------------------------------ */

typedef struct compare {
    size_t first, n_ctx; /* rows first .. n_ctx - 2 are compared */
    int32_t n_vocab;
    float *row;       /* [n_ctx - 1 - first][n_vocab] of the other model */
    double *kl;       /* of all windows */
    size_t n_kl;
    uint64_t same;
} compare;

static bool wanted(const compare *c, int32_t pos) { return (size_t)pos >= c->first && (size_t)pos + 1 < c->n_ctx; }

static void keep_row(void *ud, int32_t pos, const float *logits, int32_t n_vocab) {
    const compare *c = ud;
    if (wanted(c, pos))
        memcpy(c->row + ((size_t)pos - c->first) * (size_t)n_vocab, logits, (size_t)n_vocab * sizeof(float));
}

static int32_t largest(const float *v, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static double log_sum(const float *v, int32_t n, double most) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += exp((double)v[i] - most);
    return most + log(sum);
}

/* sum p (log p - log q), p of the other model, q of the one that is judged. */
static void compare_row(void *ud, int32_t pos, const float *q, int32_t n_vocab) {
    compare *c = ud;
    if (!wanted(c, pos)) return;
    const float *p = c->row + ((size_t)pos - c->first) * (size_t)n_vocab;
    const int32_t top_p = largest(p, n_vocab), top_q = largest(q, n_vocab);
    const double sum_p = log_sum(p, n_vocab, (double)p[top_p]), sum_q = log_sum(q, n_vocab, (double)q[top_q]);
    double kl = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        const double log_p = (double)p[i] - sum_p;
        kl += exp(log_p) * (log_p - ((double)q[i] - sum_q));
    }
    c->same += top_p == top_q;
    c->kl[c->n_kl++] = kl;
}

static void put_kl(wk_eval *e, compare *c) {
    double sum = 0, sum_2 = 0;
    const double n = (double)c->n_kl;
    for (size_t i = 0; i < c->n_kl; i++) {
        sum += c->kl[i];
        sum_2 += c->kl[i] * c->kl[i];
    }
    const double mean = sum / n, error = n > 1 ? sqrt(fmax(sum_2 / n - mean * mean, 0) / (n - 1)) : 0;
    wk_eval_row *r = wk_eval_row_add(e, WK_EVAL_KL, "mean KL", mean, c->n_kl, "tokens");
    if (r && error > 0) {
        r->low = mean - 1.959963984540054 * error;
        r->high = mean + 1.959963984540054 * error;
    }
    wk_stat_sort(c->kl, (int)c->n_kl);
    (void)wk_eval_row_add(e, WK_EVAL_KL, "KL p99", wk_stat_percentile(c->kl, (int)c->n_kl, 99), c->n_kl, "tokens");
    (void)wk_eval_row_add(e, WK_EVAL_KL, "largest KL", c->kl[c->n_kl - 1], c->n_kl, "tokens");
    wk_eval_share_add(e, WK_EVAL_KL, "same top token", c->same, c->n_kl, "tokens");
    e->kl_mean = mean;
}

/* The same bytes must mean the same tokens, or rows are not comparable. */
static wick_status check_pair(const wk_eval *e, const windows *w, wick_error *err) {
    wk_eval_file f;
    wk_tokens t = {0};
    if (e->m.n_vocab != e->other.n_vocab)
        return wk_fail(err, WICK_E_ARG, "the vocabularies differ: %d tokens here, %d in %s", (int)e->m.n_vocab,
                       (int)e->other.n_vocab, wk_show(wk_cstr(e->other.path)).text);
    wick_status rc = wk_eval_file_open(&f, e->data[WK_EVAL_KL], err);
    if (!rc) rc = wk_eval_tokens(&e->other, f.rest, true, &t, err);
    if (!rc && (t.n != w->all.n || memcmp(t.t, w->all.t, t.n * sizeof(*t.t)) != 0))
        rc = wk_fail(err, WICK_E_ARG, "the tokenizers differ: %s gives other tokens for this text",
                     wk_show(wk_cstr(e->other.path)).text);
    wk_eval_tokens_fini(&t);
    wk_eval_file_close(&f);
    return rc;
}

static wick_status make_room(compare *c, const windows *w, wick_error *err) {
    const size_t rows = c->n_ctx - 1 - c->first;
    if (rows * w->n > KL_ROWS_MOST)
        return wk_fail(err, WICK_E_ARG, "%zu windows are more than the %zu that kl keeps in mind: --limit takes fewer", w->n,
                       (size_t)KL_ROWS_MOST / rows);
    c->row = wk_alloc_array(rows * (size_t)c->n_vocab, sizeof(float));
    c->kl = wk_new_n(double, rows * w->n);
    if (c->row && c->kl) return WICK_OK;
    return wk_fail(err, WICK_E_NOMEM, "no memory for %zu rows of %d logits", rows, (int)c->n_vocab);
}

wick_status wk_eval_kl(wk_eval *e, wick_error *err) {
    windows w = {0};
    wick_status rc = windows_open(e, &w, WK_EVAL_KL, err);
    compare c = {.first = w.n_ctx / 2, .n_ctx = w.n_ctx, .n_vocab = e->m.n_vocab};
    if (!rc && (size_t)e->other.n_ctx < w.n_ctx)
        rc = wk_fail(err, WICK_E_ARG, "%s holds %d tokens, a window has %zu: --ctx makes it shorter",
                     wk_show(wk_cstr(e->other.path)).text, (int)e->other.n_ctx, w.n_ctx);
    if (!rc) rc = check_pair(e, &w, err);
    if (!rc) rc = make_room(&c, &w, err);
    for (size_t i = 0; !rc && i < w.n; i++) {
        window_at(e, &w, i);
        rc = wick_x_logits(e->other.engine, w.one.t, w.n_ctx, keep_row, &c, err);
        if (!rc) rc = wick_x_logits(e->m.engine, w.one.t, w.n_ctx, compare_row, &c, err);
        if (!rc) rc = wk_eval_step(e, "kl", (double)(i + 1), (double)w.n, "windows", err);
    }
    if (!rc) put_kl(e, &c);
    wk_free(c.row);
    wk_free(c.kl);
    windows_fini(&w);
    return rc;
}
