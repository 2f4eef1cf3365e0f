/* slots.h: places the values of a staged plan in memory: off in the shared arena, priv_off in the per-thread one.
 * Lifetimes are whole stages, since the threads of a stage are at different steps of it. */
#ifndef WK_SLOTS_H
#define WK_SLOTS_H

#include <stdbool.h>

#include "engine/base/err.h"
#include "engine/graph/plan.h"

/* off = SIZE_MAX: the value lives in the caller's batch.logits. keep: every value has memory of its own, for all rows;
 * whole: all rows of every value. Fills in_chain, chain_at, off, bytes, priv_off, arena_bytes, priv_bytes.
 * Errors: E_NOMEM, E_FIT (the sum overflows). */
int wk_slots_place(wk_plan *p, bool keep, bool whole, wk_err *err);

#endif
