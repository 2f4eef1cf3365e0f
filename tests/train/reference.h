/* reference.h: numbers that training must give, from tests/golden/grad/NAME.ref.gguf (keys "ref.KEY", names
 * as in GGUF) or from a safetensors file (keys are tensors, names as in Hugging Face files). The rest is
 * called alike in both. */
#ifndef WK_REFERENCE_H
#define WK_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/train/grad.h"

typedef struct reference reference;

reference *reference_open(const char *path); /* NULL: there is no such file */
void reference_close(reference *r);          /* NULL is fine */
bool reference_is_hf(const reference *r);

/* A copy of n values, wk_free'd by the caller; NULL if it is absent; fails the test if there are not n. */
float *reference_f32(const reference *r, const char *name, size_t n);
/* prefix + the name of the weight (of A and B: of what they adapt), without ".weight" where HF files leave
 * it out (adapters). */
float *reference_of(const reference *r, const char *prefix, const wk_plan *p, const wk_weight *w,
                    size_t n);
/* The count of an array of numbers, copied to out (at most room); 0: absent. */
size_t reference_reals(const reference *r, const char *key, double *out, size_t room);
double reference_real(const reference *r, const char *key); /* fails the test if absent */

#endif
