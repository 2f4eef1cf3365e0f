/* Growable bytes: growth, the cap, sticky failure, formats, memory faults. */
#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "tests/unit/unit.h"

static void grows(void **state) {
    (void)state;
    wk_buf b;
    wk_buf_init(&b, 0);
    assert_int_equal(wk_buf_str(&b).n, 0);
    assert_true(wk_buf_add(&b, NULL, 0));
    assert_string_equal(b.p, "");
    for (int i = 0; i < 1000; i++) assert_true(wk_buf_addf(&b, "%03d", i));
    assert_int_equal(b.n, 3000);
    assert_memory_equal(b.p + 3 * 517, "517", 3);
    assert_int_equal(b.p[b.n], 0);
    wk_buf_reset(&b);
    assert_int_equal(b.n, 0);
    assert_true(wk_buf_adds(&b, "ab") && wk_buf_addc(&b, '\0') && wk_buf_addc(&b, 'c'));
    assert_int_equal(b.n, 4);
    assert_memory_equal(b.p, "ab\0c", 5);
    wk_buf_fini(&b);
    wk_buf_fini(&b);
}

static void keeps_the_cap(void **state) {
    (void)state;
    for (size_t cap = 1; cap < 200; cap += 13) {
        wk_buf b;
        wk_buf_init(&b, cap);
        for (size_t i = 0; i < cap; i++) assert_true(wk_buf_addc(&b, 'x'));
        assert_false(b.failed);
        assert_false(wk_buf_addc(&b, 'y'));
        assert_true(b.failed);
        assert_int_equal(b.n, cap);
        assert_int_equal(b.p[cap - 1], 'x');
        assert_false(wk_buf_add(&b, "", 0)); /* no hole: nothing is added after a failure */
        wk_buf_reset(&b);
        assert_false(wk_buf_addf(&b, "%*s", (int)cap + 1, ""));
        assert_int_equal(b.n, 0);
        wk_buf_reset(&b);
        assert_true(wk_buf_addf(&b, "%*s", (int)cap, ""));
        assert_true(b.room <= cap + 1 || b.room <= 64);
        wk_buf_fini(&b);
    }
}

static void survives_no_memory(void **state) {
    (void)state;
    wk_buf b;
    wk_buf_init(&b, 0);
    assert_true(wk_buf_adds(&b, "start"));
    wk_alloc_fail_at(1, false);
    char big[300] = {0};
    assert_false(wk_buf_add(&b, big, sizeof(big)));
    assert_string_equal(b.p, "start");
    assert_true(b.failed);
    assert_false(wk_buf_add(&b, big, SIZE_MAX));
    wk_buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(grows), cmocka_unit_test(keeps_the_cap),
                                       cmocka_unit_test(survives_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
