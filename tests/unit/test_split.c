/* test_split.c: a plan on several devices gives the bits of the same plan on one: every pair of borders of every tiny
 * model, prompts in pieces of 1, 2, 3 and 65 tokens and token by token, with an F16 and a Q8_0 cache; pages that are
 * zeroed and copied, tokens that do not fit, and devices that fail in the middle of a pass. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "engine/cpu/cpu.h"
#include "engine/file/store.h"
#include "engine/graph/part.h"
#include "engine/run/split.h"
#include "simd/kernels.h"

enum { MAX_TOK = 80, N_PAGE = 8, N_IDS = 180, MAX_PARTS = 4 };

static const char *const arch[] = {"llama", "qwen2", "qwen3", "gemma3"};
static int32_t ids[N_IDS];

/* A device that fails: the cpu's functions with one that counts. */
static struct {
    int run_at, wait_at, put_at, get_at, prepare_at; /* the n-th call from now fails, 0: none */
    int n_prepared;
    bool marks_bad; /* every pass finds that its first token does not fit */
    wk_batch last;
} plant;

static bool hit(int *n) { return *n > 0 && --*n == 0; }

static int plant_prepare(wk_exec **out, wk_dev *d, const wk_plan *p, const wk_part *part, uint32_t n_page, wk_err *err) {
    if (hit(&plant.prepare_at)) return wk_fail(err, WICK_E_NOMEM, "planted: no memory");
    const int rc = wk_cpu_backend()->prepare(out, d, p, part, n_page, err);
    plant.n_prepared += rc == 0;
    return rc;
}
static void plant_unprepare(wk_exec *x) {
    plant.n_prepared -= x != NULL;
    wk_cpu_backend()->unprepare(x);
}
static int plant_run(wk_exec *x, const wk_batch *b, wk_err *err) {
    if (hit(&plant.run_at)) return wk_fail(err, WICK_E_DEVICE, "planted: run");
    plant.last = *b;
    const int rc = wk_cpu_backend()->run(x, b, err);
    memset(b->bad_tok, 0, (size_t)b->n_tok); /* a device may write all of it */
    if (plant.marks_bad) b->bad_tok[0] = 1;
    return rc;
}
static int plant_wait(wk_exec *x, wk_err *err) {
    if (hit(&plant.wait_at)) return wk_fail(err, WICK_E_DEVICE, "planted: wait");
    return wk_cpu_backend()->wait(x, err);
}
static int plant_put(wk_exec *x, int32_t val, int32_t rows, const float *src, wk_err *err) {
    if (hit(&plant.put_at)) return wk_fail(err, WICK_E_DEVICE, "planted: put");
    return wk_cpu_backend()->put(x, val, rows, src, err);
}
static int plant_get(wk_exec *x, int32_t val, int32_t rows, float *dst, wk_err *err) {
    if (hit(&plant.get_at)) return wk_fail(err, WICK_E_DEVICE, "planted: get");
    return wk_cpu_backend()->get(x, val, rows, dst, err);
}

static const wk_backend_ops *planted(void) {
    static wk_backend_ops ops;
    ops = *wk_cpu_backend();
    ops.name = "planted";
    ops.prepare = plant_prepare;
    ops.unprepare = plant_unprepare;
    ops.run = plant_run;
    ops.wait = plant_wait;
    ops.put = plant_put;
    ops.get = plant_get;
    return &ops;
}

/* ---- a model on devices -------------------------------------------------------------------------- */

typedef struct model {
    wk_store *store;
    wk_plan *plan;
    wk_dev *host;
    float *logits;
    uint8_t bad[MAX_TOK];
} model;

static int set_up(void **state) {
    (void)state;
    for (uint32_t i = 0; i < N_IDS; i++) {
        uint32_t r[4];
        const uint32_t c[4] = {i, 0, 0, 0};
        wk_philox(r, 3, c);
        ids[i] = (int32_t)(r[0] % 288);
    }
    return 0;
}

static void open_model(model *m, const char *path, int kv_type) {
    wk_err err = {0};
    const wk_plan_options o = {.max_tok = MAX_TOK, .max_out = MAX_TOK, .kv_type = kv_type};
    const wk_host host = {.size = sizeof(host), .n_thread = 1, .n_cpu = 2, .cpu_mask = UINT32_MAX};
    *m = (model){0};
    if (wk_store_open(&m->store, path, &err) || wk_plan_build(&m->plan, m->store, &o, &err) ||
        wk_cpu_backend()->open(&m->host, 0, &host, &err))
        fail_msg("%s: %s", path, err.message);
    m->logits = wk_alloc_aligned((size_t)MAX_TOK * (size_t)m->plan->n_vocab * sizeof(float));
    assert_non_null(m->logits);
}

