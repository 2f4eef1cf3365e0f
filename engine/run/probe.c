/* probe.c: read bandwidth, by the sum of all words of a buffer that each thread has written itself; speed of the
 * arithmetic, by a level's yardstick on all threads at once. */
#include "engine/run/probe.h"

#include "engine/base/arena.h"
#include "engine/base/os.h"
#include "engine/base/pool.h"

enum { STREAMS = 8, LINE = 64 };

typedef struct probe {
    wk_team *team;
    uint64_t *word;
    size_t per_thread; /* words */
    int passes;
    double best; /* seconds of the fastest pass; written by rank 0 */
    _Atomic uint64_t sink;
} probe;

/* Eight sums, so that the adds do not wait for each other and the compiler may use its widest loads. */
static uint64_t read_all(const uint64_t *p, size_t n) {
    uint64_t acc[STREAMS] = {0}, total = 0;
    for (size_t i = 0; i < n; i += STREAMS)
        for (size_t j = 0; j < STREAMS; j++) acc[j] += p[i + j];
    for (size_t j = 0; j < STREAMS; j++) total += acc[j];
    return total;
}

static void probe_rank(void *ud, int rank) {
    probe *p = ud;
    uint64_t *mine = p->word + (size_t)rank * p->per_thread, sum = 0;
    for (size_t i = 0; i < p->per_thread; i++) mine[i] = i;
    for (int pass = 0; pass < p->passes; pass++) {
        wk_team_barrier(p->team, rank);
        const uint64_t t0 = wk_os_now_ns();
        sum += read_all(mine, p->per_thread);
        wk_team_barrier(p->team, rank);
        const double s = (double)(wk_os_now_ns() - t0) * 1e-9;
        if (rank == 0 && s < p->best) p->best = s;
    }
    p->sink += sum; /* so that the reads are not removed */
}

int wk_probe_read(double *out, int n_thread, int n_cpu, size_t n_bytes, int passes, wk_err *err) {
    wk_pages mem = {0};
    probe p = {.passes = passes, .best = 1e9};
    const size_t lines = n_bytes / LINE / (size_t)n_thread;
    int rc = WICK_OK;
    p.per_thread = lines * (LINE / sizeof(uint64_t));
    p.team = wk_team_new(n_thread, n_cpu);
    if (!p.team || !wk_pages_map(&mem, n_bytes)) {
        rc = wk_fail(err, WICK_E_NOMEM, "no memory to measure the bandwidth over %zu MiB",
                     n_bytes >> 20);
        goto out;
    }
    p.word = (uint64_t *)(void *)mem.p;
    wk_team_run(p.team, probe_rank, &p);
    *out = (double)(p.per_thread * (size_t)n_thread * sizeof(uint64_t)) / p.best;
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
    peak p = {.fn = fn, .n = PEAK_START, .team = wk_team_new(n_thread, n_cpu)};
    if (!p.team)
        return wk_fail(err, WICK_E_NOMEM, "a team of %d threads could not be made", n_thread);
    wk_team_run(p.team, peak_rank, &p);
    wk_team_free(p.team);
    *out = p.best;
    return WICK_OK;
}
