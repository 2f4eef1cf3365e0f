/* dims.h: the hyper-parameters of a model, read from its metadata by dims.def and checked against each other.
 * After this every number is in range and every relation holds; the tensors are compared with them by bind.c. */
#ifndef WK_DIMS_H
#define WK_DIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/base/str.h"
#include "engine/file/store.h"
#include "models/arch.h"

/* Rope scaling of the file, for the blocks that ask for it. */
typedef enum wk_scaling_kind {
    WK_SCALING_NONE,
    WK_SCALING_LINEAR,
    WK_SCALING_YARN
} wk_scaling_kind;
typedef struct wk_scaling {
    wk_scaling_kind kind;
    double factor;
    double attn_factor, beta_fast, beta_slow, n_ctx_orig; /* yarn */
} wk_scaling;

typedef struct wk_dims {
    bool has[WK_KEY_COUNT];
    double key[WK_KEY_COUNT]; /* what the file gives, or what was derived */
    int32_t n_layer, n_ctx, dim, n_ff, n_head, n_head_kv, head_dim, n_rot, n_vocab;
    int32_t q_dim, kv_dim; /* n_head * head_dim, n_head_kv * head_dim */
    float eps;
    wk_scaling scaling;
} wk_dims;

/* Errors: E_FORMAT (key missing, of a wrong type, out of range, at odds with another), E_UNSUPPORTED (per-layer
 * sizes, an unknown rope scaling), E_SHAPE (vocabulary and embedding disagree). The key is named. */
int wk_dims_read(wk_dims *d, const wk_store *s, const wk_arch *a, wk_err *err);

/* The value of a number of the description; `none` where the description gives none.
 * Errors: E_FORMAT (a required key is missing), E_UNSUPPORTED (size not in dims.def). */
int wk_dims_number(double *out, const wk_dims *d, const wk_arch *a, const wk_number *n, double none,
                   wk_err *err);

/* The block of a layer, by the pattern; NULL if the description is wrong (a test looks at all). */
const wk_block *wk_dims_block(const wk_arch *a, int32_t layer);

/* Name of the file for messages: its tail, escaped. */
wk_shown wk_dims_label(const wk_store *s);

#endif
