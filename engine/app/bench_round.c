/* bench_round.c: rows that are passes or probes, and rounds of all rows in shuffled order. A probe is a row like the
 * others: what the machine gives changes by a third within the hour, so that a share only means something within its
 * round. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/app/session.h"
#include "engine/app/signals.h"
#include "engine/base/err.h"
#include "engine/base/os.h"
#include "engine/base/str.h"

enum {
    PAGE = 64,
    ANSWER_ROOM = 256,
    CACHE_BYTES = 8 << 20,
    ANY_BYTES = 256 << 20,
    PROBE_MOST = 1 << 30,
    BATCH_STEPS_LEAST = 8
};
static const double least_seconds = 0.15; /* shorter passes are repeated within a round */

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

bool wk_round_stopped(wk_bench *b) {
    if (wk_signals_interrupted() || wk_signals_terminated()) b->stopped = true;
    return b->stopped;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static void on_log(void *ud, int level, const char *text, size_t len) {
    wk_bench *b = ud;
    if (level > WICK_LOG_WARN || b->opened) return;
    pthread_mutex_lock(&b->lock);
    wk_progress_clear(&b->progress);
    wk_emit_warning(b->emit, text, len);
    pthread_mutex_unlock(&b->lock);
}

static int on_pack(void *ud, const char *phase, uint64_t done, uint64_t total) {
    wk_bench *b = ud;
    if (strcmp(phase, "pack") == 0) {
        b->pack_to = now_s();
        if (b->pack_from <= 0) b->pack_from = b->pack_to;
        b->pack_bytes = (double)done;
    }
    pthread_mutex_lock(&b->lock);
    if (!b->opened)
        (void)wk_progress_show(&b->progress, "loading", (double)done / 1e6, 0, (double)total / 1e6,
                               "MB"); /* drawn or not */
    pthread_mutex_unlock(&b->lock);
    return wk_signals_interrupted() || wk_signals_terminated();
}

void wk_round_step(wk_bench *b) {
    b->n_done += 1;
    pthread_mutex_lock(&b->lock);
    (void)wk_progress_show(&b->progress, "measuring", b->n_done, 0, b->n_todo,
                           "runs"); /* drawn or not */
    pthread_mutex_unlock(&b->lock);
}

static int32_t pages(int32_t positions) { return (positions + PAGE - 1) / PAGE * PAGE; }

static int32_t deepest(const wk_bench *b) {
    int32_t d = 0;
    for (int i = 0; i < b->wish.depth.n; i++)
        if (b->wish.depth.v[i] > d && b->wish.depth.v[i] <= b->depth_limit) d = b->wish.depth.v[i];
    return d;
}

/* What the rows need: the longest sequence, and the most positions at once. */
static wick_engine_options engine_options(const wk_bench *b) {
    const wk_bench_wish *w = &b->wish;
    wick_engine_options o = wk_session_engine(b->args);
    int32_t longest = 2 * w->tg + ANSWER_ROOM, clients = 1;
    if (deepest(b) + w->tg > longest) longest = deepest(b) + w->tg;
    for (int i = 0; i < w->pp.n; i++)
        if (w->pp.v[i] > longest) longest = w->pp.v[i];
    for (int i = 0; i < w->clients.n; i++)
        if (w->clients.v[i] > clients) clients = w->clients.v[i];
    if (!o.n_ctx) o.n_ctx = pages(longest + 1);
    const int32_t together = clients * pages(w->tg + 1);
    o.kv_tokens = o.n_ctx > together ? o.n_ctx : together;
    o.max_seqs = clients;
    o.no_prefix_cache = 1;
    o.progress = on_pack;
    o.device = b->n_target ? b->target[b->use].spec : "cpu";
    o.gpu_layers = b->n_target ? b->target[b->use].layers : 0;
    return o;
}

wick_status wk_round_setup(wk_bench *b, wick_error *err) {
    wick_setup_options o = WICK_SETUP_OPTIONS_INIT;
    o.log = on_log;
    o.log_ud = b;
    o.min_level = WICK_LOG_WARN;
    o.cpu_level = b->args->v[WK_ARG_CPU].s;
    return wick_setup(&o, err);
}

static wick_status open_engine(wk_bench *b, wick_error *err) {
    wick_engine_options o = engine_options(b);
    o.progress_ud = b;
    b->pack_from = b->pack_to = b->pack_bytes = 0;
    WK_TRY(wick_x_fit_check(b->args->model_path, &o, err));
    WK_TRY(wick_model_open(b->args->model_path, NULL, &b->model, err));
    return wick_engine_open(b->model, &o, &b->engine, err);
}

wick_status wk_round_open(wk_bench *b, wick_error *err) {
    wick_status rc = open_engine(b, err);
    while (rc == WICK_E_FIT && !b->keep_depth && !b->args->v[WK_ARG_CTX].given && deepest(b) > 0) {
        wk_round_close(b);
        b->depth_limit = deepest(b) - 1;
        rc = open_engine(b, err);
    }
    wk_progress_clear(&b->progress);
    if (rc) return wk_fail_at(err, "%s", wk_show(wk_cstr(b->args->model_path)).text);
    b->stats = (wick_stats)WICK_STATS_INIT;
    WK_TRY(wick_engine_stats(b->engine, &b->stats));
    b->opened = true;
    return wick_x_cost_of(b->engine, &b->cost);
}

void wk_round_close(wk_bench *b) {
    wick_engine_close(b->engine);
    wick_model_close(b->model);
    b->engine = NULL;
    b->model = NULL;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

wk_bench_row *wk_round_row(wk_bench *b, wk_bench_kind kind, const char *unit, const char *fmt,
                           ...) {
    if (b->n_row == WK_BENCH_ROWS) return NULL;
    wk_bench_row *r = &b->row[b->n_row++];
    va_list ap;
    *r = (wk_bench_row){.unit = unit, .kind = kind, .read_probe = -1, .peak_probe = -1, .base = -1};
    (void)snprintf(r->device, sizeof(r->device), "%s", b->n_target ? b->target[b->use].label : "cpu");
    r->target = b->use;
    va_start(ap, fmt);
    (void)vsnprintf(r->name, sizeof(r->name), fmt, ap); /* names of rows are short */
    va_end(ap);
    return r;
}

static wick_status measure_read(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    double rate = 0;
    (void)b;
    WK_TRY(wick_x_bandwidth(r->threads, r->bytes, &rate, err));
    if (round >= 0) r->value[round] = rate / 1e9;
    return WICK_OK;
}

static wick_status measure_peak(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    double rate = 0;
    WK_TRY(wick_x_peak(b->machine.level, r->peak, r->threads, &rate, err));
    if (round >= 0) r->value[round] = 2 * rate / 1e9;
    return WICK_OK;
}

int wk_round_read_probe(wk_bench *b, double bytes, int threads) {
    uint64_t available = 0, limit = 0;
    if (bytes < CACHE_BYTES) return -1;
    (void)wick_x_memory(&available, &limit); /* cannot fail */
    if (bytes > (double)available / 4) bytes = (double)available / 4;
    if (bytes > PROBE_MOST) bytes = PROBE_MOST;
    for (int i = 0; i < b->n_row; i++) {
        const wk_bench_row *r = &b->row[i];
        const double ratio = (double)r->bytes / bytes;
        if (r->measure == measure_read && r->threads == threads && ratio > 0.9 && ratio < 1.1)
            return i;
    }
    wk_bench_row *r = wk_round_row(b, WK_BENCH_PROBE, "GB/s", "read %.0f MB, %d thread%s",
                                   bytes / 1e6, threads, threads > 1 ? "s" : "");
    if (!r) return -1;
    r->bytes = (size_t)bytes;
    r->threads = threads;
    r->measure = measure_read;
    return b->n_row - 1;
}

int wk_round_peak_probe(wk_bench *b, const char *peak, int threads) {
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].measure == measure_peak && b->row[i].threads == threads &&
            strcmp(b->row[i].peak, peak) == 0)
            return i;
    wk_bench_row *r = wk_round_row(b, WK_BENCH_PROBE, "GOP/s", "%s peak, %d thread%s", peak,
                                   threads, threads > 1 ? "s" : "");
    if (!r) return -1;
    r->peak = peak;
    r->threads = threads;
    r->measure = measure_peak;
    return b->n_row - 1;
}

