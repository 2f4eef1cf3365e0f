/* test_kv.c: the page pool against a model of it that is too simple to be wrong: arrays, and a list in order of use. */
#include "tests/unit/unit.h"

#include "engine/base/rng.h"
#include "engine/run/kv.h"

enum { N_PAGE = 37, N_PREFIX = 60, N_STEP = 60000 };

/* What the model knows of a page. prefix: index of what it remembers, -1: nothing. */
typedef struct page_model {
    int ref, prefix;
} page_model;
typedef struct pool_model {
    page_model page[N_PAGE];
    uint32_t idle[N_PAGE]; /* remembered and held by nobody, least recently used first */
    int n_idle;
    uint32_t counter;
} pool_model;

static uint32_t next(pool_model *m, uint32_t n) {
    uint32_t out[4];
    const uint32_t c[4] = {m->counter++, 0, 0, 0};
    wk_philox(out, 11, c);
    return out[0] % n;
}

/* 60 prefixes: three chains of 20, so that equal tokens stand behind different beginnings. */
static void prefix_of(int i, wk_hash *before, int32_t tok[WK_KV_PAGE]) {
    *before = (wk_hash){0, 0};
    for (int k = i / 20 * 20; k <= i; k++) {
        for (int j = 0; j < WK_KV_PAGE; j++) tok[j] = k % 4 + (k == i / 20 * 20 ? 100 * (i / 20) : 0);
        if (k < i) *before = wk_kv_chain(*before, tok);
    }
}

static void unidle(pool_model *m, uint32_t page) {
    for (int i = 0; i < m->n_idle; i++) {
        if (m->idle[i] != page) continue;
        memmove(&m->idle[i], &m->idle[i + 1], (size_t)(m->n_idle - i - 1) * sizeof(*m->idle));
        m->n_idle--;
        return;
    }
    fail_msg("page %u should be idle", page);
}

static int n_free(const pool_model *m) {
    int n = 0;
    for (int i = 0; i < N_PAGE; i++) n += m->page[i].ref == 0 && m->page[i].prefix < 0;
    return n;
}

static void step_take(wk_kv_pool *p, pool_model *m) {
    const uint32_t page = wk_kv_take(p);
    if (n_free(m) + m->n_idle == 0) {
        assert_int_equal(page, WK_NO_PAGE);
        return;
    }
    assert_true(page < N_PAGE);
    assert_int_equal(m->page[page].ref, 0);
    if (n_free(m))
        assert_int_equal(m->page[page].prefix, -1); /* nothing is forgotten while there are free ones */
    else
        assert_int_equal(page, m->idle[0]);
    if (m->page[page].prefix >= 0) unidle(m, page);
    m->page[page] = (page_model){1, -1};
}

static void step_hold(wk_kv_pool *p, pool_model *m, uint32_t page) {
    if (m->page[page].ref == 0 && m->page[page].prefix < 0) return;
    if (m->page[page].ref++ == 0) unidle(m, page);
    wk_kv_hold(p, page);
}

static void step_release(wk_kv_pool *p, pool_model *m, uint32_t page) {
    if (m->page[page].ref == 0) return;
    wk_kv_release(p, page);
    if (--m->page[page].ref == 0 && m->page[page].prefix >= 0) m->idle[m->n_idle++] = page;
}

static uint32_t model_find(const pool_model *m, int prefix) {
    for (uint32_t i = 0; i < N_PAGE; i++)
        if (m->page[i].prefix == prefix) return i;
    return WK_NO_PAGE;
}

static void step_remember(wk_kv_pool *p, pool_model *m, uint32_t page, int prefix) {
    wk_hash before;
    int32_t tok[WK_KV_PAGE];
    if (m->page[page].ref == 0) return;
    prefix_of(prefix, &before, tok);
    wk_kv_remember(p, page, before, tok);
    if (m->page[page].prefix < 0 && model_find(m, prefix) == WK_NO_PAGE) m->page[page].prefix = prefix;
}

static void check(wk_kv_pool *p, const pool_model *m, int prefix) {
    wk_hash before;
    int32_t tok[WK_KV_PAGE];
    int known = 0;
    for (int i = 0; i < N_PAGE; i++) known += m->page[i].prefix >= 0;
    assert_int_equal(wk_kv_total(p), N_PAGE);
    assert_int_equal(wk_kv_remembered(p), known);
    assert_int_equal(wk_kv_available(p), n_free(m) + m->n_idle);
    prefix_of(prefix, &before, tok);
    assert_int_equal(wk_kv_find(p, before, tok), model_find(m, prefix));
    tok[WK_KV_PAGE - 1]++;
    assert_int_equal(wk_kv_find(p, before, tok), WK_NO_PAGE);
}

static void test_random_against_model(void **s) {
    (void)s;
    wk_kv_pool *p = NULL;
    pool_model m = {.n_idle = 0};
    assert_int_equal(wk_kv_open(&p, N_PAGE, NULL), WICK_OK);
    for (int i = 0; i < N_PAGE; i++) m.page[i].prefix = -1;
    for (int i = 0; i < N_STEP; i++) {
        const uint32_t what = next(&m, 8), page = next(&m, N_PAGE);
        const int prefix = (int)next(&m, N_PREFIX);
        if (what < 2) step_take(p, &m);
        if (what == 2) step_hold(p, &m, page);
        if (what >= 3 && what < 6) step_release(p, &m, page);
        if (what >= 6) step_remember(p, &m, page, prefix);
        if (i % 8 == 0) check(p, &m, prefix);
    }
    for (uint32_t i = 0; i < N_PAGE; i++)
        while (m.page[i].ref) step_release(p, &m, i);
    assert_int_equal(wk_kv_available(p), N_PAGE); /* none was lost */
    for (int i = 0; i < N_PAGE; i++) step_take(p, &m);
    assert_int_equal(wk_kv_remembered(p), 0);
    assert_int_equal(wk_kv_take(p), WK_NO_PAGE);
    wk_kv_close(p);
}

/* Held pages are never handed out again, and the one used last is forgotten last. */
static void test_order_of_forgetting(void **s) {
    (void)s;
    wk_kv_pool *p = NULL;
    wk_hash before[4];
    int32_t tok[4][WK_KV_PAGE];
    uint32_t page[4];
    assert_int_equal(wk_kv_open(&p, 4, NULL), WICK_OK);
    for (int i = 0; i < 4; i++) {
        prefix_of(i, &before[i], tok[i]);
        page[i] = wk_kv_take(p);
        wk_kv_remember(p, page[i], before[i], tok[i]);
    }
    assert_int_equal(wk_kv_take(p), WK_NO_PAGE);
    for (int i = 0; i < 4; i++) wk_kv_release(p, page[i]);
    wk_kv_hold(p, page[0]); /* used again: now the newest */
    wk_kv_release(p, page[0]);
    assert_int_equal(wk_kv_take(p), page[1]);
    assert_int_equal(wk_kv_find(p, before[1], tok[1]), WK_NO_PAGE);
    assert_int_equal(wk_kv_take(p), page[2]);
    assert_int_equal(wk_kv_find(p, before[0], tok[0]), page[0]);
    wk_kv_hold(p, page[0]);
    assert_int_equal(wk_kv_take(p), page[3]);
    assert_int_equal(wk_kv_take(p), WK_NO_PAGE);
    assert_int_equal(wk_kv_find(p, before[0], tok[0]), page[0]);
    wk_kv_close(p);
    wk_kv_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_order_of_forgetting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
