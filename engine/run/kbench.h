/* kbench.h: one matrix product as a model runs it: a plan of one stage (quantise the rows, then the matrix in tickets)
 * over random weights, packed and run by the cpu backend. */
#ifndef WK_KBENCH_H
#define WK_KBENCH_H

#include "engine/graph/backend.h"

typedef struct wk_kbench_options {
    uint32_t cpu_mask; /* levels that may be used */
    int fmt;
    int32_t n_row, k, n_tok, threads;
} wk_kbench_options;

enum { WK_KBENCH_X, WK_KBENCH_Q, WK_KBENCH_Y, WK_KBENCH_VALS };

/* The plan points into the record: it stays where it is. */
typedef struct wk_kbench {
    wk_plan plan;
    wk_step step[2];
    wk_val val[WK_KBENCH_VALS]; /* input f32 (the batch's logits buffer), quantised (unused by kind F), output */
    wk_weight weight;
    wk_stage stage;
    wk_chain chain;
    int32_t order[2];
    wk_dev *dev;
    wk_exec *exec;
    float *x;                         /* [n_tok][k] */
    int32_t *tok;                     /* [n_tok] */
    uint8_t *bad;                     /* [n_tok] */
    uint32_t *page;                   /* pages of n_tok positions: a batch has a sequence */
    uint64_t pack_begin_ns, pack_ns;
} wk_kbench;

/* Errors: E_ARG (a number out of range, named), E_UNSUPPORTED (k is no multiple of the format's block), E_FIT (more
 * memory than there is), E_NOMEM. pack_ns: from random rows to panels, the first touch of their memory included. */
int wk_kbench_open(wk_kbench **out, const wk_kbench_options *o, wk_err *err);
void wk_kbench_close(wk_kbench *b); /* NULL is fine */
/* One pass; call it on the thread that opened. */
int wk_kbench_pass(wk_kbench *b, double *seconds, wk_err *err);

#endif
