/* check_grad.h: what the files of check_grad share. */
#ifndef WK_CHECK_GRAD_H
#define WK_CHECK_GRAD_H

#include "simd/grad/grad.h"
#include "tests/check/check.h"

/* One level under test. The harness sees base; bodies take the whole back by grad_of. */
typedef struct ck_grad {
    ck base; /* first */
    const wk_grad_kernels *k, *ref, *below;
} ck_grad;

static inline ck_grad *grad_of(ck *c) { return (ck_grad *)(void *)c; }

void ck_grad_rows(ck *c);
void ck_grad_attn(ck *c);
void ck_grad_pairs(ck *c);
void ck_grad_pairs_oracle(ck *c);
void ck_grad_oracle(ck *c); /* ref against double */
long ck_grad_planted(void); /* kernels with planted bugs; returns how many were not found */

/* Inputs and outputs of one page. */
typedef struct ck_grad_page {
    wk_attn_grad a; /* p, ds, d_q, d_k, d_v: the caller's choice out of the pairs */
    ck_pair p, ds, d_q, d_k, d_v;
} ck_grad_page;
/* Random columns and ranges; what nobody sees holds NaN. */
ck_grad_page ck_page_data(ck *c, int n_col, int hd, bool softcap);
wk_attn_grad ck_page_side(const ck_grad_page *t, bool got);

#endif
