/* bench_trace.c: where the time of a token goes, by kind of work. */
#include <string.h>
#include <stdio.h>

#include "engine/app/bench_impl.h"
#include "engine/base/attr.h"
#include "engine/base/err.h"
#include "engine/base/str.h"

typedef struct sink {
    wk_bench *b;
    int which;    /* 0 decode, 1 prefill */
    double n_tok; /* tokens of the traced passes */
    double wall;  /* seconds of them */
} sink;

/* A kind seen in one pass and not in the other keeps zero there. */
static wk_bench_work *work_of(wk_bench *b, const char *name) {
    for (int i = 0; i < b->n_work; i++)
        if (strcmp(b->work[i].name, name) == 0) return &b->work[i];
    if (b->n_work == (int)WK_COUNT(b->work)) return NULL;
    wk_bench_work *w = &b->work[b->n_work++];
    (void)snprintf(w->name, sizeof(w->name), "%.23s", wk_show(wk_cstr(name)).text);
    return w;
}

/* "wall" is time as it passes; the others are summed over the threads, so that their shares add up to one. */
static void on_row(void *ud, const char *name, double seconds, uint64_t calls) {
    sink *s = ud;
    if (strcmp(name, "pass") == 0 || (calls == 0 && seconds <= 0)) return;
    const bool wall = strcmp(name, "wall") == 0;
    if (wall) s->wall = seconds;
    const double own = wall || strcmp(name, "copy") == 0 ? seconds : seconds / s->b->stats.threads;
    wk_bench_work *w = work_of(s->b, name);
    if (!w) return;
    w->seconds[s->which] = own / s->n_tok;
    w->share[s->which] = s->wall > 0 ? own / s->wall : 0;
}

static wick_status trace_pass(wk_bench *b, int which, int32_t n_tok, int32_t depth, int32_t reps,
                              wick_error *err) {
    const wick_x_pass o = {
        .size = sizeof(o), .n_seq = 1, .n_tok = n_tok, .depth = depth, .warmup = 1, .reps = reps};
    sink s = {.b = b, .which = which, .n_tok = (double)n_tok * reps};
    WK_TRY(wick_x_trace(b->engine, 1, err));
    WK_TRY(wick_x_pass_run(b->engine, &o, b->passes, NULL, err));
    WK_TRY(wick_x_trace_read(b->engine, on_row, &s, err));
    return wick_x_trace(b->engine, 0, err);
}

wick_status wk_trace_work(wk_bench *b, wick_error *err) {
    int32_t longest = 0;
    for (int i = 0; i < b->wish.pp.n; i++)
        if (b->wish.pp.v[i] > longest && b->wish.pp.v[i] <= b->stats.n_ctx)
            longest = b->wish.pp.v[i];
    WK_TRY(trace_pass(b, 0, 1, b->wish.tg / 2, b->wish.tg, err));
    return longest ? trace_pass(b, 1, longest, 0, longest < 256 ? 8 : 3, err) : WICK_OK;
}
