/* bench_sweep.c: one model cut between the cpu and a device: none of its layers there, a quarter, half ... all. An engine
 * is opened for each cut in each round, for the memory of all of them at once would be six times the model's. */
#include <stdio.h>

#include "engine/app/bench_impl.h"
#include "engine/base/attr.h"
#include "engine/base/err.h"

enum { CUTS = 5, ROUNDS_MOST = 5, PROMPT_MOST = 512 };

typedef struct sweep {
    int n;
    int32_t layers[CUTS];
    int row[CUTS], n_row; /* the first row of each cut; rows of a cut */
} sweep;

/* All layers are all units: the head goes with them. */
static void cuts_of(sweep *s, int32_t n_layer) {
    *s = (sweep){.n = 0};
    for (int i = 0; i < CUTS; i++) {
        const int32_t n = n_layer * i / (CUTS - 1);
        if (s->n == 0 || s->layers[s->n - 1] != n) s->layers[s->n++] = n;
    }
}

static wk_bench_row *add(wk_bench *b, int32_t layers, int32_t n_layer, int32_t n_tok, int32_t depth, int32_t reps) {
    char what[24] = "decode";
    if (n_tok > 1) (void)snprintf(what, sizeof(what), "prefill %d", (int)n_tok);
    wk_bench_row *r = wk_round_row(b, WK_BENCH_ENGINE, "tok/s", "split %d of %d: %s", (int)layers, (int)n_layer, what);
    if (!r) return NULL;
    r->n_seq = 1;
    r->n_tok = n_tok;
    r->depth = depth;
    r->reps = reps;
    r->per_pass = n_tok;
    r->gpu_layers = layers;
    return r;
}

static int32_t prompt_of(const wk_bench *b) {
    int32_t n = 0;
    for (int i = 0; i < b->wish.pp.n; i++)
        if (b->wish.pp.v[i] > n && b->wish.pp.v[i] <= PROMPT_MOST) n = b->wish.pp.v[i];
    return n;
}

static void add_rows(wk_bench *b, sweep *s, int32_t n_layer) {
    const int32_t prompt = b->wish.only & WK_ONLY_PREFILL ? prompt_of(b) : 0;
    for (int i = 0; i < s->n; i++) {
        s->row[i] = b->n_row;
        if (prompt > 1) (void)add(b, s->layers[i], n_layer, prompt, 0, 1); /* n_row says whether it is there */
        if (b->wish.only & WK_ONLY_DECODE) (void)add(b, s->layers[i], n_layer, 1, b->wish.tg / 2, b->wish.tg);
        s->n_row = b->n_row - s->row[i];
    }
}

static wick_status measure_cut(wk_bench *b, const sweep *s, int cut, int round, wick_error *err) {
    wick_error why = {0};
    b->target[b->use].layers = s->layers[cut] ? s->layers[cut] : WICK_AUTO;
    wick_status rc = wk_round_open(b, &why);
    for (int k = 0; k < s->n_row && !rc && !wk_round_stopped(b); k++) {
        wk_bench_row *r = &b->row[s->row[cut] + k];
        if (r->failed) continue;
        if (round == 0) rc = wk_pass_measure(b, r, -1, &why);
        if (!rc) rc = wk_pass_measure(b, r, round, &why);
        if (!rc) r->n = round + 1;
        wk_round_step(b);
    }
    wk_round_close(b);
    if (!rc || wk_round_stopped(b)) return WICK_OK;
    if (rc != WICK_E_FIT && rc != WICK_E_DEVICE && rc != WICK_E_UNSUPPORTED) {
        if (err) *err = why;
        return rc;
    }
    for (int k = 0; k < s->n_row; k++) {
        wk_bench_row *r = &b->row[s->row[cut] + k];
        r->failed = rc != WICK_E_FIT; /* a device with little memory is no failure */
        (void)snprintf(r->note, sizeof(r->note), "not measured: %.180s", why.message);
    }
    return WICK_OK;
}

wick_status wk_sweep_run(wk_bench *b, int i, wick_error *err) {
    const int rounds = b->wish.reps < ROUNDS_MOST ? b->wish.reps : ROUNDS_MOST;
    const int32_t n_layer = b->target[i].stats.n_layer;
    sweep s;
    b->use = i;
    b->engine = NULL;
    b->model = NULL;
    cuts_of(&s, n_layer);
    add_rows(b, &s, n_layer);
    if (!s.n_row) return WICK_OK;
    b->sweeping = b->keep_depth = true;
    b->n_done = 0;
    b->n_todo = (double)rounds * s.n * s.n_row;
    wick_status rc = WICK_OK;
    for (int round = 0; round < rounds && !rc; round++)
        for (int k = 0; k < s.n && !rc && !wk_round_stopped(b); k++)
            rc = measure_cut(b, &s, (k + round) % s.n, round, err);
    b->sweeping = b->keep_depth = false;
    wk_progress_clear(&b->progress);
    return rc;
}
