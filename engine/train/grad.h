/* grad.h: the training plan: the steps of a wk_plan (built with f32_act), then the same list walked backwards by one
 * rule per op (rules.c). A rule emits steps, mostly matrix products, and computes nothing. Offsets and indices only.
 *
 * Values live from their first writer to their last reader; place.c gives them offsets in one arena, so that keeping
 * activations, recomputing cheap ones and recomputing whole layers differ only in which value a backward step reads:
 * the kept one, or a copy that is made again just before (need() in rules.c). */
#ifndef WK_GRAD_H
#define WK_GRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/graph/plan.h"

/* Operations: those of op.def that a training plan holds keep their numbers, those of pack.def follow. */
typedef enum wk_top {
    WK_TOP_FIRST = WK_OP_COUNT - 1,
#define WK_TOP(name, operands, equation) WK_TOP_##name,
#include "engine/train/pack.def"
#undef WK_TOP
    WK_TOP_COUNT
} wk_top;
const char *wk_top_name(int op); /* of both ranges */

/* A parameter: a weight that is trained. Parameters, gradients and both moments share one layout. */
typedef struct wk_param {
    int32_t weight; /* index into plan->weight */
    size_t off, n;  /* elements in each of the four arenas; off is a multiple of 16 */
    bool decays;    /* weight decay: tensors of two dimensions */
} wk_param;

/* A value of the training plan: [rows, dim] f32. */
typedef struct wk_tval {
    uint8_t
        rows; /* wk_val_rows: WK_ROWS_TOK: tokens of the micro-batch; WK_ROWS_OUT: its counted tokens */
    int32_t dim;
    int32_t first, last; /* step that writes it first, step that reads or writes it last */
    size_t off;          /* bytes in the arena */
} wk_tval;

typedef struct wk_tstep {
    uint16_t op;
    int16_t layer;
    bool add;          /* dst[0] is added to, not written */
    int32_t dst[3];    /* values, -1: none */
    int32_t src[7];    /* values, -1: none */
    int32_t w;         /* weight, -1: none */
    int32_t thin;      /* weight of the product of src[1] that matmul and matmul_dx add, -1: none */
    int32_t param;     /* parameter whose gradient the step adds to, -1: none */
    float scale;       /* what the op says, else 1 */
    const wk_step *of; /* step of the plan that it stems from: eps, n_head, rope, fn, ... */
} wk_tstep;

typedef struct wk_grad {
    const wk_plan *plan;
    wk_tstep *step;
    int32_t n_step;
    int32_t n_forward; /* steps before it make the loss; the head step is the last of them */
    wk_tval *val;
    int32_t n_val;
    wk_param *param;
    int32_t n_param;
    int32_t *param_of;  /* [plan->n_weight], -1: frozen */
    size_t n_elem;      /* elements of each parameter arena */
    size_t arena_bytes; /* for max_tok tokens, all of them counted */
    int32_t max_tok;
    bool recompute;
} wk_grad;

typedef struct wk_grad_options {
    int32_t max_tok; /* tokens of a micro-batch */
    bool recompute;  /* keep one residual a layer, make the rest again */
    /* Which weights are trained: NULL: all. Called once per weight of the plan. */
    bool (*is_trained)(void *ud, const wk_weight *w);
    void *ud;
} wk_grad_options;

/* p must outlive the result and have been built with f32_act. Errors: E_UNSUPPORTED (an op without a rule, named),
 * E_NOMEM, E_FIT (sizes overflow), E_ARG (nothing is trained). */
int wk_grad_build(wk_grad **out, const wk_plan *p, const wk_grad_options *o, wk_err *err);
void wk_grad_free(wk_grad *g); /* NULL is fine */
/* One line a step. */
void wk_grad_dump(const wk_grad *g, wk_buf *out);

#endif