static void close_model(model *m) {
    wk_cpu_backend()->close(m->host);
    wk_plan_free(m->plan);
    wk_store_close(m->store);
    wk_free_aligned(m->logits);
}

typedef struct split {
    wk_dev *dev;
    wk_exec *exec;
} split;

/* Parts between borders border[0] = 0 .. border[n] = n_layer + 1; device `bad` of them is planted. */
static int try_split(split *s, model *m, const int32_t *border, int32_t n, int32_t bad, wk_err *err) {
    wk_split_part part[MAX_PARTS];
    for (int32_t i = 0; i < n; i++)
        part[i] = (wk_split_part){i == bad ? planted() : wk_cpu_backend(), m->host, i == bad ? "planted:0" : "cpu",
                                  wk_part_make(m->plan, border[i], border[i + 1])};
    assert_int_equal(wk_split_open(&s->dev, part, n, err), WICK_OK);
    return wk_split_backend()->prepare(&s->exec, s->dev, m->plan, NULL, N_PAGE, err);
}

static split open_split(model *m, const int32_t *border, int32_t n, int32_t bad) {
    wk_err err = {0};
    split s = {0};
    if (try_split(&s, m, border, n, bad, &err)) fail_msg("%s", err.message);
    return s;
}

static void close_split(split *s) {
    wk_split_backend()->unprepare(s->exec);
    wk_split_backend()->close(s->dev);
}

/* Positions i0 .. i1-1 with the logits of all of them, or of the last alone. */
static int try_run(model *m, const wk_backend_ops *ops, wk_exec *x, int32_t i0, int32_t i1, int32_t n_out, wk_err *err) {
    static const uint32_t page[] = {5, 2, 7};
    int32_t out[MAX_TOK];
    uint32_t zero[4];
    int32_t n_zero = 0;
    for (int32_t i = 0; i < n_out; i++) out[i] = i1 - i0 - n_out + i;
    for (int32_t p = (i0 + 63) / 64; p < (i1 + 63) / 64; p++) zero[n_zero++] = page[p];
    const wk_batch_seq seq = {0, i1 - i0, i0, (i1 + 63) / 64, page};
    const wk_batch b = {.n_tok = i1 - i0, .n_seq = 1, .n_out = n_out, .tok = &ids[i0], .out = out, .seq = &seq,
                        .zero = zero, .n_zero = n_zero, .logits = m->logits, .bad_tok = m->bad};
    memset(m->bad, 0, sizeof(m->bad));
    memset(m->logits, 0xff, (size_t)MAX_TOK * (size_t)m->plan->n_vocab * sizeof(float));
    const int rc = ops->run(x, &b, err);
    return rc ? rc : ops->wait(x, err);
}

static const int32_t chunk[] = {1, 2, 3, 65, 1, 1, 65, 2, 1};

/* The prompt in pieces; the logits of each one's tokens one after another. */
static size_t run_all(model *m, const wk_backend_ops *ops, wk_exec *x, float *to) {
    const size_t v = (size_t)m->plan->n_vocab;
    size_t rows = 0;
    int32_t at = 0;
    for (size_t i = 0; i < WK_COUNT(chunk); at += chunk[i++]) {
        wk_err err = {0};
        const int32_t n_out = i == 2 ? 0 : i % 2 ? chunk[i] : 1;
        if (try_run(m, ops, x, at, at + chunk[i], n_out, &err)) fail_msg("%s", err.message);
        for (int32_t t = 0; t < chunk[i]; t++) assert_int_equal(m->bad[t], 0);
        memcpy(to + rows * v, m->logits, (size_t)n_out * v * sizeof(float));
        rows += (size_t)n_out;
    }
    assert_true(at < N_IDS);
    return rows;
}

static float *new_rows(const model *m) {
    float *p = wk_alloc((size_t)N_IDS * (size_t)m->plan->n_vocab * sizeof(float));
    assert_non_null(p);
    return p;
}

