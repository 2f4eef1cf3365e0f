/* test_logits.c: the tiny models of tests/golden/tiny and the story model against transformers.
 *
 * max |difference| <= 2e-5 of max |logit|, f32 cache; the goldens were computed in double by make.py. Greedy ids equal. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/cpu/cpu.h"
#include "engine/file/store.h"
#include "simd/kernels.h"

enum { N_PROMPT = 60, EVERY = 4, N_GREEDY = 20, MAX_IDS = 256 };
static const double BOUND = 2e-5; /* the issue's own: f32 sums of 64 terms against double */

typedef struct model {
    wk_store *store;
    wk_plan *plan;
    wk_dev *dev;
    wk_exec *exec;
    uint32_t page[8];
    float *logits;
    uint8_t bad[MAX_IDS];
} model;

static void open_model(model *m, const char *path) {
    wk_err err = {0};
    memset(m, 0, sizeof(*m));
    const wk_plan_options o = {.max_tok = 64, .max_out = 64, .kv_type = WK_KV_F32};
    const wk_host host = {.size = sizeof(host), .n_thread = 2, .n_cpu = 2, .cpu_mask = UINT32_MAX};
    if (wk_store_open(&m->store, path, &err) || wk_plan_build(&m->plan, m->store, &o, &err) ||
        wk_cpu_backend()->open(&m->dev, 0, &host, &err) ||
        wk_cpu_backend()->prepare(&m->exec, m->dev, m->plan, NULL, 8, &err))
        fail_msg("%s: %s", path, err.message);
    for (uint32_t i = 0; i < 8; i++) m->page[i] = 7 - i;
    m->logits =
        wk_alloc_aligned((size_t)m->plan->max_out * (size_t)m->plan->n_vocab * sizeof(float));
    assert_non_null(m->logits);
}

static void close_model(model *m) {
    wk_cpu_backend()->unprepare(m->exec);
    wk_cpu_backend()->close(m->dev);
    wk_plan_free(m->plan);
    wk_store_close(m->store);
    wk_free_aligned(m->logits);
}

/* n ids from position pos on; logits of every one of them. */
static void run(model *m, const int32_t *id, int32_t n, int32_t pos) {
    wk_err err = {0};
    int32_t out[64];
    for (int32_t i = 0; i < n; i++) out[i] = i;
    const wk_batch_seq seq = {0, n, pos, (pos + n + 63) / 64, m->page};
    const wk_batch b = {.n_tok = n,
                        .n_seq = 1,
                        .n_out = n,
                        .tok = id,
                        .out = out,
                        .seq = &seq,
                        .zero = m->page,
                        .n_zero = pos == 0 ? 8 : 0,
                        .logits = m->logits,
                        .bad_tok = m->bad};
    if (wk_cpu_backend()->run(m->exec, &b, &err)) fail_msg("%s", err.message);
}

static int32_t best(const model *m, int32_t row) {
    return wk_cpu_kernels(m->dev)->argmax(m->logits + (size_t)row * (size_t)m->plan->n_vocab,
                                          m->plan->n_vocab);
}

static int read_ids(const char *path, int32_t *id) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    int n = 0;
    while (n < MAX_IDS && fscanf(f, "%d", &id[n]) == 1) n++;
    fclose(f);
    return n;
}

static float *read_floats(const char *path, size_t n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    float *p = wk_new_n(float, n);
    assert_int_equal(fread(p, sizeof(float), n, f), n);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    return p;
}

static void check_arch(const char *arch) {
    char path[256];
    int32_t id[MAX_IDS];
    model m;
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.gguf", arch);
    open_model(&m, path);
    const size_t v = (size_t)m.plan->n_vocab;
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.ids.txt", arch);
    assert_int_equal(read_ids(path, id), N_PROMPT + N_GREEDY);
    (void)snprintf(path, sizeof(path), "tests/golden/tiny/%s.logits.bin", arch);
    float *want = read_floats(path, N_PROMPT / EVERY * v);
    run(&m, id, N_PROMPT, 0);
    double most = 0, diff = 0;
    for (size_t i = 0; i < N_PROMPT / EVERY; i++)
        for (size_t j = 0; j < v; j++) {
            const double w = (double)want[i * v + j], g = (double)m.logits[i * EVERY * v + j];
            if (fabs(w) > most) most = fabs(w);
            if (!(fabs(w - g) <= diff)) diff = fabs(w - g); /* NaN counts */
        }
    print_message("%s: max |difference| %.2e of max |logit| %.3f = %.2e\n", arch, diff, most,
                  diff / most);
    assert_true(diff <= BOUND * most);
    int32_t row = N_PROMPT - 1;
    for (int32_t i = 0; i < N_GREEDY; i++) {
        assert_int_equal(best(&m, row), id[N_PROMPT + i]);
        run(&m, &id[N_PROMPT + i], 1, N_PROMPT + i);
        row = 0;
    }
    wk_free(want);
    close_model(&m);
}

static void test_llama(void **s) { (void)s, check_arch("llama"); }
static void test_qwen2(void **s) { (void)s, check_arch("qwen2"); }
static void test_qwen3(void **s) { (void)s, check_arch("qwen3"); }
static void test_gemma3(void **s) { (void)s, check_arch("gemma3"); }

/* The trained story model, converted by make.py --story-out; its greedy ids are known (start and end of them). */
static void test_story(void **s) {
    (void)s;
    static const int32_t prompt[] = {1, 80, 147, 201, 282, 57}, first[] = {313, 598},
                         last[] = {163, 823, 280};
    const char *path = getenv("WICK_STORY");
    if (!path) {
        print_message("skipped: WICK_STORY names no converted story model (tests/golden/make.py "
                      "--story-out)\n");
        skip();
    }
    model m;
    int32_t id[128];
    memcpy(id, prompt, sizeof(prompt));
    open_model(&m, path);
    run(&m, prompt, 6, 0);
    int32_t row = 5;
    for (int32_t i = 0; i < 95; i++) {
        id[6 + i] = best(&m, row);
        run(&m, &id[6 + i], 1, 6 + i);
        row = 0;
    }
    assert_memory_equal(id + 6, first, sizeof(first));
    assert_memory_equal(id + 98, last, sizeof(last));
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_llama), cmocka_unit_test(test_qwen2),
                                       cmocka_unit_test(test_qwen3), cmocka_unit_test(test_gemma3),
                                       cmocka_unit_test(test_story)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
