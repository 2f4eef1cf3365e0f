/* bench_answer.c: end-to-end rows: loading, and answers with tokenizer, template, sampler and detokenizer. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/app/bench_impl.h"
#include "engine/app/session.h"
#include "engine/app/signals.h"
#include "engine/base/err.h"
#include "engine/base/os.h"

enum { GAPS = WK_STAT_MAX, NOISE_MAX = 256, LOADS = 3, READ_S = 2 };

#define PROMPT                                                                                     \
    "Describe in a few sentences how rain forms, from the evaporation of water over the sea to "   \
    "the drops that fall on a"                                                                     \
    " mountain, and why clouds do not fall down."
static const char chat_json[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"" PROMPT
                                "\"}],\"add_generation_prompt\":true}";

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

/* ---- one answer ---------------------------------------------------------------------------------- */

typedef struct clock_of {
    const wick_engine *engine;
    double last, gap[GAPS]; /* seconds between two tokens */
    uint64_t n_token;       /* that the engine had made at `last` */
    int n;
} clock_of;

/* Not every token brings text: a control token has none, half a character waits for the rest. Such a token and the
 * next one share what passed. */
static int on_text(void *ud, const char *s, size_t n) {
    clock_of *c = ud;
    const double now = now_s();
    wick_stats st = WICK_STATS_INIT;
    (void)s;
    (void)n;
    (void)wick_engine_stats(c->engine, &st); /* both pointers are given */
    const uint64_t more = st.generated_tokens - c->n_token, k = more ? more : 1;
    for (uint64_t i = 0; c->last > 0 && i < k && c->n < GAPS; i++)
        c->gap[c->n++] = (now - c->last) / (double)k;
    c->last = now;
    c->n_token = st.generated_tokens;
    return wk_signals_interrupted() || wk_signals_terminated();
}

static wick_request_options request(const wk_bench *b, int32_t n) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    if (wk_session_has_template(b->model)) {
        o.chat = chat_json;
        o.chat_len = sizeof(chat_json) - 1;
    } else {
        o.text = PROMPT;
        o.text_len = sizeof(PROMPT) - 1;
    }
    o.max_tokens = n;
    o.seed = 1;
    o.flags = WICK_REQ_IGNORE_END; /* no hash: of 262144 logits a token it costs 3 % */
    return o;
}

/* ---- neighbours ---------------------------------------------------------------------------------- */

typedef struct noise {
    pthread_t thread[NOISE_MAX];
    int n;
    atomic_bool over;
    atomic_ullong turns; /* so that the loop is not empty */
} noise;

static void *be_busy(void *ud) {
    noise *w = ud;
    while (!atomic_load_explicit(&w->over, memory_order_relaxed)) {
        unsigned long long x = 1;
        for (int i = 0; i < 100000; i++) x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        atomic_fetch_add_explicit(&w->turns, x & 1, memory_order_relaxed);
    }
    return NULL;
}

static void noise_begin(noise *w, int n) {
    for (w->n = 0; w->n < n && w->n < NOISE_MAX; w->n++)
        if (pthread_create(&w->thread[w->n], NULL, be_busy, w)) return;
}

static void noise_end(noise *w) {
    atomic_store(&w->over, true);
    for (int i = 0; i < w->n; i++)
        (void)pthread_join(w->thread[i], NULL); /* they end by themselves */
}

/* ---- rows of an answer --------------------------------------------------------------------------- */

enum { A_RATE, A_FIRST, A_P50, A_P95, A_P99, A_MAX, A_READ_P50, A_READ_P99, A_COUNT }; /* the rows, in this order */

static void fill(wk_bench_row *r, int round, double value, double seconds) {
    r->value[round] = value;
    r->seconds[round] = seconds;
    r->n = round + 1;
}

static void fill_gaps(wk_bench_row *r, int round, clock_of *c) {
    static const double percent[] = {50, 95, 99, 100};
    wk_stat_sort(c->gap, c->n);
    for (int i = 0; i < 4; i++)
        fill(&r[A_P50 + i], round, 1e3 * wk_stat_percentile(c->gap, c->n, percent[i]), 0);
}

/* Of weights that lie in the cache, or with a device, there is nothing to compare with. */
static bool reads_alone(const wk_bench *b, int probe) {
    return probe >= 0 && !(b->n_target && !b->target[b->use].is_cpu);
}

/* The machine alone: what the probe of the answer reads, as often as there were gaps, for READ_S at most, nothing else
 * done. Gaps of tokens cannot be more even than these. */
static wick_status fill_reads(wk_bench *b, wk_bench_row *r, int round, const clock_of *c, wick_error *err) {
    double s[GAPS];
    const wk_bench_row *probe = &b->row[r[A_RATE].read_probe];
    const double most = 1e3 * READ_S / r[A_P50].value[round];
    const int n = most < c->n ? (int)most + 1 : c->n;
    WK_TRY(wick_x_read_times(probe->threads, probe->bytes, s, n, err));
    wk_stat_sort(s, n);
    fill(&r[A_READ_P50], round, 1e3 * wk_stat_percentile(s, n, 50), 0);
    fill(&r[A_READ_P99], round, 1e3 * wk_stat_percentile(s, n, 99), 0);
    return WICK_OK;
}

