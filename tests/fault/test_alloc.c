/* test_alloc.c: the whole road through the public API with the n-th allocation failing, for every n, once alone and
 * once with all later ones; then the same with system calls and threads. Every run ends by itself with a code and a
 * sentence and gives everything back; a run that succeeds all the same says exactly what the clean one said. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/pool.h"
#include "engine/wick.h"

enum { N_TEXT = 512, N_SCORE = 40 };

/* What one run said. */
typedef struct run {
    wick_status status;
    wick_error err;
    const char *stage;
    char text[N_TEXT];
    size_t n;
    float score[N_SCORE];
} run;

static atomic_long n_block;
static const char *path = "tests/golden/tiny/qwen3.gguf";

static void *counted_alloc(void *ud, size_t n) {
    (void)ud;
    atomic_fetch_add(&n_block, 1);
    return malloc(n);
}
static void counted_free(void *ud, void *p) {
    (void)ud;
    atomic_fetch_sub(&n_block, 1);
    free(p);
}

static int collect(void *ud, const char *text, size_t n) {
    run *r = ud;
    if (r->n + n > sizeof(r->text)) return 1;
    memcpy(r->text + r->n, text, n);
    r->n += n;
    return 0;
}

static wick_status generate(wick_engine *e, run *r) {
    const char *const stop[] = {"never", "ever"};
    const wick_token id[] = {3, 4};
    const float value[] = {-1, -2};
    wick_result res = WICK_RESULT_INIT;
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.text = "the rain in spain, there in the world";
    o.text_len = strlen(o.text);
    o.max_tokens = 12;
    o.temperature = 0.9;
    o.seed = 3;
    o.stop = stop;
    o.n_stop = 2;
    o.bias_token = id;
    o.bias_value = value;
    o.n_bias = 2;
    o.frequency_penalty = 0.1;
    o.cache_salt = "salt";
    return wick_generate(e, &o, collect, r, &res, &r->err);
}

static wick_status score(wick_engine *e, run *r) {
    wick_token t[N_SCORE];
    for (int i = 0; i < N_SCORE; i++) t[i] = 3 + i * 5;
    return wick_score(e, t, N_SCORE, r->score, &r->err);
}

/* A request that is still running when the engine closes, with a descriptor. */
static wick_status leave_one(wick_engine *e, run *r, wick_request **out) {
    wick_request_options o = WICK_REQUEST_OPTIONS_INIT;
    o.text = "rain";
    o.text_len = 4;
    const wick_status rc = wick_submit(e, &o, out, &r->err);
    if (!rc) (void)wick_request_fd(*out);
    return rc;
}

static void whole_road(run *r, int threads) {
    wick_model *m = NULL;
    wick_engine *e = NULL;
    wick_request *q = NULL;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.n_ctx = 192;
    o.threads = threads;
    memset(r, 0, sizeof(*r));
    r->stage = "model_open";
    if ((r->status = wick_model_open(path, NULL, &m, &r->err)) != WICK_OK) goto out;
    r->stage = "engine_open";
    if ((r->status = wick_engine_open(m, &o, &e, &r->err)) != WICK_OK) goto out;
    r->stage = "generate";
    if ((r->status = generate(e, r)) != WICK_OK) goto out;
    r->stage = "score";
    if ((r->status = score(e, r)) != WICK_OK) goto out;
    r->stage = "submit";
    r->status = leave_one(e, r, &q);
out:
    wick_model_close(m);
    wick_engine_close(e);
    wick_request_free(q);
}

static void must_match(const run *r, const run *clean, uint64_t n) {
    if (r->n != clean->n || memcmp(r->text, clean->text, r->n) != 0 ||
        memcmp(r->score, clean->score, sizeof(r->score)) != 0)
        fail_msg("fault %llu: the run succeeded, but said something else", (unsigned long long)n);
}

/* Fails with one of the codes, with a sentence; or is as good as the clean run. */
static bool check_run(const run *r, const run *clean, uint64_t n, wick_status want1, wick_status want2) {
    if (r->status == WICK_OK) {
        must_match(r, clean, n);
        return true;
    }
    if (r->status != want1 && r->status != want2)
        fail_msg("fault %llu in %s: status %d: %s", (unsigned long long)n, r->stage, (int)r->status, r->err.message);
    if (r->err.code != r->status || !r->err.message[0])
        fail_msg("fault %llu in %s: status %d, but the record holds %d \"%s\"", (unsigned long long)n, r->stage,
                 (int)r->status, (int)r->err.code, r->err.message);
    return false;
}

