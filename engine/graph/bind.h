/* bind.h: roles -> tensors. What the file calls a tensor and how it stores it ends here: behind it a weight has
 * a role, a layer, and exactly the shape that the architecture wants. */
#ifndef WK_BIND_H
#define WK_BIND_H

#include "engine/base/err.h"
#include "engine/file/store.h"
#include "engine/graph/dims.h"
#include "engine/graph/plan.h"

typedef struct wk_binding {
    wk_weight *weight; /* in the order of the names table: global ones, then layer by layer */
    int32_t n_weight, n_layer;
    int32_t *at;                 /* [(n_layer + 1) * WK_W_COUNT] index of a weight, -1: none */
    const wk_tensor *rope_freqs; /* F32 [n_rot/2], NULL: none */
} wk_binding;

/* Errors: E_FORMAT (a tensor is missing), E_SHAPE (found, wanted, why), E_UNSUPPORTED (a vector of integers,
 * rotated rows with a partial rope), E_NOMEM. Tensors that nobody claims: one warning. The data is borrowed. */
int wk_bind(wk_binding *b, const wk_store *s, const wk_arch *a, const wk_dims *d, wk_err *err);
void wk_binding_fini(wk_binding *b); /* zeroed record is fine */
void wk_weights_free(wk_weight *w, int32_t n);

/* Weight of a role in a layer (-1: global), -1: the file has none. */
static inline int32_t wk_bound(const wk_binding *b, wk_role role, int32_t layer) {
    return b->at[(size_t)(layer + 1) * WK_W_COUNT + (size_t)role];
}

#endif
