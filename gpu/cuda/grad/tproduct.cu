/* tproduct.cu: which kernel makes the products of training. */
#include "gpu/cuda/grad/tdev.h"

enum { BF16_SM = 80 }; /* the first with matrix units for bf16 */

int wkc_tproduct_can(const wk_tdev *d, wk_err *err) {
    if (!d->o.bf16 || d->dev->sm >= BF16_SM) return WICK_OK;
    return wkc_fail(err, WICK_E_UNSUPPORTED,
                    "products in bf16 want compute capability %d.%d, cuda device %d has %d.%d: leave --bf16 out",
                    BF16_SM / 10, BF16_SM % 10, d->dev->index, d->dev->sm / 10, d->dev->sm % 10);
}

void wkc_tproduct(wk_tdev *d, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
                  float *c) {
    if (d->o.bf16) wkc_tgemm_bf16(d->stream, op, m, n, k, alpha, a, b, add, c);
    else wkc_tgemm(d->stream, op, m, n, k, alpha, a, b, add, c);
}
