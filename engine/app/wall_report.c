/* wall_report.c: the tables of the page, from what was measured. */
#include <stdio.h>
#include <string.h>

#include "engine/app/wall_impl.h"
#include "engine/base/attr.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

static const wk_wall_gpu *gpu(void) { return &wk_wall_gpus[0]; }

/* ---- machine ------------------------------------------------------------------------------------- */

static void line(wk_wall *w, const char *key, const char *value) {
    if (!*value) return;
    wk_wall_say(w, "%s", key);
    wk_wall_say(w, "%s", value);
}

static void put_machine(wk_wall *w) {
    const wk_bench_machine *m = &w->b.machine;
    char text[256];
    uint64_t limit = 0;
    wk_wall_table_begin(w, "machine", "Machine and model", "what|found");
    line(w, "CPU", m->cpu);
    line(w, "level", m->level);
    line(w, "threads", m->threads);
    line(w, "governor", m->governor);
    line(w, "load", m->load);
    if (w->clock_mhz[0] > 0)
        (void)snprintf(text, sizeof(text), "%.0f MHz before, %.0f MHz after", w->clock_mhz[0], w->clock_mhz[1]);
    else
        (void)snprintf(text, sizeof(text), "not readable here");
    line(w, "clock", text);
    (void)snprintf(text, sizeof(text), "%.0f MB", w->l3 / 1048576);
    if (w->l3 > 0) line(w, "largest cache", text);
    (void)wick_x_memory(&w->available, &limit); /* cannot fail */
    (void)snprintf(text, sizeof(text), "%.1f GB", (double)w->available / 1e9);
    line(w, "memory available", text);
    line(w, "kernel", m->kernel);
    line(w, "build", m->build);
    (void)snprintf(text, sizeof(text), "%.80s (%.20s, %s parameters, %.20s), %.1f MB, xxh3 %.16s", m->name, w->arch,
                   wk_wall_parameters(w->n_param).text, m->format, (double)m->model_bytes / 1e6, m->hash);
    line(w, "model", text);
    (void)snprintf(text, sizeof(text), "%s", w->l3 > 0 && (double)m->model_bytes < 2 * w->l3
                                                 ? "smaller than twice the largest cache: take a larger model for the roofline"
                                                 : "");
    line(w, "note", text);
    line(w, "trained in full", w->stand_in[0] ? w->stand_in : "nothing");
    line(w, "trained on", "text made of this vocabulary's pieces by chance: the time of a step does not depend on it");
    if (w->b.energy.source == WK_ENERGY_NONE)
        line(w, "energy", w->b.energy.why);
    else
        line(w, "energy", w->b.energy.source == WK_ENERGY_WATTS ? "estimated with --watts, not measured" : "RAPL, gross");
    (void)snprintf(text, sizeof(text), "%d repeats, %s, %s after the start", w->rounds,
                   w->quick ? "--quick" : "order shuffled", wk_wall_duration((double)wk_os_now_ns() * 1e-9 - w->begun).text);
    line(w, "measured", text);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static void put_row(wk_wall *w, const wk_bench_row *r) {
    const wk_stat s = wk_stat_of(r->value, r->n);
    const double bytes = wk_wall_median(r) * r->unit_bytes / 1e9, read = wk_wall_read(w) / 1e9;
    const bool device = wk_wall_is_device(r);
    wk_wall_say(w, "%s%s%s", r->name, device ? " on " : "", device ? r->device : "");
    wk_wall_num(w, s.median);
    wk_wall_say(w, "%s", r->unit);
    wk_wall_num(w, s.p10);
    wk_wall_num(w, s.p90);
    wk_wall_num(w, r->n);
    if (device)
        wk_wall_say(w, "%s%soutside the promise on bits", r->note, r->note[0] ? "; " : "");
    else if (wk_wall_cached(w, r))
        wk_wall_say(w, "cache-resident (%.1f GB/s of %.1f measured)%s%s", bytes, read, r->note[0] ? "; " : "", r->note);
    else if (r->n && r->of_peak && wk_round_share(&w->b, r, true) > 0)
        wk_wall_say(w, "%.0f %% of the %s peak%s%s", 100 * wk_round_share(&w->b, r, true), w->b.row[r->peak_probe].peak,
                    r->note[0] ? "; " : "", r->note);
    else if (r->n && r->unit_bytes > 0 && read > 0)
        wk_wall_say(w, "%.1f GB/s, %.0f %% of the read bandwidth%s%s", bytes, 100 * bytes / read, r->note[0] ? "; " : "",
                    r->note);
    else
        wk_wall_say(w, "%s", r->note);
}

static void put_rows(wk_wall *w) {
    static const struct {
        wk_bench_kind kind;
        const char *id, *title;
    } part[] = {{WK_BENCH_PROBE, "probes", "What the machine gives"},
                {WK_BENCH_KERNEL, "products", "Products of 512 tokens at the model's feed-forward shape"},
                {WK_BENCH_ENGINE, "measured", "Serving and training, measured"}};
    for (size_t k = 0; k < WK_COUNT(part); k++) {
        wk_wall_table_begin(w, part[k].id, part[k].title, "row|median|unit|p10|p90|repeats|note");
        for (int i = 0; i < w->b.n_row; i++)
            if (w->b.row[i].kind == part[k].kind) put_row(w, &w->b.row[i]);
    }
}

/* ---- table 1 ------------------------------------------------------------------------------------- */

static void row(wk_wall *w, const char *name) { wk_wall_say(w, "%s", name); }

static const char *why_not(const wk_wall *w) {
    const char *why = w->job[WK_JOB_FULL].why;
    return why[0] ? why : "not measured";
}

static double p99(const wk_wall_gaps *g) { return 1e3 * wk_stat_percentile(g->s, g->n, 99); }

static void put_goal(wk_wall *w) {
    row(w, "goal");
    wk_wall_say(w, "lower loss per hour. Not measured here: the loss after 10 min is that of your data, `wick train --for 10m` prints it");
    if (w->alone.n)
        wk_wall_say(w, "answers at a steady pace: %.1f tok/s for one reader, p99 %.1f ms between tokens", wk_wall_median(w->decode),
                    p99(&w->alone));
    else
        wk_wall_say(w, "answers at a steady pace: not measured");
    wk_wall_say(w, "tok/s, p99 of %d gaps", w->alone.n);
}

static void put_compute(wk_wall *w) {
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    const double flops = wk_wall_train_flops(w, WK_JOB_FULL), bytes = wk_wall_train_bytes(w, WK_JOB_FULL);
    row(w, "compute type");
    if (flops > 0) {
        const int n = t->row->n;
        const double f = wk_stat_of(t->forward, n).median, g = wk_stat_of(t->backward, n).median,
                     u = wk_stat_of(t->update, n).median;
        wk_wall_say(w, "forward %.3f s + backward %.3f s + update %.3f s; matrix x matrix, %llu rows a product; %.0f FLOP a byte", f,
                    g, u, (unsigned long long)t->cost.micro, flops / bytes);
    } else {
        wk_wall_say(w, "%s", why_not(w));
    }
    wk_wall_say(w, "forward only; matrix x vector for one reader: %.1f FLOP a byte (1 reader), %.1f (32); prefill 512: %.0f",
                wk_wall_step_flops(w, 1) / wk_wall_step_bytes(w, 1), wk_wall_step_flops(w, 32) / wk_wall_step_bytes(w, 32),
                w->cost.weight_bytes > 0 ? wk_wall_prefill_flops(w) / w->cost.weight_bytes : 0);
    wk_wall_say(w, "time per phase; FLOPs counted, bytes counted (training: the least traffic)");
}

static void put_need(wk_wall *w) {
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    const double rate = wk_wall_train_rate(w, WK_JOB_FULL), n = (double)t->cost.params, per = t->cost.flops_per_token,
                 decode = wk_wall_median(w->decode), total = 20 * n * per;
    row(w, "compute need");
    if (rate > 0)
        wk_wall_say(w, "%.2g FLOP a token; 20 tokens a parameter of %.0f M: %s (from %d measured steps at this size%s)", per, n / 1e6,
                    wk_wall_duration(total / rate).text, t->row->n, wk_wall_far(total, t->flops));
    else
        wk_wall_say(w, "%s", why_not(w));
    if (decode > 0)
        wk_wall_say(w, "%.2g FLOP a token; 1000 answers of 200 tokens, one after another: %s", wk_wall_step_flops(w, 1),
                    wk_wall_duration(2e5 / decode).text);
    else
        wk_wall_say(w, "not measured");
    wk_wall_say(w, "FLOPs counted, time from the measured rates");
}

static void put_bound(wk_wall *w) {
    const double rate = wk_wall_train_rate(w, WK_JOB_FULL),
                 bytes = wk_wall_median(w->decode) * (w->decode ? w->decode->unit_bytes : 0);
    row(w, "bound by");
    if (rate > 0)
        wk_wall_say(w, "arithmetic: %.0f %% of the GEMM peak (%.0f of %.0f GFLOP/s)", 100 * wk_wall_share(w, WK_JOB_FULL), rate / 1e9,
                    rate / wk_wall_share(w, WK_JOB_FULL) / 1e9);
    else
        wk_wall_say(w, "%s", why_not(w));
    if (bytes <= 0 || wk_wall_read(w) <= 0)
        wk_wall_say(w, "not measured");
    else if (wk_wall_cached(w, w->decode))
        wk_wall_say(w, "cache-resident: %.1f GB/s, more than the %.1f GB/s of memory", bytes / 1e9, wk_wall_read(w) / 1e9);
    else
        wk_wall_say(w, "bandwidth: %.0f %% of the read bandwidth (%.1f of %.1f GB/s)", 100 * bytes / wk_wall_read(w), bytes / 1e9,
                    wk_wall_read(w) / 1e9);
    wk_wall_say(w, "both shares, same run");
}

static void put_memory(wk_wall *w) {
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    row(w, "memory");
    if (t->planned && t->row && t->row->n)
        wk_wall_say(w, "weights x 4 + activations: %.0f MB planned, %.0f MB peak", (double)t->cost.need / 1e6, t->rss / 1e6);
    else
        wk_wall_say(w, "%s", why_not(w));
    if (!w->serve_need)
        wk_wall_say(w, "weights + KV: not measured");
    else
        wk_wall_say(w, "weights + KV: %.0f MB planned for 2048 tokens, %.0f MB peak", (double)w->serve_need / 1e6, w->serve_rss / 1e6);
    wk_wall_say(w, "peak RSS of each job in a process of its own; %.1f GB available", (double)w->available / 1e9);
}

static void put_latency(wk_wall *w) {
    row(w, "latency sensitivity");
    if (w->stall_rate[0] > 0) {
        const double change = 100 * (w->stall_rate[1] / w->stall_rate[0] - 1);
        const bool within = w->stall_rate[1] >= w->stall_low[0] && w->stall_rate[1] <= w->stall_high[0];
        wk_wall_say(w, "%s: %+.1f %% tok/s with %d pause%s of 100 ms in %d steps, %s the spread (%.0f .. %.0f); final loss %s (%.6f)",
                    within ? "none on one machine" : "it shows where steps are this short", change, w->stalls, w->stalls > 1 ? "s" : "", w->stall_steps, within ? "within" : "outside", w->stall_low[0],
                    w->stall_high[0], memcmp(&w->stall_loss[0], &w->stall_loss[1], sizeof(double)) == 0 ? "identical" : "DIFFERENT",
                    w->stall_loss[1]);
    } else {
        wk_wall_say(w, "%s", w->stall_why[0] ? w->stall_why : "not measured");
    }
    if (w->stalled.n)
        wk_wall_say(w, "high: p99 %.1f ms without, %.1f ms with %d pauses of 100 ms in %d tokens", p99(&w->alone), p99(&w->stalled),
                    w->n_stall, w->stalled.n);
    else
        wk_wall_say(w, "not measured");
    wk_wall_say(w, "100 ms stalls injected at 1 %% of the steps; trained: %s", w->stall_model[0] ? w->stall_model : "nothing");
}

static void put_substitute(wk_wall *w) {
    const double rate = wk_wall_train_rate(w, WK_JOB_FULL), decode = wk_wall_median(w->decode);
    row(w, "substitutability CPU / GPU / NPU");
    if (rate > 0)
        wk_wall_say(w, "%s / this CPU: %.0f x in training", gpu()->name, gpu()->flops / rate);
    else
        wk_wall_say(w, "%s", why_not(w));
    const double many = wk_wall_median(w->batch[5]);
    if (decode > 0 && many > 0)
        wk_wall_say(w, "%s / this CPU: %.0f x for one reader, %.0f x for 32", gpu()->name, wk_wall_gpu_decode(w, gpu(), 1) / decode,
                    wk_wall_gpu_decode(w, gpu(), 32) / many);
    else
        wk_wall_say(w, "not measured");
    char text[1000];
    if (wk_wall_device_text(w, text, sizeof(text))) {
        wk_wall_say(w, "%s; %s is from its figures. NPU: not measured", text, gpu()->name);
        return;
    }
    wk_wall_say(w, "no GPU here: from its figures (%.0f TFLOP/s and %.1f TB/s sustained). NPU: not measured", gpu()->flops / 1e12,
                gpu()->bytes / 1e12);
}

static void put_joules(wk_wall *w, const wk_bench_row *r) {
    const double j = r && r->n ? wk_stat_of(r->joules, r->n).median : 0;
    if (j > 0)
        wk_wall_say(w, "%.3g J a token%s", j, w->b.energy.source == WK_ENERGY_WATTS ? ", estimated with --watts" : "");
    else
        wk_wall_say(w, "not readable");
}

static void put_comparison(wk_wall *w) {
    wk_wall_table_begin(w, "comparison", "Training against inference, on this machine", "|training|inference|measured as");
    put_goal(w);
    put_compute(w);
    put_need(w);
    put_bound(w);
    put_memory(w);
    put_latency(w);
    put_substitute(w);
    row(w, "energy");
    put_joules(w, w->job[WK_JOB_FULL].row);
    put_joules(w, w->decode);
    wk_wall_say(w, "%s", w->b.energy.source == WK_ENERGY_NONE ? w->b.energy.why : "counters of the package");
}

/* ---- tables of the figures ----------------------------------------------------------------------- */

static void point(wk_wall *w, const char *name, double flops, double bytes, double rate) {
    wk_wall_say(w, "%s", name);
    wk_wall_num(w, bytes > 0 ? flops / bytes : 0);
    wk_wall_num(w, rate / 1e9);
    wk_wall_num(w, flops > 0 ? rate / flops * bytes / 1e9 : 0);
}

/* The same work as the cpu's, at the rate of the device. */
static void device_points(wk_wall *w) {
    for (int i = 0; i < w->b.n_row; i++) {
        const wk_bench_row *r = &w->b.row[i];
        char name[128];
        if (!wk_wall_is_device(r) || !r->n || !r->n_tok) continue; /* steps of training: below */
        const double flops = r->n_tok > 1 ? wk_wall_prefill_flops(w) : wk_wall_step_flops(w, 1),
                     bytes = r->n_tok > 1 ? w->cost.weight_bytes : wk_wall_step_bytes(w, 1);
        (void)snprintf(name, sizeof(name), "%s on %s", r->name, r->device);
        point(w, name, flops, bytes, wk_wall_median(r) / r->n_tok * flops);
    }
    for (int i = 1; i < WK_BENCH_DEVICES; i++) {
        for (int j = 0; j < WK_JOB_COUNT; j++) {
            const wk_wall_train *t = &w->dev_job[i][j], *here = &w->job[j];
            char name[128];
            if (!t->row || !t->row->n || !here->row || !here->row->n) continue;
            (void)snprintf(name, sizeof(name), "%s on %s", t->row->name, t->row->device);
            point(w, name, wk_wall_train_flops(w, (wk_wall_job)j), wk_wall_train_bytes(w, (wk_wall_job)j),
                  wk_wall_median(t->row) * t->cost.flops_per_token);
        }
    }
}

static void put_roofline(wk_wall *w) {
    static const char *const names[WK_JOB_COUNT] = {"training step", "training step, recompute", "LoRA step"};
    char name[64];
    wk_wall_table_begin(w, "roofline", "Figure 1: roofline", "phase|FLOP a byte|GFLOP/s|GB/s");
    for (int i = 0; i < WK_WALL_BATCHES; i++) {
        const wk_bench_row *r = w->batch[i];
        if (!r || !r->n) continue;
        const double flops = wk_wall_step_flops(w, r->n_seq);
        (void)snprintf(name, sizeof(name), "decode, %d reader%s", (int)r->n_seq, r->n_seq > 1 ? "s" : "");
        point(w, name, flops, wk_wall_step_bytes(w, r->n_seq), wk_wall_median(r) / r->n_seq * flops);
    }
    if (w->prefill && w->prefill->n)
        point(w, "prefill 512", wk_wall_prefill_flops(w), w->cost.weight_bytes,
              wk_wall_median(w->prefill) / w->prefill->n_tok * wk_wall_prefill_flops(w));
    device_points(w);
    for (int j = 0; j < WK_JOB_COUNT; j++)
        if (wk_wall_train_rate(w, (wk_wall_job)j) > 0)
            point(w, names[j], wk_wall_train_flops(w, (wk_wall_job)j), wk_wall_train_bytes(w, (wk_wall_job)j),
                  wk_wall_train_rate(w, (wk_wall_job)j));
    const wk_wall_train *t = &w->job[WK_JOB_FULL];
    const double update = t->row && t->row->n ? wk_stat_of(t->update, t->row->n).median : 0;
    if (update > 0)
        point(w, "optimizer pass", 14 * (double)t->cost.params, 28 * (double)t->cost.params, 14 * (double)t->cost.params / update);
}

static void put_gaps(wk_wall *w) {
    const double decode = wk_wall_median(w->decode), rate = wk_wall_train_rate(w, WK_JOB_FULL),
                 per = w->job[WK_JOB_FULL].cost.flops_per_token;
    wk_wall_table_begin(w, "two-gaps", "Figure 2: two gaps (GPU from its figures)", "job|this CPU, tok/s|H200, tok/s|ratio");
    wk_wall_say(w, "decode, one reader");
    wk_wall_num(w, decode);
    wk_wall_num(w, wk_wall_gpu_decode(w, gpu(), 1));
    wk_wall_num(w, decode > 0 ? wk_wall_gpu_decode(w, gpu(), 1) / decode : 0);
    const double many = wk_wall_median(w->batch[5]);
    wk_wall_say(w, "decode, 32 readers");
    wk_wall_num(w, many);
    wk_wall_num(w, wk_wall_gpu_decode(w, gpu(), 32));
    wk_wall_num(w, many > 0 ? wk_wall_gpu_decode(w, gpu(), 32) / many : 0);
    if (rate <= 0 || per <= 0) return;
    wk_wall_say(w, "training");
    wk_wall_num(w, rate / per);
    wk_wall_num(w, gpu()->flops / per);
    wk_wall_num(w, gpu()->flops / rate);
}

static void put_threads(wk_wall *w) {
    wk_wall_table_begin(w, "threads", "Figure 5: threads", "threads|decode tok/s|training tok/s|read GB/s|f32 GFLOP/s");
    for (int i = 0; i < w->n_sweep; i++) {
        wk_wall_num(w, w->sweep[i]);
        wk_wall_num(w, wk_wall_median(w->decode_by[i]));
        wk_wall_num(w, wk_wall_median(w->train_by[i]));
        wk_wall_num(w, wk_wall_median(w->read[i]));
        wk_wall_num(w, wk_wall_median(w->f32[i]));
    }
}

static void put_jitter(wk_wall *w) {
    static const double percent[] = {50, 90, 95, 99, 100};
    const wk_wall_gaps *all[] = {&w->alone, &w->stalled, &w->beside};
    static const char *const names[] = {"alone", "with pauses of 100 ms", "beside a trainer"};
    wk_wall_table_begin(w, "jitter", "Figure 6: between two tokens of one reader, ms", "when|p50|p90|p95|p99|longest|gaps");
    for (size_t k = 0; k < WK_COUNT(all); k++) {
        if (!all[k]->n) continue;
        wk_wall_say(w, "%s", names[k]);
        for (size_t i = 0; i < WK_COUNT(percent); i++) wk_wall_num(w, 1e3 * wk_stat_percentile(all[k]->s, all[k]->n, percent[i]));
        wk_wall_num(w, all[k]->n);
    }
    if (!w->beside_why[0]) return;
    wk_wall_say(w, "beside a trainer: %s", w->beside_why);
    for (int i = 0; i < 6; i++) wk_wall_say(w, "%s", "");
}

static void put_users(wk_wall *w) {
    wk_wall_table_begin(w, "users", "Figure 7: readers together", "readers|tok/s together|tok/s each|p95 of a step, ms");
    for (int i = 0; i < WK_WALL_BATCHES; i++) {
        const wk_bench_row *r = w->batch[i];
        if (!r || !r->n) continue;
        wk_wall_num(w, r->n_seq);
        wk_wall_num(w, wk_wall_median(r));
        wk_wall_num(w, wk_wall_median(r) / r->n_seq);
        wk_wall_num(w, 1e3 * w->batch_p95[i]);
    }
}

void wk_wall_tables(wk_wall *w) {
    for (int i = 0; i < WK_WALL_BATCHES; i++) {
        wk_stat_sort(w->batch_step[i], w->batch_n[i]);
        w->batch_p95[i] = wk_stat_percentile(w->batch_step[i], w->batch_n[i], 95);
    }
    put_machine(w);
    wk_wall_verdict(w);
    put_comparison(w);
    put_roofline(w);
    put_gaps(w);
    wk_wall_map_table(w);
    wk_wall_memory_table(w);
    put_threads(w);
    put_jitter(w);
    put_users(w);
    put_rows(w);
    wk_wall_forecast(w);
    wk_wall_advice(w);
}
