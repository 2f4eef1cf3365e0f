/* test_tok_merge.c: both merge loops give what the plainest one gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/text/merge.h"

/* Symbols are runs of letters of a text; what two merge to is a function of their texts. */
typedef struct rules {
    const char *text;
    uint32_t seed, density; /* of 256 pairs, this many merge */
} rules;

static bool find(const void *ud, const wk_sym *l, const wk_sym *r, wk_merged *out) {
    const rules *k = (const rules *)ud;
    uint32_t h = k->seed;
    if (r->at != l->at + l->len) fail_msg("symbols at %u and %u are no neighbours", l->at, r->at);
    for (uint32_t i = 0; i < l->len + r->len; i++)
        h = (h ^ (uint8_t)k->text[l->at + i]) * 16777619u;
    h ^= h >> 15;
    h *= 2654435761u;
    if ((h >> 8 & 255) >= k->density) return false;
    *out = (wk_merged){h >> 28, h & 0xffff}; /* few ranks: many ties */
    return true;
}

static size_t plain(wk_sym *s, size_t n, const rules *k) {
    for (;;) {
        size_t best = n;
        wk_merged low = {UINT32_MAX, 0}, m;
        for (size_t i = 0; i + 1 < n; i++) {
            if (!find(k, &s[i], &s[i + 1], &m) || (best < n && m.rank >= low.rank)) continue;
            best = i;
            low = m;
        }
        if (best == n) return n;
        s[best].len += s[best + 1].len;
        s[best].id = low.id;
        memmove(&s[best + 1], &s[best + 2], (n - best - 2) * sizeof(*s));
        n--;
    }
}

static void test_equal_to_plain(void **state) {
    (void)state;
    enum { MOST = 90 };
    wk_merge m = {0};
    uint32_t r = 7;
    for (int round = 0; round < 3000; round++) {
        char text[MOST];
        wk_sym want[MOST];
        const size_t n = (size_t)round % (MOST + 1);
        r = r * 1664525u + 1013904223u;
        const uint32_t letters = 1 + (r >> 24) % 4;
        const rules k = {text, r, 64 + (r >> 16 & 127)};
        assert_true(wk_merge_reserve(&m, n));
        for (size_t i = 0; i < n; i++) {
            r = r * 1664525u + 1013904223u;
            text[i] = (char)('a' + (r >> 24) % letters);
            want[i] = (wk_sym){(uint32_t)i, 1, (uint8_t)text[i]};
            m.sym[i] = want[i];
        }
        size_t n_out = 99;
        assert_true(wk_merge_run(&m, n, find, &k, &n_out));
        const size_t n_want = plain(want, n, &k);
        assert_int_equal(n_out, n_want);
        if (n) assert_memory_equal(m.sym, want, n_want * sizeof(want[0]));
    }
    wk_merge_fini(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal_to_plain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
