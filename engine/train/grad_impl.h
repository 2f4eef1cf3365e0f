/* grad_impl.h: what the files that build a training plan share. */
#ifndef WK_GRAD_IMPL_H
#define WK_GRAD_IMPL_H

#include "engine/train/grad.h"

/* The walk over a plan, forward and back. Indices are the plan's values unless said otherwise. */
typedef struct wk_walk {
    wk_grad *g;
    const wk_plan *p;
    int32_t step_room, val_room;
    bool out_of_room;
    bool *wants;  /* [n_val] a parameter stands upstream, so its gradient is needed */
    int32_t *now; /* [n_val] training value that holds it, -1: has to be made again */
    int32_t *extra
        [2]; /* [n_step] training values of the second and third destination of a plan's step, -1 */
    int32_t *grad_of; /* [n_val] training value with its gradient, -1: none yet */
    float *factor;    /* [n_val] what that value is to be multiplied by to be the gradient */
    int32_t
        *n_user; /* [g->val] plan values whose gradient it is and whose own step is still to come */
    int32_t *key, *value; /* [n_layer] the plan's k and v of a layer */
} wk_walk;

/* rules.c: the forward steps, the head, and all steps behind it. E_UNSUPPORTED: an op without a rule. */
int wk_walk_all(wk_walk *w, wk_err *err);
/* fuse.c: thin products into the wide ones. Errors: E_NOMEM. */
int wk_fuse(wk_grad *g, wk_err *err);
/* place.c: fills first, last, off, arena_bytes. Errors: E_NOMEM, E_FIT. */
int wk_place(wk_grad *g, wk_err *err);

#endif
