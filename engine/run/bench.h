/* bench.h: what a model does here, measured on the engine's thread without tokenizer and sampler: passes alone, time by
 * kind of work, and what a token costs by the plan. */
#ifndef WK_BENCH_H
#define WK_BENCH_H

#include "engine/run/engine.h"

/* Bytes of a matrix as packed panels. */
size_t wk_bench_packed(int fmt, int32_t n_row, int32_t k);

/* What one token costs, from the steps of a plan. Sliding windows are not looked at: kv and attn are upper bounds for a
 * model that has some, exact before the window is full. */
typedef struct wk_cost {
    double weight_bytes;      /* packed matrices that a decode step reads; the row of the embedding is not counted */
    double kv_bytes_per_pos;  /* all layers */
    double layer_macs, head_macs;
    double attn_macs_per_pos; /* q.k and p.v */
} wk_cost;
void wk_cost_of(wk_cost *out, const wk_plan *p);

/* n_seq sequences bring n_tok tokens each behind depth positions whose keys and values are zero. */
typedef struct wk_pass {
    int32_t n_seq, n_tok, depth;
    int32_t warmup, reps; /* passes that are not timed, then timed ones */
} wk_pass;

/* seconds [reps]: of the device alone. hash: of the last pass's logits, chained over the sequences as a request with
 * WICK_REQ_HASH does it; may be NULL. Remembered prefixes stay right; the ones used longest ago are forgotten if their
 * pages are needed. Tracing that was begun and has seen no pass yet sees the timed ones only.
 * Errors: E_ARG (a number out of range, named), E_FIT (pages), E_NUMERIC, E_NOMEM, E_CANCELED (engine closed). */
int wk_pass_run(wk_engine *e, const wk_pass *o, double *seconds, wk_hash *hash, wk_err *err);

int wk_trace_set(wk_engine *e, bool on, wk_err *err);
int wk_trace_get(wk_engine *e, wk_trace *out, wk_err *err);

#endif