static float *whole(model *m, size_t *rows) {
    wk_err err = {0};
    wk_exec *x = NULL;
    float *want = new_rows(m);
    if (wk_cpu_backend()->prepare(&x, m->host, m->plan, NULL, N_PAGE, &err)) fail_msg("%s", err.message);
    *rows = run_all(m, wk_cpu_backend(), x, want);
    wk_cpu_backend()->unprepare(x);
    return want;
}

static void compare(model *m, const int32_t *border, int32_t n, const float *want, size_t rows) {
    float *got = new_rows(m);
    split s = open_split(m, border, n, -1);
    assert_int_equal(run_all(m, wk_split_backend(), s.exec, got), rows);
    if (memcmp(got, want, rows * (size_t)m->plan->n_vocab * sizeof(float)) != 0)
        fail_msg("%d parts, borders %d and %d: the logits differ", (int)n, (int)border[1], (int)border[n > 2 ? 2 : 1]);
    close_split(&s);
    wk_free(got);
}

static void check_borders(const char *path, int kv_type) {
    model m;
    size_t rows;
    open_model(&m, path, kv_type);
    float *want = whole(&m, &rows);
    const int32_t end = m.plan->n_layer + 1, all[] = {0, end};
    compare(&m, all, 1, want, rows);
    for (int32_t a = 1; a < end; a++) {
        const int32_t two[] = {0, a, end};
        compare(&m, two, 2, want, rows);
        for (int32_t b = a + 1; b < end; b++) {
            const int32_t three[] = {0, a, b, end};
            compare(&m, three, 3, want, rows);
        }
    }
    wk_free(want);
    close_model(&m);
}

