/* wall_sums.c: what the measured rows mean. Every forecast is a quotient of a counted and a measured number. */
#include <math.h>
#include <stdio.h>

#include "engine/app/wall_impl.h"

/* Sustained, by others' figures: half of the sparse-free peaks for arithmetic, nine tenths of the bandwidth. */
const wk_wall_gpu wk_wall_gpus[3] = {{"H200", 350e12, 4.3e12}, {"RTX 4090", 70e12, 0.92e12}, {"laptop, 8 cores", 0.45e12, 70e9}};

static const double night = 43200, lora_tokens = 3e6;

double wk_wall_median(const wk_bench_row *r) { return r && r->n ? wk_stat_of(r->value, r->n).median : 0; }

double wk_wall_read(const wk_wall *w) { return 1e9 * wk_wall_median(w->read[w->n_sweep - 1]); }
double wk_wall_f32(const wk_wall *w) { return 1e9 * wk_wall_median(w->f32[w->n_sweep - 1]); }
double wk_wall_i8(const wk_wall *w) { return 1e9 * wk_wall_median(w->i8[w->n_sweep - 1]); }

double wk_wall_step_bytes(const wk_wall *w, int n) {
    const double depth = w->decode ? w->decode->depth + 1 : 1;
    return w->cost.weight_bytes + w->cost.kv_bytes_per_pos * depth * n;
}

double wk_wall_step_flops(const wk_wall *w, int n) {
    const double depth = w->decode ? w->decode->depth + 1 : 1;
    return 2 * n * (w->cost.layer_macs + w->cost.head_macs + w->cost.attn_macs_per_pos * depth);
}

double wk_wall_prefill_flops(const wk_wall *w) {
    const double n = w->prefill ? w->prefill->n_tok : 0;
    return 2 * (n * w->cost.layer_macs + w->cost.head_macs + w->cost.attn_macs_per_pos * n * (n + 1) / 2);
}

double wk_wall_train_flops(const wk_wall *w, wk_wall_job j) {
    const wk_wall_train *t = &w->job[j];
    if (!t->row || !t->row->n) return 0;
    return t->last.flops > 0 ? t->last.flops : t->cost.flops_per_token * (double)t->cost.tokens_per_step;
}

double wk_wall_train_rate(const wk_wall *w, wk_wall_job j) {
    const wk_wall_train *t = &w->job[j];
    const double tokens = (double)t->cost.tokens_per_step;
    return tokens > 0 ? wk_wall_median(t->row) / tokens * wk_wall_train_flops(w, j) : 0;
}

/* Weights read forward and backward, gradients written, the optimizer's 28 bytes a parameter, each activation written
 * and read once. Less is not possible; caches that are too small make it more. */
double wk_wall_train_bytes(const wk_wall *w, wk_wall_job j) {
    const wick_x_train_cost *c = &w->job[j].cost;
    const double all = (double)c->params, trained = (double)c->trainable, acts = (double)c->activations;
    const double weights = j == WK_JOB_LORA ? (double)c->base : 4 * all, passes = j == WK_JOB_RECOMPUTE ? 3 : 2;
    return passes * weights + 4 * trained + 28 * trained + 2 * acts;
}

double wk_wall_share(const wk_wall *w, wk_wall_job j) {
    const double peak = w->job[j].last.gemm_peak > 0 ? w->job[j].last.gemm_peak : wk_wall_f32(w);
    return peak > 0 ? wk_wall_train_rate(w, j) / peak : 0;
}

bool wk_wall_cached(const wk_wall *w, const wk_bench_row *r) {
    const double read = wk_wall_read(w);
    return r && r->unit_bytes > 0 && read > 0 && wk_wall_median(r) * r->unit_bytes > 1.05 * read;
}

/* A step waits for its bytes or for its arithmetic, whichever takes longer. */
double wk_wall_gpu_decode(const wk_wall *w, const wk_wall_gpu *g, int n) {
    const double bytes = wk_wall_step_bytes(w, n) / g->bytes, flops = wk_wall_step_flops(w, n) / g->flops;
    const double s = bytes > flops ? bytes : flops;
    return s > 0 ? n / s : 0;
}

wk_wall_time wk_wall_duration(double s) {
    static const struct {
        double s;
        const char *name;
    } unit[] = {{365.25 * 86400, "y"}, {86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    wk_wall_time t = {"-"};
    if (!isfinite(s) || s <= 0) return t;
    int i = 0;
    while (i < 4 && s < 1.5 * unit[i].s) i++;
    const double v = s / unit[i].s;
    (void)snprintf(t.text, sizeof(t.text), "%.*f %s", v < 9.95 ? 1 : 0, v, unit[i].name);
    return t;
}

wk_wall_time wk_wall_parameters(double n) {
    wk_wall_time c;
    const double of = n >= 1e9 ? 1e9 : n >= 1e6 ? 1e6 : 1e3, v = n / of;
    (void)snprintf(c.text, sizeof(c.text), "%.*f %s", v < 9.95 ? 1 : 0, v, of > 1e8 ? "B" : of > 1e5 ? "M" : "k");
    return c;
}

const char *wk_wall_far(double flops, double measured) {
    return measured > 0 && flops > 1000 * measured ? "; order of magnitude" : "";
}

double wk_wall_full_night(const wk_wall *w) { return sqrt(wk_wall_train_rate(w, WK_JOB_FULL) * night / 120); }

double wk_wall_lora_night(const wk_wall *w) {
    return wk_wall_train_rate(w, WK_JOB_LORA) * night / (4 * lora_tokens);
}
