/* test_cuda_backend.c: test_cuda_backend libwick_cuda_emu.so: what check_backend does not see of the GPU module: replayed
 * graphs over a long decode, every call that fails, refusals, memory, traces. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/cpu/cpu.h"
#include "engine/file/store.h"
#include "engine/graph/backend.h"
#include "engine/graph/part.h"
#include "tests/unit/nano.h"
#include "tests/unit/unit.h"

enum { N_TOK = 20, N_PAGE = 4, N_DECODE = 150, MAX_VOCAB = 512 };

static const char *module_path;
static const wk_backend_ops *ops, *cpu;
static wk_store *store;
static wk_plan *plan;

static int set_up(void **state) {
    (void)state;
    wk_err err = {0};
    wk_backend_fn *fn = NULL;
    const wk_plan_options o = {.max_tok = N_TOK, .max_out = 2};
    void *so = dlopen(module_path, RTLD_NOW | RTLD_LOCAL);
    if (so) *(void **)&fn = dlsym(so, WK_BACKEND_SYMBOL);
    if (!fn) {
        print_message("%s\n", dlerror());
        return -1;
    }
    ops = fn();
    cpu = wk_cpu_backend();
    store = nano_open_tiny("qwen3");
    if (wk_plan_build(&plan, store, &o, &err)) fail_msg("%s", err.message);
    assert_true(plan->n_vocab <= MAX_VOCAB);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    wk_plan_free(plan);
    wk_store_close(store);
    return 0;
}

static wk_host host_of(bool (*fault)(void *, const char *), void *ud) {
    return (wk_host){.size = sizeof(wk_host), .n_thread = 1, .n_cpu = 1, .cpu_mask = UINT32_MAX, .fault = fault, .fault_ud = ud};
}

/* n tokens from a position on; the last one's logits. */
static int pass(const wk_backend_ops *dev, wk_exec *x, int32_t from, int32_t n, float *logits, int32_t *top, wk_err *err) {
    static const uint32_t page[] = {2, 0, 3, 1};
    int32_t tok[N_TOK];
    uint8_t bad[N_TOK] = {0};
    const int32_t last = n - 1;
    for (int32_t i = 0; i < n; i++) tok[i] = (from + i) * 7 % plan->n_vocab;
    const wk_batch_seq seq = {0, n, from, (from + n + 63) / 64, page};
    const wk_batch b = {.n_tok = n, .n_seq = 1, .n_out = 1, .tok = tok, .out = &last, .seq = &seq, .zero = page,
                        .n_zero = from ? 0 : N_PAGE, .logits = logits, .top = top, .bad_tok = bad};
    WK_TRY(dev->run(x, &b, err));
    return dev->wait(x, err);
}

static double nmse(const float *want, const float *got, int32_t n) {
    double diff = 0, size = 0;
    for (int32_t i = 0; i < n; i++) {
        const double d = (double)want[i] - (double)got[i];
        diff += d * d;
        size += (double)want[i] * (double)want[i];
    }
    return diff / size;
}

typedef struct pair {
    wk_dev *d[2];
    wk_exec *x[2];
} pair;

static void open_pair(pair *p) {
    const wk_host host = host_of(NULL, NULL);
    const wk_backend_ops *const dev[] = {ops, cpu};
    for (int i = 0; i < 2; i++) {
        wk_err err = {0};
        if (dev[i]->open(&p->d[i], 0, &host, &err) || dev[i]->prepare(&p->x[i], p->d[i], plan, NULL, N_PAGE, &err))
            fail_msg("%s", err.message);
    }
}
static void close_pair(pair *p) {
    ops->unprepare(p->x[0]);
    ops->close(p->d[0]);
    cpu->unprepare(p->x[1]);
    cpu->close(p->d[1]);
}

