/* test_permute.c: the keyed permutation is one, for every size, and another one for every key. */
#include <stdlib.h>

#include "engine/train/data.h"
#include "tests/unit/unit.h"

static void check_bijection(uint64_t n, uint64_t seed, uint64_t epoch) {
    uint8_t *seen = (uint8_t *)calloc(n ? (size_t)n : 1, 1);
    assert_non_null(seen);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t j = wk_permute(i, n, seed, epoch);
        if (j >= n || seen[j]++)
            fail_msg("n %llu: %llu comes twice or is too much", (unsigned long long)n, (unsigned long long)j);
    }
    free(seen);
}

static void test_bijection(void **state) {
    (void)state;
    for (uint64_t n = 0; n <= 70; n++)
        for (uint64_t epoch = 0; epoch < 5; epoch++) check_bijection(n, 7 * n, epoch);
    check_bijection(1000, UINT64_MAX, UINT64_MAX);
    check_bijection(65535, 1, 0);
    check_bijection(65536, 1, 0);
    check_bijection(65537, 1, 0);
    assert_int_equal(wk_permute(0, 0, 1, 1), 0);
}

/* Places that two permutations share: one on average. */
static uint64_t shared(uint64_t n, uint64_t s0, uint64_t e0, uint64_t s1, uint64_t e1) {
    uint64_t same = 0;
    for (uint64_t i = 0; i < n; i++) same += wk_permute(i, n, s0, e0) == wk_permute(i, n, s1, e1);
    return same;
}

static void test_keys(void **state) {
    (void)state;
    assert_true(shared(1000, 1, 0, 1, 0) == 1000);
    assert_true(shared(1000, 1, 0, 1, 1) < 12);
    assert_true(shared(1000, 1, 0, 2, 0) < 12);
    assert_true(shared(1000, 1, 0, 1, (uint64_t)1 << 32) < 12);
    assert_true(shared(1000, 1, 0, (uint64_t)1 << 32, 0) < 12);
    uint64_t fixed = 0, up = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        fixed += wk_permute(i, 1000, 5, 0) == i;
        up += i > 0 && wk_permute(i, 1000, 5, 0) > wk_permute(i - 1, 1000, 5, 0);
    }
    assert_true(fixed < 12 && up > 420 && up < 580);
}

/* Each of the 24 orders of four things comes up over many epochs. */
static void test_small_orders(void **state) {
    (void)state;
    int count[256] = {0}, n_order = 0;
    for (uint64_t epoch = 0; epoch < 2400; epoch++) {
        int code = 0;
        for (uint64_t i = 0; i < 4; i++) code = 4 * code + (int)wk_permute(i, 4, 3, epoch);
        count[code]++;
    }
    for (int i = 0; i < 256; i++) {
        n_order += count[i] > 0;
        assert_true(count[i] == 0 || (count[i] > 50 && count[i] < 150));
    }
    assert_int_equal(n_order, 24);
}

static void test_big(void **state) {
    (void)state;
    const uint64_t n = UINT64_MAX, m = ((uint64_t)1 << 33) + 1;
    assert_true(wk_permute(1, n, 1, 0) != wk_permute(2, n, 1, 0));
    for (uint64_t i = 0; i < 1000; i++) assert_true(wk_permute(m - 1 - i, m, 1, 0) < m);
}

/* A run must go on with the same data on another machine and by another version. */
static void test_values(void **state) {
    (void)state;
    static const uint64_t want[8] = {660, 262, 362, 208, 392, 369, 542, 781};
    for (uint64_t i = 0; i < 8; i++) assert_int_equal(wk_permute(i, 1000, 42, 3), want[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bijection), cmocka_unit_test(test_keys),   cmocka_unit_test(test_small_orders),
        cmocka_unit_test(test_big),       cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
