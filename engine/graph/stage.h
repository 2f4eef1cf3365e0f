/* stage.h: groups the steps of a plan into stages with one barrier after each. It fills order, chain and stage
 * of the plan, and of its values stage_def, stage_last, in_row and escapes; it never changes a step. */
#ifndef WK_STAGE_H
#define WK_STAGE_H

#include <stdbool.h>

#include "engine/base/err.h"
#include "engine/graph/plan.h"

/* ungrouped: every step a stage of its own. Errors: E_NOMEM. */
int wk_stage_build(wk_plan *p, bool ungrouped, wk_err *err);

#endif
