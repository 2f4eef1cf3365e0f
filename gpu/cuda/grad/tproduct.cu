/* tproduct.cu: who makes the products of training: cuBLASLt where it is found and has something for the shape, else the
 * kernels of this folder. */
#include <cstdio>

#include "gpu/cuda/grad/tdev.h"

enum { BF16_SM = 80 }; /* the first with matrix units for bf16 */

static int refuse_bf16(const wk_tdev *d, wk_err *err) {
    return wkc_fail(err, WICK_E_UNSUPPORTED,
                    "products in bf16 want compute capability %d.%d, cuda device %d has %d.%d: leave --bf16 out",
                    BF16_SM / 10, BF16_SM % 10, d->dev->index, d->dev->sm / 10, d->dev->sm % 10);
}

int wkc_tproduct_open(wk_tdev *d, wk_err *err) {
    char why[160] = "own kernels were asked for";
    if (d->o.bf16 && d->dev->sm < BF16_SM) return refuse_bf16(d, err);
    if (d->o.products < WK_TDEV_AUTO || d->o.products > WK_TDEV_CUBLASLT)
        return wkc_fail(err, WICK_E_ARG, "products are made in way %d, wanted 0 .. %d", d->o.products, (int)WK_TDEV_CUBLASLT);
    if (d->o.products != WK_TDEV_OWN) d->blas = wkc_blas_open(why, sizeof(why));
    if (!d->blas && d->o.products == WK_TDEV_CUBLASLT)
        return wkc_fail(err, WICK_E_UNSUPPORTED, "products by cuBLASLt were asked for: %s", why);
    if (d->blas) (void)snprintf(d->about, sizeof(d->about), "products in %s by %s", d->o.bf16 ? "bf16" : "f32", why);
    else (void)snprintf(d->about, sizeof(d->about), "products in %s by own kernels: %s", d->o.bf16 ? "bf16" : "f32", why);
    return WICK_OK;
}

bool wkc_tproduct_uses_blas(const wk_tdev_options *o) {
    char why[160];
    return o->products != WK_TDEV_OWN && wkc_blas_is_here(why, sizeof(why));
}

/* Whether cuBLASLt did it, or tried to. */
static bool by_blas(wk_tdev *d, const wkc_product *p, float alpha, const float *a, const float *b, bool add, float *c) {
    const void *x = a, *y = b;
    if (!d->blas || p->m < 1 || p->n < 1 || p->k < 1) return false;
    if (p->bf16) {
        const size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
        if (!wkc_blas_can(d->blas, p, d->half[0], d->half[1], c)) return false;
        wkc_tround(d->stream, a, m * k, d->half[0]);
        wkc_tround(d->stream, b, n * k, d->half[1]);
        x = d->half[0], y = d->half[1];
    }
    const int rc = wkc_blas_multiply(d->blas, d->stream, p, alpha, x, y, add, c, d->workspace);
    if (rc == WKC_BLAS_NONE) return false;
    if (rc && !d->blas_status) d->blas_status = rc;
    return true;
}

void wkc_tproduct(wk_tdev *d, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
                  float *c) {
    const wkc_product p = {op, m, n, k, d->o.bf16};
    if (by_blas(d, &p, alpha, a, b, add, c)) return;
    if (d->o.bf16) wkc_tgemm_bf16(d->stream, op, m, n, k, alpha, a, b, add, c);
    else wkc_tgemm(d->stream, op, m, n, k, alpha, a, b, add, c);
}

int wkc_tproduct_judge(wk_tdev *d, wk_err *err) {
    const int rc = d->blas_status;
    d->blas_status = 0;
    if (!rc) return WICK_OK;
    return wkc_fail(err, WICK_E_DEVICE, "cuda device %d: cublasLtMatmul ended with status %d", d->dev->index, rc);
}
