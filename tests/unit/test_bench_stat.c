/* Statistics of the bench: percentiles by hand, intervals that hold what they must, and no difference called one. */
#include <math.h>

#include "engine/app/bench_stat.h"
#include "tests/unit/unit.h"

static bool near(double a, double b) {
    const double d = a - b;
    return d < 1e-9 && d > -1e-9;
}

static void sorting(void **state) {
    (void)state;
    double v[257];
    uint32_t counter = 0;
    for (int n = 0; n <= 257; n += n < 20 ? 1 : 79) {
        double sum = 0, back = 0;
        for (int i = 0; i < n; i++) sum += v[i] = wk_stat_draw(7, &counter, 50);
        wk_stat_sort(v, n);
        for (int i = 0; i < n; i++) back += v[i];
        for (int i = 1; i < n; i++) assert_true(v[i - 1] <= v[i]);
        assert_true(near(sum, back));
    }
}

static void percentiles(void **state) {
    (void)state;
    const double v[] = {10, 20, 30, 40, 50};
    assert_true(near(wk_stat_percentile(v, 5, 0), 10));
    assert_true(near(wk_stat_percentile(v, 5, 50), 30));
    assert_true(near(wk_stat_percentile(v, 5, 10), 14));
    assert_true(near(wk_stat_percentile(v, 5, 90), 46));
    assert_true(near(wk_stat_percentile(v, 5, 100), 50));
    assert_true(near(wk_stat_percentile(v, 1, 99), 10));
    assert_true(near(wk_stat_percentile(v, 0, 50), 0));
}

static void summary(void **state) {
    (void)state;
    const double v[] = {3, 1, 2, 100};
    wk_stat s = wk_stat_of(v, 4);
    assert_int_equal(s.n, 4);
    assert_true(near(s.median, 2.5) && near(s.low, 1) && near(s.high, 100));
    assert_true(v[0] > 2.5); /* the sample keeps its order */
    s = wk_stat_of(v, 0);
    assert_int_equal(s.n, 0);
    assert_true(near(s.median, 0) && near(wk_stat_spread(&s), 0));
    s = wk_stat_of(v, 1);
    assert_true(near(s.p10, 3) && near(s.p90, 3) && near(wk_stat_spread(&s), 0));
}

/* The interval of a mean against 1.96 standard errors, and the same again for the same seed. */
static void means(void **state) {
    (void)state;
    enum { N = 900 };
    static double v[N];
    double sum = 0, square = 0, low, high, low_2, high_2;
    uint32_t counter = 0;
    for (int i = 0; i < N; i++) v[i] = (double)wk_stat_draw(5, &counter, 1000) * 1e-3 + (i % 7 == 0);
    for (int i = 0; i < N; i++) {
        sum += v[i];
        square += v[i] * v[i];
    }
    const double mean = sum / N, half = 1.96 * sqrt((square / N - mean * mean) / (N - 1));
    assert_true(near(wk_stat_mean_bootstrap(v, N, 1, &low, &high), mean));
    assert_true(fabs(mean - low - half) < 0.1 * half && fabs(high - mean - half) < 0.1 * half);
    (void)wk_stat_mean_bootstrap(v, N, 1, &low_2, &high_2);
    assert_true(low_2 >= low && low_2 <= low && high_2 >= high && high_2 <= high);
    (void)wk_stat_mean_bootstrap(v, N, 2, &low_2, &high_2);
    assert_true((low_2 < low || low_2 > low) && fabs(low_2 - low) < 0.2 * half);
    assert_true(near(wk_stat_mean_bootstrap(v, 1, 1, &low, &high), v[0]) && near(low, v[0]) && near(high, v[0]));
}

static void intervals(void **state) {
    (void)state;
    const double same[] = {2, 2, 2, 2, 2};
    wk_interval r = wk_stat_bootstrap(same, 5);
    assert_true(near(r.low, 2) && near(r.median, 2) && near(r.high, 2));
    double v[15];
    for (int i = 0; i < 15; i++) v[i] = 1 + 0.01 * (i * 7 % 15);
    r = wk_stat_bootstrap(v, 15);
    assert_true(near(r.median, 1.07));
    assert_true(r.low < 1.07 && r.low >= 1.01 && r.high > 1.07 &&
                r.high <= 1.13); /* order statistics 4 .. 12 and one beside */
    const wk_interval again = wk_stat_bootstrap(v, 15);
    assert_true(near(r.low, again.low) && near(r.high, again.high));
    r = wk_stat_bootstrap(v, 0);
    assert_true(near(r.median, 0));
}

static wk_stat made(double median, double spread) {
    return (wk_stat){.n = 5,
                     .median = median,
                     .p10 = median * (1 - spread / 2),
                     .p90 = median * (1 + spread / 2)};
}

static void differences(void **state) {
    (void)state;
    const wk_stat a = made(100, 0.001), b = made(101.9, 0.001), c = made(103, 0.001),
                  wide = made(103, 0.1), d = made(90, 0.01), none = {0},
                  single = {.n = 1, .median = 50, .p10 = 50, .p90 = 50};
    assert_int_equal(wk_stat_compare(&a, &b, false), 0); /* below 2 % nothing is a win */
    assert_int_equal(wk_stat_compare(&a, &c, false), 1);
    assert_int_equal(wk_stat_compare(&a, &c, true), -1);
    assert_int_equal(wk_stat_compare(&a, &wide, false), 0); /* within the spread */
    assert_int_equal(wk_stat_compare(&wide, &a, false), 0);
    assert_int_equal(wk_stat_compare(&a, &d, false), -1);
    assert_int_equal(wk_stat_compare(&a, &d, true), 1);
    assert_int_equal(wk_stat_compare(&none, &d, false), 0);
    assert_int_equal(wk_stat_compare(&single, &d, false), 0);
    assert_int_equal(wk_stat_compare(&d, &single, false), 0);
    assert_int_equal(wk_stat_compare(&a, &none, false), 0);
}

static void draws(void **state) {
    (void)state;
    uint32_t counter = 0;
    int seen[6] = {0};
    for (int i = 0; i < 6000; i++) seen[wk_stat_draw(1, &counter, 6)]++;
    for (int i = 0; i < 6; i++) assert_in_range(seen[i], 850, 1150); /* five standard deviations */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sorting),     cmocka_unit_test(percentiles),
                                       cmocka_unit_test(summary),     cmocka_unit_test(means), cmocka_unit_test(intervals),
                                       cmocka_unit_test(differences), cmocka_unit_test(draws)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
