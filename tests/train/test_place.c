/* test_place.c: where the values of a training plan lie, with micro-batches so large that a byte, an element or an offset
 * passes 2^31 and 2^32. No memory of that size is touched: only offsets are reckoned. */
#include <string.h>

#include "engine/train/grad_impl.h"
#include "tests/unit/unit.h"

enum { N_VAL = 40, N_STEP = 40, WIDE = 2048, ALIGN = 64 };

typedef struct subject {
    wk_grad g;
    wk_tval val[N_VAL];
    wk_tstep step[N_STEP];
} subject;

/* Step i writes value i and reads the one before it and value `kept`: a chain with one value that lives to the end. */
static void make(subject *s, int32_t dim, int32_t max_tok) {
    memset(s, 0, sizeof(*s));
    s->g = (wk_grad){.step = s->step, .n_step = N_STEP, .val = s->val, .n_val = N_VAL, .max_tok = max_tok};
    for (int32_t i = 0; i < N_VAL; i++) {
        s->val[i].dim = i % 3 ? dim : dim / 2 + 1;
        memset(s->step[i].dst, -1, sizeof(s->step[i].dst));
        memset(s->step[i].src, -1, sizeof(s->step[i].src));
        s->step[i].dst[0] = i;
        if (i) s->step[i].src[0] = i - 1;
    }
    for (int32_t i = 0; i < 10; i++) s->step[N_STEP - 1 - i].src[1] = i; /* read again on the way back */
}

static uint64_t bytes_of(const subject *s, int32_t v) {
    const uint64_t n = (uint64_t)s->val[v].dim * (uint64_t)s->g.max_tok * 4;
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static void check_apart(const subject *s) {
    uint64_t end = 0;
    for (int32_t a = 0; a < N_VAL; a++) {
        const wk_tval *x = &s->val[a];
        const uint64_t x_end = x->off + bytes_of(s, a);
        if (x_end > end) end = x_end;
        assert_int_equal(x->off % ALIGN, 0);
        for (int32_t b = 0; b < a; b++) {
            const wk_tval *y = &s->val[b];
            const bool together = x->first <= y->last && y->first <= x->last;
            if (together && x->off < y->off + bytes_of(s, b) && y->off < x_end)
                fail_msg("%d tokens: values %d at %zu and %d at %zu lie in each other", (int)s->g.max_tok, (int)a, x->off,
                         (int)b, y->off);
        }
    }
    assert_true(s->g.arena_bytes == end);
}

/* The same places at every size, in units of a token. */
static void test_large(void **state) {
    (void)state;
    static subject small, large;
    wk_err err = {0};
    make(&small, WIDE, 16);
    if (wk_place(&small.g, &err)) fail_msg("%s", err.message);
    check_apart(&small);
    static const int32_t sizes[] = {1 << 16, 1 << 18, (1 << 20) - 16}; /* 0.5, 2 and 8 GiB a value */
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make(&large, WIDE, sizes[i]);
        if (wk_place(&large.g, &err)) fail_msg("%s", err.message);
        check_apart(&large);
        for (int32_t v = 0; v < N_VAL; v++)
            assert_true(large.val[v].off / (size_t)sizes[i] == small.val[v].off / 16 &&
                        large.val[v].off % (size_t)sizes[i] == 0);
    }
    assert_true(large.g.arena_bytes > (uint64_t)64 << 30);
}

/* Kernels count the elements of a value in an int: one more than that is refused, with both factors. */
static void test_elements(void **state) {
    (void)state;
    static subject s;
    wk_err err = {0};
    make(&s, WIDE, 1 << 20); /* 2^31 elements */
    assert_int_equal(wk_place(&s.g, &err), WICK_E_FIT);
    if (!strstr(err.message, "1048576 x 2048 elements, at most 2147483647")) fail_msg("%s", err.message);
    make(&s, 1, INT32_MAX);
    if (wk_place(&s.g, &err)) fail_msg("%s", err.message);
    check_apart(&s);
    make(&s, INT32_MAX, INT32_MAX);
    assert_int_equal(wk_place(&s.g, &err), WICK_E_FIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_large), cmocka_unit_test(test_elements)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
