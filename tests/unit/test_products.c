/* test_products.c: prompts by oneDNN: near our products, the same from run to run, ours where few rows come or the
 * format is quantised, whatever fits at once; the pool's binding goes with it. Skipped where the library is missing. */
#include "tests/unit/cpu_dev.h"

#include <stdio.h>
#include <unistd.h>

#include "engine/cpu/exec.h"
#include "engine/cpu/onednn.h"
#include "engine/wick_x.h"

enum { MAX_TOK = 96, N_PAGE = 4 };
#define NMSE 1e-10 /* measured 6.3e-13 */

static dev *open_dev(const char *path, int n_thread, bool onednn) {
    static wk_cpu_options cpu;
    cpu = (wk_cpu_options){.onednn = onednn};
    const wk_plan_options o = {.max_tok = MAX_TOK, .max_out = MAX_TOK, .kv_type = WK_KV_F32};
    return dev_open(path, &o, n_thread, N_PAGE, &cpu);
}

/* Logits of all of n tokens from position `from` on; a pass starts at a page of its own or goes on. */
static void run(dev *d, int32_t from, int32_t n) {
    static const uint32_t page[] = {2, 0, 3, 1};
    int32_t tok[MAX_TOK], out[MAX_TOK];
    wk_err err = {0};
    for (int32_t i = 0; i < n; i++) {
        tok[i] = (from + i) * 37 % 251;
        out[i] = i;
    }
    const wk_batch_seq seq = {0, n, from, (from + n + 63) / 64, page};
    const wk_batch b = {.n_tok = n,
                        .n_seq = 1,
                        .n_out = n,
                        .tok = tok,
                        .out = out,
                        .seq = &seq,
                        .zero = page,
                        .n_zero = from ? 0 : N_PAGE,
                        .logits = d->logits,
                        .bad_tok = d->bad};
    memset(d->bad, 0, MAX_TOK);
    if (wk_cpu_backend()->run(d->exec, &b, &err) || wk_cpu_backend()->wait(d->exec, &err))
        fail_msg("%s", err.message);
}

static size_t values(const dev *d, int32_t n) { return (size_t)n * (size_t)d->plan->n_vocab; }

static double nmse(const float *x, const float *want, size_t n) {
    double e = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        e += ((double)x[i] - (double)want[i]) * ((double)x[i] - (double)want[i]);
        s += (double)want[i] * (double)want[i];
    }
    return e / s;
}

static void check_near(const char *path, int n_thread, size_t wide) {
    dev *ours = open_dev(path, n_thread, false), *d = open_dev(path, n_thread, true);
    const size_t n = values(d, MAX_TOK);
    float *first = wk_alloc_array(n, sizeof(float));
    assert_non_null(first);
    if (wide) d->exec->wide.n = wide; /* fewer panels at once */
    run(ours, 0, MAX_TOK);
    run(d, 0, MAX_TOK);
    const double e = nmse(d->logits, ours->logits, n);
    if (!(e <= NMSE)) fail_msg("%s, %d threads: NMSE %g", path, n_thread, e);
    assert_true(d->exec->job.n_panel >
                0); /* it was the other library: short sums have the same order */
    assert_true(ours->exec->job.n_panel == 0);
    memcpy(first, d->logits, n * sizeof(float));
    memset(d->logits, 0xff, n * sizeof(float));
    run(d, 0, MAX_TOK);
    assert_memory_equal(d->logits, first, n * sizeof(float));
    wk_free(first);
    dev_close(d);
    dev_close(ours);
}

static void test_near(void **s) {
    (void)s;
    static const char *const path[] = {"tests/golden/tiny/llama.gguf",
                                       "tests/golden/tiny/qwen3.gguf",
                                       "tests/golden/tiny/gemma3.gguf"};
    for (size_t i = 0; i < sizeof(path) / sizeof(*path); i++)
        for (int t = 1; t <= 3; t++) check_near(path[i], t, 0);
}

static char model[3][64]; /* F32, F16, BF16: long rows, which the tiny ones have not */

static int make_models(void **state) {
    (void)state;
    static const char *const type[] = {"f32", "f16", "bf16"};
    const wick_x_shape shape = {.size = sizeof(shape),
                                .dim = 512,
                                .n_layer = 2,
                                .n_head = 8,
                                .n_head_kv = 4,
                                .n_ff = 1376,
                                .n_ctx = 128};
    wk_err err = {0};
    for (int i = 0; i < 3; i++)
        (void)snprintf(model[i], sizeof(model[i]), "/tmp/wick_products_%ld_%s.gguf", (long)getpid(),
                       type[i]);
    int rc = wick_x_model_init(&shape, "tests/golden/tiny/llama.gguf", 1, model[0], &err);
    for (int i = 1; i < 3 && !rc; i++) rc = wick_x_quantize(model[0], type[i], model[i], &err);
    if (rc) (void)printf("%s\n", err.message);
    return rc;
}

static int remove_models(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) (void)remove(model[i]);
    return 0;
}

static void test_long_rows(void **s) {
    (void)s;
    for (int i = 0; i < 3; i++) check_near(model[i], 2, 0);
    check_near(model[1], 2,
               (size_t)3 * 1376 * 16 *
                   sizeof(float)); /* several calls a product, the last one smaller */
    check_near(model[0], 3, (size_t)1376 * 16 * sizeof(float));
}

/* Few rows are ours: a pass that goes on behind our own pages has our bits. */
static void test_few_rows(void **s) {
    (void)s;
    dev *ours = open_dev("tests/golden/tiny/llama.gguf", 2, false),
        *d = open_dev("tests/golden/tiny/llama.gguf", 2, true);
    for (int32_t at = 0; at < 24; at += WK_PRODUCT_ROWS) {
        run(ours, at, WK_PRODUCT_ROWS);
        run(d, at, WK_PRODUCT_ROWS);
        assert_memory_equal(d->logits, ours->logits, values(d, WK_PRODUCT_ROWS) * sizeof(float));
    }
    dev_close(d);
    dev_close(ours);
}

static void test_counts(void **s) {
    (void)s;
    int n_float = 0, n_other = 0;
    dev *d = open_dev("tests/golden/tiny/llama.gguf", 1, false);
    wk_cpu_count_products(d->plan, &n_float, &n_other);
    assert_true(n_float > 0);
    for (int32_t i = 0; i < d->plan->n_weight; i++)
        d->plan->weight[i].fmt = WK_FMT_Q4_K; /* only looked at */
    const int all = n_float + n_other;
    wk_cpu_count_products(d->plan, &n_float, &n_other);
    assert_int_equal(n_float, 0);
    assert_int_equal(n_other, all);
    dev_close(d);
}

int main(void) {
    if (!wk_onednn_is_here()) {
        (void)printf("skipped: oneDNN is not built in, or not installed\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near),
        cmocka_unit_test_setup_teardown(test_long_rows, make_models, remove_models),
        cmocka_unit_test(test_few_rows), cmocka_unit_test(test_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
