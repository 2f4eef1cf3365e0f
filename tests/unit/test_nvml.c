/* Energy of a card, by a planted library: a counter, and each way in which there is none. */
#include <stdlib.h>
#include <string.h>

#include "engine/app/energy_nvml.h"
#include "tests/unit/unit.h"

static const char *library;

static void counts(void **state) {
    wk_nvml n;
    (void)state;
    assert_int_equal(unsetenv("WICK_FAKE_NVML"), 0);
    wk_nvml_open(&n, library);
    assert_string_equal(n.why, "");
    assert_non_null(n.lib);
    const double a = wk_nvml_read(&n), b = wk_nvml_read(&n);
    assert_true(a > 0 && b - a > 1.499 && b - a < 1.501);
    wk_nvml_close(&n);
    assert_null(n.lib);
    assert_true(wk_nvml_read(&n) <= 0);
}

static void refused(const char *wrong, const char *words) {
    wk_nvml n;
    assert_int_equal(setenv("WICK_FAKE_NVML", wrong, 1), 0);
    wk_nvml_open(&n, library);
    assert_null(n.lib);
    assert_int_equal(strncmp(n.why, "not readable: ", 14), 0);
    if (!strstr(n.why, words)) fail_msg("%s: \"%s\", wanted \"%s\"", wrong, n.why, words);
    assert_true(wk_nvml_read(&n) <= 0);
    wk_nvml_close(&n);
}

static void refusals(void **state) {
    (void)state;
    refused("init", "does not start, error 3");
    refused("count", "counts no cards, error 3");
    refused("two", "an order of its own");
    refused("two", "cards: 2");
    refused("card", "does not give the card, error 3");
    refused("read", "no counter of energy, error 3");
}

static void missing(void **state) {
    wk_nvml n;
    (void)state;
    wk_nvml_open(&n, "/nothing/libnvidia-ml.so.1");
    assert_null(n.lib);
    assert_non_null(strstr(n.why, "not readable: /nothing"));
    wk_nvml_open(&n, "libm.so.6"); /* a library, but not that one */
    assert_null(n.lib);
    assert_non_null(strstr(n.why, "this NVML has no counter of energy"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts), cmocka_unit_test(refusals), cmocka_unit_test(missing)};
    if (argc < 2) return 1;
    library = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
