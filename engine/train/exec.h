/* exec.h: runs a training plan on the host: one region of the team per step, no stages. */
#ifndef WK_TEXEC_H
#define WK_TEXEC_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/pool.h"
#include "engine/train/grad.h"
#include "engine/train/sgemm.h"
#include "simd/grad/grad.h"

/* One sequence of a micro-batch: n_tok tokens from first on, at positions 0 .. n_tok-1. */
typedef struct wk_tseq {
    int32_t first, n_tok;
} wk_tseq;

typedef struct wk_tbatch {
    int32_t n_tok, n_seq;  /* n_tok <= max_tok; sequences follow each other and cover all tokens */
    const int32_t *tok;    /* [n_tok] */
    const int32_t *target; /* [n_tok] the token that should come next, -1: not counted */
    const wk_tseq *seq;
} wk_tbatch;

/* Seconds of the calling thread by phase, summed since new. */
typedef struct wk_tclock {
    double forward, backward;
} wk_tclock;

typedef struct wk_texec wk_texec;

typedef struct wk_texec_options {
    wk_team *team; /* borrowed, as is all here */
    const wk_kernels *k;
    const wk_grad_kernels *gk;
    wk_sgemm *gemm;
} wk_texec_options;

/* g must outlive the exec. Takes the arenas (parameters, gradients, values, scratch) and fills the parameters from the
 * weights of the plan. Errors: E_NOMEM, E_FORMAT (a value that is not finite: tensor). */
int wk_texec_new(wk_texec **out, const wk_grad *g, const wk_texec_options *o, wk_err *err);
void wk_texec_free(wk_texec *x); /* NULL is fine */
/* Bytes that new will take beside the gemm's. false: overflow. */
bool wk_texec_bytes(const wk_grad *g, int n_thread, size_t *params, size_t *values,
                    size_t *scratch);
int32_t wk_texec_chunk(const wk_grad *g); /* tokens whose logits are made at a time, at most */

float *wk_texec_params(wk_texec *x); /* [n_elem] */
float *wk_texec_grads(wk_texec *x);  /* [n_elem]; zeroed by new */

/* Loss of the counted tokens, summed, and how many they are. backward: gradients of that sum are added to the gradients.
 * on_layer (may be NULL) is called when the gradients of a layer (n_layer-1 .. 0, then -1) have had their last
 * addition of this call. */
typedef struct wk_tloss {
    double sum;
    int64_t counted;
} wk_tloss;
void wk_texec_run(wk_texec *x, const wk_tbatch *b, bool backward, wk_tloss *out);
void wk_texec_on_layer(wk_texec *x, void (*on_layer)(void *ud, int32_t layer), void *ud);

/* Logits of every token of b, in order; forward only. */
void wk_texec_logits(wk_texec *x, const wk_tbatch *b,
                     void (*on_row)(void *ud, int32_t t, const float *logits), void *ud);

void wk_texec_clock(const wk_texec *x, wk_tclock *out);
double wk_texec_flops(const wk_texec *x); /* products and attention, counted at their calls */

#endif
