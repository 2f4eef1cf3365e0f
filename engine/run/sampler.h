/* sampler.h: logits -> one token (DESIGN 9.8). A pure function of (logits, parameters, seed, position, choice). */
#ifndef WK_SAMPLER_H
#define WK_SAMPLER_H

#include <stdint.h>

#include "engine/base/err.h"
#include "simd/kernels.h"

typedef struct wk_sampling {
    double temperature; /* < 2^-100: greedy */
    double top_p, min_p;
    int32_t top_k;
    uint64_t seed;
} wk_sampling;

typedef struct wk_sampler wk_sampler; /* scratch for one vocabulary; one thread at a time */

int wk_sampler_open(wk_sampler **out, const wk_kernels *k, int32_t n_vocab, wk_err *err);
void wk_sampler_close(wk_sampler *s); /* NULL is fine */

/* Allocates nothing. -1: no finite logit. */
int32_t wk_sample(wk_sampler *s, const float *logits, const wk_sampling *p, uint64_t position, uint32_t choice);

/* log p(id) under the logits: l - max - log(sum exp), in double. */
double wk_log_prob(wk_sampler *s, const float *logits, int32_t id);

#endif
