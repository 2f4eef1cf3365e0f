/* test_bench.c: the engine side of the bench: functions on the engine's thread, passes alone, trace, costs, yardsticks,
 * one product. Times are looked at only as being there; what was computed is compared bit by bit. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "engine/cpu/exec.h"
#include "engine/run/bench.h"
#include "engine/run/kbench.h"
#include "engine/run/sched.h"
#include "engine/wick_model.h"
#include "engine/wick_x.h"
#include "simd/level.h"

enum { N_CTX = 512, VOCAB = 288 };

static wick_model *model;

static int set_up(void **s) {
    wick_error err = {0};
    (void)s;
    if (wick_model_open("tests/golden/tiny/llama.gguf", NULL, &model, &err)) fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **s) {
    (void)s;
    wick_model_close(model);
    return 0;
}

static wick_engine *open_engine(int32_t n_batch, int32_t threads, int32_t max_seqs) {
    wick_error err = {0};
    wick_engine *e = NULL;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = N_CTX;
    o.n_batch = n_batch;
    o.threads = threads;
    o.max_seqs = max_seqs;
    if (wick_engine_open(model, &o, &e, &err)) fail_msg("engine: %s", err.message);
    return e;
}

static void sleep_ms(int ms) {
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* Runs a pass; the hash of its last logits. */
static uint64_t run_pass(wick_engine *e, int32_t n_seq, int32_t n_tok, int32_t depth, int32_t reps) {
    double seconds[8] = {0};
    uint64_t hash = 0;
    wick_error err = {0};
    const wick_x_pass p = {sizeof(p), n_seq, n_tok, depth, 1, reps};
    if (wick_x_pass_run(e, &p, seconds, &hash, &err)) fail_msg("pass: %s", err.message);
    for (int32_t i = 0; i < reps; i++) assert_true(seconds[i] > 0);
    for (int32_t i = reps; i < 8; i++) assert_true(seconds[i] == 0);
    return hash;
}

static void refused_pass(wick_engine *e, wick_x_pass p, int code, const char *has) {
    double seconds[4];
    wick_error err = {0};
    assert_int_equal(wick_x_pass_run(e, &p, seconds, NULL, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, has)) fail_msg("\"%s\" lacks \"%s\"", err.message, has);
}

static wick_request_options request(const int32_t *tok, size_t n, int32_t max_tokens) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.tokens = tok;
    o.n_tokens = n;
    o.max_tokens = max_tokens;
    o.temperature = 0;
    o.flags = WICK_REQ_HASH | WICK_REQ_IGNORE_END;
    return o;
}

static wick_result generate(wick_engine *e, const wick_request_options *o) {
    wick_error err = {0};
    wick_result r = WICK_RESULT_INIT;
    if (wick_generate(e, o, NULL, NULL, &r, &err)) fail_msg("generate: %s", err.message);
    return r;
}

/* The tokens of a pass. */
static void fill_tokens(int32_t *t, int32_t n, uint32_t seq) {
    for (int32_t i = 0; i < n; i++) {
        const uint32_t counter[4] = {(uint32_t)i, seq, 0, 0};
        uint32_t r[4];
        wk_philox(r, 0x7069636b, counter);
        t[i] = (int32_t)(r[0] % VOCAB);
    }
}

/* ---- passes -------------------------------------------------------------------------------------- */

/* A pass without depth computes what a request with its tokens computes. */
static void test_pass_is_the_model(void **s) {
    (void)s;
    int32_t tok[200];
    for (int32_t n = 1; n <= 200; n += 66) {
        wick_engine *e = open_engine(64, 2, 4);
        fill_tokens(tok, n, 0);
        const wick_request_options o = request(tok, (size_t)n, 1);
        const wick_result r = generate(e, &o);
        assert_true(r.hash[0] == run_pass(e, 1, n, 0, 2));
        wick_engine_close(e);
    }
}

