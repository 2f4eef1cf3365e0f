/* train_choose.c: the choice of what was not said: batch, steps, rate, intervals. */
#include <math.h>

#include "engine/app/train_impl.h"
#include "engine/base/err.h"

enum { EVALS = 20, SAVES = 10, SAMPLES = 5 };

static double samples_of(const wk_train *t) {
    return t->run.by_document ? (double)t->run.train_docs : floor((double)t->run.train_tokens / (double)t->run.n_ctx);
}

/* Tokens of a sample on average. */
static double sample_tokens(const wk_train *t) {
    const wk_run *r = &t->run;
    if (!r->by_document || r->train_docs == 0) return (double)r->n_ctx;
    const double mean = (double)r->train_tokens / (double)r->train_docs;
    return mean < (double)r->n_ctx ? mean : (double)r->n_ctx;
}

double wk_train_step_tokens(const wk_train *t) { return sample_tokens(t) * (double)t->run.batch; }

/* Tokens a second that the f32 peak, measured now, lets expect. */
double wk_train_expected_rate(const wk_train *t) {
    double macs = 0;
    const int threads = (int)t->run.threads;
    int n_core, n_affinity, n_thread = 1;
    double quota;
    char levels[96];
    (void)wick_x_machine(&n_core, &n_affinity, &quota, &n_thread, levels, sizeof(levels)); /* one thread stands */
    if (wick_x_peak(NULL, "f32", threads ? threads : n_thread, &macs, NULL) || macs <= 0) macs = 1e10;
    return 2 * macs * WK_TRAIN_OF_PEAK / t->cost.flops_per_token;
}

/* Tokens to train on, as far as they can be told before measuring. */
static double total_tokens(const wk_train *t, double rate) {
    if (t->want_tokens) return (double)t->want_tokens;
    if (t->want_steps) return (double)t->want_steps * 8192;
    if (t->run.budget > 0) return rate * t->run.budget;
    return 3 * (double)t->run.train_tokens;
}

/* A power of two that makes about 1000 steps of the tokens, of 2048 to 65536 tokens each; of a small text at most a
 * quarter, so that an epoch is more than one step. */
static int64_t choose_batch(const wk_train *t, double total) {
    const double per = sample_tokens(t), n = samples_of(t);
    double want = total / 1000;
    if (t->tune) want = total / 500;
    if (want < 2048) want = 2048;
    if (want > 65536) want = 65536;
    int64_t batch = t->tune ? 8 : 4;
    const int64_t most = t->tune ? 32 : 256;
    while (batch < most && (double)batch * 2 * per <= want) batch *= 2;
    while (batch > 1 && (double)batch > n / 4) batch /= 2;
    return batch;
}

static void choose_steps(wk_train *t, double total) {
    wk_run *r = &t->run;
    r->steps = t->want_steps ? t->want_steps : (int64_t)ceil(total / wk_train_step_tokens(t));
    if (r->steps < 1) r->steps = 1;
    if (r->steps > 1000000000) r->steps = 1000000000;
}

static int64_t between(double v, double low, double high) { return (int64_t)fmax(1, fmin(fmax(v, low), high)); }

/* Evaluations 20 times, checkpoints 10 times but 30 s to 10 min apart, samples 5 times but 20 s apart. */
void wk_train_intervals(wk_train *t, double step_s) {
    wk_run *r = &t->run;
    const double n = (double)r->steps, s = step_s > 0 ? step_s : 1;
    const wk_args *a = t->args;
    if (!a->v[WK_ARG_EVAL_EVERY].given) r->eval_every = between(n / EVALS, 1, n);
    if (!a->v[WK_ARG_SAVE_EVERY].given) r->save_every = between(n / SAVES, 30 / s, 600 / s);
    if (!a->v[WK_ARG_SAMPLE_EVERY].given) r->sample_every = between(n / SAMPLES, 20 / s, n);
    if (r->val_tokens < 2) r->eval_every = 0;
    /* A token validated costs a third of one trained: together they may take 5 % of the time. */
    const double evals = r->eval_every ? n / (double)r->eval_every + 1 : 1;
    const double most = 0.15 * n * wk_train_step_tokens(t) / evals;
    r->eval_tokens = (int64_t)fmin(fmax(most, 4 * (double)r->n_ctx), 262144);
    if (r->eval_tokens > r->val_tokens) r->eval_tokens = r->val_tokens;
}

/* Small models bear more. */
static double choose_rate(const wk_train *t) {
    if (t->run.optimizer == WICK_X_SGD) return 0.1; /* the norm is clipped at 1, momentum makes it up to 10 */
    if (t->tune) return 5e-4;
    return t->run.trainable < 2000000 ? 3e-3 : t->run.trainable < 20000000 ? 1e-3 : 6e-4;
}

static wick_status ask(wk_train *t, wick_error *err) {
    const wick_x_train_options o = wk_train_options(t);
    t->cost = (wick_x_train_cost){.size = sizeof(t->cost)};
    WK_TRY(wick_x_train_plan(&o, &t->cost, err));
    t->run.n_ctx = t->cost.n_ctx;
    t->run.params = (int64_t)t->cost.params;
    t->run.trainable = (int64_t)t->cost.trainable;
    return WICK_OK;
}

wick_status wk_train_choose(wk_train *t, wick_error *err) {
    wk_run *r = &t->run;
    const int64_t batch = r->batch;
    r->batch = r->steps = 1; /* sizes first: samples, tokens of each, FLOPs of a token */
    WK_TRY(ask(t, err));
    const double rate = wk_train_expected_rate(t), total = total_tokens(t, rate);
    r->batch = batch ? batch : choose_batch(t, total);
    choose_steps(t, total);
    if (r->lr <= 0) r->lr = choose_rate(t);
    WK_TRY(ask(t, err));
    wk_train_intervals(t, wk_train_step_tokens(t) / rate);
    return WICK_OK;
}
