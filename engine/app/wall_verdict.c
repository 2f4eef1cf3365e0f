/* wall_verdict.c: lines that say where this computer ends, each with its number and the formula behind it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/wall_impl.h"
#include "engine/base/attr.h"

static const double night = 43200, lora_tokens = 3e6, q4_bytes = 0.5625 /* of a parameter in Q4_0 */, least_rate = 10;

static const wk_wall_gpu *gpu(void) { return &wk_wall_gpus[0]; }

static void begin(wk_wall *w, const char *name, double value) {
    wk_wall_say(w, "%s", name);
    wk_wall_num(w, value);
}

static void not_measured(wk_wall *w, const char *name, const char *why) {
    begin(w, name, 0);
    wk_wall_say(w, "%s", why[0] ? why : "not measured");
    wk_wall_say(w, "%s", "");
}

static void put_serve(wk_wall *w) {
    const double decode = wk_wall_median(w->decode), bytes = decode * (w->decode ? w->decode->unit_bytes : 0);
    const double by_rate = bytes / least_rate / q4_bytes, by_room = 0.9 * (double)w->available / q4_bytes;
    const double n = by_rate < by_room ? by_rate : by_room;
    if (bytes <= 0) {
        not_measured(w, "Serve", "");
        return;
    }
    begin(w, "Serve", n);
    wk_wall_say(w, "up to %s in Q4 at >= %.0f tok/s%s%s", wk_wall_parameters(n).text, least_rate, by_room < by_rate ? "; memory ends first" : "",
                wk_wall_cached(w, w->decode) ? "; this model lies in the cache, a large one will be slower" : "");
    wk_wall_say(w, "decode reads %.1f GB/s of %.1f measured; N = that / %.0f tok/s / %.4f byte a parameter", bytes / 1e9,
                wk_wall_read(w) / 1e9, least_rate, q4_bytes);
}

static void put_lora(wk_wall *w) {
    const wk_wall_train *t = &w->job[WK_JOB_LORA];
    const double rate = wk_wall_train_rate(w, WK_JOB_LORA), n = wk_wall_lora_night(w);
    if (rate <= 0) {
        not_measured(w, "LoRA", t->why);
        return;
    }
    begin(w, "LoRA", n);
    wk_wall_say(w, "overnight: %s x %.0f M tokens (from %d measured steps at %s%s)", wk_wall_parameters(n).text, lora_tokens / 1e6, t->row->n,
                wk_wall_parameters((double)t->cost.params).text, wk_wall_far(rate * night, t->flops));
    wk_wall_say(w, "12 h x %.0f GFLOP/s measured / 4N", rate / 1e9);
}

static void put_scratch(wk_wall *w) {
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    const double rate = wk_wall_train_rate(w, WK_JOB_FULL), n = wk_wall_full_night(w);
    if (rate <= 0) {
        not_measured(w, "Scratch", t->why);
        return;
    }
    begin(w, "Scratch", n);
    wk_wall_say(w, "overnight: %s at 20 tokens per parameter (from %d measured steps at %s%s)", wk_wall_parameters(n).text, t->row->n,
                wk_wall_parameters((double)t->cost.params).text, wk_wall_far(rate * night, t->flops));
    wk_wall_say(w, "N = sqrt(%.0f GFLOP/s x 43 200 s / 120)", rate / 1e9);
}

static void put_wall(wk_wall *w) {
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    const double rate = wk_wall_train_rate(w, WK_JOB_FULL), flops = 120 * 1e18, bytes = 16e9;
    if (rate <= 0) {
        not_measured(w, "Wall", t->why);
        return;
    }
    const double s = flops / rate;
    const bool room = bytes < (double)w->available;
    begin(w, "Wall", s);
    wk_wall_say(w, "1 B full training ends first on time (%s%s), %s (%.1f GB + activations, %.1f here)", wk_wall_duration(s).text,
                wk_wall_far(flops, t->flops), room ? "memory would do" : "then on memory", bytes / 1e9, (double)w->available / 1e9);
    wk_wall_say(w, "120 N^2 FLOP / %.0f GFLOP/s; 16 bytes a parameter", rate / 1e9);
}

