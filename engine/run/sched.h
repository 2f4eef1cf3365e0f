/* sched.h: which tokens go into the next step, and what is done with what it made. The engine thread's. */
#ifndef WK_SCHED_H
#define WK_SCHED_H

#include "engine/run/engine.h"

/* The working set of the engine thread; all arrays are taken at open. */
typedef struct wk_sched {
    const wk_backend_ops *ops;
    wk_exec *exec;
    const wk_plan *plan;
    const wk_tok *tok;
    const wk_kernels *kern;
    wk_sampler *sampler;
    wk_kv_pool *pool;
    bool prefix_cache;
    int32_t n_ctx, max_seqs;
    bool can_top;           /* the device that makes the logits can give ids instead */
    bool is_traced;         /* bench.c */
    uint32_t promised;      /* pages that active requests may still take */

    wk_request **active;    /* [max_seqs] in order of admission */
    int32_t n_active;
    wk_request **waiting;   /* [max_queue] ring */
    int32_t wait_head, n_waiting, wait_room;

    /* the batch */
    int32_t *b_tok, *b_out;       /* [max_tok], [max_out] */
    wk_batch_seq *b_seq;          /* [max_seqs] */
    wk_request **b_req;           /* [max_seqs] */
    int32_t *b_out_seq;           /* [max_out] which b_seq a row belongs to */
    uint32_t *b_zero;             /* pages handed out */
    uint8_t *b_bad;               /* [max_tok] */
    int32_t *b_top;               /* [max_out] ids of the largest logits */
    float *logits, *row;          /* [max_out][V]; one row with +0 */
    _Atomic uint64_t n_step, n_prompt_tok, n_cached_tok, n_gen_tok;
    _Atomic int32_t s_running, s_waiting, s_free, s_known;
} wk_sched;

int wk_sched_open(wk_sched *s, int32_t max_queue, wk_err *err); /* the first block of fields is set by the caller */
void wk_sched_close(wk_sched *s);

/* Takes the caller's reference. */
void wk_sched_enqueue(wk_sched *s, wk_request *r);
/* One round: drop cancelled, admit, run one step. false: nothing could be done (sleep). */
bool wk_sched_round(wk_sched *s);
/* Ends everything with E_CANCELED. */
void wk_sched_cancel_all(wk_sched *s);

#endif