/* Neither the size of a step, nor threads, nor repetition change a bit. */
static void test_pass_is_one_function(void **s) {
    (void)s;
    static const struct {
        int32_t n_batch, threads, max_seqs;
    } way[] = {{512, 1, 4}, {7, 2, 4}, {2, 3, 4}, {64, 2, 32}};
    static const struct {
        int32_t n_seq, n_tok, depth;
    } shape[] = {{1, 1, 0}, {1, 1, 300}, {4, 1, 63}, {3, 65, 0}, {2, 130, 64}, {4, 3, 127}};
    uint64_t want[WK_COUNT(shape)] = {0};
    for (size_t w = 0; w < WK_COUNT(way); w++) {
        wick_engine *e = open_engine(way[w].n_batch, way[w].threads, way[w].max_seqs);
        for (size_t i = 0; i < WK_COUNT(shape); i++) {
            const uint64_t h =
                run_pass(e, shape[i].n_seq, shape[i].n_tok, shape[i].depth, (int32_t)(w % 3) + 1);
            if (w == 0) want[i] = h;
            assert_true(h == want[i]);
            for (size_t j = 0; j < i; j++) assert_true(want[j] != h);
        }
        wick_engine_close(e);
    }
}

static void test_pass_refusals(void **s) {
    (void)s;
    double seconds[4];
    wick_error err = {0};
    wick_engine *e = open_engine(64, 1, 4);
    const wick_x_pass good = {sizeof(good), 1, 1, 0, 0, 1};
#define BAD(field, value, code, has)                                                               \
    do {                                                                                           \
        wick_x_pass bad = good;                                                                    \
        bad.field = value;                                                                         \
        refused_pass(e, bad, code, has);                                                           \
    } while (0)
    BAD(n_seq, 0, WICK_E_ARG, "n_seq is 0, it must lie in 1 .. 4");
    BAD(n_seq, 5, WICK_E_ARG, "n_seq");
    BAD(n_tok, 0, WICK_E_ARG, "n_tok");
    BAD(n_tok, INT32_MAX, WICK_E_ARG, "n_tok");
    BAD(depth, -1, WICK_E_ARG, "depth");
    BAD(depth, INT32_MAX, WICK_E_ARG, "depth");
    BAD(warmup, -1, WICK_E_ARG, "warmup");
    BAD(reps, 0, WICK_E_ARG, "reps");
    BAD(reps, INT32_MAX, WICK_E_ARG, "reps");
    BAD(size, 0, WICK_E_ABI, "size");
    BAD(depth, 100000, WICK_E_FIT, "1 sequences of 100001 positions take 100032, the KV cache holds 768");
    BAD(depth, 1 << 29, WICK_E_FIT, "positions");
#undef BAD
    assert_int_equal(wick_x_pass_run(NULL, &good, seconds, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_pass_run(e, NULL, seconds, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_pass_run(e, &good, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_pass_run(e, &good, seconds, NULL, NULL), WICK_OK);
    /* a caller that knows fewer fields: one pass of one token */
    const wick_x_pass old = {.size = offsetof(wick_x_pass, n_seq), .n_seq = -5};
    assert_int_equal(wick_x_pass_run(e, &old, seconds, NULL, &err), WICK_OK);
    (void)run_pass(e, 4, 1, 128, 1); /* the whole cache: 12 pages */
    wick_engine_close(e);
}

/* ---- beside requests ----------------------------------------------------------------------------- */

/* Answers are the same before and after; a prefix stays remembered while there are pages beside it, and is forgotten,
 * not wrong, when there are none. */
static void test_pass_leaves_requests_alone(void **s) {
    (void)s;
    int32_t tok[150];
    fill_tokens(tok, 150, 9);
    wick_engine *e = open_engine(64, 2, 4);
    const wick_request_options o = request(tok, 150, 20);
    const wick_result first = generate(e, &o);
    const wick_result cached = generate(e, &o);
    assert_int_equal(first.n_cached, 0);
    assert_int_equal(cached.n_cached, 128);
    (void)run_pass(e, 2, 100, 100, 2);
    const wick_result after = generate(e, &o);
    assert_int_equal(after.n_cached, 128);
    assert_memory_equal(after.hash, cached.hash, sizeof(after.hash));
    (void)run_pass(e, 4, 1, 180, 1); /* every page */
    const wick_result again = generate(e, &o);
    assert_int_equal(again.n_cached, 0);
    assert_memory_equal(again.hash, first.hash, sizeof(again.hash));
    wick_stats st = WICK_STATS_INIT;
    for (int i = 0; i < 2000 && (i == 0 || st.pages_free != st.pages_total); i++) { /* they follow the last event */
        assert_int_equal(wick_engine_stats(e, &st), WICK_OK);
        sleep_ms(1);
    }
    assert_int_equal(st.pages_free, st.pages_total);
    wick_engine_close(e);
}

/* Waits for an event of a request. */
static void wait_for(wick_request *r, int32_t type) {
    wick_event ev = WICK_EVENT_INIT;
    do assert_int_equal(wick_next(r, 60000, &ev), WICK_OK);
    while (ev.type != type);
}

/* Between the steps of a request that runs: it says the same as alone; pages that it was promised are not taken. */
static void test_pass_beside_a_request(void **s) {
    (void)s;
    int32_t tok[10];
    fill_tokens(tok, 10, 4);
    wick_engine *e = open_engine(64, 2, 4);
    const wick_request_options o = request(tok, 10, 0); /* to the end of the context: 8 pages of 12 */
    const wick_result alone = generate(e, &o);
    const uint64_t want = run_pass(e, 2, 20, 60, 1);
    wick_request *r = NULL;
    wick_error err = {0};
    assert_int_equal(wick_submit(e, &o, &r, &err), WICK_OK);
    wait_for(r, WICK_EV_TEXT); /* its ring is full soon, it is parked then: it runs on when we read */
    for (int i = 0; i < 5; i++) assert_true(run_pass(e, 2, 20, 60, 1) == want);
    const wick_x_pass big = {sizeof(big), 1, 1, 5 * 64, 0, 1};
    refused_pass(e, big, WICK_E_FIT, "beside the requests that run");
    wait_for(r, WICK_EV_DONE);
    wick_result result = WICK_RESULT_INIT;
    assert_int_equal(wick_request_result(r, &result), WICK_OK);
    assert_memory_equal(result.hash, alone.hash, sizeof(alone.hash));
    wick_request_free(r);
    (void)run_pass(e, 1, 1, 5 * 64, 1);
    wick_engine_close(e);
}

/* ---- calls --------------------------------------------------------------------------------------- */

/* A function that holds the engine's thread until it is let go. */
typedef struct holder {
    wk_engine *e;
    _Atomic int began, go;
    int rc;
    wick_error err;
    _Atomic int n; /* calls that ran */
} holder;

static int hold(struct wk_sched *s, void *ud, wk_err *err) {
    holder *h = ud;
    (void)s, (void)err;
    atomic_store(&h->began, 1);
    while (!atomic_load(&h->go) && !wk_engine_is_closing(h->e)) sleep_ms(1);
    return WICK_OK;
}
static int count(struct wk_sched *s, void *ud, wk_err *err) {
    holder *h = ud;
    assert_non_null(s->exec);
    if (atomic_fetch_add(&h->n, 1) == 2) return wk_fail(err, WICK_E_NUMERIC, "the third");
    return WICK_OK;
}
static void *call_hold(void *ud) {
    holder *h = ud;
    h->rc = wk_engine_call(h->e, hold, h, &h->err);
    return NULL;
}
static void *call_count(void *ud) {
    wick_error err = {0};
    holder *h = ud;
    const int rc = wk_engine_call(h->e, count, h, &err);
    if (rc == WICK_E_NUMERIC) assert_string_equal(err.message, "the third");
    return (void *)(intptr_t)rc;
}

static void test_calls_take_turns(void **s) {
    (void)s;
    enum { N = 6 };
    pthread_t th[N + 1];
    wick_engine *e = open_engine(64, 1, 4);
    holder h = {.e = e->e};
    assert_int_equal(pthread_create(&th[N], NULL, call_hold, &h), 0);
    while (!atomic_load(&h.began)) sleep_ms(1);
    for (int i = 0; i < N; i++) assert_int_equal(pthread_create(&th[i], NULL, call_count, &h), 0);
    sleep_ms(20);
    assert_int_equal(atomic_load(&h.n), 0); /* one at a time */
    atomic_store(&h.go, 1);
    int n_bad = 0;
    for (int i = 0; i <= N; i++) {
        void *rc;
        assert_int_equal(pthread_join(th[i], &rc), 0);
        n_bad += i < N && (int)(intptr_t)rc == WICK_E_NUMERIC;
    }
    assert_int_equal(h.rc, WICK_OK);
    assert_int_equal(atomic_load(&h.n), N);
    assert_int_equal(n_bad, 1);
    wick_engine_close(e);
}

/* Those that wait when the engine closes are told so; the one that runs ends first. */
static void test_close_while_calls_wait(void **s) {
    (void)s;
    for (int round = 0; round < 20; round++) {
        pthread_t running, waiting[2];
        wick_engine *e = open_engine(64, 1, 4);
        holder h = {.e = e->e};
        assert_int_equal(pthread_create(&running, NULL, call_hold, &h), 0);
        while (!atomic_load(&h.began)) sleep_ms(1);
        wk_engine_hold(h.e); /* the threads may come late */
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&waiting[i], NULL, call_count, &h), 0);
        if (round % 2) sleep_ms(3);
        wick_engine_close(e);
        for (int i = 0; i < 2; i++) {
            void *rc;
            assert_int_equal(pthread_join(waiting[i], &rc), 0);
            assert_int_equal((int)(intptr_t)rc, WICK_E_CANCELED);
        }
        assert_int_equal(pthread_join(running, NULL), 0);
        assert_int_equal(h.rc, WICK_OK);
        assert_int_equal(atomic_load(&h.n), 0);
        wk_engine_drop(h.e);
    }
}

static void *long_pass(void *ud) {
    static double seconds[1 << 20];
    const wk_pass p = {1, 400, 0, 0, 1 << 20};
    holder *h = ud;
    atomic_store(&h->began, 1);
    h->rc = wk_pass_run(h->e, &p, seconds, NULL, &h->err);
    return NULL;
}

static void test_close_ends_a_pass(void **s) {
    (void)s;
    pthread_t th;
    wick_engine *e = open_engine(64, 1, 4);
    holder h = {.e = e->e};
    wk_engine_hold(h.e);
    assert_int_equal(pthread_create(&th, NULL, long_pass, &h), 0);
    while (!atomic_load(&h.began)) sleep_ms(1);
    sleep_ms(20);
    wick_engine_close(e);
    assert_int_equal(pthread_join(th, NULL), 0);
    assert_int_equal(h.rc, WICK_E_CANCELED);
    assert_string_equal(h.err.message, "the engine was closed");
    wk_engine_drop(h.e);
}

static void pass_in_callback(void *ud, int32_t pos, const float *logits, int32_t n) {
    wick_engine *e = ud;
    const wick_x_pass p = {sizeof(p), 1, 1, 0, 0, 1};
    (void)pos, (void)logits, (void)n;
    refused_pass(e, p, WICK_E_ARG, "own thread");
}

static void test_call_from_a_callback(void **s) {
    (void)s;
    int32_t tok[3];
    wick_error err = {0};
    fill_tokens(tok, 3, 0);
    wick_engine *e = open_engine(64, 1, 4);
    assert_int_equal(wick_x_logits(e, tok, 3, pass_in_callback, e, &err), WICK_OK);
    wick_engine_close(e);
}

/* ---- trace and cost ------------------------------------------------------------------------------ */

typedef struct rows {
    int n;
    double wall, matmul, head, wait;
    uint64_t pass, barrier;
} rows;

static void take_row(void *ud, const char *name, double seconds, uint64_t calls) {
    rows *r = ud;
    if (r->n == 0) assert_string_equal(name, "wall");
    if (r->n == 1) assert_string_equal(name, "pass");
    r->n++;
    if (strcmp(name, "wall") == 0) r->wall = seconds;
    if (strcmp(name, "matmul") == 0) r->matmul = seconds;
    if (strcmp(name, "head") == 0) r->head = seconds;
    if (strcmp(name, "wait") == 0) r->wait = seconds, r->barrier = calls;
    if (strcmp(name, "pass") == 0) r->pass = calls;
}

static rows read_trace(wick_engine *e) {
    rows r = {0};
    wick_error err = {0};
    if (wick_x_trace_read(e, take_row, &r, &err)) fail_msg("%s", err.message);
    assert_int_equal(r.n, WK_OP_COUNT + 4);
    return r;
}

static void test_trace(void **s) {
    (void)s;
    wick_error err = {0};
    wick_engine *e = open_engine(64, 2, 4);
    assert_int_equal(wick_x_trace(NULL, 1, &err), WICK_E_ARG);
    assert_int_equal(wick_x_trace_read(e, NULL, NULL, &err), WICK_E_ARG);
    (void)run_pass(e, 1, 1, 0, 1);
    assert_true(read_trace(e).wall == 0); /* off */
    assert_int_equal(wick_x_trace(e, 1, &err), WICK_OK);
    assert_int_equal(read_trace(e).pass, 0);
    (void)run_pass(e, 1, 100, 0, 3);
    rows r = read_trace(e);
    assert_int_equal(r.pass, 6); /* two steps each; what prepared and warmed up is not in it */
    assert_true(r.wall > 0 && r.matmul > 0 && r.head > 0 && r.barrier > 6);
    assert_true(r.matmul + r.head + r.wait <= 2 * r.wall);
    (void)run_pass(e, 1, 1, 0, 1);
    assert_int_equal(read_trace(e).pass, 6 + 3); /* prepared, warmed up, timed */
    assert_int_equal(wick_x_trace(e, 0, &err), WICK_OK);
    const double wall = read_trace(e).wall;
    (void)run_pass(e, 1, 1, 0, 1);
    assert_true(read_trace(e).wall == wall);
    assert_int_equal(wick_x_trace(e, 1, &err), WICK_OK);
    assert_true(read_trace(e).wall == 0 && read_trace(e).pass == 0);
    wick_engine_close(e);
}

/* The model: 2 layers, dim 64, 4 heads and 2 of kv of 16, ffn 96, vocabulary 288, f32. */
static void test_cost(void **s) {
    (void)s;
    wick_x_cost c;
    wick_engine *e = open_engine(64, 1, 4);
    const double layer = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96), head = 64 * 288;
    assert_int_equal(wick_x_cost_of(e, &c), WICK_OK);
    assert_true(c.layer_macs == layer);
    assert_true(c.head_macs == head);
    assert_true(c.weight_bytes == 4 * (layer + head));
    assert_true(c.kv_bytes_per_pos == 2 * 2 * 2 * 16 * 2);
    assert_true(c.attn_macs_per_pos == 2 * 2 * 4 * 16);
    assert_int_equal(wick_x_cost_of(NULL, &c), WICK_E_ARG);
    assert_int_equal(wick_x_cost_of(e, NULL), WICK_E_ARG);
    wick_engine_close(e);
}

