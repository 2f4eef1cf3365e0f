/* The chained hash: known values, and every input matters. */
#include "engine/base/hash.h"
#include "tests/unit/unit.h"

static bool same(wk_hash a, wk_hash b) { return a.lo == b.lo && a.hi == b.hi; }

/* Recorded once: files and caches hold these numbers, so they may not move. */
static void known_values(void **state) {
    (void)state;
    const wk_hash a = wk_hash_bytes((wk_hash){0, 0}, "", 0);
    const wk_hash b = wk_hash_bytes(a, "wick", 4);
    assert_true(a.lo == 0x7a1ebe9d5a5a9c77u && a.hi == 0x610f45a11794815bu);
    assert_true(b.lo == 0x9c249547a5dda1f5u && b.hi == 0xffd35b18d0677cb6u);
}

static void depends_on_everything(void **state) {
    (void)state;
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof(bytes); n += 23) {
        const wk_hash h = wk_hash_bytes((wk_hash){1, 2}, bytes, n);
        assert_true(same(h, wk_hash_bytes((wk_hash){1, 2}, bytes, n)));
        assert_false(same(h, wk_hash_bytes((wk_hash){2, 2}, bytes, n)));
        assert_false(same(h, wk_hash_bytes((wk_hash){1, 3}, bytes, n)));
        for (size_t i = 0; i < n; i += 11) {
            bytes[i] ^= 1;
            assert_false(same(h, wk_hash_bytes((wk_hash){1, 2}, bytes, n)));
            bytes[i] ^= 1;
        }
        if (n) assert_false(same(h, wk_hash_bytes((wk_hash){1, 2}, bytes, n - 1)));
    }
    assert_true(
        same(wk_hash_bytes((wk_hash){0, 0}, NULL, 0), wk_hash_bytes((wk_hash){0, 0}, "", 0)));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_values),
                                       cmocka_unit_test(depends_on_everything)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