static void check_allocations(bool hooks, bool and_later, int threads) {
    run clean, r;
    wk_alloc_fail_at(0, false);
    wk_alloc_hooks(hooks ? counted_alloc : NULL, hooks ? counted_free : NULL, NULL);
    const uint64_t before = wk_alloc_count();
    whole_road(&clean, threads);
    if (clean.status) fail_msg("the clean run: %s", clean.err.message);
    const uint64_t total = wk_alloc_count() - before;
    assert_true(total > 50);
    uint64_t n_fine = 0;
    for (uint64_t n = 1; n <= total; n++) {
        wk_alloc_fail_at(n, and_later);
        whole_road(&r, threads);
        wk_alloc_fail_at(0, false);
        n_fine += check_run(&r, &clean, n, WICK_E_NOMEM, WICK_E_NOMEM);
        if (atomic_load(&n_block))
            fail_msg("allocation %llu failed in %s: %ld blocks were not freed", (unsigned long long)n, r.stage,
                     atomic_load(&n_block));
    }
    wk_alloc_fail_at(total + 1, and_later);
    whole_road(&r, threads);
    wk_alloc_fail_at(0, false);
    assert_int_equal(r.status, WICK_OK);
    must_match(&r, &clean, total + 1);
    wk_alloc_hooks(NULL, NULL, NULL);
    print_message("%llu allocations, %llu could be done without\n", (unsigned long long)total,
                  (unsigned long long)n_fine);
}

static void test_each_allocation_once(void **s) { (void)s, check_allocations(true, false, 2); }
static void test_each_allocation_and_later(void **s) { (void)s, check_allocations(true, true, 1); }
static void test_each_allocation_of_libc(void **s) { (void)s, check_allocations(false, false, 1); }

/* A file that cannot be opened, sized or mapped is an error; what only describes the machine may be missing. */
static void test_each_system_call(void **s) {
    (void)s;
    static const int codes[] = {EIO, EMFILE, ENOMEM};
    run clean, r;
    whole_road(&clean, 1);
    assert_int_equal(clean.status, WICK_OK);
    for (size_t k = 0; k < sizeof(codes) / sizeof(*codes); k++) {
        uint32_t n_failed = 0;
        for (uint32_t n = 1; n <= 60; n++) {
            wk_os_fail_at(n, codes[k]);
            whole_road(&r, 1);
            wk_os_fail_at(0, 0);
            if (!check_run(&r, &clean, n, WICK_E_IO, WICK_E_FIT)) n_failed++;
            if (r.status == WICK_E_IO) assert_non_null(strstr(r.err.message, path));
        }
        assert_true(n_failed >= 3); /* open, fstat, mmap */
    }
}

static void test_each_thread(void **s) {
    (void)s;
    run clean, r;
    whole_road(&clean, 2);
    assert_int_equal(clean.status, WICK_OK);
    wk_team_fail_at(1);
    whole_road(&r, 2);
    wk_team_fail_at(0);
    assert_false(check_run(&r, &clean, 1, WICK_E_NOMEM, WICK_E_NOMEM));
    assert_string_equal(r.stage, "engine_open");
    wk_team_fail_at(2);
    whole_road(&r, 2);
    wk_team_fail_at(0);
    assert_true(check_run(&r, &clean, 2, WICK_OK, WICK_OK));
}

static int cancel_at(void *ud, const char *phase, uint64_t done, uint64_t total) {
    int *left = ud;
    (void)phase, (void)done, (void)total;
    return --*left == 0;
}

/* Opens with a refusal of the n-th report; true when there were fewer. */
static bool opens_before(wick_model *m, int n, int threads) {
    int left = n;
    wick_error err = {0};
    wick_engine *e = NULL;
    wick_engine_options o = WICK_ENGINE_OPTIONS_INIT;
    o.threads = threads;
    o.progress = cancel_at;
    o.progress_ud = &left;
    const wick_status rc = wick_engine_open(m, &o, &e, &err);
    if (rc == WICK_OK) {
        assert_true(left > 0);
        wick_engine_close(e);
        return true;
    }
    assert_int_equal(rc, WICK_E_CANCELED);
    assert_null(e);
    assert_true(err.message[0] != 0);
    return false;
}

/* Loading stopped at its n-th report. The engine's thread reports after each piece that it packs: all of them when it
 * is alone; in a team how many is up to the scheduler. */
static void test_cancel_at_each_report(void **s) {
    (void)s;
    wk_alloc_hooks(counted_alloc, counted_free, NULL);
    wick_model *m = NULL;
    assert_int_equal(wick_model_open(path, NULL, &m, NULL), WICK_OK);
    const long before = atomic_load(&n_block);
    for (int threads = 1; threads <= 2; threads++) {
        int n = 1;
        for (; !opens_before(m, n, threads); n++) assert_int_equal(atomic_load(&n_block), before);
        assert_true(n > (threads == 1 ? 10 : 1));
    }
    wick_model_close(m);
    assert_int_equal(atomic_load(&n_block), 0);
    wk_alloc_hooks(NULL, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_once), cmocka_unit_test(test_each_allocation_and_later),
        cmocka_unit_test(test_each_allocation_of_libc), cmocka_unit_test(test_each_system_call),
        cmocka_unit_test(test_each_thread),          cmocka_unit_test(test_cancel_at_each_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