/* A projection that shares its matrix with the embedding is read all the same. */
static void test_cost_of_tied(void **s) {
    (void)s;
    wick_x_cost c;
    wick_error err = {0};
    wick_model *m = NULL;
    wick_engine *e = NULL;
    char dim[16];
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = 64;
    if (wick_model_open("tests/golden/tiny/gemma3.gguf", NULL, &m, &err)) fail_msg("%s", err.message);
    if (wick_engine_open(m, &o, &e, &err)) fail_msg("%s", err.message);
    assert_int_equal(wick_model_get(m, "dim", dim, sizeof(dim), NULL), WICK_OK);
    assert_int_equal(wick_x_cost_of(e, &c), WICK_OK);
    assert_true(c.head_macs == strtod(dim, NULL) * VOCAB);
    assert_true(c.weight_bytes == 4 * (c.layer_macs + c.head_macs));
    wick_engine_close(e);
    wick_model_close(m);
}

/* ---- yardsticks ---------------------------------------------------------------------------------- */

static void test_peak(void **s) {
    (void)s;
    wick_error err = {0};
    double v = 0, best = 0;
    for (int i = 0; i < wk_level_count; i++) {
        if (wk_levels[i].mask & ~wk_cpu_detect()) continue;
        wk_kernels k;
        wk_kernels_init(&k, wk_levels[i].mask);
        for (int what = 0; what < WK_PEAK_COUNT; what++) {
            assert_int_equal(k.peak[what](0), 0);
            const uint64_t one = k.peak[what](1);
            assert_true(one >= 4);
            assert_int_equal(k.peak[what](1000), 1000 * one);
            assert_int_equal(wick_x_peak(wk_levels[i].name, what ? "f32" : "i8", 1, &v, &err), WICK_OK);
            assert_true(v > 1e6 && v < 1e13);
        }
    }
    assert_int_equal(wick_x_peak(NULL, "i8", 2, &best, &err), WICK_OK);
    assert_true(best > 1e6);
    assert_int_equal(wick_x_peak("mmx", "i8", 1, &v, &err), WICK_E_ARG);
    assert_non_null(strstr(err.message, "\"mmx\""));
    assert_int_equal(wick_x_peak(NULL, "i4", 1, &v, &err), WICK_E_ARG);
    assert_int_equal(wick_x_peak(NULL, NULL, 1, &v, &err), WICK_E_ARG);
    assert_int_equal(wick_x_peak(NULL, "i8", 0, &v, &err), WICK_E_ARG);
    assert_int_equal(wick_x_peak(NULL, "i8", 1025, &v, &err), WICK_E_ARG);
    assert_int_equal(wick_x_peak(NULL, "i8", 1, NULL, &err), WICK_E_ARG);
}