/* The machine block wants one, also beside a model that lies in the cache. */
static int any_read_probe(wk_bench *b) {
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].measure == measure_read) return i;
    return wk_round_read_probe(b, ANY_BYTES, b->stats.threads);
}

/* The passes of a round: long enough for the clock, not more than asked for. */
static int32_t passes_of(const wk_bench_row *r, double seconds) {
    if (r->kind != WK_BENCH_ENGINE || r->n_tok == 1) return r->reps;
    const double n = seconds > 0 ? least_seconds / seconds : WK_BENCH_STEPS;
    return n < 1 ? 1 : n > 256 ? 256 : (int32_t)n;
}

wick_status wk_pass_measure(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    wick_x_pass o = {
        .size = sizeof(o), .n_seq = r->n_seq, .n_tok = r->n_tok, .depth = r->depth, .warmup = 1};
    uint64_t hash = 0;
    double sum = 0;
    o.reps = round < 0 ? 1 : r->reps;
    const wk_nvml *nvml = &b->target[r->target].nvml;
    const double joules = wk_energy_read(&b->energy), dev_joules = wk_nvml_read(nvml);
    WK_TRY(wick_x_pass_run(b->engine, &o, b->passes, &hash, err));
    const double used = wk_energy_read(&b->energy) - joules;
    for (int32_t i = 0; i < o.reps; i++) sum += b->passes[i];
    if (round < 0) {
        r->reps = passes_of(r, sum);
        return b->n_target ? wk_device_copies(b, r, err) : WICK_OK;
    }
    wk_stat_sort(b->passes, o.reps);
    r->p50[round] = 1e3 * wk_stat_percentile(b->passes, o.reps, 50);
    r->p99[round] = 1e3 * wk_stat_percentile(b->passes, o.reps, 99);
    r->dev_joules[round] = (wk_nvml_read(nvml) - dev_joules) / (r->per_pass * (o.reps + o.warmup));
    r->seconds[round] = sum;
    r->value[round] = sum > 0 ? r->per_pass * o.reps / sum : 0;
    r->joules[round] = used / (r->per_pass * (o.reps + o.warmup));
    r->hash_differs |= r->has_hash && r->hash != hash;
    r->has_hash = true;
    r->hash = hash;
    return WICK_OK;
}

