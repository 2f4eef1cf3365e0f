/* prefill.h: the logits that the engine's own device gives. */
#ifndef WK_TEST_PREFILL_H
#define WK_TEST_PREFILL_H

#include <stdint.h>

#include "engine/file/store.h"

/* [n, n_vocab] of one sequence of n <= 512 tokens, with an f32 cache; freed by wk_free_aligned. Preparing gives the
 * bytes of the stores back to the system: those of a file come again, those in memory are zeros afterwards. */
float *prefill(const wk_store *s, const wk_store *adapter, const int32_t *tok, int32_t n);

#endif
