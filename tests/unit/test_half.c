/* f16 and bf16: every value round trips; rounding agrees with double arithmetic at every border. */
#include <math.h>

#include "engine/base/half.h"
#include "tests/unit/unit.h"

/* The value of f16 bits by its definition. */
static double value_of(unsigned h) {
    const int e = (int)(h >> 10 & 31u), m = (int)(h & 0x3ffu);
    const double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000u ? -v : v;
}

/* Nearest f16 of a finite x, ties to even, by double arithmetic: the step of x's binade, then rint. */
static unsigned nearest(double x) {
    const unsigned sign = signbit(x) ? 0x8000u : 0;
    x = fabs(x);
    int e;
    (void)frexp(x, &e);
    const int step = e - 11 < -24 ? -24 : e - 11; /* 11 significant bits, at least 2^-24 */
    const double q = rint(ldexp(x, -step));
    if (ldexp(q, step) >= 65536.0) return sign | 0x7c00u;
    if (q == 0.0) return sign;
    int top;
    (void)frexp(ldexp(q, step), &top);
    if (top < -13) return sign | (unsigned)ldexp(ldexp(q, step), 24);
    return sign | ((unsigned)(top + 14) << 10) |
           ((unsigned)ldexp(ldexp(q, step), 11 - top) - 1024u);
}

static void f16_round_trips(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x10000u; h++) {
        const float x = wk_f16_to_f32((wk_f16)h);
        const unsigned back = wk_f32_to_f16(x);
        if ((h & 0x7fffu) > 0x7c00u) {
            if (!isnan(x) || back != (h | 0x200u)) fail_msg("NaN %04x gives %04x", h, back);
            continue;
        }
        if (back != h) fail_msg("%04x gives %04x", h, back);
        if ((h & 0x7fffu) == 0x7c00u)
            assert_true(isinf(x));
        else if ((double)x != value_of(h))
            fail_msg("%04x is %a", h, (double)x);
    }
}

static void check_f16(float x) {
    const unsigned got = wk_f32_to_f16(x), want = nearest((double)x);
    if (got != want) fail_msg("%a gives %04x, nearest is %04x", (double)x, got, want);
}

static void f16_rounds_at_every_border(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x7c00u; h++) {
        const float mid = (float)((value_of(h) + (h == 0x7bffu ? 65536.0 : value_of(h + 1))) / 2);
        for (int s = 0; s < 2; s++) {
            const float m = s ? -mid : mid;
            check_f16(m);
            check_f16(nextafterf(m, 0.0f));
            check_f16(nextafterf(m, s ? -INFINITY : INFINITY));
        }
    }
    for (uint32_t u = 0; u < 0x7f800000u; u += 4099) check_f16(wk_f32_from_bits(u));
}

static void bf16(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x10000u; h++) {
        const float x = wk_bf16_to_f32((wk_bf16)h);
        const unsigned back = wk_f32_to_bf16(x);
        assert_int_equal(back, isnan(x) ? (h | 0x40u) : h);
        if (!isfinite(x) || (h & 0x7fffu) >= 0x7f7fu) continue;
        const float up = wk_bf16_to_f32((wk_bf16)(h + 1));
        const float mid = (float)(((double)x + (double)up) / 2); /* exact in f32 */
        const unsigned even = h & 1u ? h + 1 : h;
        assert_int_equal(wk_f32_to_bf16(mid), even);
        assert_int_equal(wk_f32_to_bf16(nextafterf(mid, x)), h);
        assert_int_equal(wk_f32_to_bf16(nextafterf(mid, up)), h + 1);
    }
    assert_int_equal(wk_f32_to_bf16(wk_f32_from_bits(0x7f7fffffu)), 0x7f80);
    assert_true(isnan(wk_bf16_to_f32(wk_f32_to_bf16(wk_f32_from_bits(0x7f800001u)))));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(f16_round_trips),
                                       cmocka_unit_test(f16_rounds_at_every_border),
                                       cmocka_unit_test(bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
