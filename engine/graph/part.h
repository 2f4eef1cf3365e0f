/* part.h: cuts a plan into parts for several devices. Borders: 0 before the first layer (and what precedes it), b before
 * layer b, n_layer before what follows the layers (last norm, head), n_layer + 1 the end. */
#ifndef WK_PART_H
#define WK_PART_H

#include "engine/graph/backend.h"

/* The stages between two borders, from <= to. A stage belongs to the layer that its last step is of: what ends one
 * layer's output (a norm, an addition) may be the row work of the next one's first stage. */
wk_part wk_part_make(const wk_plan *p, int32_t from, int32_t to);
/* Its steps in the order of its stages. */
typedef void wk_part_step_fn(void *ud, const wk_plan *p, const wk_step *s);
void wk_part_each(const wk_plan *p, const wk_part *part, wk_part_step_fn *fn, void *ud);
/* Whether a step of the part reads the weight. part NULL: true. */
bool wk_part_uses(const wk_plan *p, const wk_part *part, int32_t weight);
/* Values that the part reads and does not write, ascending, at most n in val; how many there are. All are f32: E_SHAPE,
 * naming the step, where the cut would tear quantised activations from what reads them. */
int wk_part_inputs(const wk_plan *p, const wk_part *part, int32_t *val, int32_t n, int32_t *n_val, wk_err *err);

#endif