/* One pass. footprint: the bytes that it reads; bytes: the same, counted once a step of it. */
typedef struct work {
    int32_t n_seq, n_tok, depth;
    double footprint, bytes, macs;
} work;

/* A row that the context does not hold says so instead of being measured. */
static bool fits(const wk_bench *b, wk_bench_row *r) {
    const bool ctx = b->args->v[WK_ARG_CTX].given;
    if (r->depth + r->n_tok <= b->stats.n_ctx) return true;
    r->failed = ctx || b->args->v[WK_ARG_DEPTH].given;
    if (ctx)
        (void)snprintf(r->note, sizeof(r->note),
                       "not measured: needs %d positions, the context is %d",
                       (int)(r->depth + r->n_tok), (int)b->stats.n_ctx);
    else
        (void)snprintf(r->note, sizeof(r->note),
                       "not measured: needs %d positions, more than memory holds",
                       (int)(r->depth + r->n_tok));
    return false;
}

/* The peak is that of the model's products: floats have their own. A row that makes a probe moves none: rows stand in
 * one array. */
static wk_bench_row *pass_row(wk_bench *b, const work *w, const char *name) {
    const char first = b->machine.format[0], *peak = first == 'F' || first == 'B' ? "f32" : "i8";
    wk_bench_row *r = wk_round_row(b, WK_BENCH_ENGINE, "tok/s", "%s", name);
    if (!r) return NULL;
    r->n_seq = w->n_seq;
    r->n_tok = w->n_tok;
    r->depth = w->depth;
    r->reps = 1;
    r->per_pass = (double)w->n_seq * w->n_tok;
    r->unit_bytes = w->bytes / r->per_pass;
    r->unit_macs = w->macs / r->per_pass;
    if (!fits(b, r)) return r;
    r->measure = wk_pass_measure;
    r->peak_probe = wk_round_peak_probe(b, peak, b->stats.threads);
    r->read_probe = wk_round_read_probe(b, w->footprint, b->stats.threads);
    if (r->read_probe < 0)
        (void)snprintf(r->note, sizeof(r->note), "%.1f MB lie in the cache", w->footprint / 1e6);
    return r;
}

