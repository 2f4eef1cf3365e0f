/* wall_train.c: steps of training, in full and by adapters, with and without recompute.
 *
 * Trained in full is a fresh model of the shape of the one that is served: same products, same time, and no file of the
 * user is needed in F32. Where that shape is none of a llama, does not fit or would take minutes a step, a preset stands
 * in for it, by name. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/wall_impl.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum { CTX = 256, BATCH = 2, MANY = 1000000 };
static const double longest_step = 12; /* seconds, forecast by half of the f32 peak */

wick_x_train_options wk_wall_options(const wk_wall *w, wk_wall_job job) {
    wick_x_train_options o = WICK_X_TRAIN_OPTIONS_INIT;
    o.model = job == WK_JOB_LORA ? w->base : w->fresh;
    o.adapter = job == WK_JOB_LORA ? w->adapter : NULL;
    o.data = w->data;
    o.n_ctx = w->train_ctx;
    o.batch = w->train_batch;
    o.recompute = job == WK_JOB_RECOMPUTE;
    o.steps = MANY;
    o.schedule = WICK_X_LR_CONST;
    o.lr = 1e-4;
    o.threads = (int32_t)w->args.v[WK_ARG_THREADS].i;
    return o;
}

static wick_status plan(wk_wall *w, wk_wall_job job, wick_error *err) {
    const wick_x_train_options o = wk_wall_options(w, job);
    wk_wall_train *t = &w->job[job];
    t->cost = (wick_x_train_cost){.size = sizeof(t->cost)};
    WK_TRY(wick_x_train_plan(&o, &t->cost, err));
    t->planned = true;
    return WICK_OK;
}

/* ---- what is trained in full --------------------------------------------------------------------- */

/* WICK_OK, and the file is there: it fits and a step ends soon. */
static wick_status try_shape(wk_wall *w, const wick_x_shape *shape, wick_error *err) {
    WK_TRY(wick_x_model_init(shape, w->base, 1, w->fresh, err));
    WK_TRY(plan(w, WK_JOB_FULL, err));
    const wick_x_train_cost *c = &w->job[WK_JOB_FULL].cost;
    if (!c->fits)
        return wk_fail(err, WICK_E_FIT, "needs %.1f GB, %.1f GB are available", (double)c->need / 1e9,
                       (double)c->available / 1e9);
    const double peak = wk_wall_f32(w), s = c->flops_per_token * (double)c->tokens_per_step / (peak > 0 ? peak / 2 : 1e11);
    if (s > longest_step) return wk_fail(err, WICK_E_FIT, "a step of %.0f s is too long to measure here", s);
    return WICK_OK;
}

static bool is_llama(const wk_wall *w) {
    return strcmp(w->arch, "llama") == 0 && w->shape.dim > 0 && w->shape.n_ff > 0 && w->shape.n_head > 0;
}

static wick_status choose_full(wk_wall *w, wick_error *err) {
    static const char *const presets[] = {"110m", "42m", "15m", "5m", "1m", "260k"};
    wick_error first = {0};
    wick_status rc = WICK_E_UNSUPPORTED;
    wick_x_shape shape = w->shape;
    shape.n_ctx = w->train_ctx;
    (void)snprintf(w->stand_in, sizeof(w->stand_in), "this model's shape");
    if (is_llama(w))
        rc = try_shape(w, &shape, &first);
    else
        (void)wk_fail(&first, rc, "%.20s is not written afresh", wk_show(wk_cstr(w->arch)).text);
    for (size_t i = 0; i < WK_COUNT(presets) && rc; i++) {
        shape = (wick_x_shape){.size = sizeof(shape)};
        if (rc == WICK_E_IO || wick_x_shape_of(presets[i], &shape, err)) break;
        shape.n_ctx = w->train_ctx;
        rc = try_shape(w, &shape, err);
        w->stands_in = true;
        (void)snprintf(w->stand_in, sizeof(w->stand_in), "preset %s with this vocabulary", presets[i]);
    }
    if (rc) return wk_fail(err, rc, "%.200s", first.message);
    if (w->stands_in)
        (void)snprintf(w->job[WK_JOB_FULL].why, sizeof(w->job[WK_JOB_FULL].why), "%s stands in for the model: %.150s",
                       w->stand_in, first.message);
    return WICK_OK;
}

/* ---- a step -------------------------------------------------------------------------------------- */

