/* Checked sizes and the reader of binary input: what does not fit is refused, and stays refused. */
#include "engine/base/ck.h"
#include "engine/base/rd.h"
#include "tests/unit/unit.h"

static void sizes(void **state) {
    (void)state;
    size_t r = 7;
    assert_true(wk_mul(&r, 6, 7) && r == 42);
    assert_false(wk_mul(&r, SIZE_MAX, 2) || wk_add(&r, SIZE_MAX, 1) ||
                 wk_align(&r, SIZE_MAX - 3, 64));
    assert_int_equal(r, 42);
    assert_true(wk_add(&r, SIZE_MAX - 1, 1) && r == SIZE_MAX);
    assert_true(wk_align(&r, 0, 64) && r == 0);
    assert_true(wk_align(&r, 65, 64) && r == 128);
    assert_true(wk_u64_to_size(&r, 5) && r == 5);
}

static void reads(void **state) {
    (void)state;
    static const uint8_t b[] = {1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0,   0,  0,
                                0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 'h', 'i'};
    wk_rd r = wk_rd_of(b, sizeof(b));
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    wk_str s;
    assert_true(wk_rd_u8(&r, &u8) && u8 == 1);
    assert_true(wk_rd_u16(&r, &u16) && u16 == 2);
    assert_true(wk_rd_u32(&r, &u32) && u32 == 3);
    assert_true(wk_rd_u64(&r, &u64) && u64 == 4);
    assert_true(wk_rd_str(&r, &s) && wk_str_is(s, "hi"));
    assert_int_equal(wk_rd_left(&r), 0);
    assert_int_equal(wk_rd_at(&r), sizeof(b));
    assert_true(wk_rd_skip(&r, 0));
    assert_false(wk_rd_u8(&r, &u8));
    assert_true(r.truncated && r.want == 1);
    assert_false(wk_rd_skip(&r, 0));
}

static void stands_still(void **state) {
    (void)state;
    static const uint8_t b[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    wk_rd r = wk_rd_of(b, sizeof(b));
    wk_str s;
    uint8_t u8;
    assert_false(wk_rd_str(&r, &s));
    assert_true(r.truncated && r.want == SIZE_MAX);
    assert_false(wk_rd_u8(&r, &u8));
    assert_int_equal(r.want, SIZE_MAX);
    r = wk_rd_of(b, 7);
    assert_false(wk_rd_str(&r, &s));
    assert_int_equal(r.want, 8);
    r = wk_rd_of(NULL, 0);
    assert_false(wk_rd_u8(&r, &u8));
    r = wk_rd_of(b, sizeof(b));
    assert_false(wk_rd_skip(&r, SIZE_MAX));
    assert_int_equal(wk_rd_at(&r), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(reads),
                                       cmocka_unit_test(stands_still)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
