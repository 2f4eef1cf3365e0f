/* compute.h: what a run computes with: the host (wk_texec and wk_optim) or a device (device.h). The trainer, the checkpoints
 * and the export see this alone. */
#ifndef WK_COMPUTE_H
#define WK_COMPUTE_H

#include "engine/train/device.h"
#include "engine/train/optim.h"

/* compute.c. A zeroed record is closed. */
typedef struct wk_compute {
    const wk_grad *g;
    wk_texec *x; /* NULL on a device */
    wk_optim opt;
    const wk_tdev_ops *ops; /* NULL on the host */
    wk_tdev *dev;
    wk_tclock clock; /* of a device */
    double flops;
} wk_compute;

/* Parameters are filled from the weights of g, gradients and moments zero; g and all of the options must outlive it. */
int wk_compute_host(wk_compute *c, const wk_grad *g, const wk_texec_options *o, const wk_optim_options *p, wk_err *err);
int wk_compute_device(wk_compute *c, const wk_grad *g, const wk_tdev_ops *ops, const wk_tdev_options *o, wk_err *err);
void wk_compute_close(wk_compute *c);

/* As the functions of the same name of wk_texec, wk_optim and wk_tdev_ops; the host does not fail. */
int wk_compute_run(wk_compute *c, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err);
int wk_compute_norm(wk_compute *c, double *out, wk_err *err);
int wk_compute_step(wk_compute *c, int64_t t, double lr, double scale, wk_err *err);
int wk_compute_zero(wk_compute *c, wk_err *err);
/* E_UNSUPPORTED on a device. */
int wk_compute_logits(wk_compute *c, const wk_tbatch *b, void (*on_row)(void *ud, int32_t t, const float *logits),
                      void *ud, wk_err *err);
/* On the host alone: ranks do not go with a device. */
void wk_compute_on_layer(wk_compute *c, void (*on_layer)(void *ud, int32_t layer), void *ud);
float *wk_compute_grads(wk_compute *c);

/* Seconds and FLOPs since it was opened; a device's pass is timed whole, as what it was asked for. */
void wk_compute_clock(const wk_compute *c, wk_tclock *out);
double wk_compute_flops(const wk_compute *c);

/* Bytes of an element of an arena; 0: the optimizer has none. */
size_t wk_compute_elem_bytes(const wk_compute *c, wk_tdev_arena a);
/* A whole arena: the host's own, *copy stays zeroed; of a device a copy, which the caller unmaps. */
int wk_compute_view(wk_compute *c, wk_tdev_arena a, wk_pages *copy, const void **out, wk_err *err);
/* n elements from off on. */
int wk_compute_put(wk_compute *c, wk_tdev_arena a, size_t off, const void *src, size_t n, wk_err *err);

#endif
