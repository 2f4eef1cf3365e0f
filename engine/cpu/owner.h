/* owner.h: which thread will read which piece of the packed weights when it decodes, so that on machines of several
 * memory nodes it can touch that piece first. */
#ifndef WK_OWNER_H
#define WK_OWNER_H

#include "engine/cpu/pack.h"

/* Rank of n_thread whose tickets hold the share 0 <= at < 1 of a stage (pool.h: a run for each, of one length). */
int wk_owner_of(double at, int n_thread);
/* owner[i] for the n_piece pieces of `piece` bytes from base on. false: no memory. */
bool wk_owners(uint16_t *owner, size_t n_piece, size_t piece, const wk_plan *p, const wk_packed *w, const uint8_t *base,
               int n_thread);

#endif
