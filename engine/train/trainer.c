/* trainer.c: one optimizer step: samples -> micro-batches -> gradients -> norm -> update. */
#include "engine/train/trainer.h"

#include <math.h>
#include <string.h>

#include "engine/base/os.h"

enum {
    SPIKE_SIGMA = 6,  /* a step whose loss or norm lies so far out is skipped */
    SPIKE_AFTER = 50, /* steps before there is a running mean to judge by */
    SIGMA_AFTER = 10, /* steps before sigmas are told */
    SKIPS_MOST = 20   /* in a row */
};
static const double SPIKE_RATE = 0.02; /* weight of the newest step in the running means */

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

/* ---- samples ------------------------------------------------------------------------------------- */

/* Samples *i, *i + by, ... below end, as many as the micro-batch takes. false: there was none. */
static bool fill_batch(wk_trainer *t, const wk_sample_spec *s, uint64_t *i, uint64_t end,
                       uint64_t by, wk_tbatch *b) {
    *b = (wk_tbatch){.tok = t->tok, .target = t->target, .seq = t->seq};
    for (; *i < end && b->n_tok + s->n_ctx <= t->s.grad->max_tok; *i += by) {
        int32_t n_seq = 0;
        const int32_t n = wk_data_sample(t->s.data, s, *i, t->tok + b->n_tok, t->target + b->n_tok,
                                         t->seq + b->n_seq, &n_seq);
        for (int32_t j = 0; j < n_seq; j++) t->seq[b->n_seq + j].first += b->n_tok;
        b->n_tok += n;
        b->n_seq += n_seq;
    }
    return b->n_tok > 0;
}

/* ---- ranks --------------------------------------------------------------------------------------- */

typedef struct reduction {
    wk_trainer *t;
    int rc;
    wk_err *err;
} reduction;

/* The gradients of a layer are complete: their sum over the ranks begins while the layers below are computed. */
static void begin_layer(void *ud, int32_t layer) {
    reduction *r = ud;
    const wk_grad *g = r->t->s.grad;
    for (int32_t i = 0; i < g->n_param && !r->rc; i++)
        if (g->plan->weight[g->param[i].weight].layer == layer)
            r->rc = wk_comm_begin_sum_f32(r->t->comm, wk_compute_grads(&r->t->x) + g->param[i].off,
                                          g->param[i].n, r->err);
}

/* ---- a step -------------------------------------------------------------------------------------- */

/* Gradients of all micro-batches of the step, summed; the last one's go out to the other ranks layer by layer. */
static int accumulate(wk_trainer *t, wk_train_step *out, double sums[2], wk_err *err) {
    const uint64_t batch = (uint64_t)t->c.batch, first = (uint64_t)t->run.step * batch,
                   end = first + batch;
    const uint64_t n_rank = (uint64_t)wk_comm_size(t->comm);
    uint64_t i = first + (uint64_t)wk_comm_rank(t->comm);
    reduction r = {t, WICK_OK, err};
    bool more = true, told = false;
    while (more) {
        wk_tbatch b;
        wk_tloss loss = {0};
        const double t0 = now_s();
        const bool any = fill_batch(t, &t->s.train, &i, end, n_rank, &b);
        out->data_s += now_s() - t0;
        more = i < end && any;
        if (!more && any && n_rank > 1) {
            wk_compute_on_layer(&t->x, begin_layer, &r);
            told = true;
        }
        if (any) WK_TRY(wk_compute_run(&t->x, &b, true, &loss, err));
        sums[0] += loss.sum;
        sums[1] += (double)loss.counted;
        out->tokens_step += (uint64_t)b.n_tok;
    }
    wk_compute_on_layer(&t->x, NULL, NULL);
    /* A rank whose share of the batch is empty takes part too. */
    for (int32_t l = t->s.plan->n_layer - 1; l >= -1 && n_rank > 1 && !told; l--)
        begin_layer(&r, l);
    return r.rc;
}

static int reduce(wk_trainer *t, double sums[3], wk_err *err) {
    WK_TRY(wk_comm_wait(t->comm, err));
    return wk_comm_sum_f64(t->comm, sums, 3, err);
}

