/* compute.c: the host or a device behind one set of functions. */
#include "engine/train/compute.h"

#include <string.h>

#include "engine/base/log.h"
#include "engine/base/os.h"
#include "engine/train/trainer.h"

/* An error of the device names it. */
static int of_device(const wk_compute *c, int rc, wk_err *err) {
    return rc && err ? wk_fail_at(err, "%.32s", c->ops->name) : rc;
}

static double now_s(void) { return (double)wk_os_now_ns() * 1e-9; }

/* ---- opening ------------------------------------------------------------------------------------- */

int wk_compute_host(wk_compute *c, const wk_grad *g, const wk_texec_options *o, const wk_optim_options *p, wk_err *err) {
    *c = (wk_compute){.g = g};
    WK_TRY(wk_texec_new(&c->x, g, o, err));
    return wk_optim_init(&c->opt, g, o->gk, o->team, wk_texec_params(c->x), wk_texec_grads(c->x), p, err);
}

int wk_compute_device(wk_compute *c, const wk_grad *g, const wk_tdev_ops *ops, const wk_tdev_options *o, wk_err *err) {
    *c = (wk_compute){.g = g, .ops = ops};
    const int rc = of_device(c, ops->open(&c->dev, g, o, err), err);
    if (rc) c->dev = NULL;
    else wk_log(WK_LOG_INFO, "%.32s: %.200s", ops->name, ops->about(c->dev));
    return rc;
}

void wk_compute_close(wk_compute *c) {
    wk_optim_fini(&c->opt);
    wk_texec_free(c->x);
    if (c->dev) c->ops->close(c->dev);
    *c = (wk_compute){0};
}

/* ---- a pass -------------------------------------------------------------------------------------- */

static int run_device(wk_compute *c, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err) {
    const double t0 = now_s();
    WK_TRY(of_device(c, c->ops->run(c->dev, b, backward, out, err), err));
    *(backward ? &c->clock.backward : &c->clock.forward) += now_s() - t0;
    /* Only steps ask for FLOPs: a pass without gradients is not counted. */
    for (int32_t i = 0; i < b->n_seq && backward; i++) c->flops += wk_grad_flops(c->g, b->seq[i].n_tok);
    return WICK_OK;
}

int wk_compute_run(wk_compute *c, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err) {
    if (c->ops) return run_device(c, b, backward, out, err);
    wk_texec_run(c->x, b, backward, out);
    return WICK_OK;
}

int wk_compute_norm(wk_compute *c, double *out, wk_err *err) {
    if (c->ops) return of_device(c, c->ops->norm(c->dev, out, err), err);
    *out = wk_optim_norm(&c->opt);
    return WICK_OK;
}

int wk_compute_step(wk_compute *c, int64_t t, double lr, double scale, wk_err *err) {
    if (c->ops) return of_device(c, c->ops->step(c->dev, t, lr, scale, err), err);
    wk_optim_step(&c->opt, t, lr, scale);
    return WICK_OK;
}

int wk_compute_zero(wk_compute *c, wk_err *err) {
    if (c->ops) return of_device(c, c->ops->zero(c->dev, err), err);
    wk_optim_zero(&c->opt);
    return WICK_OK;
}

int wk_compute_logits(wk_compute *c, const wk_tbatch *b, void (*on_row)(void *ud, int32_t t, const float *logits),
                      void *ud, wk_err *err) {
    if (c->ops)
        return wk_fail(err, WICK_E_UNSUPPORTED, "training on %.32s gives losses, no logits: these want the cpu",
                       c->ops->name);
    wk_texec_logits(c->x, b, on_row, ud);
    return WICK_OK;
}

void wk_compute_on_layer(wk_compute *c, void (*on_layer)(void *ud, int32_t layer), void *ud) {
    if (c->x) wk_texec_on_layer(c->x, on_layer, ud);
}

float *wk_compute_grads(wk_compute *c) { return wk_texec_grads(c->x); }

void wk_compute_clock(const wk_compute *c, wk_tclock *out) {
    *out = c->clock;
    if (c->x) wk_texec_clock(c->x, out);
}

double wk_compute_flops(const wk_compute *c) { return c->x ? wk_texec_flops(c->x) : c->flops; }

/* ---- arenas -------------------------------------------------------------------------------------- */

size_t wk_compute_elem_bytes(const wk_compute *c, wk_tdev_arena a) {
    return a == WK_TDEV_V && c->x ? wk_optim_v_bytes(c->opt.o.kind) : sizeof(float);
}

static void *of_host(wk_compute *c, wk_tdev_arena a) {
    switch (a) {
    case WK_TDEV_PARAMS: return wk_texec_params(c->x);
    case WK_TDEV_GRADS: return wk_texec_grads(c->x);
    case WK_TDEV_M: return c->opt.m.p;
    case WK_TDEV_V: return c->opt.v.p;
    case WK_TDEV_ARENA_COUNT: break;
    }
    return NULL;
}

int wk_compute_view(wk_compute *c, wk_tdev_arena a, wk_pages *copy, const void **out, wk_err *err) {
    *copy = (wk_pages){0};
    *out = NULL;
    if (c->x) {
        *out = of_host(c, a);
        return WICK_OK;
    }
    if (!wk_pages_map(copy, c->g->n_elem * sizeof(float)))
        return wk_fail(err, WICK_E_NOMEM, "no memory for a copy of what the device holds, %.1f MB",
                       (double)c->g->n_elem * 4e-6);
    const int rc = of_device(c, c->ops->get(c->dev, a, 0, (float *)(void *)copy->p, c->g->n_elem, err), err);
    if (rc)
        wk_pages_unmap(copy);
    else
        *out = copy->p;
    return rc;
}

int wk_compute_put(wk_compute *c, wk_tdev_arena a, size_t off, const void *src, size_t n, wk_err *err) {
    if (c->ops) return of_device(c, c->ops->put(c->dev, a, off, src, n, err), err);
    const size_t bytes = wk_compute_elem_bytes(c, a);
    memcpy((uint8_t *)of_host(c, a) + off * bytes, src, n * bytes);
    return WICK_OK;
}
