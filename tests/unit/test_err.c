/* Messages: formatted, cut between code points, prefixed. */
#include "engine/base/err.h"
#include "tests/unit/unit.h"

static void fills_and_returns(void **state) {
    (void)state;
    wk_err e = {0};
    assert_int_equal(wk_fail(&e, WICK_E_SHAPE, "%s is %d", "x", 7), WICK_E_SHAPE);
    assert_int_equal(e.code, WICK_E_SHAPE);
    assert_string_equal(e.message, "x is 7");
    assert_int_equal(wk_fail(NULL, WICK_E_IO, "nobody reads this"), WICK_E_IO);
    assert_int_not_equal(wk_fail_at(NULL, "x"), WICK_OK);
}

static void prefixes(void **state) {
    (void)state;
    wk_err e = {0};
    (void)wk_fail(&e, WICK_E_FORMAT, "bad magic");
    assert_int_equal(wk_fail_at(&e, "file %d", 3), WICK_E_FORMAT);
    assert_string_equal(e.message, "file 3: bad magic");
    (void)wk_fail(&e, WICK_E_IO, "again: %s", e.message); /* its own text as an argument */
    assert_string_equal(e.message, "again: file 3: bad magic");
}

/* 256 bytes of room: n bytes of 'a', then three-byte characters. The cut leaves whole ones. */
static void cuts_between_code_points(void **state) {
    (void)state;
    char text[400];
    for (size_t pad = 0; pad < 4; pad++) {
        memset(text, 'a', pad);
        for (size_t i = 0; i < 120; i++) memcpy(text + pad + 3 * i, "\xe2\x82\xac", 3);
        text[pad + 360] = '\0';
        wk_err e = {0};
        (void)wk_fail(&e, WICK_E_ARG, "%s", text);
        const size_t whole = (255 - pad) / 3 * 3 + pad;
        assert_int_equal(strlen(e.message), whole);
        assert_memory_equal(e.message, text, whole);
        (void)wk_fail_at(&e, "%s", "b");
        assert_int_equal((strlen(e.message) - 3 - pad) % 3, 0);
        assert_true(strlen(e.message) >= 252);
    }
    memset(text, 'a', 300);
    text[300] = '\0';
    wk_err e = {0};
    (void)wk_fail(&e, WICK_E_ARG, "%s", text);
    assert_int_equal(strlen(e.message), 255);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_and_returns),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(cuts_between_code_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
