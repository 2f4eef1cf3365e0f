/* device.h: training on a device: the parameters, their gradients and moments, and the values of a pass live there. A module
 * of backend.h may export a second symbol with these functions; the trainer keeps data, schedule, checkpoints and samples. */
#ifndef WK_TRAIN_DEVICE_H
#define WK_TRAIN_DEVICE_H

#include "engine/graph/backend.h"
#include "engine/train/exec.h"
#include "engine/train/grad.h"

enum { WK_TDEV_ABI = 2 };
#define WK_TDEV_SYMBOL "wick_trainer"

/* Arenas of n_elem values each, in the layout of wk_param. */
typedef enum wk_tdev_arena { WK_TDEV_PARAMS, WK_TDEV_GRADS, WK_TDEV_M, WK_TDEV_V, WK_TDEV_ARENA_COUNT } wk_tdev_arena;

/* Who makes the products: a vendor's library where one is found, else own kernels; the one or the other alone. */
typedef enum wk_tdev_products { WK_TDEV_AUTO, WK_TDEV_OWN, WK_TDEV_CUBLASLT } wk_tdev_products;

typedef struct wk_tdev_options {
    int index;                     /* of the device */
    bool bf16;                     /* products in bf16 with f32 sums; else f32 without TF32 */
    double decay, beta1, beta2, eps;
    const wk_host *host;
    int products; /* wk_tdev_products */
} wk_tdev_options;

typedef struct wk_tdev wk_tdev;

typedef struct wk_tdev_ops {
    uint32_t abi, size; /* WK_TDEV_ABI, sizeof */
    const char *name;
    /* Parameters from the weights of g->plan (decoded to f32, rows un-rotated), frozen weights beside them, gradients and
     * moments zero. g must outlive it. Errors: E_NOMEM, E_DEVICE, E_FORMAT (a value that is not finite: tensor),
     * E_UNSUPPORTED (an op without a kernel, named). */
    int (*open)(wk_tdev **out, const wk_grad *g, const wk_tdev_options *o, wk_err *err);
    void (*close)(wk_tdev *d);
    size_t (*bytes)(const wk_grad *g, const wk_tdev_options *o); /* what open will take of the device */
    int (*put)(wk_tdev *d, wk_tdev_arena a, size_t off, const float *src, size_t n, wk_err *err);
    int (*get)(wk_tdev *d, wk_tdev_arena a, size_t off, float *dst, size_t n, wk_err *err);
    /* As wk_texec_run: loss of the counted tokens; backward adds to the gradients. */
    int (*run)(wk_tdev *d, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err);
    int (*norm)(wk_tdev *d, double *out, wk_err *err); /* of the gradients */
    /* AdamW as wk_optim_step: every gradient times scale, t from 1; gradients are zero afterwards. */
    int (*step)(wk_tdev *d, int64_t t, double lr, double scale, wk_err *err);
    int (*zero)(wk_tdev *d, wk_err *err); /* gradients */
    const char *(*about)(const wk_tdev *d); /* a line for the log: who makes the products, and why not the library */
} wk_tdev_ops;

typedef const wk_tdev_ops *wk_tdev_fn(void);

#endif
