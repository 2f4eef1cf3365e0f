/* adapter.h: LoRA adapters as GGUF files, in the form that llama.cpp reads: general.type adapter, adapter.type lora,
 * adapter.lora.alpha, and for each adapted matrix of the base NAME.lora_a (in, r) and NAME.lora_b (r, out). The matrix
 * then gives y + scale * (x A^T) B^T, scale = the user's * alpha / r; alpha 0 or absent: the user's alone. */
#ifndef WK_ADAPTER_H
#define WK_ADAPTER_H

#include "engine/base/err.h"
#include "engine/base/hash.h"
#include "engine/file/store.h"
#include "engine/graph/plan.h"

/* One adapted matrix. Rows of A are of length in, rows of B of length rank. */
typedef struct wk_lora_pair {
    const wk_tensor *base, *a, *b; /* borrowed from the two stores */
    int32_t rank;
} wk_lora_pair;
typedef struct wk_lora_file {
    wk_lora_pair *pair; /* in the order of A in the file */
    int32_t n_pair;
    double alpha;
} wk_lora_file;

/* Reads and checks an adapter against its base: architecture, names, shapes, finite values. An adapter that says by
 * wick.base.hash that it was made for another base: one log warning.
 * Errors: E_FORMAT (keys, a base tensor that is missing, A without B, other tensors, values that are not finite),
 * E_ARCH, E_SHAPE, E_UNSUPPORTED (formats that are no floats; the embedding and the head), E_NOMEM. */
int wk_lora_read(wk_lora_file *out, const wk_store *adapter, const wk_store *base, wk_err *err);
void wk_lora_fini(wk_lora_file *f); /* zeroed record is fine */
/* What B's product is multiplied by. */
double wk_lora_scale(const wk_lora_file *f, const wk_lora_pair *p, double scale);

/* Tells bases apart: name, format, shape and the first and last 4096 bytes of every tensor, in the order of the file.
 * Not all bytes: a model of 8 GB is to be told in milliseconds. */
wk_hash wk_base_hash(const wk_store *s);
enum { WK_HASH_TEXT = 33 };
void wk_base_hash_text(char out[WK_HASH_TEXT], const wk_store *s); /* 32 digits */

/* The adapters of a plan: A and B as weights, and what belongs to which matrix, in the order of the adapters. */
typedef struct wk_lora {
    int32_t base, a, b; /* plan->weight */
    float scale;
} wk_lora;
typedef struct wk_lora_list {
    wk_lora *lora;
    int32_t n;
} wk_lora_list;
/* Appends the weights to those of p, which are the weights of base. Errors: as wk_lora_read; E_ARG: too many. */
int wk_lora_bind(wk_lora_list *out, wk_plan *p, const wk_store *base, const wk_adapter *a, int32_t n, wk_err *err);
void wk_lora_list_fini(wk_lora_list *l); /* zeroed record is fine */

#endif
