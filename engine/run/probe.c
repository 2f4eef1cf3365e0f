/* probe.c: read bandwidth, by a level's widest loads over a buffer that each thread has written itself; speed of the
 * arithmetic, by a level's yardstick on all threads at once. */
#include "engine/run/probe.h"

#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/pool.h"
#include "simd/kernels.h"
#include "simd/level.h"

enum { STEP = 512 }; /* bytes that the yardstick reads at once */

typedef struct probe {
    wk_team *team;
    uint64_t (*read)(const void *p, size_t n);
    uint8_t *mem;
    size_t per_thread; /* bytes */
    int passes;
    double best;     /* seconds of the fastest pass; written by rank 0 */
    double *seconds; /* [passes] of each, or NULL */
    _Atomic uint64_t sink;
} probe;

static void probe_rank(void *ud, int rank) {
    probe *p = ud;
    uint8_t *mine = p->mem + (size_t)rank * p->per_thread;
    uint64_t sum = 0;
    memset(mine, rank + 1, p->per_thread);
    for (int pass = 0; pass < p->passes; pass++) {
        wk_team_barrier(p->team, rank);
        const uint64_t t0 = wk_os_now_ns();
        sum += p->read(mine, p->per_thread);
        wk_team_barrier(p->team, rank);
        const double s = (double)(wk_os_now_ns() - t0) * 1e-9;
        if (rank != 0) continue;
        if (s < p->best) p->best = s;
        if (p->seconds) p->seconds[pass] = s;
    }
    p->sink += sum; /* so that the reads are not removed */
}

/* More threads than CPUs measure nothing: a clock that starts when its thread gets its turn has missed the others'. */
static int most(int n_thread, int n_cpu) { return n_thread < n_cpu ? n_thread : n_cpu; }

int wk_probe_read(double *out, double *seconds, int n_thread, int n_cpu, size_t n_bytes, int passes, wk_err *err) {
    n_thread = most(n_thread, n_cpu);
    wk_pages mem = {0};
    probe p = {.passes = passes, .seconds = seconds, .best = 1e9};
    wk_kernels k;
    int rc = WICK_OK;
    wk_kernels_init(&k, wk_cpu_detect()); /* what memory gives, whatever level the products run at */
    p.read = k.read;
    p.per_thread = n_bytes / STEP / (size_t)n_thread * STEP;
    p.team = wk_team_new(n_thread, n_cpu);
    if (!p.team || !wk_pages_map(&mem, n_bytes)) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory to measure the bandwidth over %zu MiB",
                     n_bytes >> 20);
        goto out;
    }
    p.mem = mem.p;
    wk_team_run(p.team, probe_rank, &p);
    *out = (double)(p.per_thread * (size_t)n_thread) / p.best;
out:
    wk_pages_unmap(&mem);
    wk_team_free(p.team);
    return rc;
}

/* ---- arithmetic ---------------------------------------------------------------------------------- */

enum { PEAK_PASSES = 24, PEAK_START = 1024, PASS_NS = 4000000 };

typedef struct peak {
    wk_team *team;
    uint64_t (*fn)(uint64_t n);
    _Atomic uint64_t macs; /* of the pass, all threads */
    uint64_t n;            /* rounds of a pass; between barriers rank 0 writes it */
    double best;           /* multiply-adds a second; written by rank 0 */
} peak;

/* One pass of all threads; rank 0 gets its nanoseconds. */
static uint64_t time_peak(peak *p, int rank) {
    if (rank == 0) p->macs = 0;
    wk_team_barrier(p->team, rank);
    const uint64_t t0 = wk_os_now_ns();
    p->macs += p->fn(p->n);
    wk_team_barrier(p->team, rank);
    const uint64_t ns = wk_os_now_ns() - t0;
    return ns ? ns : 1;
}

/* The first passes grow until one is long enough to measure; short ones find the moments without a neighbour. */
static void peak_rank(void *ud, int rank) {
    peak *p = ud;
    for (int i = 0; i < PEAK_PASSES; i++) {
        const uint64_t ns = time_peak(p, rank);
        if (rank != 0) continue;
        const double rate = (double)p->macs / (double)ns * 1e9;
        if (rate > p->best) p->best = rate;
        if (ns < PASS_NS / 2) p->n = ns < PASS_NS / 8 ? p->n * 8 : p->n * 2;
    }
}

int wk_probe_peak(double *out, uint64_t (*fn)(uint64_t n), int n_thread, int n_cpu, wk_err *err) {
    n_thread = most(n_thread, n_cpu);
    peak p = {.fn = fn, .n = PEAK_START, .team = wk_team_new(n_thread, n_cpu)};
    if (!p.team)
        return wk_fail(err, WICK_E_NOMEM, "a team of %d threads could not be made", n_thread);
    wk_team_run(p.team, peak_rank, &p);
    wk_team_free(p.team);
    *out = p.best;
    return WICK_OK;
}