static void put_gap(wk_wall *w) {
    const double decode = wk_wall_median(w->decode), many = wk_wall_median(w->batch[5]), rate = wk_wall_train_rate(w, WK_JOB_FULL);
    const double one = decode > 0 ? wk_wall_gpu_decode(w, gpu(), 1) / decode : 0;
    char train[48] = "training not measured", group[48] = "";
    if (rate > 0) (void)snprintf(train, sizeof(train), "%.0fx for training", gpu()->flops / rate);
    if (many > 0) (void)snprintf(group, sizeof(group), "; at 32 readers %.0fx", wk_wall_gpu_decode(w, gpu(), 32) / many);
    if (one <= 0) {
        not_measured(w, "Gap", "");
        not_measured(w, "Waste", "");
        return;
    }
    begin(w, "Gap", one);
    wk_wall_say(w, "%s, from its figures, is %.0fx for one reader, %s%s", gpu()->name, one, train, group);
    wk_wall_say(w, "its %.1f TB/s and %.0f TFLOP/s against the measured rates", gpu()->bytes / 1e12, gpu()->flops / 1e12);
    const double share = wk_wall_gpu_decode(w, gpu(), 1) * wk_wall_step_flops(w, 1) / gpu()->flops;
    begin(w, "Waste", 100 * share);
    wk_wall_say(w, "one reader uses %.2g %% of this GPU's arithmetic", 100 * share);
    wk_wall_say(w, "FLOP a token x tok/s at %.1f TB/s / %.0f TFLOP/s", gpu()->bytes / 1e12, gpu()->flops / 1e12);
}

static void put_recompute(wk_wall *w) {
    const wk_wall_train *a = &w->job[WK_JOB_FULL], *b = &w->job[WK_JOB_RECOMPUTE];
    const double flops_a = wk_wall_train_flops(w, WK_JOB_FULL), flops_b = wk_wall_train_flops(w, WK_JOB_RECOMPUTE);
    if (flops_a <= 0 || flops_b <= 0 || !a->cost.activations) {
        not_measured(w, "Recompute", b->why);
        return;
    }
    const double acts = 100 * ((double)b->cost.activations / (double)a->cost.activations - 1),
                 time = 100 * (wk_wall_median(a->row) / wk_wall_median(b->row) - 1);
    begin(w, "Recompute", acts);
    wk_wall_say(w, "%+.0f %% activation memory for %+.0f %% FLOPs, %+.0f %% time", acts, 100 * (flops_b / flops_a - 1), time);
    wk_wall_say(w, "planned %.0f and %.0f MB; counted FLOPs; measured steps", (double)a->cost.activations / 1e6,
                (double)b->cost.activations / 1e6);
}