/* Tokens of a step. */
static int64_t chunk_of(const wk_bench *b) {
    if (b->args->v[WK_ARG_BATCH].given) return b->args->v[WK_ARG_BATCH].i;
    return b->n_target && !b->target[b->use].is_cpu ? WICK_N_BATCH_DEVICE : WICK_N_BATCH;
}

static void prefill_rows(wk_bench *b) {
    const int64_t chunk = chunk_of(b);
    for (int i = 0; i < b->wish.pp.n; i++) {
        char name[48];
        const int32_t n = b->wish.pp.v[i];
        const work w = {.n_seq = 1,
                        .n_tok = n,
                        .footprint = b->cost.weight_bytes,
                        .bytes = b->cost.weight_bytes * (double)((n + chunk - 1) / chunk),
                        .macs = b->cost.layer_macs * n + b->cost.head_macs};
        (void)snprintf(name, sizeof(name), "prefill %d", (int)n);
        wk_bench_row *r = pass_row(b, &w, name);
        if (r) r->of_peak = true;
    }
}

/* One token of each of n sequences behind a depth. */
static work step_work(const wk_bench *b, int32_t n, int32_t depth) {
    work w = {.n_seq = n, .n_tok = 1, .depth = depth};
    w.bytes = b->cost.weight_bytes + b->cost.kv_bytes_per_pos * (depth + 1) * n;
    w.footprint = w.bytes;
    w.macs = (b->cost.layer_macs + b->cost.head_macs) * n;
    return w;
}

/* The tokens of a decode row stand at the depth that they have on average. */
static void decode_rows(wk_bench *b) {
    for (int i = 0; i < b->wish.depth.n; i++) {
        char name[48] = "decode";
        const int32_t deep = b->wish.depth.v[i];
        const work w = step_work(b, 1, deep + b->wish.tg / 2);
        if (deep) (void)snprintf(name, sizeof(name), "decode @%d", (int)deep);
        wk_bench_row *r = pass_row(b, &w, name);
        if (r) r->reps = b->wish.tg;
    }
}

static void batch_rows(wk_bench *b) {
    const int32_t steps = b->wish.tg / 4;
    int first = -1;
    for (int i = 0; i < b->wish.clients.n; i++) {
        char name[48];
        const int32_t n = b->wish.clients.v[i];
        const work w = step_work(b, n, b->wish.tg / 2);
        (void)snprintf(name, sizeof(name), "batch %d", (int)n);
        wk_bench_row *r = pass_row(b, &w, name);
        if (!r) return;
        r->reps = steps > BATCH_STEPS_LEAST ? steps : BATCH_STEPS_LEAST;
        if (first >= 0) r->base = first;
        if (n == 1) first = (int)(r - b->row);
    }
}

void wk_round_rows(wk_bench *b) {
    if (b->wish.only & WK_ONLY_PREFILL) prefill_rows(b);
    if (b->wish.only & WK_ONLY_DECODE) decode_rows(b);
    if (b->wish.only & WK_ONLY_BATCH) batch_rows(b);
    if (b->wish.only & WK_ONLY_ANSWER) wk_answer_rows(b);
    (void)any_read_probe(b); /* a row by itself */
}

/* ---- rounds -------------------------------------------------------------------------------------- */