/* Sigmas of x from a running mean; then x enters it, a far one as if it lay at the edge. */
static double judge(double x, double *mean, double *var, int64_t n_seen) {
    const double sd = sqrt(*var), floor_sd = 1e-3 * fabs(*mean) + 1e-12;
    const double z = n_seen >= SIGMA_AFTER ? (x - *mean) / (sd > floor_sd ? sd : floor_sd) : 0.0;
    const double edge = SPIKE_SIGMA * (sd > floor_sd ? sd : floor_sd);
    const double step = n_seen == 0 ? 0.0 : x - *mean > edge ? edge : x - *mean;
    const double rate =
        n_seen < (int64_t)(1.0 / SPIKE_RATE) ? 1.0 / (double)(n_seen + 1) : SPIKE_RATE;
    if (n_seen == 0) *mean = x;
    *mean += rate * step;
    *var = (1.0 - rate) * (*var + rate * step * step);
    return z;
}

static int32_t verdict(wk_trainer *t, wk_train_step *out) {
    if (!isfinite(out->loss) || !isfinite(out->gnorm)) return 1;
    const int64_t n = t->run.n_seen++;
    out->z = judge(out->loss, &t->run.loss_mean, &t->run.loss_var, n);
    const double z_norm = judge(out->gnorm, &t->run.norm_mean, &t->run.norm_var, n);
    return n >= SPIKE_AFTER && (out->z > SPIKE_SIGMA || z_norm > SPIKE_SIGMA) ? 2 : 0;
}

static int update(wk_trainer *t, wk_train_step *out, double counted, wk_err *err) {
    out->skipped = verdict(t, out);
    if (out->skipped) {
        WK_TRY(wk_compute_zero(&t->x, err));
        t->run.n_skipped++;
        if (++t->run.bad_row >= SKIPS_MOST)
            return wk_fail(err, WICK_E_NUMERIC,
                           "step %lld: %d steps in a row were skipped, the last loss is %g and the "
                           "gradient's norm %g: a lower learning rate may help",
                           (long long)t->run.step + 1, SKIPS_MOST, out->loss, out->gnorm);
        return WICK_OK;
    }
    t->run.bad_row = 0;
    const double clip = t->c.clip > 0.0 ? t->c.clip / (out->gnorm + 1e-6) : 1.0;
    return wk_compute_step(&t->x, t->run.step + 1 - t->run.n_skipped, out->lr, (clip < 1.0 ? clip : 1.0) / counted,
                           err);
}

int wk_trainer_step(wk_trainer *t, wk_train_step *out, wk_err *err) {
    *out = (wk_train_step){0};
    if (t->run.step >= t->schedule.steps)
        return wk_fail(err, WICK_E_ARG, "all %lld steps of the schedule are done",
                       (long long)t->schedule.steps);
    if (!t->s.data) return wk_fail(err, WICK_E_ARG, "there is no data to train on");
    const double t0 = now_s(), flops0 = wk_compute_flops(&t->x);
    wk_tclock c0, c1;
    wk_compute_clock(&t->x, &c0);
    double sums[3] = {0};
    const int summed = accumulate(t, out, sums, err);
    if (summed) {
        (void)wk_compute_zero(&t->x, NULL); /* of half a batch; the first failure is the one to tell */
        return summed;
    }
    const double t1 = now_s();
    sums[2] = (double)out->tokens_step;
    WK_TRY(reduce(t, sums, err));
    out->comm_s = now_s() - t1;
    out->tokens_step = (uint64_t)sums[2];
    out->counted = (int64_t)sums[1];
    const double counted =
        sums[1] > 0.0 ? sums[1] : 1.0; /* nothing counts: the gradients are zero */
    const double t2 = now_s();
    out->loss = sums[0] / counted;
    WK_TRY(wk_compute_norm(&t->x, &out->gnorm, err));
    out->gnorm /= counted;
    out->lr = wk_schedule_lr(&t->schedule, t->run.step);
    const int rc = update(t, out, counted, err);
    out->update_s = now_s() - t2;
    const uint64_t first = (uint64_t)t->run.step * (uint64_t)t->c.batch;
    wk_data_drawn(t->s.data, &t->s.train, first, first + (uint64_t)t->c.batch, t->drawn);
    t->run.step++;
    t->run.tokens += out->tokens_step;
    out->step = t->run.step;
    out->tokens = t->run.tokens;
    wk_compute_clock(&t->x, &c1);
    out->forward_s = c1.forward - c0.forward;
    out->backward_s = c1.backward - c0.backward;
    out->flops = wk_compute_flops(&t->x) - flops0;
    out->s = now_s() - t0;
    return rc;
}