static void test_borders_f16(void **s) {
    (void)s;
    char path[96];
    for (size_t a = 0; a < WK_COUNT(arch); a++) {
        (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", arch[a]);
        check_borders(path, WK_KV_F16);
    }
}

/* Of the tiny models those whose heads 32 divides. */
static void test_borders_q8_0(void **s) {
    (void)s;
    char path[96];
    int n = 0;
    for (size_t a = 0; a < WK_COUNT(arch); a++) {
        wk_err err = {0};
        wk_store *store = NULL;
        wk_plan *plan = NULL;
        const wk_plan_options o = {.max_tok = MAX_TOK, .max_out = MAX_TOK, .kv_type = WK_KV_Q8_0};
        (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", arch[a]);
        assert_int_equal(wk_store_open(&store, path, &err), WICK_OK);
        const int rc = wk_plan_build(&plan, store, &o, &err);
        wk_plan_free(plan);
        wk_store_close(store);
        if (rc == WICK_E_UNSUPPORTED) continue;
        assert_int_equal(rc, WICK_OK);
        check_borders(path, WK_KV_Q8_0);
        n++;
    }
    assert_true(n > 0);
}

/* ---- what belongs to a pass ---------------------------------------------------------------------- */

#define TINY "tests/golden/tiny/qwen3.gguf"

/* Lists of pages reach every part: a copied page holds the same prefix. */
static void test_copied_pages(void **st) {
    (void)st;
    model m;
    wk_err err = {0};
    open_model(&m, TINY, WK_KV_F16);
    const int32_t border[] = {0, 1, m.plan->n_layer, m.plan->n_layer + 1};
    split s = open_split(&m, border, 3, 1);
    const size_t row = (size_t)m.plan->n_vocab * sizeof(float);
    float *want = wk_alloc(row);
    assert_int_equal(try_run(&m, wk_split_backend(), s.exec, 0, 64, 0, &err), WICK_OK);
    assert_int_equal(try_run(&m, wk_split_backend(), s.exec, 64, 65, 1, &err), WICK_OK);
    memcpy(want, m.logits, row);
    static const uint32_t page[] = {1, 3}, zero[] = {1, 3}, copy[] = {1, 5};
    const wk_batch_seq seq = {0, 1, 64, 2, page};
    const int32_t out = 0;
    const wk_batch b = {.n_tok = 1, .n_seq = 1, .n_out = 1, .tok = &ids[64], .out = &out, .seq = &seq, .zero = zero,
                        .n_zero = 2, .copy = copy, .n_copy = 1, .logits = m.logits, .bad_tok = m.bad};
    memset(m.logits, 0xff, row);
    assert_int_equal(wk_split_backend()->run(s.exec, &b, &err), WICK_OK);
    assert_int_equal(wk_split_backend()->wait(s.exec, &err), WICK_OK);
    assert_memory_equal(m.logits, want, row);
    wk_free(want);
    close_split(&s);
    close_model(&m);
}

/* A token that does not fit is told whichever part found it, also when a later part writes zeros. */
static void test_bad_tokens(void **st) {
    (void)st;
    model m;
    wk_err err = {0};
    open_model(&m, TINY, WK_KV_F16);
    const int32_t border[] = {0, 1, m.plan->n_layer, m.plan->n_layer + 1};
    for (int32_t bad = 0; bad < 3; bad++) {
        split s = open_split(&m, border, 3, bad);
        plant.marks_bad = true;
        assert_int_equal(try_run(&m, wk_split_backend(), s.exec, 0, 3, 1, &err), WICK_OK);
        plant.marks_bad = false;
        assert_int_equal(m.bad[0], 1);
        assert_int_equal(m.bad[1] + m.bad[2], 0);
        assert_int_equal(try_run(&m, wk_split_backend(), s.exec, 0, 3, 1, &err), WICK_OK);
        assert_int_equal(m.bad[0], 0);
        close_split(&s);
    }
    close_model(&m);
}

static void test_device_fails(void **st) {
    (void)st;
    model m;
    open_model(&m, TINY, WK_KV_F16);
    const int32_t n = m.plan->n_layer, border[] = {0, 1, n, n + 1};
    size_t rows;
    float *want = whole(&m, &rows), *got = new_rows(&m);
    int *const plants[] = {&plant.run_at, &plant.wait_at, &plant.put_at, &plant.get_at};
    static const char *const word[] = {"planted: run", "planted: wait", "planted: put", "planted: get"};
    for (int32_t bad = 0; bad < 3; bad++)
        for (int i = 0; i < 4; i++) {
            wk_err err = {0};
            if ((bad == 0 && i == 2) || (bad == 2 && i == 3)) continue; /* nothing enters the first, leaves the last */
            split s = open_split(&m, border, 3, bad);
            *plants[i] = 1;
            assert_int_equal(try_run(&m, wk_split_backend(), s.exec, 0, 65, 1, &err), WICK_E_DEVICE);
            assert_int_equal(*plants[i], 0);
            if (!strstr(err.message, word[i]) || !strstr(err.message, "planted:0") || err.code != WICK_E_DEVICE)
                fail_msg("\"%s\"", err.message);
            wk_trace t;
            assert_int_equal(wk_split_backend()->wait(s.exec, &err), WICK_OK); /* nothing is under way */
            wk_split_backend()->trace_read(s.exec, &t);
            assert_int_equal(t.n_pass, 0);
            assert_int_equal(run_all(&m, wk_split_backend(), s.exec, got), rows); /* and it goes on */
            assert_memory_equal(got, want, rows * (size_t)m.plan->n_vocab * sizeof(float));
            close_split(&s);
        }
    wk_free(want);
    wk_free(got);
    close_model(&m);
}

static void test_prepare_fails(void **st) {
    (void)st;
    model m;
    split s = {0};
    wk_err err = {0};
    open_model(&m, TINY, WK_KV_F16);
    const int32_t border[] = {0, 1, m.plan->n_layer, m.plan->n_layer + 1};
    plant.prepare_at = 1;
    assert_int_equal(try_split(&s, &m, border, 3, 1, &err), WICK_E_NOMEM);
    assert_non_null(strstr(err.message, "planted:0: planted: no memory"));
    assert_null(s.exec);
    assert_int_equal(plant.n_prepared, 0);
    wk_split_backend()->close(s.dev);
    close_model(&m);
}

static void refuse_parts(model *m, const wk_part *part, int32_t n, const char *word) {
    wk_err err = {0};
    wk_split_part p[MAX_PARTS];
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    for (int32_t i = 0; i < n; i++) p[i] = (wk_split_part){wk_cpu_backend(), m->host, "cpu", part[i]};
    assert_int_equal(wk_split_open(&d, p, n, &err), WICK_OK);
    assert_int_equal(wk_split_backend()->prepare(&x, d, m->plan, NULL, N_PAGE, &err), WICK_E_ARG);
    assert_null(x);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say %s", err.message, word);
    wk_split_backend()->close(d);
}

static void test_refused(void **st) {
    (void)st;
    model m;
    wk_err err = {0};
    wk_dev *d = NULL;
    float x[1] = {0};
    open_model(&m, TINY, WK_KV_F16);
    const wk_plan *p = m.plan;
    const int32_t n = p->n_layer;
    const wk_part gap[] = {wk_part_make(p, 0, 1), wk_part_make(p, 2, n + 1)}, half[] = {wk_part_make(p, 0, 1)},
                  turned[] = {wk_part_make(p, 1, n + 1), wk_part_make(p, 0, 1)};
    refuse_parts(&m, gap, 2, "part 1 begins");
    refuse_parts(&m, half, 1, "the parts end");
    refuse_parts(&m, turned, 2, "part 0 begins");
    assert_int_equal(wk_split_open(&d, NULL, 0, &err), WICK_E_ARG);
    assert_int_equal(wk_split_backend()->open(&d, 0, NULL, &err), WICK_E_DEVICE);
    const int32_t border[] = {0, 1, n + 1};
    split s = open_split(&m, border, 2, -1);
    const wk_backend_ops *ops = wk_split_backend();
    int32_t top[1];
    wk_batch b = {.n_tok = MAX_TOK + 1};
    assert_int_equal(ops->run(s.exec, &b, &err), WICK_E_ARG);
    b = (wk_batch){.n_tok = 1, .top = top};
    assert_int_equal(ops->run(s.exec, &b, &err), WICK_E_ARG);
    assert_int_equal(ops->wait(s.exec, &err), WICK_OK);
    assert_int_equal(ops->put(s.exec, -1, 1, x, &err), WICK_E_ARG);
    assert_int_equal(ops->get(s.exec, p->n_val, 1, x, &err), WICK_E_ARG);
    assert_int_equal(ops->get(s.exec, p->logits, 1, x, &err), WICK_E_ARG); /* the batch has it */
    close_split(&s);
    close_model(&m);
}

/* No allocation in a pass; copies are counted; values can be put and got through the whole. */
static void test_trace(void **st) {
    (void)st;
    model m;
    wk_err err = {0};
    wk_trace t;
    open_model(&m, TINY, WK_KV_F16);
    const wk_backend_ops *ops = wk_split_backend();
    const int32_t n = m.plan->n_layer, border[] = {0, 1, n, n + 1};
    split s = open_split(&m, border, 3, -1);
    const wk_part part[] = {wk_part_make(m.plan, 0, 1), wk_part_make(m.plan, 1, n), wk_part_make(m.plan, n, n + 1)};
    int32_t in[2][4], n_in[2];
    uint64_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(wk_part_inputs(m.plan, &part[i + 1], in[i], 4, &n_in[i], &err), WICK_OK);
        for (int32_t j = 0; j < n_in[i]; j++) bytes += 3 * (uint64_t)m.plan->val[in[i][j]].dim * sizeof(float);
    }
    assert_true(wk_split_bytes(m.plan, part, 3) >= bytes);
    ops->trace_start(s.exec);
    const uint64_t before = wk_alloc_count();
    assert_int_equal(try_run(&m, ops, s.exec, 0, 3, 1, &err), WICK_OK);
    assert_int_equal(wk_alloc_count(), before);
    ops->trace_read(s.exec, &t);
    assert_int_equal(t.n_pass, 1);
    assert_int_equal(t.n_put, n_in[0] + n_in[1]);
    assert_int_equal(t.n_get, n_in[0] + n_in[1]);
    assert_int_equal(t.put_bytes, bytes);
    assert_int_equal(t.get_bytes, bytes);
    assert_true(t.copy_ns > 0 && t.wall_ns >= t.copy_ns && t.head_ns > 0 && t.op_ns[WK_OP_attn] > 0);
    float *v = wk_new_n(float, (size_t)m.plan->val[in[0][0]].dim), *w = wk_new_n(float, (size_t)m.plan->val[in[0][0]].dim);
    assert_int_equal(ops->get(s.exec, in[0][0], 1, v, &err), WICK_OK);
    assert_int_equal(ops->put(s.exec, in[0][0], 1, w, &err), WICK_OK);
    assert_memory_not_equal(v, w, (size_t)m.plan->val[in[0][0]].dim * sizeof(float));
    ops->trace_start(s.exec);
    ops->trace_stop(s.exec);
    ops->trace_read(s.exec, &t);
    assert_int_equal(t.n_put + t.n_get + t.n_pass + t.copy_ns, 0);
    wk_free(v);
    wk_free(w);
    close_split(&s);
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_borders_f16),  cmocka_unit_test(test_borders_q8_0), cmocka_unit_test(test_copied_pages),
        cmocka_unit_test(test_bad_tokens),   cmocka_unit_test(test_device_fails), cmocka_unit_test(test_prepare_fails),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_trace),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
