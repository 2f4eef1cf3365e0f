/* oracle_steps.h: runs the step list of a training plan in double, one plain loop per operation, every value in memory
 * of its own. It knows the equations of op.def and pack.def and nothing of the executor: what both get wrong alike has
 * to be wrong in the list, and central differences of the forward steps tell that. */
#ifndef WK_ORACLE_STEPS_H
#define WK_ORACLE_STEPS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/train/exec.h"
#include "engine/train/grad.h"

typedef struct oracle oracle;

/* g is borrowed. Weights must be stored as F32; they are copied. Fails the running test on anything odd. */
oracle *oracle_new(const wk_grad *g);
void oracle_free(oracle *o);

double *oracle_weight(oracle *o, int32_t weight, int64_t *n); /* may be changed between runs */
const double *oracle_grad(const oracle *o,
                          int32_t param); /* of the last run, starts from zero in each */

/* Sum of the losses of the counted tokens; backward: and the gradients of that sum. */
double oracle_run(oracle *o, const wk_tbatch *b, bool backward, int64_t *counted);

#endif
