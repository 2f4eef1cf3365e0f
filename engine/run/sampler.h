/* sampler.h: logits -> one token (DESIGN 9.8). A pure function of (logits, parameters, seed, position, choice). */
#ifndef WK_SAMPLER_H
#define WK_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "simd/kernels.h"

typedef struct wk_sampling {
    double temperature; /* < 2^-100: greedy */
    double top_p, min_p;
    int32_t top_k;
    uint64_t seed;
    double repeat_penalty;    /* 0 or 1: off (Keskar et al., CTRL, 2019) */
    double frequency_penalty; /* per occurrence in the answer */
    double presence_penalty;  /* once, if it occurs in the answer */
    const int32_t *bias_token; /* [n_bias], in the vocabulary, each once */
    const float *bias_value;
    int32_t n_bias;
} wk_sampling;

/* What stands before the token that is drawn. */
typedef struct wk_history {
    const int32_t *tok; /* [n_tok]: the prompt, then the answer */
    int32_t n_prompt, n_tok;
} wk_history;

typedef struct wk_sampler wk_sampler; /* scratch for one vocabulary; one thread at a time */

int wk_sampler_open(wk_sampler **out, const wk_kernels *k, int32_t n_vocab, wk_err *err);
void wk_sampler_close(wk_sampler *s); /* NULL is fine */

/* Whether wk_sample with these parameters gives the id of the largest logit, the lowest among equals. */
bool wk_sample_is_argmax(const wk_sampling *p);
/* h may be NULL where no penalty is on. position: of the token that is drawn. Allocates nothing. -1: no finite logit. */
int32_t wk_sample(wk_sampler *s, const float *logits, const wk_sampling *p, const wk_history *h, uint64_t position,
                  uint32_t choice);

/* log p(id) under the logits: l - max - log(sum exp), in double. */
double wk_log_prob(wk_sampler *s, const float *logits, int32_t id);

#endif
