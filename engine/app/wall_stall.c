/* wall_stall.c: a pause of 100 ms at one step in a hundred: what it does to training. On a machine that is too slow, or
 * too busy, for a hundred steps in time there are fewer, with one pause among them. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/app/wall_impl.h"
#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

enum { STEPS = 100, STEPS_LEAST = 20, STALL_MS = 100, WINDOWS = 10, TRIED = 3 };
static const double longest_run = 15, longest_quick = 4; /* seconds for the steps of one run */

static double limit(const wk_wall *w) { return w->quick ? longest_quick : longest_run; }

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

static wick_x_train_options options(const wk_wall *w, const char *model) {
    wick_x_train_options o = wk_wall_options(w, WK_JOB_FULL);
    o.model = model;
    o.gemm = WICK_X_GEMM_WICK; /* the same bits in both runs: the losses can be compared */
    return o;
}

/* The larger a step, the smaller the share of a pause: the largest preset whose steps all end in time. */
static wick_status choose(wk_wall *w, const char *path, wick_error *err) {
    static const char *const presets[] = {"15m", "5m", "1m", "260k"};
    const double peak = wk_wall_f32(w);
    for (size_t i = 0; i < WK_COUNT(presets); i++) {
        wick_x_shape shape = {.size = sizeof(shape)};
        wick_x_train_cost c = {.size = sizeof(c)};
        WK_TRY(wick_x_shape_of(presets[i], &shape, err));
        shape.n_ctx = w->train_ctx;
        WK_TRY(wick_x_model_init(&shape, w->base, 1, path, err));
        const wick_x_train_options o = options(w, path);
        WK_TRY(wick_x_train_plan(&o, &c, err));
        const double s = c.flops_per_token * (double)c.tokens_per_step / (peak > 0 ? 0.4 * peak : 1e11);
        (void)snprintf(w->stall_model, sizeof(w->stall_model), "preset %s with this vocabulary", presets[i]);
        if (c.fits && (s * STEPS < limit(w) || i + 1 == WK_COUNT(presets)))
            return WICK_OK;
    }
    return WICK_OK;
}

/* How many steps there is time for, from the first ones: they warm up too. */
static wick_status warm(wk_wall *w, wick_x_trainer *t, int which, wick_error *err) {
    wick_x_train_step s = WICK_X_TRAIN_STEP_INIT;
    double most = 0;
    for (int i = 0; i < TRIED; i++) {
        const double begun = now_s();
        WK_TRY(wick_x_trainer_step(t, &s, err));
        if (i) most = now_s() - begun > most ? now_s() - begun : most;
    }
    if (which) return WICK_OK; /* as many as without pauses */
    const double n = most > 0 ? limit(w) / most : STEPS;
    w->stall_steps = n >= STEPS ? STEPS : n <= STEPS_LEAST ? STEPS_LEAST : (int)n / WINDOWS * WINDOWS;
    return WICK_OK;
}

/* The rate of each tenth of the steps is the spread. */
static wick_status steps(wk_wall *w, wick_x_trainer *t, int which, int n, wick_error *err) {
    const struct timespec stall = {.tv_nsec = STALL_MS * 1000000L};
    wick_x_train_step s = WICK_X_TRAIN_STEP_INIT;
    double rate[WINDOWS], tokens = 0, all = 0;
    int n_rate = 0;
    const double begun = now_s();
    double last = begun;
    for (int i = 0; i < n && !wk_round_stopped(&w->b); i++) {
        if (which && i == n / 2) {
            (void)nanosleep(&stall, NULL); /* shorter when a signal comes, and then it is over anyway */
            w->stalls++;
        }
        WK_TRY(wick_x_trainer_step(t, &s, err));
        tokens += (double)s.tokens_step;
        all += (double)s.tokens_step;
        if ((i + 1) % (n / WINDOWS) != 0 || n_rate == WINDOWS) continue;
        const double now = now_s();
        rate[n_rate++] = tokens / (now - last);
        last = now;
        tokens = 0;
    }
    const wk_stat spread = wk_stat_of(rate, n_rate);
    w->stall_rate[which] = all / (now_s() - begun);
    w->stall_low[which] = spread.low;
    w->stall_high[which] = spread.high;
    w->stall_loss[which] = s.loss;
    return WICK_OK;
}

static wick_status run(wk_wall *w, const char *path, wick_error *err) {
    WK_TRY(choose(w, path, err));
    for (int which = 0; which < 2; which++) {
        const wick_x_train_options o = options(w, path);
        wick_x_trainer *t = NULL;
        WK_TRY(wick_x_trainer_open(&o, &t, err));
        wick_status rc = warm(w, t, which, err);
        if (!rc) rc = steps(w, t, which, w->stall_steps, err);
        wick_x_trainer_close(t);
        if (rc) return rc;
    }
    return WICK_OK;
}

wick_status wk_wall_stalls(wk_wall *w, wick_error *err) {
    char path[200];
    wick_error why = {0};
    if (!w->job[WK_JOB_FULL].row || !w->job[WK_JOB_FULL].row->n) {
        (void)snprintf(w->stall_why, sizeof(w->stall_why), "not measured: no training step could be");
        return WICK_OK;
    }
    (void)snprintf(path, sizeof(path), "%s/small.gguf", w->dir);
    const wick_status rc = run(w, path, &why);
    if (!rc && !w->b.stopped) return WICK_OK;
    if (!rc) (void)wk_fail(&why, WICK_E_CANCELED, "stopped by a signal");
    (void)snprintf(w->stall_why, sizeof(w->stall_why), "not measured: %.200s", why.message);
    w->stall_rate[0] = w->stall_rate[1] = 0;
    if (rc != WICK_E_CANCELED) return WICK_OK; /* a signal ends the rest by itself */
    *err = why;
    return rc;
}
