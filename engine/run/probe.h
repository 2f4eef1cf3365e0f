/* probe.h: what this machine gives: read bandwidth, and whether its kernels compute what plain C computes. */
#ifndef WK_PROBE_H
#define WK_PROBE_H

#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "simd/kernels.h"

/* Best of `passes` passes of n_thread threads, at most n_cpu, over n_bytes of huge-page memory, bytes a second.
 * seconds: [passes] of each, or NULL. */
int wk_probe_read(double *out, double *seconds, int n_thread, int n_cpu, size_t n_bytes, int passes, wk_err *err);

/* Best of some passes of n_thread threads, at most n_cpu, each running the yardstick fn (kernels.h, peak):
 * multiply-adds a second. */
int wk_probe_peak(double *out, uint64_t (*fn)(uint64_t n), int n_thread, int n_cpu, wk_err *err);

/* Compares every kernel of a level with the reference on random data, bit for bit. *n_compared counts comparisons;
 * the names of kernels that differ go to wrong, comma separated (empty: all equal). level: index into wk_levels. */
int wk_selftest(int level, uint64_t *n_compared, wk_buf *wrong, wk_err *err);

#endif
