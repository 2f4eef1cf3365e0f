/* trainer.cu: training on NVIDIA GPUs: the table of the module, arenas, the norm and the update. */
#include <cmath>
#include <cstring>
#include <new>

#include "gpu/cuda/grad/tdev.h"

extern "C" const wk_backend_ops *wick_backend(void);

static void tdev_close(wk_tdev *d) {
    if (!d) return;
    if (d->dev) {
        (void)cudaSetDevice(d->dev->index); /* nobody is left to tell of a device that is lost */
        wkc_tdrop(d);
        wkc_blas_close(d->blas);
        wick_backend()->close(d->dev);
    }
    delete d;
}

static int fill(wk_tdev *d, wk_err *err) {
    WK_TRY(wkc_tcan(d->g, err));
    WK_TRY(wick_backend()->open(&d->dev, d->o.index, d->o.host, err));
    WK_TRY(wkc_use(d->dev, err));
    WK_TRY(wkc_tproduct_open(d, err));
    WK_TRY(wkc_tmake(d, err));
    return wkc_tload(d, err);
}

static int tdev_open(wk_tdev **out, const wk_grad *g, const wk_tdev_options *o, wk_err *err) {
    *out = NULL;
    wk_tdev *d = new (std::nothrow) wk_tdev();
    if (!d) return wkc_fail(err, WICK_E_NOMEM, "no memory for training");
    d->g = g;
    d->o = *o;
    const int rc = fill(d, err);
    if (rc) tdev_close(d);
    else *out = d;
    return rc;
}

/* ---- arenas ------------------------------------------------------------------------------------------------------ */

static int check_range(const wk_tdev *d, wk_tdev_arena a, size_t off, size_t n, wk_err *err) {
    if ((int)a >= 0 && a < WK_TDEV_ARENA_COUNT && off <= d->g->n_elem && n <= d->g->n_elem - off) return WICK_OK;
    return wkc_fail(err, WICK_E_ARG, "elements %zu .. %zu of arena %d, there are %zu", off, off + n, (int)a, d->g->n_elem);
}

static int tdev_put(wk_tdev *d, wk_tdev_arena a, size_t off, const float *src, size_t n, wk_err *err) {
    WK_TRY(check_range(d, a, off, n, err));
    WK_TRY(wkc_use(d->dev, err));
    if (n) WKC_TRY(d->dev, err, cudaMemcpy, d->arena[a] + off, src, n * sizeof(float), cudaMemcpyHostToDevice);
    return WICK_OK;
}

static int tdev_get(wk_tdev *d, wk_tdev_arena a, size_t off, float *dst, size_t n, wk_err *err) {
    WK_TRY(check_range(d, a, off, n, err));
    WK_TRY(wkc_use(d->dev, err));
    WKC_TRY(d->dev, err, cudaStreamSynchronize, d->stream);
    if (n) WKC_TRY(d->dev, err, cudaMemcpy, dst, d->arena[a] + off, n * sizeof(float), cudaMemcpyDeviceToHost);
    return WICK_OK;
}

static int tdev_zero(wk_tdev *d, wk_err *err) {
    WK_TRY(wkc_use(d->dev, err));
    WKC_TRY(d->dev, err, cudaMemsetAsync, d->arena[WK_TDEV_GRADS], 0, d->g->n_elem * sizeof(float), d->stream);
    WKC_TRY(d->dev, err, cudaStreamSynchronize, d->stream);
    return WICK_OK;
}

/* ---- norm and update --------------------------------------------------------------------------------------------- */

static int tdev_norm(wk_tdev *d, double *out, wk_err *err) {
    WK_TRY(wkc_use(d->dev, err));
    WK_TRY(wkc_task(d, err));
    wkc_tsquares(d->stream, d->arena[WK_TDEV_GRADS], d->g->n_elem, d->part);
    WK_TRY(wkc_judge(d->dev, cudaGetLastError(), "launch", err));
    WKC_TRY(d->dev, err, cudaMemcpyAsync, d->sums_host, d->part, WKC_TNORM_BLOCKS * sizeof(double), cudaMemcpyDeviceToHost,
            d->stream);
    WKC_TRY(d->dev, err, cudaStreamSynchronize, d->stream);
    double sum = 0.0;
    for (int i = 0; i < WKC_TNORM_BLOCKS; i++) sum += d->sums_host[i];
    *out = std::sqrt(sum);
    return WICK_OK;
}

static wk_adamw numbers_of(const wk_tdev_options *o, int64_t t, double lr, double scale) {
    wk_adamw a = {};
    a.g_scale = (float)scale;
    a.keep = 1.0f;
    a.b1 = (float)o->beta1;
    a.b1c = (float)(1.0 - o->beta1);
    a.b2 = (float)o->beta2;
    a.b2c = (float)(1.0 - o->beta2);
    a.eps = (float)o->eps;
    a.step = (float)(lr / (1.0 - std::pow(o->beta1, (double)t)));
    a.v_inv = (float)(1.0 / std::sqrt(1.0 - std::pow(o->beta2, (double)t)));
    return a;
}

static int tdev_step(wk_tdev *d, int64_t t, double lr, double scale, wk_err *err) {
    float *const *x = d->arena;
    const wk_adamw without = numbers_of(&d->o, t, lr, scale);
    wk_adamw with = without;
    with.keep = (float)(1.0 - lr * d->o.decay);
    WK_TRY(wkc_use(d->dev, err));
    WK_TRY(wkc_task(d, err));
    for (int32_t i = 0; i < d->g->n_param; i++) {
        const wk_param *p = &d->g->param[i];
        wkc_tadamw(d->stream, x[WK_TDEV_PARAMS] + p->off, x[WK_TDEV_M] + p->off, x[WK_TDEV_V] + p->off,
                   x[WK_TDEV_GRADS] + p->off, p->decays ? &with : &without, p->n);
    }
    WK_TRY(wkc_judge(d->dev, cudaGetLastError(), "launch", err));
    return tdev_zero(d, err);
}

static size_t tdev_bytes(const wk_grad *g, const wk_tdev_options *o) {
    return wkc_tbytes(g, {wkc_tproduct_uses_blas(o), o->bf16});
}
static const char *tdev_about(const wk_tdev *d) { return d->about; }

static wk_tdev_ops make_ops(void) {
    wk_tdev_ops o;
    memset(&o, 0, sizeof(o));
    o.abi = WK_TDEV_ABI;
    o.size = sizeof(o);
    o.name = "cuda";
    o.open = tdev_open;
    o.close = tdev_close;
    o.bytes = tdev_bytes;
    o.put = tdev_put;
    o.get = tdev_get;
    o.run = wkc_trun;
    o.norm = tdev_norm;
    o.step = tdev_step;
    o.zero = tdev_zero;
    o.about = tdev_about;
    return o;
}

extern "C" WK_EXPORT const wk_tdev_ops *wick_trainer(void);
const wk_tdev_ops *wick_trainer(void) {
    static const wk_tdev_ops ops = make_ops();
    return &ops;
}
