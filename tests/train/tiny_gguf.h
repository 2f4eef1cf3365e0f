/* tiny_gguf.h: a random F32 model of any small shape as GGUF bytes in memory, without a vocabulary of words. */
#ifndef WK_TINY_GGUF_H
#define WK_TINY_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/buf.h"

typedef struct tiny_spec {
    const char *name; /* for messages */
    const char *arch; /* llama, qwen2, qwen3 (norms on q and k), gemma3 (those, and norms behind) */
    int32_t dim, n_ff, n_layer, n_head, n_head_kv, head_dim, n_vocab;
    int32_t window; /* gemma3 */
    bool bias, untied;
    float softcap;   /* gemma3: of the logits */
    float amplitude; /* of matrices; 0: 0.3 */
    uint64_t seed;
} tiny_spec;

void tiny_build(wk_buf *out, const tiny_spec *m);

/* An adapter over its seven matrices of every layer, alpha 2 * rank; A and B are random. */
void tiny_build_adapter(wk_buf *out, const tiny_spec *m, int32_t rank);

/* Uniform in -1 .. 1, a pure function of its arguments. */
double tiny_uniform(uint64_t seed, uint32_t stream, uint32_t i);

#endif