static wk_wall_train *job_of(wk_wall *w, const wk_bench_row *r) {
    for (int j = 0; j < WK_JOB_COUNT; j++)
        for (int i = 0; i < WK_BENCH_DEVICES; i++)
            if (w->dev_job[i][j].row == r) return &w->dev_job[i][j];
    int j = 0;
    while (j < WK_JOB_COUNT - 1 && w->job[j].row != r) j++;
    return &w->job[j];
}

wick_status wk_wall_measure_step(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    wk_wall_train *t = job_of(wk_wall_of(b), r);
    wick_x_train_step *s = &t->last;
    *s = (wick_x_train_step)WICK_X_TRAIN_STEP_INIT;
    const double joules = wk_energy_read(&b->energy);
    WK_TRY(wick_x_trainer_step(t->trainer, s, err));
    const double used = wk_energy_read(&b->energy) - joules;
    if (round < 0 || s->s <= 0) return WICK_OK;
    r->value[round] = (double)s->tokens_step / s->s;
    r->seconds[round] = s->s;
    r->joules[round] = s->tokens_step ? used / (double)s->tokens_step : 0;
    t->forward[round] = s->forward_s;
    t->backward[round] = s->backward_s;
    t->update[round] = s->update_s;
    t->step[round] = s->s;
    t->flops += s->flops;
    return WICK_OK;
}

static const char *const job_name[WK_JOB_COUNT] = {"train step f32", "train step f32, recompute", "LoRA step, rank 8"};
const char *wk_wall_job_name(wk_wall_job job) { return job_name[job]; }

static wick_status open_job(wk_wall *w, wk_wall_job job, wick_error *err) {
    wk_wall_train *t = &w->job[job];
    const wick_x_train_options o = wk_wall_options(w, job);
    if (!t->planned) WK_TRY(plan(w, job, err));
    WK_TRY(wick_x_trainer_open(&o, &t->trainer, err));
    t->cost.size = sizeof(t->cost);
    (void)wick_x_trainer_cost(t->trainer, &t->cost); /* the plan stands where it cannot say */
    if (!t->row) t->row = wk_round_row(&w->b, WK_BENCH_ENGINE, "tok/s", "%s", job_name[job]);
    if (!t->row) return wk_fail(err, WICK_E_NOMEM, "no room for a row");
    t->row->measure = wk_wall_measure_step;
    return WICK_OK;
}

static void close_job(wk_wall *w, wk_wall_job job) {
    wk_wall_train *t = &w->job[job];
    wick_x_trainer_close(t->trainer);
    t->trainer = NULL;
    if (t->row) t->row->measure = NULL;
}

/* A job that cannot be measured says why; its row stays empty. */
static void give_up(wk_wall *w, wk_wall_job job, const wick_error *err) {
    wk_wall_train *t = &w->job[job];
    (void)snprintf(t->why, sizeof(t->why), "not measured: %.200s", err->message);
    if (!t->row) t->row = wk_round_row(&w->b, WK_BENCH_ENGINE, "tok/s", "%s", job_name[job]);
    if (t->row) (void)snprintf(t->row->note, sizeof(t->row->note), "%.199s", t->why);
    close_job(w, job);
}

static bool ends_all(wick_status rc) { return rc == WICK_E_CANCELED || rc == WICK_E_NOMEM; }

/* Jobs that lie in memory together are measured in turn, in an order of their own each round. */
static wick_status run_jobs(wk_wall *w, const bool wanted[WK_JOB_COUNT], wick_error *err) {
    wick_status rc = WICK_OK;
    for (int j = 0; j < WK_JOB_COUNT; j++) {
        wick_error why = {0};
        if (!wanted[j]) continue;
        rc = open_job(w, (wk_wall_job)j, &why);
        if (rc && !ends_all(rc)) give_up(w, (wk_wall_job)j, &why);
        if (ends_all(rc)) *err = why;
        if (ends_all(rc)) break;
        rc = WICK_OK;
    }
    if (!rc) wk_wall_device_train_open(w, wanted);
    if (!rc) rc = wk_round_run(&w->b, w->rounds, err);
    wk_wall_device_train_close(w);
    for (int j = 0; j < WK_JOB_COUNT; j++) {
        wk_wall_train *t = &w->job[j];
        if (!wanted[j]) continue;
        if (t->row && t->row->note[0] && !t->row->n) (void)snprintf(t->why, sizeof(t->why), "%s", t->row->note);
        close_job(w, (wk_wall_job)j);
    }
    return rc;
}