void wk_wall_verdict(wk_wall *w) {
    wk_wall_table_begin(w, "verdict", "Where this computer ends", "line|number|verdict|formula");
    put_serve(w);
    put_lora(w);
    put_scratch(w);
    put_wall(w);
    put_gap(w);
    put_recompute(w);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void memory_row(wk_wall *w, const char *name, const double part[5], double rss, const char *note) {
    double sum = 0;
    wk_wall_say(w, "%s", name);
    for (int i = 0; i < 5; i++) {
        wk_wall_num(w, part[i] / 1e6);
        sum += part[i];
    }
    wk_wall_num(w, sum / 1e6);
    wk_wall_num(w, rss / 1e6);
    wk_wall_say(w, "%s", note);
}

static void job_row(wk_wall *w, wk_wall_job j, const char *name) {
    const wk_wall_train *t = &w->job[j];
    const wick_x_train_cost *c = &t->cost;
    const double part[5] = {(double)(j == WK_JOB_LORA ? c->base + c->weights : c->weights), (double)c->grads, (double)c->moments,
                            (double)c->activations, (double)c->scratch};
    if (t->planned) memory_row(w, name, part, t->rss, j == WK_JOB_LORA ? "this model" : w->stand_in);
}

void wk_wall_memory_table(wk_wall *w) {
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    wick_fit_result fit = WICK_FIT_RESULT_INIT;
    wk_wall_table_begin(w, "memory", "Figure 4: memory, MB (planned parts; peak measured in a process of its own)",
                        "job|weights|gradients|moments|activations or KV|rest|planned|peak measured|what");
    o.n_ctx = 2048;
    if (wick_fit(w->base, &o, &fit, NULL) == WICK_OK) {
        const double known = (double)(fit.weights + fit.kv + fit.activations), rest = (double)fit.need - known;
        const double part[5] = {(double)fit.weights, 0, 0, (double)fit.kv, (double)fit.activations + (rest > 0 ? rest : 0)};
        const double f16[5] = {2 * w->n_param, 0, 0, (double)fit.kv, part[4]};
        char name[48];
        (void)snprintf(name, sizeof(name), "serve %.20s, 2048 tokens", w->b.machine.format);
        memory_row(w, name, part, w->serve_rss, "this model");
        memory_row(w, "serve F16, 2048 tokens", f16, 0, "2 bytes a parameter");
    }
    job_row(w, WK_JOB_LORA, "LoRA step");
    job_row(w, WK_JOB_RECOMPUTE, "full training, recompute");
    job_row(w, WK_JOB_FULL, "full training");
}

/* ---- forecasts ----------------------------------------------------------------------------------- */

void wk_wall_forecast(wk_wall *w) {
    static const struct {
        const char *name;
        double flops;
        bool lora;
    } jobs[] = {{"260K", 1.3e13, false}, {"15M", 2.9e16, false},     {"110M", 1.6e18, false},    {"1B", 1.9e20, false},
                {"7B", 5.6e21, false},   {"LoRA 135M", 2.0e15, true}, {"LoRA 1B", 1.6e16, true}};
    static const double others[] = {0.45e12, 30e12, 70e12, 350e12, 2500e12};
    const double full = wk_wall_train_rate(w, WK_JOB_FULL), lora = wk_wall_train_rate(w, WK_JOB_LORA);
    wk_wall_table_begin(w, "forecast", "From scratch at 20 tokens per parameter; LoRA on 3 M tokens (other columns: assumed rates)",
                        "job|FLOP|this machine|how far|laptop|64-core AMX|RTX 4090|H200|8 x H200");
    for (size_t i = 0; i < WK_COUNT(jobs); i++) {
        const double rate = jobs[i].lora ? lora : full, measured = w->job[jobs[i].lora ? WK_JOB_LORA : WK_JOB_FULL].flops;
        const char *far = wk_wall_far(jobs[i].flops, measured);
        wk_wall_say(w, "%s", jobs[i].name);
        wk_wall_num(w, jobs[i].flops);
        wk_wall_say(w, "%s", rate > 0 ? wk_wall_duration(jobs[i].flops / rate).text : "not measured");
        wk_wall_say(w, "%s", rate > 0 ? *far ? "order of magnitude" : "within 1000 x of what was measured" : "");
        for (size_t k = 0; k < WK_COUNT(others); k++) wk_wall_say(w, "%s", wk_wall_duration(jobs[i].flops / others[k]).text);
    }
    const double mine = wk_wall_full_night(w);
    wk_wall_say(w, "overnight from scratch");
    wk_wall_num(w, 0);
    wk_wall_say(w, "%s", mine > 0 ? wk_wall_parameters(mine).text : "not measured");
    wk_wall_say(w, "%s", mine > 0 ? "from the measured steps at one size; small models fit caches, large ones may be slower" : "");
    for (size_t k = 0; k < WK_COUNT(others); k++) wk_wall_say(w, "%s", wk_wall_parameters(sqrt(others[k] * night / 120)).text);
}

/* ---- advice -------------------------------------------------------------------------------------- */

static double p99_over_p50(const wk_wall_gaps *g) {
    const double p50 = wk_stat_percentile(g->s, g->n, 50);
    return p50 > 0 ? wk_stat_percentile(g->s, g->n, 99) / p50 : 0;
}

static void put_buying(wk_wall *w) {
    const double share = 100 * wk_wall_share(w, WK_JOB_FULL);
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    wk_wall_table_begin(w, "advice", "What to look at before buying", "for training|for inference");
    if (share > 0)
        wk_wall_say(w, "arithmetic rate that the software reaches: %.0f %% of the f32 peak here; then memory for weights x 4 + activations: %.0f MB for %s",
                    share, (double)t->cost.need / 1e6, wk_wall_parameters((double)t->cost.params).text);
    else
        wk_wall_say(w, "arithmetic rate that the software reaches, then memory for weights x 4 + activations (not measured here)");
    wk_wall_say(w, "memory that holds weights + KV for your users: %.0f MB + %.1f MB per 1000 tokens of each; then its bandwidth: %.1f GB/s here",
                w->cost.weight_bytes / 1e6, w->cost.kv_bytes_per_pos * 1e3 / 1e6, wk_wall_read(w) / 1e9);
    wk_wall_say(w, "software support of that GPU; multi-card link: gradients of %.0f MB cross it each step", 4 * (double)t->cost.trainable / 1e6);
    if (w->beside.n)
        wk_wall_say(w, "steady latency: p99 / p50 is %.2f alone and %.2f beside a trainer", p99_over_p50(&w->alone), p99_over_p50(&w->beside));
    else
        wk_wall_say(w, "steady latency: p99 / p50 is %.2f alone", p99_over_p50(&w->alone));
    wk_wall_say(w, "power and cooling for hours at full load: `wick bench --soak 10m` gives the rate after 10 min against the first");
    wk_wall_say(w, "joules per answer, idle power, upkeep (%s)", w->b.energy.source == WK_ENERGY_NONE ? "energy is not readable here" : "see energy above");
    wk_wall_say(w, "mistakes: training on inference gear (the wall line says what ends first); looking at FLOPS alone (see the roofline)");
    wk_wall_say(w, "mistake: a training card for one reader (the waste line)");
}

void wk_wall_advice(wk_wall *w) {
    const wk_wall_train *a = &w->job[WK_JOB_FULL], *b = &w->job[WK_JOB_RECOMPUTE];
    put_buying(w);
    wk_wall_table_begin(w, "too-strong", "Where the usual comparison is too strong", "it is said|found here");
    wk_wall_say(w, "training is matrix x matrix, inference matrix x vector");
    wk_wall_say(w, "prefill 512 does %.0f FLOP a byte and 32 readers %.1f, one reader %.1f: as users join, serving walks towards training",
                w->cost.weight_bytes > 0 ? wk_wall_prefill_flops(w) / w->cost.weight_bytes : 0,
                wk_wall_step_flops(w, 32) / wk_wall_step_bytes(w, 32), wk_wall_step_flops(w, 1) / wk_wall_step_bytes(w, 1));
    wk_wall_say(w, "all intermediate results must be kept");
    if (a->planned && b->planned)
        wk_wall_say(w, "recompute keeps %.0f MB of activations instead of %.0f MB", (double)b->cost.activations / 1e6,
                    (double)a->cost.activations / 1e6);
    else
        wk_wall_say(w, "recompute trades memory for time (not measured here)");
    wk_wall_say(w, "high-bandwidth memory is what training needs");
    wk_wall_say(w, "it decides decode first: %.0f %% of the read bandwidth there%s",
                wk_wall_read(w) > 0 && w->decode ? 100 * wk_wall_median(w->decode) * w->decode->unit_bytes / wk_wall_read(w) : 0,
                wk_wall_train_rate(w, WK_JOB_FULL) > 0 ? ", while the training step waits for its products" : "");
    wk_wall_say(w, "a pause in training does not matter");
    wk_wall_say(w, "true on one machine (the stall row), false across ranks, where one slow rank stalls all: `mpirun wick train` prints the share of waiting");
    wk_wall_say(w, "two different jobs");
    if (wk_wall_lora_night(w) > 0)
        wk_wall_say(w, "LoRA of %s in a night is training that this CPU does", wk_wall_parameters(wk_wall_lora_night(w)).text);
    else
        wk_wall_say(w, "LoRA on a small model is training that a CPU does well (not measured here)");
}
