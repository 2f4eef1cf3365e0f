/* adamw.c: norm and update over all parameters, in blocks that do not depend on the team. */
#include <math.h>
#include <string.h>

#include "engine/base/half.h"
#include "engine/base/rng.h"
#include "engine/train/optim.h"
#include "simd/dmath.h"

enum { BLOCK = 4096 };

static const uint64_t ROUND_KEY = 0x763136; /* "v16": the draws of ADAMW_V16 */

size_t wk_optim_v_bytes(wk_optim_kind kind) {
    return kind == WK_OPTIM_ADAMW ? sizeof(float) : kind == WK_OPTIM_ADAMW_V16 ? sizeof(wk_bf16) : 0;
}

int wk_optim_init(wk_optim *p, const wk_grad *g, const wk_grad_kernels *gk, wk_team *team, float *w,
                  float *grad, const wk_optim_options *o, wk_err *err) {
    *p = (wk_optim){.g = g,
                    .gk = gk,
                    .team = team,
                    .o = *o,
                    .w = w,
                    .grad = grad,
                    .n_block = g->n_elem / BLOCK + 1};
    p->block = wk_new_n(double, p->n_block);
    const size_t v_bytes = g->n_elem * wk_optim_v_bytes(o->kind);
    if (p->block && wk_pages_map(&p->m, g->n_elem * sizeof(float)) && (!v_bytes || wk_pages_map(&p->v, v_bytes)))
        return WICK_OK;
    wk_optim_fini(p);
    return wk_fail(err, WICK_E_NOMEM, "no memory for the moments of %zu parameters", g->n_elem);
}

void wk_optim_fini(wk_optim *p) {
    wk_pages_unmap(&p->m);
    wk_pages_unmap(&p->v);
    wk_free(p->block);
    *p = (wk_optim){0};
}

/* ---- norm ---------------------------------------------------------------------------------------- */

static size_t share(size_t n, int rank, int team) { return n * (size_t)rank / (size_t)team; }

static void sum_share(void *ud, int rank) {
    wk_optim *p = ud;
    const int n = wk_team_size(p->team);
    for (size_t i = share(p->n_block, rank, n); i < share(p->n_block, rank + 1, n); i++) {
        const size_t at = i * BLOCK, left = p->g->n_elem - at;
        p->block[i] =
            (double)p->gk->dot(p->grad + at, p->grad + at, (int)(left < BLOCK ? left : BLOCK));
    }
}

double wk_optim_norm(wk_optim *p) {
    double sum = 0.0;
    wk_team_run(p->team, sum_share, p);
    for (size_t i = 0; i < p->n_block; i++) sum += p->block[i];
    return sqrt(sum);
}

/* ---- update -------------------------------------------------------------------------------------- */

typedef struct update {
    wk_optim *p;
    wk_adamw with, without; /* decay */
    int64_t t;
} update;

/* x >= 0, finite. Elements first .. first + n - 1 of the arena: eight draws of 16 bits at a time. */
static void round_v(wk_bf16 *dst, const float *x, size_t first, size_t n, int64_t t) {
    uint32_t r[4] = {0};
    for (size_t i = 0; i < n; i++) {
        const uint64_t at = first + i, eight = at / 8;
        const uint32_t counter[4] = {(uint32_t)eight, (uint32_t)(eight >> 32), (uint32_t)t, (uint32_t)((uint64_t)t >> 32)};
        if (i == 0 || at % 8 == 0) wk_philox(r, ROUND_KEY, counter);
        const uint32_t draw = r[at % 8 / 2] >> (at % 2 * 16) & 0xffffu;
        dst[i] = (wk_bf16)((wk_f32_bits(x[i]) + draw) >> 16);
    }
}

/* At most BLOCK elements. */
static void adamw_v16(const update *u, const wk_adamw *a, size_t from, size_t n) {
    wk_optim *p = u->p;
    wk_bf16 *v = (wk_bf16 *)(void *)p->v.p;
    float wide[BLOCK];
    for (size_t i = 0; i < n; i++) wide[i] = wk_bf16_to_f32(v[from + i]);
    p->gk->adamw(p->w + from, (float *)(void *)p->m.p + from, wide, p->grad + from, a, n);
    round_v(v + from, wide, from, n, u->t);
}

static void sgd(const update *u, const wk_adamw *a, size_t from, size_t n) {
    float *w = u->p->w + from, *m = (float *)(void *)u->p->m.p + from;
    const float *g = u->p->grad + from;
    for (size_t i = 0; i < n; i++) {
        m[i] = m[i] * a->b1 + g[i] * a->g_scale;
        w[i] = w[i] * a->keep - m[i] * a->step;
    }
}

static void adamw(const update *u, const wk_adamw *a, size_t from, size_t n) {
    wk_optim *p = u->p;
    p->gk->adamw(p->w + from, (float *)(void *)p->m.p + from, (float *)(void *)p->v.p + from, p->grad + from, a, n);
}

/* Elements a0 .. a1-1 of the arenas: parameters that lie in it, each with its own decay. */
static void update_range(const update *u, size_t a0, size_t a1, int32_t *param) {
    wk_optim *p = u->p;
    static void (*const by_kind[WK_OPTIM_COUNT])(const update *u, const wk_adamw *a, size_t from, size_t n) = {
        adamw, adamw_v16, sgd};
    const wk_param *list = p->g->param;
    while (*param < p->g->n_param && list[*param].off + list[*param].n <= a0) (*param)++;
    for (int32_t i = *param; i < p->g->n_param && list[i].off < a1; i++) {
        const size_t from = list[i].off > a0 ? list[i].off : a0, end = list[i].off + list[i].n,
                     to = end < a1 ? end : a1;
        if (from < to)
            by_kind[p->o.kind](u, list[i].decays ? &u->with : &u->without, from, to - from);
    }
    memset(p->grad + a0, 0, (a1 - a0) * sizeof(float));
}

static void update_share(void *ud, int rank) {
    const update *u = ud;
    const int n = wk_team_size(u->p->team);
    const size_t n_elem = u->p->g->n_elem, b0 = share(u->p->n_block, rank, n),
                 b1 = share(u->p->n_block, rank + 1, n);
    int32_t param = 0;
    for (size_t i = b0; i < b1; i++) {
        const size_t a0 = i * BLOCK, a1 = a0 + BLOCK < n_elem ? a0 + BLOCK : n_elem;
        if (a0 < a1) update_range(u, a0, a1, &param);
    }
}

static double power(double beta, int64_t t) { return beta > 0.0 ? wk_dpow(beta, (double)t) : 0.0; }

void wk_optim_step(wk_optim *p, int64_t t, double lr, double scale) {
    const wk_optim_options *o = &p->o;
    wk_adamw a = {.g_scale = (float)scale,
                  .keep = 1.0f,
                  .b1 = (float)o->beta1,
                  .b1c = (float)(1.0 - o->beta1),
                  .b2 = (float)o->beta2,
                  .b2c = (float)(1.0 - o->beta2),
                  .eps = (float)o->eps};
    a.step = (float)(o->kind == WK_OPTIM_SGD ? lr : lr / (1.0 - power(o->beta1, t)));
    a.v_inv = (float)(1.0 / sqrt(1.0 - power(o->beta2, t)));
    update u = {.p = p, .with = a, .without = a, .t = t};
    u.with.keep = (float)(1.0 - lr * o->decay);
    wk_team_run(p->team, update_share, &u);
}

void wk_optim_zero(wk_optim *p) { memset(p->grad, 0, p->g->n_elem * sizeof(float)); }