/* Passes of one token: the second of a shape is captured, the later ones are replayed. Ids alone are asked for, too. */
static void test_long_decode(void **s) {
    (void)s;
    pair p;
    open_pair(&p);
    for (int32_t i = 0, at = 0; i < N_DECODE; i++) {
        wk_err err = {0};
        float got[MAX_VOCAB], want[MAX_VOCAB];
        int32_t top = -1, best = 0;
        const int32_t n = i ? 1 + i % 5 / 4 : N_TOK;
        if (pass(cpu, p.x[1], at, n, want, NULL, &err) ||
            pass(ops, p.x[0], at, n, i % 3 ? got : NULL, i % 2 || i % 3 == 0 ? &top : NULL, &err))
            fail_msg("%s", err.message);
        for (int32_t j = 1; j < plan->n_vocab; j++)
            if (want[j] > want[best]) best = j;
        if (i % 3 && nmse(want, got, plan->n_vocab) > 1e-4)
            fail_msg("pass %d, position %d: NMSE %g", (int)i, (int)at, nmse(want, got, plan->n_vocab));
        if (i % 2 || i % 3 == 0) assert_true(want[best] - want[top] < 0.02f);
        for (int32_t j = 0; j < plan->n_vocab && i % 2 && i % 3; j++) /* of its own logits: the lowest of the largest */
            assert_true(j < top ? got[j] < got[top] : got[j] <= got[top]);
        at += n;
        assert_true(at < 64 * N_PAGE);
    }
    close_pair(&p);
}

