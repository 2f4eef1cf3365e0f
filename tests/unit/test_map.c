/* String map against what it should hold. */
#include "engine/base/arena.h"
#include "engine/base/map.h"
#include "tests/unit/unit.h"

enum { N = 20000, KEY = 8 };

static wk_str key_of(char *room, uint32_t i) {
    for (int j = 0; j < KEY; j++) room[j] = (char)('a' + (i >> (2 * j) & 3u));
    return (wk_str){room, i % 3 ? KEY : KEY - 1 + i % 2};
}

static void holds(void **state) {
    (void)state;
    static const uint32_t expected[] = {0, 1, 11, 12, 13, N};
    char *room = (char *)wk_alloc_array(N, KEY);
    for (size_t e = 0; e < sizeof(expected) / sizeof(expected[0]); e++) {
        wk_map m;
        assert_true(wk_map_init(&m, expected[e]));
        const uint32_t mask = m.mask;
        uint32_t n = 0, v = 0;
        for (uint32_t i = 0; i < N; i++) {
            bool was;
            const wk_str k = key_of(room + (size_t)i * KEY, i);
            assert_true(wk_map_put(&m, k, i, &was));
            if (was)
                assert_true(wk_map_get(&m, k, &v) && v < i);
            else
                n++;
        }
        assert_int_equal(m.n, n);
        if (expected[e] == N) assert_int_equal(m.mask, mask); /* sized once */
        for (uint32_t i = 0; i < N; i++) {
            const wk_str k = {room + (size_t)i * KEY, i % 3 ? KEY : KEY - 1 + i % 2};
            assert_true(wk_map_get(&m, k, &v));
            const wk_str first = {room + (size_t)v * KEY, v % 3 ? KEY : KEY - 1 + v % 2};
            assert_true(wk_str_eq(first, k));
        }
        assert_false(wk_map_get(&m, WK_STR("zzz"), &v));
        wk_map_fini(&m);
    }
    wk_free(room);
}

/* So many keys that some share their 32-bit hash (about ten pairs): the bytes decide. */
static void tells_same_hashes_apart(void **state) {
    (void)state;
    enum { MANY = 300000 };
    uint32_t *key = wk_new_n(uint32_t, MANY), v = 0;
    wk_map m;
    assert_true(key && wk_map_init(&m, MANY));
    for (uint32_t i = 0; i < MANY; i++) {
        bool was;
        key[i] = i;
        assert_true(wk_map_put(&m, (wk_str){(const char *)&key[i], 4}, i, &was) && !was);
    }
    for (uint32_t i = 0; i < MANY; i++)
        assert_true(wk_map_get(&m, (wk_str){(const char *)&key[i], 4}, &v) && v == i);
    wk_map_fini(&m);
    wk_free(key);
}

static void edges(void **state) {
    (void)state;
    wk_map m;
    uint32_t v = 9;
    bool was = true;
    assert_true(wk_map_init(&m, 0));
    assert_false(wk_map_get(&m, WK_STR(""), &v));
    assert_true(wk_map_put(&m, (wk_str){NULL, 0}, 4, &was));
    assert_false(was);
    assert_true(wk_map_get(&m, WK_STR(""), &v));
    assert_int_equal(v, 4);
    assert_true(wk_map_put(&m, WK_STR("a\0b"), 5, NULL));
    assert_false(wk_map_get(&m, WK_STR("a"), &v));
    assert_true(wk_map_get(&m, WK_STR("a\0b"), &v) && v == 5);
    wk_map_fini(&m);
    assert_false(wk_map_get(&m, WK_STR("a"), &v));
    assert_false(wk_map_init(&m, UINT32_MAX));
    wk_map_fini(&m);
}

static void no_memory(void **state) {
    (void)state;
    wk_map m;
    wk_alloc_fail_at(1, false);
    assert_false(wk_map_init(&m, 100));
    assert_true(wk_map_init(&m, 0));
    static const char text[] = "abcdefghijklmnopqrstuvwxyz";
    wk_alloc_fail_at(1, false);
    uint32_t n = 0, v;
    while (wk_map_put(&m, (wk_str){text, n + 1}, n, NULL)) n++;
    for (uint32_t i = 0; i < n; i++)
        assert_true(wk_map_get(&m, (wk_str){text, i + 1}, &v) && v == i);
    assert_true(wk_map_put(&m, (wk_str){text, n + 1}, n, NULL)); /* memory again */
    wk_map_fini(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(holds),
                                       cmocka_unit_test(tells_same_hashes_apart),
                                       cmocka_unit_test(edges), cmocka_unit_test(no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
