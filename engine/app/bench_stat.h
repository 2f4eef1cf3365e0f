/* bench_stat.h: what a handful of measurements says, and no more than that. */
#ifndef WK_BENCH_STAT_H
#define WK_BENCH_STAT_H

#include <stdbool.h>
#include <stdint.h>

enum { WK_STAT_MAX = 4096 }; /* values of one sample */

typedef struct wk_stat {
    int n;
    double median, p10, p90, low, high; /* all 0 for n = 0 */
} wk_stat;

typedef struct wk_interval {
    double low, median, high;
} wk_interval;

void wk_stat_sort(double *v, int n);
/* Percentile p (0 .. 100) of sorted values, linear between neighbours; 0 for n = 0. */
double wk_stat_percentile(const double *sorted, int n, double p);
/* The first WK_STAT_MAX of n values, in any order. */
wk_stat wk_stat_of(const double *v, int n);
/* (p90 - p10) / median: what two runs of the same thing differ by; 0 for less than 2 values. */
double wk_stat_spread(const wk_stat *s);
/* Median of v with its bootstrap 95 % interval: 2000 resamples, the same draws for the same n. n <= 64. */
wk_interval wk_stat_bootstrap(const double *v, int n);
/* Mean of v and its bootstrap 95 % interval: 2000 resamples, their draws keyed by seed. n > 0. */
double wk_stat_mean_bootstrap(const double *v, int n, uint64_t seed, double *low, double *high);
/* +1: now is better than before by more than 2 % and by more than both spreads; -1: worse by as much; 0: no
 * difference, or a single value. */
int wk_stat_compare(const wk_stat *before, const wk_stat *now, bool less_is_better);
/* Philox in steps: a number below n (n > 0), for shuffles and resamples. */
uint32_t wk_stat_draw(uint64_t seed, uint32_t *counter, uint32_t n);

#endif