/* ---- one product --------------------------------------------------------------------------------- */

static wk_kbench *open_product(wk_kbench_options o) {
    wk_err err = {0};
    wk_kbench *b = NULL;
    double seconds = 0;
    if (wk_kbench_open(&b, &o, &err)) fail_msg("%s: %s", wk_formats[o.fmt].name, err.message);
    assert_true(b->pack_ns > 0);
    for (int i = 0; i < 2; i++) assert_int_equal(wk_kbench_pass(b, &seconds, &err), WICK_OK);
    assert_true(seconds > 0);
    return b;
}
static const float *output_of(const wk_kbench *b) {
    return (const float *)(const void *)(b->exec->arena.p + b->val[WK_KBENCH_Y].off);
}

/* Weights as they stand in the panels times the input, within what 8-bit activations lose. */
static void check_product(const wk_kbench *b) {
    const wk_weight *w = &b->weight;
    float *row = wk_new_n(float, (size_t)w->k);
    assert_non_null(row);
    for (int32_t i = 0; i < w->n_row; i++) {
        const wk_packed *p = &b->exec->w[0];
        wk_formats[w->fmt].decode_lane(row, p->p + (size_t)(i / WK_PANEL) * p->panel_bytes, i % WK_PANEL, w->k);
        for (int32_t t = 0; t < b->plan.max_tok; t++) {
            double dot = 0, size = 0;
            for (int32_t j = 0; j < w->k; j++) {
                const double product = (double)row[j] * (double)b->x[t * w->k + j];
                dot += product;
                size += product < 0 ? -product : product;
            }
            const double y = (double)output_of(b)[t * w->n_row + i], off = y > dot ? y - dot : dot - y;
            if (!(off <= 0.02 * size))
                fail_msg("%s: row %d token %d is %g, wanted %g", wk_formats[w->fmt].name, (int)i, (int)t, y, dot);
        }
    }
    wk_free(row);
}

