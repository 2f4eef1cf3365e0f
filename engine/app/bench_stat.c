/* bench_stat.c: see bench_stat.h. Medians and percentiles only: a mean of times on a shared machine measures the
 * neighbours. */
#include "engine/app/bench_stat.h"

#include <string.h>

#include "engine/base/rng.h"

enum { RESAMPLES = 2000, BOOT_MAX = 64 };
static const double least_difference = 0.02; /* smaller gaps are never called one */

/* Insertion by halving gaps: some hundred values at most, and no callback. */
void wk_stat_sort(double *v, int n) {
    for (int gap = n / 2; gap > 0; gap /= 2)
        for (int i = gap; i < n; i++) {
            const double x = v[i];
            int j = i;
            for (; j >= gap && v[j - gap] > x; j -= gap) v[j] = v[j - gap];
            v[j] = x;
        }
}

double wk_stat_percentile(const double *sorted, int n, double p) {
    if (n <= 0) return 0;
    const double at = p / 100.0 * (double)(n - 1);
    const int i = at <= 0 ? 0 : at >= (double)(n - 1) ? n - 1 : (int)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

wk_stat wk_stat_of(const double *v, int n) {
    double sorted[WK_STAT_MAX];
    wk_stat s = {0};
    s.n = n < 0 ? 0 : n > WK_STAT_MAX ? WK_STAT_MAX : n;
    if (s.n == 0) return s;
    memcpy(sorted, v, (size_t)s.n * sizeof(*v));
    wk_stat_sort(sorted, s.n);
    s.median = wk_stat_percentile(sorted, s.n, 50);
    s.p10 = wk_stat_percentile(sorted, s.n, 10);
    s.p90 = wk_stat_percentile(sorted, s.n, 90);
    s.low = sorted[0];
    s.high = sorted[s.n - 1];
    return s;
}

double wk_stat_spread(const wk_stat *s) {
    return s->n > 1 && s->median > 0 ? (s->p90 - s->p10) / s->median : 0;
}

uint32_t wk_stat_draw(uint64_t seed, uint32_t *counter, uint32_t n) {
    uint32_t out[4];
    const uint32_t at[4] = {(*counter)++, 0, 0, 0};
    wk_philox(out, seed, at);
    return (uint32_t)((uint64_t)out[0] * n >> 32);
}

wk_interval wk_stat_bootstrap(const double *v, int n) {
    double medians[RESAMPLES], sample[BOOT_MAX];
    uint32_t counter = 0;
    wk_interval r = {0};
    if (n > BOOT_MAX) n = BOOT_MAX;
    if (n <= 0) return r;
    r.median = wk_stat_of(v, n).median;
    for (int i = 0; i < RESAMPLES; i++) {
        for (int j = 0; j < n; j++) sample[j] = v[wk_stat_draw(1, &counter, (uint32_t)n)];
        wk_stat_sort(sample, n);
        medians[i] = wk_stat_percentile(sample, n, 50);
    }
    wk_stat_sort(medians, RESAMPLES);
    r.low = wk_stat_percentile(medians, RESAMPLES, 2.5);
    r.high = wk_stat_percentile(medians, RESAMPLES, 97.5);
    return r;
}

double wk_stat_mean_bootstrap(const double *v, int n, uint64_t seed, double *low, double *high) {
    double means[RESAMPLES], mean = 0;
    for (int j = 0; j < n; j++) mean += v[j];
    for (uint32_t i = 0; i < RESAMPLES; i++) {
        double sum = 0;
        uint32_t counter = 0;
        const uint64_t key = seed ^ (uint64_t)(i + 1) << 32; /* each its own counter: n may be large */
        for (int j = 0; j < n; j++) sum += v[wk_stat_draw(key, &counter, (uint32_t)n)];
        means[i] = sum / n;
    }
    wk_stat_sort(means, RESAMPLES);
    *low = wk_stat_percentile(means, RESAMPLES, 2.5);
    *high = wk_stat_percentile(means, RESAMPLES, 97.5);
    return mean / n;
}

int wk_stat_compare(const wk_stat *before, const wk_stat *now, bool less_is_better) {
    if (before->n < 2 || now->n < 2 || before->median <= 0) return 0; /* one value has no spread */
    const double change = now->median / before->median - 1;
    double least = least_difference;
    if (wk_stat_spread(before) > least) least = wk_stat_spread(before);
    if (wk_stat_spread(now) > least) least = wk_stat_spread(now);
    if (change <= least && change >= -least) return 0;
    return (change > 0) == less_is_better ? -1 : 1;
}
