/* train_loop.c: the steps of a run, and what happens between them. Each rank takes every decision alike: what one of them
 * measures or is told (time, signals) is agreed upon first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/app/signals.h"
#include "engine/app/train_impl.h"
#include "engine/base/dir.h"
#include "engine/base/err.h"

static const double report_s = 0.05; /* the report, the last lines */

/* ---- opening ------------------------------------------------------------------------------------- */

wick_status wk_train_open(wk_train *t, wick_error *err) {
    const wick_x_train_options o = wk_train_options(t);
    int rank = 0;
    WK_TRY(wick_x_trainer_open(&o, &t->trainer, err));
    t->cost = (wick_x_train_cost){.size = sizeof(t->cost)};
    (void)wick_x_trainer_cost(t->trainer, &t->cost); /* its size is set */
    (void)wick_x_trainer_rank(t->trainer, &rank, &t->n_rank);
    if (t->from[0]) {
        /* Of the checkpoint: --for may have set the steps anew after it. */
        if (t->cost.tokens_per_step) t->run.steps = (int64_t)(t->cost.tokens / t->cost.tokens_per_step);
        const char *name = strrchr(t->from, '-');
        t->step = t->saved = name ? strtoll(name + 1, NULL, 10) : 0;
    }
    return WICK_OK;
}

/* Rank 0's number, everywhere. */
static wick_status of_rank_0(wk_train *t, int64_t *v, wick_error *err) {
    double x = t->silent ? 0 : (double)*v;
    if (t->n_rank > 1) WK_TRY(wick_x_trainer_sum(t->trainer, &x, err));
    *v = (int64_t)x;
    return WICK_OK;
}

/* 0, or the exit code that a signal wants; any rank's signal stops all. */
static wick_status asked_to_stop(wk_train *t, int *code, wick_error *err) {
    *code = wk_signals_terminated() ? wk_signals_terminated() : wk_signals_interrupted() ? 130 : 0;
    if (t->n_rank < 2) return WICK_OK;
    double x = *code;
    WK_TRY(wick_x_trainer_sum(t->trainer, &x, err));
    if (!*code && x > 0) *code = 130;
    return WICK_OK;
}

/* ---- between steps ------------------------------------------------------------------------------- */

static wick_status evaluate(wk_train *t, wick_error *err) {
    wick_x_train_eval e = {.size = sizeof(e)};
    const wick_status rc = wick_x_trainer_eval(t->trainer, (uint64_t)t->run.eval_tokens, &e, err);
    if (rc == WICK_E_ARG) { /* too little is held out for one sample */
        if (!t->silent) wk_emit_warning(t->emit, err->message, strlen(err->message));
        t->run.eval_every = 0;
        return WICK_OK;
    }
    if (rc) return rc;
    t->val = e.loss;
    t->bpb = e.bits_per_byte;
    t->eval_s = e.s;
    if (!(t->best_val <= e.loss)) { /* NaN: the first one */
        t->best_val = e.loss;
        t->best_step = t->step;
    }
    return WICK_OK;
}

static wick_status save(wk_train *t, double val, wick_error *err) {
    char path[WK_RUN_PATH];
    const double begun = wk_train_now();
    WK_TRY(wick_x_trainer_save(t->trainer, val, path, sizeof(path), err));
    t->saved = t->step;
    if (t->silent) return WICK_OK;
    t->save_s = wk_train_now() - begun;
    if (t->emit->mode == WK_EMIT_JSONL) {
        wk_emit_begin(t->emit, "save");
        wk_emit_int(t->emit, "step", t->step);
        wk_emit_str(t->emit, "path", wk_cstr(path));
        wk_emit_end(t->emit);
    }
    return wk_train_html(t, err);
}

static void sample(wk_train *t) {
    const double begun = wk_train_now();
    if (!t->silent && !t->no_samples) wk_train_sample(t);
    t->sample_s = wk_train_now() - begun;
}

/* A checkpoint more, and the disk is full: the last moment to save. */
static wick_status nearly_full(wk_train *t, int64_t *full, wick_error *err) {
    const double checkpoint = 12.0 * (double)t->run.trainable;
    *full = (double)wk_disk_free(t->dir) < 1.25 * checkpoint + (4 << 20);
    return of_rank_0(t, full, err);
}

/* ---- --for --------------------------------------------------------------------------------------- */

