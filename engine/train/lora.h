/* lora.h: adapters as files: a fresh one, and one merged into its base. What they look like: graph/adapter.h. */
#ifndef WK_LORA_H
#define WK_LORA_H

#include "engine/base/err.h"
#include "engine/file/store.h"

typedef struct wk_lora_shape {
    int32_t rank;
    float alpha;
    const char *on; /* "q,k,v,o,gate,up,down" or some of them */
    uint64_t seed;
} wk_lora_shape;

/* lora.c: A ~ N(0, 1/sqrt(in)), B = 0, F32, with wick.base.hash. Errors: E_ARG (rank, alpha, on), those of
 * wk_plan_build and of wk_writer_save. */
int wk_lora_init(const wk_store *base, const wk_lora_shape *o, const char *out, wk_err *err);

/* merge.c: a copy of base with W + scale * alpha/rank * B A in the place of every W that the adapter names. fmt: of all
 * matrices whose rows it divides; -1: each keeps its own. Errors: those of wk_lora_read, wk_requant. */
int wk_lora_merge(const wk_store *base, const wk_store *adapter, double scale, int fmt, const char *out, wk_err *err);

#endif
