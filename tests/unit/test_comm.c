/* Ranks: alone nothing changes; under a launcher (ctest starts it with 2) sums are those of all ranks and the same bits
 * everywhere, also when more are begun than may be in flight, and rank 0's bytes reach the others. Argument: the number
 * of ranks that there must be. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/arena.h"
#include "engine/base/comm.h"
#include "tests/unit/unit.h"

enum { N = 100003, BEGUN = 70, PART = 1000 };

static struct {
    wk_comm *c;
    int want; /* ranks */
} job;

static float *own(size_t n) {
    float *x = (float *)wk_alloc(n * sizeof(float));
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(i % 97) * 0.37f + (float)wk_comm_rank(job.c) * 0.11f;
    return x;
}

/* What element i of own is when all are summed, in the order of two ranks. */
static float summed(size_t i) {
    float s = 0;
    for (int r = 0; r < job.want; r++) s = s + ((float)(i % 97) * 0.37f + (float)r * 0.11f);
    return s;
}

static void ranks(void **state) {
    (void)state;
    assert_int_equal(wk_comm_size(job.c), job.want);
    assert_in_range(wk_comm_rank(job.c), 0, job.want - 1);
    assert_int_equal(wk_comm_rank(NULL), 0);
    assert_int_equal(wk_comm_size(NULL), 1);
    int mine = wk_comm_rank(job.c) == 0 ? 42 : 0;
    assert_int_equal(wk_comm_bcast(job.c, &mine, sizeof(mine), NULL), WICK_OK);
    assert_int_equal(mine, 42);
    assert_int_equal(wk_comm_barrier(job.c, NULL), WICK_OK);
    double all = 1 + wk_comm_rank(job.c);
    assert_int_equal(wk_comm_sum_f64(job.c, &all, 1, NULL), WICK_OK);
    assert_true(all == job.want * (job.want + 1) / 2.0);
}

static void sums(void **state) {
    (void)state;
    float *x = own(N);
    assert_int_equal(wk_comm_sum_f32(job.c, x, N, NULL), WICK_OK);
    for (size_t i = 0; i < N; i++)
        if (x[i] != summed(i)) fail_msg("value %zu is %a, not %a", i, (double)x[i], (double)summed(i));
    wk_free(x);
}

static void begun_sums(void **state) {
    (void)state;
    float *x = own(BEGUN * PART);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < BEGUN; i++)
            assert_int_equal(wk_comm_begin_sum_f32(job.c, x + i * PART, PART, NULL), WICK_OK);
        assert_int_equal(wk_comm_wait(job.c, NULL), WICK_OK);
        for (size_t i = 0; i < BEGUN * PART && !round; i++)
            if (x[i] != summed(i)) fail_msg("value %zu is %a, not %a", i, (double)x[i], (double)summed(i));
    }
    assert_int_equal(wk_comm_wait(job.c, NULL), WICK_OK); /* nothing begun */
    wk_free(x);
}

/* A network may add in any order; each rank must still have the same. */
static void same_everywhere(void **state) {
    (void)state;
    float *x = own(N), *first = own(N);
    for (size_t i = 0; i < N; i++) x[i] = 1.0f / (x[i] + 0.3f);
    assert_int_equal(wk_comm_sum_f32(job.c, x, N, NULL), WICK_OK);
    memcpy(first, x, N * sizeof(float));
    assert_int_equal(wk_comm_bcast(job.c, first, N * sizeof(float), NULL), WICK_OK);
    assert_memory_equal(x, first, N * sizeof(float));
    wk_free(x);
    wk_free(first);
}

static void begins_once(void **state) {
    (void)state;
    wk_comm *c = NULL;
    wk_err err = {0};
    if (!wk_comm_built_in()) skip();
    assert_int_equal(wk_comm_open(&c, &err), WICK_E_DEVICE);
    assert_null(c);
    assert_non_null(strstr(err.message, "begins once"));
}

int main(int argc, char **argv) {
    wk_err err = {0};
    job.want = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
    const int rc = wk_comm_open(&job.c, &err);
    if (rc) {
        (void)fprintf(stderr, "skipped: %s\n", err.message);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks), cmocka_unit_test(sums), cmocka_unit_test(begun_sums),
                                       cmocka_unit_test(same_everywhere), cmocka_unit_test(begins_once)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    wk_comm_close(job.c);
    return failed;
}