static wick_status probe(wk_train *t, double *rate, wick_error *err) {
    double s = 0, sum = 0, want = fmin(fmax(0.05 * t->run.budget, 0.5), 8);
    uint64_t n = 0, tokens = 0;
    WK_TRY(wick_x_trainer_probe(t->trainer, 1, &s, &n, err)); /* memory is touched for the first time */
    for (int i = 0; i < 1000; i++) {
        int64_t more = i == 0 || sum < want || (i < 3 && sum < 0.2 * t->run.budget);
        WK_TRY(of_rank_0(t, &more, err));
        if (!more) break;
        WK_TRY(wick_x_trainer_probe(t->trainer, 1, &s, &n, err));
        sum += s;
        tokens += n;
    }
    *rate = sum > 0 ? (double)tokens / sum : 1;
    return WICK_OK;
}

/* Steps that end at the budget with validations, checkpoints and samples; each is known from its first time, at step 0.
 * AdamW passes over 28 bytes a parameter, at 15 GB/s. */
static void fit_steps(wk_train *t, double step_s) {
    wk_run *r = &t->run;
    const double eval_rate = t->eval_s > 0 ? (double)r->eval_tokens / t->eval_s : 0;
    const double left = r->budget - (wk_train_now() - t->begun) - t->save_s - report_s;
    double n = left / step_s;
    for (int i = 0; i < 4; i++) {
        r->steps = n > 1 ? (int64_t)n : 1;
        wk_train_intervals(t, step_s);
        const double steps = (double)r->steps;
        double other = 0;
        if (r->eval_every && eval_rate > 0)
            other += ceil(steps / (double)r->eval_every) * (double)r->eval_tokens / eval_rate;
        if (r->save_every) other += floor(steps / (double)r->save_every) * t->save_s;
        if (r->sample_every && !t->no_samples) other += floor(steps / (double)r->sample_every) * t->sample_s;
        n = (left - other) / step_s;
    }
    r->steps = n > 1 ? (int64_t)(n + 0.5) : 1;
}

static wick_status budget(wk_train *t, wick_error *err) {
    double rate = 0;
    wk_run *r = &t->run;
    WK_TRY(probe(t, &rate, err));
    if (r->eval_every) WK_TRY(evaluate(t, err)); /* the first one touched its memory for the first time */
    const double step_s = wk_train_step_tokens(t) / t->n_rank / rate + 28.0 * (double)r->trainable / 15e9;
    if (t->save_s <= 0) t->save_s = 0.02 + 12.0 * (double)r->trainable / 3e8; /* until one has been written */
    if (!t->silent) fit_steps(t, step_s);
    WK_TRY(of_rank_0(t, &r->steps, err));
    WK_TRY(of_rank_0(t, &r->eval_every, err));
    WK_TRY(of_rank_0(t, &r->eval_tokens, err));
    WK_TRY(of_rank_0(t, &r->save_every, err));
    WK_TRY(of_rank_0(t, &r->sample_every, err));
    t->step_s = step_s;
    if (r->warmup < 0) r->warmup = r->steps / 50;
    return wick_x_trainer_schedule(t->trainer, r->steps, r->warmup, err);
}

/* ---- the beginning ------------------------------------------------------------------------------- */

