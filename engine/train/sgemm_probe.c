/* sgemm_probe.c: which engine for which shape. Both are timed in turns on the same operands, the best of some rounds of
 * each counts: a neighbour can only slow a round down. A product with a vast vocabulary is timed on a part of it. */
#include <math.h>

#include "engine/base/os.h"
#include "engine/train/sgemm_impl.h"

enum { ROUNDS = 3, MOST_ROUNDS = 50, LEAST_NS = 10000000 }; /* of a shape, all engines */
enum { MOST_VALUES = 8 << 20 }; /* of an operand: beyond every cache, and no more than training itself will take */

typedef struct operands {
    wk_pages mem;
    float *a, *b, *c;
} operands;

/* The shape that is timed in its place: its longest side halved until each operand is small enough. */
static wk_sgemm_shape shorten(wk_sgemm_shape s) {
    for (;;) {
        const int64_t m = s.m, n = s.n, k = s.k;
        if (m * k <= MOST_VALUES && n * k <= MOST_VALUES && m * n <= MOST_VALUES) return s;
        int32_t *longest = s.m >= s.n && s.m >= s.k ? &s.m : s.n >= s.k ? &s.n : &s.k;
        *longest /= 2;
    }
}

/* Elements of the operands of one shape, rounded up to a cache line. */
static void extents(const wk_sgemm_shape *s, size_t n[3]) {
    const size_t m = (size_t)s->m, c = (size_t)s->n, k = (size_t)s->k;
    n[0] = (m * k + 15) & ~(size_t)15;
    n[1] = (c * k + 15) & ~(size_t)15;
    n[2] = (m * c + 15) & ~(size_t)15;
}

static int take(operands *o, const wk_sgemm_shape *shape, size_t n, wk_err *err) {
    size_t most[3] = {16, 16, 16}; /* int32 extents: no product of two overflows */
    for (size_t i = 0; i < n; i++) {
        size_t e[3];
        const wk_sgemm_shape s = shorten(shape[i]);
        extents(&s, e);
        for (int j = 0; j < 3; j++) most[j] = e[j] > most[j] ? e[j] : most[j];
    }
    const size_t all = most[0] + most[1] + most[2];
    if (all > SIZE_MAX / sizeof(float) || !wk_pages_map(&o->mem, all * sizeof(float)))
        return wk_fail(err, WICK_E_NOMEM, "no memory to time matrix products of %zu values", all);
    o->a = (float *)(void *)o->mem.p;
    o->b = o->a + most[0];
    o->c = o->b + most[1];
    for (size_t i = 0; i < most[0] + most[1]; i++) o->a[i] = (float)(i % 61) * 0.03125f - 0.9375f;
    return WICK_OK;
}

/* Seconds of one product. TN adds, as the gradient of a weight does. */
static double time_one(wk_sgemm *g, const operands *o, const wk_sgemm_shape *s, wk_sgemm_engine e) {
    const wk_sgemm_call c = {.op = s->op,
                             .m = s->m,
                             .n = s->n,
                             .k = s->k,
                             .a = o->a,
                             .b = o->b,
                             .lda = (size_t)(s->op == WK_SGEMM_TN ? s->m : s->k),
                             .ldb = (size_t)(s->op == WK_SGEMM_NT ? s->k : s->n),
                             .ldc = (size_t)s->n,
                             .c = o->c,
                             .add = s->op == WK_SGEMM_TN};
    const uint64_t t0 = wk_os_now_ns();
    wk_sgemm_run_by(g, &c, e);
    return (double)(wk_os_now_ns() - t0) * 1e-9;
}

/* Best seconds of each engine that may be chosen; INFINITY for the other. The first round warms caches and pages. */
static void time_shape(wk_sgemm *g, const operands *o, const wk_sgemm_shape *s, double best[WK_SGEMM_ENGINE_COUNT]) {
    const wk_sgemm_engine asked = wk_sgemm_asked(g);
    const uint64_t t0 = wk_os_now_ns();
    for (int e = 0; e < WK_SGEMM_ENGINE_COUNT; e++) best[e] = (double)INFINITY;
    for (int round = 0; round < MOST_ROUNDS; round++) {
        if (round > ROUNDS && wk_os_now_ns() - t0 > LEAST_NS) break;
        for (int e = WK_SGEMM_WICK; e < WK_SGEMM_ENGINE_COUNT; e++) {
            if (asked == WK_SGEMM_AUTO ? e == WK_SGEMM_BF16 : (int)asked != e) continue;
            if (e == WK_SGEMM_ONEDNN && !wk_sgemm_can_onednn(g)) continue;
            const double t = time_one(g, o, s, (wk_sgemm_engine)e);
            if (round && t < best[e]) best[e] = t;
        }
    }
}

int wk_sgemm_probe(wk_sgemm *g, const wk_sgemm_shape *shape, size_t n, double *rate, wk_sgemm_engine *chosen,
                   wk_err *err) {
    operands o = {0};
    const double flops = wk_sgemm_flops(g);
    wk_sgemm_choice *c = wk_new_n(wk_sgemm_choice, n);
    if (!c) return wk_fail(err, WICK_E_NOMEM, "no memory for the choices of %zu products", n);
    int rc = take(&o, shape, n, err);
    if (rc) goto out;
    for (size_t i = 0; i < n; i++) {
        const wk_sgemm_shape *s = &shape[i], timed = shorten(*s);
        double best[WK_SGEMM_ENGINE_COUNT];
        time_shape(g, &o, &timed, best);
        wk_sgemm_engine e = WK_SGEMM_WICK;
        for (int f = WK_SGEMM_ONEDNN; f < WK_SGEMM_ENGINE_COUNT; f++)
            if (best[f] < best[e]) e = (wk_sgemm_engine)f;
        c[i] = (wk_sgemm_choice){.shape = *s, .engine = e};
        wk_sgemm_logs(c[i].log, s->m, s->n, s->k);
        rate[i] = 2.0 * timed.m * timed.n * timed.k / best[e];
        chosen[i] = e;
    }
    wk_sgemm_uncount(g, wk_sgemm_flops(g) - flops);
    if (wk_sgemm_asked(g) == WK_SGEMM_AUTO) {
        wk_sgemm_choose(g, c, n);
        c = NULL;
    }
out:
    wk_free(c);
    wk_pages_unmap(&o.mem);
    return rc;
}