/* Every format, by the reference and by the best level, by one thread and by two: one set of bits. */
static void test_product_is_right(void **s) {
    (void)s;
    static const int32_t n_tok[] = {1, 2, 9};
    static const int32_t n_row[] = {40, 7, 64};
    for (int fmt = 0; fmt < WK_FMT_COUNT; fmt++)
        for (size_t i = 0; i < WK_COUNT(n_tok); i++) {
            wk_kbench_options o = {.fmt = fmt, .n_row = n_row[i], .k = 512, .n_tok = n_tok[i], .threads = 1};
            wk_kbench *ref = open_product(o);
            o.cpu_mask = wk_cpu_detect();
            o.threads = 2;
            wk_kbench *best = open_product(o);
            check_product(ref);
            assert_memory_equal(output_of(ref), output_of(best), (size_t)(o.n_row * o.n_tok) * sizeof(float));
            wk_kbench_close(ref);
            wk_kbench_close(best);
        }
}

static void refused_kernel(wick_x_kernel k, int code, const char *has) {
    double seconds[4];
    wick_error err = {0};
    assert_int_equal(wick_x_kernel_run(&k, seconds, NULL, NULL, &err), code);
    if (!strstr(err.message, has)) fail_msg("\"%s\" lacks \"%s\"", err.message, has);
}

