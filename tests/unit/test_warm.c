/* Populating in the background: all pages come, what others write stays, and it can be stopped at once. */
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/warm.h"
#include "tests/unit/unit.h"

static size_t resident(const wk_pages *m) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (m->n + page - 1) / page;
    unsigned char *seen = (unsigned char *)wk_alloc(n);
    size_t count = 0;
    assert_non_null(seen);
    assert_int_equal(mincore(m->p, m->n, seen), 0);
    for (size_t i = 0; i < n; i++) count += seen[i] & 1u;
    wk_free(seen);
    return count;
}

static void brings_all_pages(void **state) {
    (void)state;
    wk_pages m;
    assert_true(wk_pages_map(&m, (size_t)24 << 20));
    assert_int_equal(resident(&m), 0);
    const size_t all = m.n / (size_t)sysconf(_SC_PAGESIZE);
    wk_warm *w = wk_warm_start(m.p, m.n);
    assert_non_null(w);
    for (size_t i = 0; i < m.n; i += 4096) m.p[i] = (uint8_t)(i >> 12 | 1);
    for (int i = 0; i < 12000 && resident(&m) < all; i++) (void)usleep(5000);
    assert_int_equal(resident(&m), all);
    wk_warm_stop(w);
    for (size_t i = 0; i < m.n; i += 4096) assert_int_equal(m.p[i], (uint8_t)(i >> 12 | 1));
    wk_pages_unmap(&m);
}

static void populate_needs_no_touch(void **state) {
    (void)state;
    wk_pages m;
    assert_true(wk_pages_map(&m, (size_t)4 << 20));
    wk_warm *w = wk_warm_start(m.p, m.n);
    assert_non_null(w);
    const size_t all = m.n / (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 12000 && resident(&m) < all; i++) (void)usleep(5000);
    const size_t got = resident(&m);
    wk_warm_stop(w);
    wk_pages_unmap(&m);
    if (got == 0) skip(); /* a kernel before 5.14 */
    assert_int_equal(got, all);
}

static void stops_at_once(void **state) {
    (void)state;
    wk_pages m;
    assert_true(wk_pages_map(&m, (size_t)1 << 30));
    const uint64_t t0 = wk_os_now_ns();
    for (int i = 0; i < 3; i++) wk_warm_stop(wk_warm_start(m.p, m.n));
    assert_true(resident(&m) < m.n / (size_t)sysconf(_SC_PAGESIZE));
    assert_true(wk_os_now_ns() - t0 < 5000000000u);
    wk_pages_unmap(&m);
}

static void nothing_is_fine(void **state) {
    (void)state;
    assert_null(wk_warm_start(NULL, 0));
    wk_warm_stop(NULL);
    wk_alloc_fail_at(1, false);
    assert_null(wk_warm_start("x", 1));
    wk_alloc_fail_at(0, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brings_all_pages),
        cmocka_unit_test(populate_needs_no_touch),
        cmocka_unit_test(stops_at_once),
        cmocka_unit_test(nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