int wk_trainer_probe(wk_trainer *t, int32_t n, double *seconds, uint64_t *tokens, wk_err *err) {
    if (!t->s.data) return wk_fail(err, WICK_E_ARG, "there is no data to train on");
    *tokens = 0;
    const double t0 = now_s();
    uint64_t i = (uint64_t)t->run.step * (uint64_t)t->c.batch;
    for (int32_t j = 0; j < n; j++) {
        wk_tbatch b;
        wk_tloss loss;
        if (!fill_batch(t, &t->s.train, &i, UINT64_MAX, 1, &b)) break;
        WK_TRY(wk_compute_run(&t->x, &b, true, &loss, err));
        *tokens += (uint64_t)b.n_tok;
    }
    *seconds = now_s() - t0;
    return wk_compute_zero(&t->x, err);
}

int wk_trainer_schedule(wk_trainer *t, int64_t steps, int64_t warmup, wk_err *err) {
    if (steps < 1 || steps <= t->run.step)
        return wk_fail(err, WICK_E_ARG, "%lld steps, wanted more than the %lld that are done",
                       (long long)steps, (long long)t->run.step);
    if (warmup < 0) warmup = steps / 50;
    t->schedule.steps = t->c.steps = steps;
    t->schedule.warmup = t->c.warmup = warmup < steps ? warmup : steps - 1;
    return WICK_OK;
}

/* ---- looking ------------------------------------------------------------------------------------- */

/* Every rank computes all of it: it is short, and nobody waits for anybody. */
int wk_trainer_eval(wk_trainer *t, uint64_t max_tokens, wk_train_eval *out, wk_err *err) {
    *out = (wk_train_eval){0};
    const uint64_t n = t->s.data ? wk_data_samples(t->s.data, &t->s.val) : 0;
    if (n == 0)
        return wk_fail(err, WICK_E_ARG, "no whole sample of %d tokens is held out",
                       (int)t->c.n_ctx);
    const double t0 = now_s();
    uint64_t tokens = 0;
    for (uint64_t i = 0; i < n && (max_tokens == 0 || tokens < max_tokens);) {
        wk_tbatch b;
        wk_tloss loss;
        if (!fill_batch(t, &t->s.val, &i, n, 1, &b)) break;
        WK_TRY(wk_compute_run(&t->x, &b, false, &loss, err));
        out->sum += loss.sum;
        out->counted += (uint64_t)loss.counted;
        tokens += (uint64_t)b.n_tok;
    }
    /* Bytes that the counted tokens stand for, by the split's average. */
    const double per = (double)wk_data_bytes(t->s.data, WK_SPLIT_VAL) /
                       (double)wk_data_counted(t->s.data, WK_SPLIT_VAL);
    out->bytes = (uint64_t)(per * (double)out->counted);
    out->s = now_s() - t0;
    return WICK_OK;
}

typedef struct rows {
    float *logits;
    size_t n_vocab;
} rows;
static void take_row(void *ud, int32_t i, const float *logits) {
    const rows *r = ud;
    memcpy(r->logits + (size_t)i * r->n_vocab, logits, r->n_vocab * sizeof(float));
}

int wk_trainer_forward(wk_trainer *t, const int32_t *tok, int32_t n_tok, float *logits,
                       double *loss, wk_err *err) {
    if (n_tok < 1 || n_tok > t->s.grad->max_tok)
        return wk_fail(err, WICK_E_ARG, "%d tokens, wanted 1 .. %d", (int)n_tok,
                       (int)t->s.grad->max_tok);
    for (int32_t i = 0; i < n_tok; i++) {
        if (tok[i] < 0 || tok[i] >= t->s.plan->n_vocab)
            return wk_fail(err, WICK_E_ARG, "token %d is not in the vocabulary of %d", (int)tok[i],
                           (int)t->s.plan->n_vocab);
        t->target[i] = i + 1 < n_tok ? tok[i + 1] : -1;
    }
    t->seq[0] = (wk_tseq){0, n_tok};
    const wk_tbatch b = {
        .n_tok = n_tok, .n_seq = 1, .tok = tok, .target = t->target, .seq = t->seq};
    wk_tloss l;
    WK_TRY(wk_compute_run(&t->x, &b, false, &l, err));
    *loss = l.counted ? l.sum / (double)l.counted : 0.0;
    rows r = {logits, (size_t)t->s.plan->n_vocab};
    return logits ? wk_compute_logits(&t->x, &b, take_row, &r, err) : WICK_OK;
}