static void shuffle(wk_bench *b, int *order, int n) {
    for (int i = n - 1; i > 0; i--) {
        const int j = (int)wk_stat_draw(2, &b->draws, (uint32_t)(i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* A row that does not fit or is not supported says so and is left out; anything else ends the measurement. */
static wick_status measure(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    wk_device_use(b, r->target);
    wick_status rc = r->measure(b, r, round, err);
    wk_round_step(b);
    if (rc == WICK_E_FIT || rc == WICK_E_UNSUPPORTED || (b->n_target && rc == WICK_E_DEVICE)) {
        (void)snprintf(r->note, sizeof(r->note), "not measured: %.180s", err->message);
        r->measure = NULL;
        r->failed = true;
        rc = WICK_OK;
    } else if (!rc && round >= 0 && r->n == round) {
        r->n = round + 1;
    }
    return rc;
}

wick_status wk_round_run(wk_bench *b, int rounds, wick_error *err) {
    int order[WK_BENCH_ROWS], n = 0;
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].measure) order[n++] = i;
    b->n_todo = (double)n * (rounds + 1);
    b->n_done = 0;
    for (int round = -1; round < rounds; round++) {
        shuffle(b, order, n);
        for (int i = 0; i < n; i++) {
            if (wk_round_stopped(b)) return WICK_OK;
            if (!b->row[order[i]].measure) continue;
            const wick_status rc = measure(b, &b->row[order[i]], round, err);
            if (rc)
                return wk_round_stopped(b) ? WICK_OK : wk_fail_at(err, "%s", b->row[order[i]].name);
        }
    }
    wk_progress_clear(&b->progress);
    return WICK_OK;
}

double wk_round_share(const wk_bench *b, const wk_bench_row *r, bool of_peak) {
    double share[WK_BENCH_ROUNDS];
    const int probe = of_peak ? r->peak_probe : r->read_probe;
    const double limit = of_peak ? r->limit_peak : r->limit_read;
    int n = 0;
    if (limit > 0 && r->n)
        return wk_stat_of(r->value, r->n).median * (of_peak ? 2 * r->unit_macs : r->unit_bytes) / 1e9 / limit;
    if (probe < 0) return 0;
    const wk_bench_row *p = &b->row[probe];
    for (int i = 0; i < r->n && i < p->n; i++) {
        const double used = r->value[i] * (of_peak ? 2 * r->unit_macs : r->unit_bytes) / 1e9;
        if (p->value[i] > 0) share[n++] = used / p->value[i];
    }
    return wk_stat_of(share, n).median;
}

/* ---- soak ---------------------------------------------------------------------------------------- */

enum { SOAK_PARTS = 48 };

static wick_status soak_part(wk_bench *b, wk_bench_row *r, double until, wick_error *err) {
    wick_x_pass o = {
        .size = sizeof(o), .n_seq = 1, .n_tok = 1, .depth = r->depth, .warmup = 0, .reps = 16};
    double sum = 0, n = 0;
    do {
        WK_TRY(wick_x_pass_run(b->engine, &o, b->passes, NULL, err));
        for (int32_t i = 0; i < o.reps; i++) sum += b->passes[i];
        n += o.reps;
    } while (now_s() < until && !wk_round_stopped(b));
    if (sum > 0) r->value[r->n++] = n / sum;
    return WICK_OK;
}

static void say_drift(wk_bench *b, wk_bench_row *r) {
    const int quarter = r->n / 4;
    if (quarter < 1) return;
    const wk_stat first = wk_stat_of(r->value, quarter),
                  last = wk_stat_of(r->value + r->n - quarter, quarter);
    const int sign = wk_stat_compare(&first, &last, false);
    (void)snprintf(r->note, sizeof(r->note), "first quarter %.1f, last quarter %.1f: %s%+.1f %%",
                   first.median, last.median, sign ? "" : "no difference, ",
                   100 * (last.median / first.median - 1));
    (void)snprintf(b->drift, sizeof(b->drift), "%s", r->note);
}

wick_status wk_round_soak(wk_bench *b, wick_error *err) {
    wk_bench_row *r = wk_round_row(b, WK_BENCH_ENGINE, "tok/s", "soak %.0f s", b->wish.soak);
    if (!r) return WICK_OK;
    r->depth = b->wish.tg / 2;
    r->per_pass = 1;
    b->n_todo = SOAK_PARTS;
    b->n_done = 0;
    const double begun = now_s();
    for (int i = 0; i < SOAK_PARTS && !wk_round_stopped(b); i++) {
        WK_TRY(soak_part(b, r, begun + b->wish.soak * (i + 1) / SOAK_PARTS, err));
        wk_round_step(b);
    }
    wk_progress_clear(&b->progress);
    say_drift(b, r);
    return WICK_OK;
}