static void note_of(const wk_wall *w, const wk_wall_train *t, int j) {
    if (!t->row || !t->row->n) return;
    (void)snprintf(t->row->note, sizeof(t->row->note), "%s, %llu tokens a step, context %d",
                   j == WK_JOB_LORA ? "this model" : w->stand_in, (unsigned long long)t->cost.tokens_per_step,
                   (int)t->cost.n_ctx);
}

static void notes(wk_wall *w) {
    for (int j = 0; j < WK_JOB_COUNT; j++) {
        note_of(w, &w->job[j], j);
        for (int i = 1; i < WK_BENCH_DEVICES; i++) note_of(w, &w->dev_job[i][j], j);
    }
}

/* Everything that training needs; the first thing that is missing is said by every row. */
static wick_status prepare(wk_wall *w, bool wanted[WK_JOB_COUNT], wick_error *err) {
    wick_error why = {0};
    w->train_ctx = w->quick ? CTX / 2 : CTX;
    w->train_batch = BATCH;
    wick_status rc = wk_wall_text(w, 16384, &why);
    if (!rc) rc = choose_full(w, &why);
    for (int j = 0; j < WK_JOB_LORA; j++) {
        wanted[j] = !rc;
        if (rc) give_up(w, (wk_wall_job)j, &why);
    }
    if (ends_all(rc)) {
        *err = why;
        return rc;
    }
    why.message[0] = 0;
    rc = wick_x_adapter_init(w->base, 8, 16.0f, "q,k,v,o,gate,up,down", 1, w->adapter, &why);
    wanted[WK_JOB_LORA] = !rc;
    if (rc) give_up(w, WK_JOB_LORA, &why);
    return WICK_OK;
}

wick_status wk_wall_train_all(wk_wall *w, wick_error *err) {
    bool wanted[WK_JOB_COUNT] = {false}, one[WK_JOB_COUNT] = {false};
    uint64_t need = 0, available = 0, limit = 0;
    WK_TRY(prepare(w, wanted, err));
    for (int j = 0; j < WK_JOB_COUNT; j++) {
        wick_error why = {0};
        if (wanted[j] && !plan(w, (wk_wall_job)j, &why)) need += w->job[j].cost.need;
    }
    (void)wick_x_memory(&available, &limit); /* cannot fail */
    wick_status rc = WICK_OK;
    if (need < available / 10 * 6) {
        rc = run_jobs(w, wanted, err);
    } else {
        for (int j = 0; j < WK_JOB_COUNT && !rc; j++) {
            memset(one, 0, sizeof(one));
            one[j] = wanted[j];
            if (wanted[j]) rc = run_jobs(w, one, err);
        }
    }
    notes(w);
    return rc;
}

/* ---- threads ------------------------------------------------------------------------------------- */

static wick_status sweep_one(wk_wall *w, wk_bench_row *r, int threads, wick_error *err) {
    wick_x_train_options o = wk_wall_options(w, WK_JOB_FULL);
    wick_x_trainer *t = NULL;
    wick_x_train_step s = WICK_X_TRAIN_STEP_INIT;
    o.threads = threads;
    wick_status rc = wick_x_trainer_open(&o, &t, err);
    for (int i = -1; i < w->rounds && !rc && !wk_round_stopped(&w->b); i++) {
        rc = wick_x_trainer_step(t, &s, err);
        if (rc || i < 0 || s.s <= 0) continue;
        r->value[i] = (double)s.tokens_step / s.s;
        r->n = i + 1;
    }
    wick_x_trainer_close(t);
    return rc;
}

/* The full number of threads is the row that is there already. */
wick_status wk_wall_train_sweep(wk_wall *w, wick_error *err) {
    const wk_wall_train *full = &w->job[WK_JOB_FULL];
    if (!full->row || !full->row->n) return WICK_OK;
    for (int i = 0; i < w->n_sweep && !wk_round_stopped(&w->b); i++) {
        if (w->sweep[i] == w->n_thread) {
            w->train_by[i] = full->row;
            continue;
        }
        wk_bench_row *r = wk_round_row(&w->b, WK_BENCH_ENGINE, "tok/s", "train step, %d thread%s", w->sweep[i],
                                       w->sweep[i] > 1 ? "s" : "");
        if (!r) return WICK_OK;
        w->train_by[i] = r;
        const wick_status rc = sweep_one(w, r, w->sweep[i], err);
        if (ends_all(rc)) return rc;
        if (rc)
            (void)snprintf(r->note, sizeof(r->note), "not measured: %.180s", err->message);
        else
            (void)snprintf(r->note, sizeof(r->note), "thread counts one after another");
    }
    return WICK_OK;
}