/* A value that is no number reaches the logits through the part with the head: no id, with logits and without. */
static void test_top_of_no_numbers(void **s) {
    (void)s;
    const wk_host host = host_of(NULL, NULL);
    const wk_part part = wk_part_make(plan, plan->n_layer, plan->n_layer + 1);
    static const float planted[] = {1, NAN, INFINITY, 1};
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    wk_err err = {0};
    float mem[N_TOK * 256], logits[MAX_VOCAB];
    int32_t val[8], n_val = 0;
    assert_int_equal(wk_part_inputs(plan, &part, val, 8, &n_val, &err), WICK_OK);
    assert_int_equal(n_val, 1);
    if (ops->open(&d, 0, &host, &err) || ops->prepare(&x, d, plan, &part, N_PAGE, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 8; i++) {
        int32_t top = 12345, best = 0;
        for (int j = 0; j < N_TOK * 256; j++) mem[j] = (float)(j * 37 % 101) - 50;
        mem[7] = planted[i / 2];
        assert_int_equal(ops->put(x, val[0], 1, mem, &err), WICK_OK);
        if (pass(ops, x, i, 1, i % 2 ? logits : NULL, &top, &err)) fail_msg("%s", err.message);
        if (i / 2 % 3) {
            assert_int_equal(top, -1);
            continue;
        }
        assert_true(top >= 0 && top < plan->n_vocab);
        for (int32_t j = 1; j < plan->n_vocab && i % 2; j++)
            if (logits[j] > logits[best]) best = j;
        if (i % 2) assert_int_equal(top, best);
    }
    ops->unprepare(x);
    ops->close(d);
}

/* ---- calls that fail ----------------------------------------------------------------------------- */

typedef struct faults {
    int left;
    char call[64];
} faults;

static bool fault(void *ud, const char *call) {
    faults *f = ud;
    if (--f->left) return false;
    (void)snprintf(f->call, sizeof(f->call), "%s", call);
    return true;
}

/* Two parts, a value carried between them, enough passes for a graph. */
static int drive(faults *f, float *logits, wk_err *err) {
    const wk_host host = host_of(fault, f);
    const wk_part part[2] = {wk_part_make(plan, 0, 1), wk_part_make(plan, 1, plan->n_layer + 1)};
    wk_dev *d = NULL;
    wk_exec *x[2] = {0};
    float mem[N_TOK * 256];
    int32_t val[8], n_val = 0;
    int rc = wk_part_inputs(plan, &part[1], val, 8, &n_val, err);
    if (!rc) rc = ops->open(&d, 0, &host, err);
    for (int i = 0; i < 2 && !rc; i++) rc = ops->prepare(&x[i], d, plan, &part[i], N_PAGE, err);
    for (int i = 0; i < 4 && !rc; i++) {
        const int32_t n = i ? 1 : 3, at = i ? 2 + i : 0;
        rc = pass(ops, x[0], at, n, NULL, NULL, err);
        for (int32_t j = 0; j < n_val && !rc; j++) {
            rc = ops->get(x[0], val[j], n, mem, err);
            if (!rc) rc = ops->put(x[1], val[j], n, mem, err);
        }
        if (!rc) rc = pass(ops, x[1], at, n, logits, NULL, err);
    }
    ops->unprepare(x[1]);
    ops->unprepare(x[0]);
    ops->close(d);
    return rc;
}

static void test_each_call_fails(void **s) {
    (void)s;
    float clean[MAX_VOCAB], logits[MAX_VOCAB];
    wk_err err = {0};
    faults none = {.left = -1};
    assert_int_equal(drive(&none, clean, &err), WICK_OK);
    const int n = -1 - none.left;
    assert_true(n > 100);
    for (int i = 1; i <= n + 1; i += i < 60 || i > n - 60 ? 1 : 7) {
        faults f = {.left = i};
        memset(&err, 0, sizeof(err));
        const int rc = drive(&f, logits, &err);
        if (i > n) {
            assert_int_equal(rc, WICK_OK);
            break;
        }
        assert_int_equal(rc, WICK_E_DEVICE);
        assert_int_equal(err.code, rc);
        if (!strstr(err.message, f.call)) fail_msg("\"%s\" does not name %s", err.message, f.call);
    }
    assert_memory_equal(logits, clean, (size_t)plan->n_vocab * sizeof(float));
    print_message("%d calls\n", n);
}

/* ---- refusals ------------------------------------------------------------------------------------ */

static int prepare_with(const wk_plan *p, const wk_host *host, wk_err *err) {
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    int rc = ops->open(&d, 0, host, err);
    if (!rc) rc = ops->prepare(&x, d, p, NULL, N_PAGE, err);
    assert_true(!rc == (x != NULL));
    ops->unprepare(x);
    ops->close(d);
    return rc;
}

static void test_not_finite(void **s) {
    (void)s;
    static const char *const name[] = {"blk.1.ffn_up.weight", "blk.0.attn_norm.weight"};
    for (int i = 0; i < 2; i++) {
        const nano_edit e = {.tensor = {{name[i], {8, i ? 0 : 12}, 0, NAN}}};
        const wk_host host = host_of(NULL, NULL);
        wk_plan *p = NULL;
        wk_store *st = NULL;
        wk_buf b;
        wk_err err = {0};
        wk_buf_init(&b, 0);
        nano_build(&b, &e);
        assert_int_equal(nano_plan(&p, &st, &b, &err), WICK_OK);
        assert_int_equal(prepare_with(p, &host, &err), WICK_E_FORMAT);
        if (!strstr(err.message, name[i]) || (i == 0 && !strstr(err.message, "row 0 of 12"))) fail_msg("%s", err.message);
        wk_plan_free(p);
        wk_store_close(st);
        wk_buf_fini(&b);
    }
}

typedef struct loading {
    int left;
    uint64_t done, total;
} loading;
static bool watch(void *ud, uint64_t done, uint64_t total) {
    loading *l = ud;
    assert_true(done >= l->done && done <= total);
    l->done = done;
    l->total = total;
    return --l->left != 0;
}

static void test_progress(void **s) {
    (void)s;
    wk_err err = {0};
    loading all = {.left = -1}, some = {.left = 3};
    wk_host host = host_of(NULL, NULL);
    host.progress = watch;
    host.ud = &all;
    assert_int_equal(prepare_with(plan, &host, &err), WICK_OK);
    assert_true(all.total > 0 && all.done == all.total);
    host.ud = &some;
    assert_int_equal(prepare_with(plan, &host, &err), WICK_E_CANCELED);
}

static void test_memory(void **s) {
    (void)s;
    wk_err err = {0};
    wk_dev *d = NULL;
    wk_exec *x = NULL;
    wk_dev_info before, after;
    const wk_host host = host_of(NULL, NULL);
    assert_int_equal(ops->open(&d, 0, &host, &err), WICK_OK);
    assert_int_equal(ops->info(d, false, &before, &err), WICK_OK);
    assert_int_equal(ops->prepare(&x, d, plan, NULL, N_PAGE, &err), WICK_OK);
    assert_int_equal(ops->info(d, false, &after, &err), WICK_OK);
    const size_t said = ops->bytes(plan, NULL, N_PAGE, 0), taken = before.mem_free - after.mem_free;
    assert_true(taken <= said && said - taken < 4096);
    const wk_part half = wk_part_make(plan, 0, 1);
    const size_t later = ops->later(plan, NULL), less = ops->later(plan, &half), node = 64 << 10;
    assert_true(later - less >= node * 48 && later % node == 0); /* as many graphs, shorter ones */
    assert_true(later < (512u << 20) + (64u << 20));
    ops->unprepare(x);
    assert_int_equal(ops->info(d, false, &after, &err), WICK_OK);
    assert_int_equal(after.mem_free, before.mem_free);
    ops->close(d);
    assert_int_equal(setenv("WKC_EMU_MEM", "0", 1), 0);
    assert_int_equal(prepare_with(plan, &host, &err), WICK_E_NOMEM);
    assert_non_null(strstr(err.message, "weights"));
    assert_int_equal(unsetenv("WKC_EMU_MEM"), 0);
}

static void test_no_device(void **s) {
    (void)s;
    char why[128] = "";
    wk_dev *d = NULL;
    wk_err err = {0};
    wk_host host = host_of(NULL, NULL);
    assert_int_equal(setenv("WKC_EMU_DEVICES", "0", 1), 0);
    assert_int_equal(ops->count(why, sizeof(why)), 0);
    assert_true(why[0]);
    assert_int_equal(ops->open(&d, 0, &host, &err), WICK_E_DEVICE);
    assert_int_equal(unsetenv("WKC_EMU_DEVICES"), 0);
    host.size = 8;
    assert_int_equal(ops->open(&d, 0, &host, &err), WICK_E_ABI);
    assert_null(d);
    ops->close(NULL);
    ops->unprepare(NULL);
}

static void test_trace(void **s) {
    (void)s;
    pair p;
    wk_err err = {0};
    wk_trace t;
    float logits[MAX_VOCAB];
    open_pair(&p);
    ops->trace_start(p.x[0]);
    for (int32_t i = 0; i < 3; i++) assert_int_equal(pass(ops, p.x[0], i, 1, logits, NULL, &err), WICK_OK);
    ops->trace_stop(p.x[0]);
    assert_int_equal(pass(ops, p.x[0], 3, 1, logits, NULL, &err), WICK_OK);
    ops->trace_read(p.x[0], &t);
    assert_int_equal(t.n_pass, 3);
    assert_true(t.wall_ns > 0 && t.op_ns[WK_OP_matmul] > 0 && t.head_ns > 0 && t.op_ns[WK_OP_attn] > 0);
    assert_true(t.n_put == 3 && t.n_get == 3 && t.get_bytes == 3 * sizeof(float) * (uint64_t)plan->n_vocab);
    close_pair(&p);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_decode), cmocka_unit_test(test_each_call_fails), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_progress),    cmocka_unit_test(test_memory),          cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_trace),           cmocka_unit_test(test_top_of_no_numbers),
    };
    if (argc < 2) return 2;
    module_path = argv[1];
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