static wick_status measure_answer(wk_bench *b, wk_bench_row *r, int round, wick_error *err) {
    const wick_request_options o = request(b, b->wish.tg + 1);
    wick_result res = WICK_RESULT_INIT;
    clock_of c = {.engine = b->engine};
    noise w = {.n = 0};
    noise_begin(&w, b->wish.noise);
    const double joules = wk_energy_read(&b->energy);
    wick_status rc = wick_generate(b->engine, &o, on_text, &c, &res, err);
    const double used = wk_energy_read(&b->energy) - joules;
    if (!rc && round >= 0 && c.n) {
        fill_gaps(r, round, &c);
        if (reads_alone(b, r[A_RATE].read_probe)) rc = fill_reads(b, r, round, &c, err);
    }
    noise_end(&w);
    if (rc) return rc;
    if (round < 0 || res.n_generated < 2) return WICK_OK;
    fill(&r[A_RATE], round, res.decode_s > 0 ? (res.n_generated - 1) / res.decode_s : 0,
         res.decode_s);
    fill(&r[A_FIRST], round, 1e3 * res.first_s, res.first_s);
    r[A_RATE].joules[round] = used / (res.n_prompt + res.n_generated);
    (void)snprintf(r[A_FIRST].note, sizeof(r[A_FIRST].note), "prompt of %d tokens",
                   (int)res.n_prompt);
    (void)snprintf(r[A_RATE].note, sizeof(r[A_RATE].note), "%d tokens behind the first",
                   (int)res.n_generated - 1);
    return WICK_OK;
}

void wk_answer_rows(wk_bench *b) {
    static const struct {
        const char *name, *unit;
    } rows[A_COUNT] = {{"answer", "tok/s"},     {"first token", "ms"},   {"token gap p50", "ms"},
                       {"token gap p95", "ms"}, {"token gap p99", "ms"}, {"token gap max", "ms"},
                       {"reading alone p50", "ms"}, {"reading alone p99", "ms"}};
    const int threads = b->stats.threads;
    const double bytes = b->cost.weight_bytes + b->cost.kv_bytes_per_pos * (b->wish.tg / 2);
    const int probe = wk_round_read_probe(b, bytes, threads);
    if (b->n_row + A_COUNT > WK_BENCH_ROWS) return;
    for (int i = 0; i < (reads_alone(b, probe) ? A_COUNT : A_READ_P50); i++) {
        wk_bench_row *r = wk_round_row(b, WK_BENCH_END, rows[i].unit, "%s", rows[i].name);
        r->less_is_better = i > 0;
        if (i >= A_P50 && b->wish.noise)
            (void)snprintf(r->note, sizeof(r->note), "beside %d busy neighbours", b->wish.noise);
        if (i >= A_READ_P50 && !b->wish.noise)
            (void)snprintf(r->note, sizeof(r->note), "%.0f MB by %d threads, nothing else", (double)b->row[probe].bytes / 1e6,
                           threads);
        if (i) continue;
        r->measure = measure_answer;
        r->unit_bytes = bytes;
        r->read_probe = probe;
    }
}

/* ---- loading ------------------------------------------------------------------------------------- */

/* From nothing to the first token, some times; the last engine stays open. */
wick_status wk_answer_load(wk_bench *b, wick_error *err) {
    const int n = b->wish.reps < LOADS ? b->wish.reps : LOADS, first_row = b->n_row;
    wk_bench_row *open = wk_round_row(b, WK_BENCH_END, "ms", "load");
    wk_bench_row *token = wk_round_row(b, WK_BENCH_END, "ms", "load and first token");
    wk_bench_row *pack = wk_round_row(b, WK_BENCH_END, "GB/s", "pack");
    open->less_is_better = token->less_is_better = true;
    for (int i = 0; i < n && !wk_round_stopped(b); i++) {
        const wick_request_options o = {
            .size = sizeof(o), .text = "a", .text_len = 1, .max_tokens = 1, .top_p = 1};
        wick_result res = WICK_RESULT_INIT;
        wk_round_close(b);
        const double begun = now_s();
        WK_TRY(wk_round_open(b, err));
        const double opened = now_s();
        WK_TRY(wick_generate(b->engine, &o, NULL, NULL, &res, err));
        fill(open, i, 1e3 * (opened - begun), opened - begun);
        fill(token, i, 1e3 * (now_s() - begun), now_s() - begun);
        if (b->pack_to > b->pack_from)
            fill(pack, pack->n, b->pack_bytes / (b->pack_to - b->pack_from) / 1e9, 0);
    }
    (void)snprintf(open->note, sizeof(open->note), "file in the page cache");
    if (!pack->n) b->n_row = first_row + 2; /* too quick to be seen */
    return WICK_OK;
}
