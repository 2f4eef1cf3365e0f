/* Memory: zeroed, aligned, overflow refused, hooks, faults, counter, pages, bump arenas. */
#include <stdlib.h>

#include "engine/base/arena.h"
#include "tests/unit/unit.h"

static bool is_zero(const void *p, size_t n) {
    const uint8_t *b = (const uint8_t *)p;
    for (size_t i = 0; i < n; i++)
        if (b[i]) return false;
    return true;
}

static void small_blocks(void **state) {
    (void)state;
    for (size_t n = 0; n < 200; n++) {
        uint8_t *p = (uint8_t *)wk_alloc(n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(is_zero(p, n));
        memset(p, 0xff, n);
        wk_free(p);
        p = (uint8_t *)wk_alloc_aligned(n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_true(is_zero(p, n));
        memset(p, 0xff, n);
        wk_free_aligned(p);
    }
    wk_free(NULL);
    wk_free_aligned(NULL);
    char *s = wk_strdup_n("abcdef", 3);
    assert_string_equal(s, "abc");
    wk_free(s);
}

static void products_overflow(void **state) {
    (void)state;
    assert_null(wk_alloc(SIZE_MAX));
    assert_null(wk_alloc_array(SIZE_MAX / 2, 3));
    assert_null(wk_alloc_aligned(SIZE_MAX - 8));
    assert_null(wk_strdup_n("", SIZE_MAX));
    int *p = wk_new_n(int, 4);
    p[3] = 7;
    assert_null(wk_realloc_array(p, SIZE_MAX / 2, 4));
    assert_int_equal(p[3], 7);
    p = (int *)wk_realloc_array(p, 1000, sizeof(int));
    assert_int_equal(p[3], 7);
    p = (int *)wk_realloc_array(p, 4, sizeof(int));
    assert_int_equal(p[3], 7);
    wk_free(p);
}

typedef struct hooked {
    int live, total;
} hooked;
static void *hook_alloc(void *ud, size_t n) {
    hooked *h = (hooked *)ud;
    void *p = malloc(n);
    if (!p) return NULL;
    h->live++;
    h->total++;
    memset(p, 0xaa, n); /* a hook owes no zeros */
    return p;
}
static void hook_free(void *ud, void *p) {
    ((hooked *)ud)->live--;
    free(p);
}

static void caller_hooks(void **state) {
    (void)state;
    hooked h = {0};
    wk_alloc_hooks(hook_alloc, hook_free, &h);
    int *p = wk_new_n(int, 3);
    assert_true(is_zero(p, 12));
    p[2] = 5;
    p = (int *)wk_realloc_array(p, 100, sizeof(int));
    assert_int_equal(p[2], 5);
    wk_free(p);
    wk_free_aligned(wk_alloc_aligned(100));
    wk_arena a;
    wk_arena_init(&a, 0);
    assert_non_null(wk_arena_get(&a, 10));
    wk_arena_fini(&a);
    wk_alloc_hooks(NULL, NULL, NULL);
    assert_int_equal(h.live, 0);
    assert_int_equal(h.total, 4);
}

static void faults(void **state) {
    (void)state;
    wk_alloc_fail_at(3, false);
    void *a = wk_alloc(1), *b = wk_alloc_aligned(1), *c = wk_alloc(1), *d = wk_alloc(1);
    assert_true(a && b && !c && d);
    wk_free(a);
    wk_free_aligned(b);
    wk_alloc_fail_at(2, true);
    wk_pages m;
    a = wk_alloc(1);
    assert_non_null(a);
    assert_null(wk_realloc_array(a, 2, 1));
    assert_null(wk_alloc(1));
    assert_false(wk_pages_map(&m, 10));
    wk_pages_unmap(&m);
    wk_alloc_fail_at(0, false);
    wk_free(d);
    wk_free(a);
    wk_free(wk_alloc(1));
}

static void counter(void **state) {
    (void)state;
    const uint64_t before = wk_alloc_count();
    wk_free(wk_alloc(1));
    wk_free_aligned(wk_alloc_aligned(1));
    assert_null(wk_alloc(SIZE_MAX));
    wk_pages m;
    assert_true(wk_pages_map(&m, 1));
    wk_pages_unmap(&m);
    assert_int_equal(wk_alloc_count() - before, 3);
}

static void pages(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 4096, (2u << 20) - 1, 2u << 20, (2u << 20) + 1, 5u << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        wk_pages m;
        assert_true(wk_pages_map(&m, sizes[i]));
        assert_int_equal((uintptr_t)m.p % (2u << 20), 0);
        assert_int_equal(m.n, sizes[i]);
        if (m.n) {
            assert_int_equal(m.p[0] | m.p[m.n - 1], 0);
            m.p[m.n - 1] = 1;
        }
        wk_pages_unmap(&m);
        assert_null(m.p);
        wk_pages_unmap(&m);
    }
    wk_pages m;
    assert_false(wk_pages_map(&m, SIZE_MAX - 5));
    assert_false(wk_pages_map(&m, SIZE_MAX / 2));
}

static void bump(void **state) {
    (void)state;
    wk_arena a;
    wk_arena_init(&a, 0);
    uint8_t *p[400];
    for (size_t i = 0; i < 400; i++) {
        p[i] = (uint8_t *)wk_arena_get(&a, i * 7);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        assert_true(is_zero(p[i], i * 7));
        memset(p[i], (int)i, i * 7);
    }
    for (size_t i = 0; i < 400; i++)
        for (size_t j = 0; j < i * 7; j++) assert_int_equal(p[i][j], i & 255);
    assert_non_null(wk_arena_get(&a, 3u << 20));
    assert_null(wk_arena_get(&a, SIZE_MAX));
    wk_arena_fini(&a);
    wk_arena_init(&a, 64);
    assert_non_null(wk_arena_get(&a, 33)); /* 48 */
    assert_null(wk_arena_get(&a, 17));
    assert_non_null(wk_arena_get(&a, 16));
    assert_null(wk_arena_get(&a, 0));
    assert_int_equal(a.used, 64);
    wk_arena_fini(&a);
    wk_arena_fini(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_blocks), cmocka_unit_test(products_overflow),
        cmocka_unit_test(caller_hooks), cmocka_unit_test(faults),
        cmocka_unit_test(counter),      cmocka_unit_test(pages),
        cmocka_unit_test(bump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
