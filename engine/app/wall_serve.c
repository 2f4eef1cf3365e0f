/* wall_serve.c: the model read by one and by many, and the time between two tokens. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/app/wall_impl.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

enum { SWEEP_PASSES = 24, STALL_MS = 100, GAPS_LEAST = 64 };
static const double longest_gaps = 15, longest_quick = 5; /* seconds */

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

/* The rows of bench, and the time of each of their steps. */
static wick_status measure_batch(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    wk_wall *w = wk_wall_of(b);
    int at = 0;
    while (at < WK_WALL_BATCHES - 1 && w->batch[at] != r) at++;
    wick_x_pass o = {.size = sizeof(o), .n_seq = r->n_seq, .n_tok = 1, .depth = r->depth, .warmup = 1};
    uint64_t hash = 0;
    double sum = 0;
    o.reps = round < 0 ? 1 : r->reps;
    const double joules = wk_energy_read(&b->energy);
    WK_TRY(wick_x_pass_run(b->engine, &o, b->passes, &hash, err));
    const double used = wk_energy_read(&b->energy) - joules;
    if (round < 0) return WICK_OK;
    for (int32_t i = 0; i < o.reps; i++) {
        sum += b->passes[i];
        if (w->batch_n[at] < WK_WALL_GAPS) w->batch_step[at][w->batch_n[at]++] = b->passes[i];
    }
    r->value[round] = sum > 0 ? r->per_pass * o.reps / sum : 0;
    r->joules[round] = used / (r->per_pass * (o.reps + o.warmup));
    return WICK_OK;
}

void wk_wall_serve_rows(wk_wall *w) {
    wk_bench *b = &w->b;
    const int first = b->n_row;
    wk_round_rows(b);
    w->cost = b->cost;
    for (int i = first, at = 0; i < b->n_row; i++) {
        wk_bench_row *r = &b->row[i];
        if (r->kind != WK_BENCH_ENGINE) continue;
        if (strncmp(r->name, "prefill", 7) == 0) w->prefill = r;
        if (strcmp(r->name, "decode") == 0) w->decode = r;
        if (strncmp(r->name, "batch", 5) != 0 || at == WK_WALL_BATCHES) continue;
        w->batch[at++] = r;
        r->base = -1;
        if (r->measure) r->measure = measure_batch;
    }
}

/* ---- threads ------------------------------------------------------------------------------------- */

static wick_status sweep_one(wk_wall *w, wk_bench_row *r, wick_error *err) {
    wick_x_pass o = {.size = sizeof(o), .n_seq = 1, .n_tok = 1, .depth = w->decode->depth, .warmup = 2,
                     .reps = SWEEP_PASSES};
    for (int round = 0; round < w->rounds && !wk_round_stopped(&w->b); round++) {
        double sum = 0;
        WK_TRY(wick_x_pass_run(w->b.engine, &o, w->b.passes, NULL, err));
        for (int i = 0; i < o.reps; i++) sum += w->b.passes[i];
        r->value[round] = sum > 0 ? o.reps / sum : 0;
        r->n = round + 1;
    }
    return WICK_OK;
}

/* The engine is opened once for each number of threads, the full number last: it stays. */
wick_status wk_wall_serve_sweep(wk_wall *w, wick_error *err) {
    wk_bench *b = &w->b;
    const wk_value kept = w->args.v[WK_ARG_THREADS];
    wick_status rc = WICK_OK;
    if (!w->decode) return WICK_OK;
    for (int i = 0; i < w->n_sweep && !rc && !wk_round_stopped(b); i++) {
        wk_bench_row *r = wk_round_row(b, WK_BENCH_ENGINE, "tok/s", "decode, %d thread%s", w->sweep[i],
                                       w->sweep[i] > 1 ? "s" : "");
        if (!r) break;
        w->decode_by[i] = r;
        (void)snprintf(r->note, sizeof(r->note), "thread counts one after another");
        w->args.v[WK_ARG_THREADS].i = w->sweep[i];
        if (w->sweep[i] != b->stats.threads) {
            wk_round_close(b);
            rc = wk_round_open(b, err);
        }
        if (!rc) rc = sweep_one(w, r, err);
    }
    w->args.v[WK_ARG_THREADS] = kept;
    if (!rc && b->stats.threads != w->n_thread) {
        wk_round_close(b);
        rc = wk_round_open(b, err);
    }
    return rc;
}

/* ---- gaps ---------------------------------------------------------------------------------------- */

/* The time from token to token of one reader; before every stall_every-th token (0: none) the engine is kept waiting
 * for 100 ms, which the reader sees. */
wick_status wk_wall_gaps_take(wk_wall *w, wk_wall_gaps *out, int stall_every, wick_error *err) {
    const struct timespec stall = {.tv_nsec = STALL_MS * 1000000L};
    const int n = w->quick ? 128 : WK_WALL_GAPS;
    wick_x_pass o = {.size = sizeof(o), .n_seq = 1, .n_tok = 1, .depth = w->decode ? w->decode->depth : 0, .reps = 1};
    double s = 0;
    out->n = 0;
    for (int i = 0; i < 4; i++) WK_TRY(wick_x_pass_run(w->b.engine, &o, &s, NULL, err));
    const double until = now_s() + (w->quick ? longest_quick : longest_gaps);
    double last = now_s();
    for (int i = 0; i < n && !wk_round_stopped(&w->b); i++) {
        if (i >= GAPS_LEAST && last > until) break; /* a busy machine: fewer, and the table says how many */
        if (stall_every && i % stall_every == stall_every / 2) {
            (void)nanosleep(&stall, NULL); /* shorter when a signal comes, and then it is over anyway */
            w->n_stall++;
        }
        WK_TRY(wick_x_pass_run(w->b.engine, &o, &s, NULL, err));
        const double now = now_s();
        out->s[out->n++] = now - last;
        last = now;
    }
    wk_stat_sort(out->s, out->n);
    return WICK_OK;
}