static void test_kernel(void **s) {
    (void)s;
    double seconds[5] = {0}, pack_s = 0;
    uint64_t bytes = 0;
    wick_error err = {0};
    const wick_x_kernel good = {sizeof(good), NULL, "Q4_K", 100, 512, 3, 2, 4};
    assert_int_equal(wick_x_kernel_run(&good, seconds, &bytes, &pack_s, &err), WICK_OK);
    for (int i = 0; i < 4; i++) assert_true(seconds[i] > 0);
    assert_true(seconds[4] == 0 && pack_s > 0);
    assert_int_equal(bytes, 7 * wk_panel_bytes(WK_FMT_Q4_K, 512)); /* 112 rows */
    assert_int_equal(wick_x_kernel_run(&good, seconds, NULL, NULL, NULL), WICK_OK);
    assert_int_equal(wick_x_kernel_run(NULL, seconds, NULL, NULL, &err), WICK_E_ARG);
    assert_int_equal(wick_x_kernel_run(&good, NULL, NULL, NULL, &err), WICK_E_ARG);
#define BAD(field, value, code, has)                                                               \
    do {                                                                                           \
        wick_x_kernel bad = good;                                                                  \
        bad.field = value;                                                                         \
        refused_kernel(bad, code, has);                                                            \
    } while (0)
    BAD(size, 0, WICK_E_ABI, "size");
    BAD(format, NULL, WICK_E_ARG, "format");
    BAD(format, "Q4_9", WICK_E_ARG, "\"Q4_9\"");
    BAD(level, "sse9", WICK_E_ARG, "\"sse9\"");
    BAD(k, 520, WICK_E_UNSUPPORTED, "k is 520, Q4_K has blocks of 256");
    BAD(k, 0, WICK_E_ARG, "k is 0");
    BAD(n_row, -1, WICK_E_ARG, "n_row");
    BAD(n_tok, 5000, WICK_E_ARG, "n_tok");
    BAD(threads, 0, WICK_E_ARG, "threads");
    BAD(reps, 0, WICK_E_ARG, "reps");
#undef BAD
    const wick_x_kernel huge = {sizeof(huge), NULL, "F32", 1 << 20, 1 << 18, 1, 1, 1}; /* 1 TB */
    refused_kernel(huge, WICK_E_FIT, "MB are available");
}

