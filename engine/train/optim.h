/* optim.h: the learning rate of a step, the norm of all gradients, and the update. */
#ifndef WK_OPTIM_H
#define WK_OPTIM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/err.h"
#include "engine/base/pool.h"
#include "engine/train/grad.h"
#include "simd/grad/grad.h"

/* ---- schedule.c ---------------------------------------------------------------------------------- */

typedef enum wk_lr_kind {
    WK_LR_COSINE,
    WK_LR_LINEAR,
    WK_LR_WSD,
    WK_LR_CONST,
    WK_LR_COUNT
} wk_lr_kind;
typedef struct wk_schedule {
    wk_lr_kind kind;
    int64_t steps, warmup; /* 0 <= warmup < steps */
    double lr, lr_end;     /* peak; at the end as a share of lr */
} wk_schedule;
/* Rate of step i, 0 <= i < steps: rises to the peak over the warmup, then falls to lr * lr_end at the last step; wsd holds
 * the peak until the last fifth, const never falls. */
double wk_schedule_lr(const wk_schedule *s, int64_t i);
const char *wk_schedule_name(wk_lr_kind kind);

/* ---- adamw.c ------------------------------------------------------------------------------------- */

/* What is kept of a parameter: ADAMW: m and v in f32 (simd/grad/grad.h). ADAMW_V16: the same update with v put away as
 * bf16, rounded up or down by chance in proportion to what lies between (Philox by step and element: the same bits for
 * every team), since v moves by less than a step of bf16 each time and to the nearest it would never move. SGD: m alone:
 *   g = g * scale;  m = m * beta1 + g;  w = w * keep - m * lr,  each rounded. */
typedef enum wk_optim_kind {
    WK_OPTIM_ADAMW,
    WK_OPTIM_ADAMW_V16,
    WK_OPTIM_SGD,
    WK_OPTIM_COUNT
} wk_optim_kind;
typedef struct wk_optim_options {
    double decay, beta1, beta2, eps;
    wk_optim_kind kind;
} wk_optim_options;
size_t wk_optim_v_bytes(wk_optim_kind kind); /* of an element: 4, 2, 0; m takes 4 */

typedef struct wk_optim {
    const wk_grad *g;
    const wk_grad_kernels *gk;
    wk_team *team;
    wk_optim_options o;
    float *w, *grad; /* borrowed arenas */
    wk_pages m, v; /* f32; v by kind */
    double *block; /* sums of squares of BLOCK elements each */
    size_t n_block;
} wk_optim;

/* E_NOMEM. All is borrowed. */
int wk_optim_init(wk_optim *p, const wk_grad *g, const wk_grad_kernels *gk, wk_team *team, float *w,
                  float *grad, const wk_optim_options *o, wk_err *err);
void wk_optim_fini(wk_optim *p); /* zeroed record is fine */
/* Euclidean norm of the gradients: blocks of 4096 elements in f32 by DESIGN 9.4, these in double, ascending. */
double wk_optim_norm(wk_optim *p);
/* One update with every gradient times scale; t counts from 1 (bias correction). Gradients are zero afterwards. */
void wk_optim_step(wk_optim *p, int64_t t, double lr, double scale);
void wk_optim_zero(wk_optim *p);

#endif