/* Where the model stands before the first step; the first checkpoint also shows that there is room for one. */
static wick_status begin(wk_train *t, wick_error *err) {
    wk_run *r = &t->run;
    wk_train_head(t);
    if (r->eval_every) WK_TRY(evaluate(t, err));
    if (r->sample_every) sample(t);
    if (r->budget > 0) WK_TRY(budget(t, err));
    if (t->silent) return save(t, t->val, err);
    WK_TRY(wk_run_save(t, err));
    WK_TRY(wk_log_row(t, NULL, r->eval_every > 0, err));
    WK_TRY(save(t, t->val, err));
    wk_train_head_plan(t);
    return WICK_OK;
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static bool due(const wk_train *t, int64_t every) { return every > 0 && t->step % every == 0; }

/* A machine that others use is not always as fast as when it was measured: at some marks of the time the steps are
 * chosen anew, when the end would come more than 3 % of the budget beside it. Measured: without this, runs of 20 s ended
 * after 10 to 22 s on a machine with a load of 2 to 6. */
static wick_status fit_again(wk_train *t, double left, wick_error *err) {
    static const double marks[] = {0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9};
    wk_run *r = &t->run;
    int64_t steps = r->steps;
    const double gone = r->budget - left, now = wk_train_now();
    if (!t->silent && t->n_mark < (int)WK_COUNT(marks) && gone >= marks[t->n_mark] * r->budget &&
        t->step >= t->mark_step + 3) {
        while (t->n_mark < (int)WK_COUNT(marks) && gone >= marks[t->n_mark] * r->budget) t->n_mark++;
        /* Since the last mark, with what happens between steps. */
        const double each = (now - t->mark_at) / (double)(t->step - t->mark_step);
        const double n = (left - t->save_s - report_s) / each;
        if (fabs(n - (double)(steps - t->step)) * each > 0.03 * r->budget)
            steps = t->step + (n > 1 ? (int64_t)(n + 0.5) : 1);
        t->mark_at = now;
        t->mark_step = t->step;
    }
    WK_TRY(of_rank_0(t, &steps, err));
    if (steps == r->steps) return WICK_OK;
    r->steps = steps;
    WK_TRY(wick_x_trainer_schedule(t->trainer, steps, r->warmup, err));
    return t->silent ? WICK_OK : wk_run_save(t, err);
}

/* A run with a budget that is behind leaves samples and checkpoints out. */
static wick_status look_at_clock(wk_train *t, wick_error *err) {
    const double left = t->run.budget - (wk_train_now() - t->begun);
    if (t->run.budget <= 0 || t->resumed) return WICK_OK;
    if (t->step < t->run.steps) WK_TRY(fit_again(t, left, err));
    int64_t late = t->step_s * (double)(t->run.steps - t->step) > 1.05 * left;
    WK_TRY(of_rank_0(t, &late, err));
    t->late = late != 0;
    return WICK_OK;
}

static wick_status one_step(wk_train *t, wick_error *err) {
    wick_x_train_step s = WICK_X_TRAIN_STEP_INIT;
    WK_TRY(wick_x_trainer_step(t->trainer, &s, err));
    t->step = s.step;
    const double weight = fmax(0.05, 1.0 / (double)++t->n_timed); /* a mean first, then a slow drift */
    t->step_s += weight * (s.s - t->step_s);
    t->loss = s.loss;
    t->peak = s.gemm_peak;
    const bool last = t->step == t->run.steps, evaluated = t->run.eval_every > 0 && (last || due(t, t->run.eval_every));
    if (evaluated) WK_TRY(evaluate(t, err));
    if (t->silent) return WICK_OK;
    WK_TRY(wk_log_row(t, &s, evaluated && t->run.eval_every > 0, err));
    wk_log_live(t, &s, evaluated || last || s.skipped);
    return WICK_OK;
}

static wick_status between(wk_train *t, wick_error *err) {
    const bool last = t->step == t->run.steps, evaluated = t->run.eval_every > 0 && (last || due(t, t->run.eval_every));
    WK_TRY(look_at_clock(t, err));
    if (last || (due(t, t->run.save_every) && !t->late)) WK_TRY(save(t, evaluated ? t->val : (double)NAN, err));
    if (due(t, t->run.sample_every) && !t->late) sample(t);
    if (last || !due(t, t->run.save_every > 0 && t->run.save_every < 50 ? t->run.save_every : 50)) return WICK_OK;
    int64_t full = 0;
    WK_TRY(nearly_full(t, &full, err));
    if (!full) return WICK_OK;
    if (t->saved != t->step) WK_TRY(save(t, (double)NAN, err));
    return wk_fail(err, WICK_E_IO, "%s: the disk is nearly full; the run is saved at step %lld",
                   wk_show(wk_cstr(t->dir)).text, (long long)t->step);
}

wick_status wk_train_steps(wk_train *t, int *code, wick_error *err) {
    if (t->from[0]) {
        wk_train_head(t);
        wk_train_head_plan(t);
    } else {
        WK_TRY(begin(t, err));
    }
    t->mark_at = wk_train_now();
    t->mark_step = t->step;
    while (t->step < t->run.steps) {
        WK_TRY(asked_to_stop(t, code, err));
        if (*code) break;
        WK_TRY(one_step(t, err));
        WK_TRY(between(t, err));
    }
    return t->saved == t->step ? WICK_OK : save(t, (double)NAN, err);
}