/* Any allocation may fail: an error, nothing lost. */
static void test_no_memory(void **s) {
    (void)s;
    for (uint64_t n = 1; n < 60; n++) {
        const wk_kbench_options o = {.fmt = WK_FMT_Q8_0, .n_row = 32, .k = 64, .n_tok = 2, .threads = 1};
        wk_kbench *b = NULL;
        wk_err err = {0};
        wk_alloc_fail_at(n, false);
        const int rc = wk_kbench_open(&b, &o, &err);
        wk_alloc_fail_at(0, false);
        assert_true(rc == WICK_OK || rc == WICK_E_NOMEM);
        assert_int_equal(rc == WICK_OK, b != NULL);
        wk_kbench_close(b);
        if (rc == WICK_OK) return;
    }
    fail_msg("60 allocations for one product");
}

/* Every level's read of memory looks at every byte: each one that changes changes what it returns. */
static void test_read_sees_all(void **state) {
    enum { BYTES = 2048 };
    uint8_t *p = wk_alloc_aligned(BYTES);
    (void)state;
    assert_non_null(p);
    for (int i = 0; i < BYTES; i++) p[i] = (uint8_t)(i * 7);
    for (int i = 0; i < wk_level_count; i++) {
        wk_kernels k;
        if (wk_levels[i].mask & ~wk_cpu_detect()) continue;
        wk_kernels_init(&k, wk_levels[i].mask);
        const uint64_t plain = k.read(p, BYTES);
        for (int j = 0; j < BYTES; j++) {
            p[j] ^= 0x40;
            assert_true(k.read(p, BYTES) != plain);
            p[j] ^= 0x40;
        }
    }
    wk_free_aligned(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pass_is_the_model),
        cmocka_unit_test(test_pass_is_one_function),
        cmocka_unit_test(test_pass_refusals),
        cmocka_unit_test(test_pass_leaves_requests_alone),
        cmocka_unit_test(test_pass_beside_a_request),
        cmocka_unit_test(test_calls_take_turns),
        cmocka_unit_test(test_close_while_calls_wait),
        cmocka_unit_test(test_close_ends_a_pass),
        cmocka_unit_test(test_call_from_a_callback),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_cost_of_tied),
        cmocka_unit_test(test_peak),
        cmocka_unit_test(test_read_sees_all),
        cmocka_unit_test(test_product_is_right),
        cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
